"""The ``ctsynth`` command: one module of this package a command, each importing what it needs when it runs."""

from __future__ import annotations

import traceback
from typing import Annotated, Any

import typer
import typer.core

from ctsynth import __version__
from ctsynth.cli import (
    console,
    demo,
    info,
    phantom,
    preprocess,
    report,
    sample,
    score,
    slurm,
    train,
    train_segmenter,
    weights,
)
from ctsynth.errors import CTSynthError


class _Commands(typer.core.TyperGroup):
    """Turns an error that a user can mend into two lines and an exit code instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  typer.core types this as its private Context
        try:
            return super().invoke(ctx)
        except CTSynthError as error:
            if ctx.params.get("verbose"):
                traceback.print_exc()
            console.show(error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401  as above
        """The commands in the order of the work."""
        return list(self.commands)


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
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more; keep tracebacks.")] = False,
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

    No data at hand? `ctsynth demo` makes its own and shows the whole way in five minutes.
    """
    console.configure(verbose=verbose, quiet=quiet)


for module in (preprocess, train, sample, score, report, train_segmenter, weights, slurm, demo, phantom, info):
    app.command(module.__name__.rpartition(".")[2].replace("_", "-"))(module.command)


def main() -> None:
    """The console script."""
    app(prog_name="ctsynth")
