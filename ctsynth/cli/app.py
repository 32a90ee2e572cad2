"""The ``ctsynth`` command: one module of this package a command, each importing what it needs when it runs."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from ctsynth import __version__
from ctsynth.cli import console
from ctsynth.cli._threads import yield_cores_if_busy
from ctsynth.errors import InterruptedByUser, explain
from ctsynth.stop import stoppable

COMMANDS = {
    "preprocess": "Make the slice store that training reads from CT and label volumes.",
    "train": "Train a model that draws a CT slice from its label map.",
    "sample": "Draw a synthetic CT volume for each label volume.",
    "score": "Measure how close synthetic volumes are to the real ones.",
    "report": "Show scores beside the paper's, pictures and loss curves on one page.",
    "export": "Make a folder of a trained model for others: weights, settings, model card.",
    "deform": "Make new, plausible label volumes by deforming existing ones.",
    "train-segmenter": "Train a small 2-D U-Net that finds the organs in a CT slice.",
    "augment": "Measure whether synthetic CT helps a segmenter.",
    "weights": "List, verify or import pretrained weights; needs no internet.",
    "slurm": "Print a SLURM job script that trains every method, or those named.",
    "demo": "Run every step on phantoms: five minutes on two CPU cores.",
    "phantom": "Make a synthetic abdomen data set in AMOS22's layout.",
    "info": "Show versions, devices, methods, samplers and metrics.",
}
"""The commands in the order of the work, each with the first line of its docstring."""


class _Commands(typer.core.TyperGroup):
    """The commands, each imported when it is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401  typer.core's types are private
        """Loads the command; until then a name and a line of help represent it."""
        name, stand_in, rest = super().resolve_command(ctx, args)
        if stand_in is None:
            return name, stand_in, rest
        file = str(name).replace("-", "_")
        alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
        alone.command(stand_in.name)(import_module(f"ctsynth.cli.{file}").command)
        return name, typer.main.get_command(alone), rest

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:  # noqa: ANN401  as above
        """Runs a command; the last catch: whatever ends it, people see a message, and the traceback if verbose."""
        words = sys.argv[1:] if args is None else args
        console.mend_streams()
        try:
            return super().main(args, *rest, **extra)
        except Exception as error:
            if not extra.get("standalone_mode", True):
                raise
            if console.is_verbose():
                traceback.print_exception(error)
            shown = explain(error, next((word for word in words if word in COMMANDS), "ctsynth"))
            if "--overwrite" in words and shown.hint and "same command" in shown.hint:
                shown.hint += "; leave out --overwrite, which starts over"
            console.show(shown)
            sys.exit(shown.exit_code)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  as above
        """Lets signals stop every command; train and sample save first, by handlers of their own."""
        try:
            with stoppable():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(InterruptedByUser.exit_code) from None

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401  as above
        """The help of the whole."""
        _import_renderer()
        super().format_help(ctx, formatter)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401  as above
        """The commands in the order of the work."""
        return list(self.commands)


def _import_renderer() -> None:
    """Imports what Typer lays help out with, less two parts that are not used here: half of its time."""
    unused = {"rich.markdown": "Markdown", "rich.traceback": "Traceback"}
    stand_ins = {module: ModuleType(module) for module in unused if module not in sys.modules}
    for module, stand_in in stand_ins.items():
        setattr(stand_in, unused[module], None)
    sys.modules.update(stand_ins)
    import_module("typer.rich_utils")
    for module in stand_ins:
        del sys.modules[module]


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        console.echo(f"ctsynth {__version__}")
        raise typer.Exit


@app.callback()
def ctsynth(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print more, and tracebacks.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only warnings and errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Draw abdominal CT from label maps: semantic image synthesis on AMOS22.

    From a folder of NIfTI to a synthetic CT volume in three lines:

        ctsynth preprocess amos/ out/
        ctsynth train --cond mask --gpus 4
        ctsynth sample --mask seg.nii.gz

    No data? `ctsynth demo` makes its own and runs every step in five minutes.
    """
    console.configure(verbose=verbose, quiet=quiet)


for command, line in COMMANDS.items():
    app.command(command, help=line)(lambda: None)


def main() -> None:
    """The console script."""
    yield_cores_if_busy()
    try:
        app(prog_name="ctsynth")
    except SystemExit as leaving:
        if leaving.code != InterruptedByUser.exit_code:
            raise
        with suppress(OSError):
            sys.stdout.flush()
        os._exit(InterruptedByUser.exit_code)  # without waiting for threads and worker processes
