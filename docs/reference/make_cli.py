"""Writes cli.md, python.md, metrics.md and settings.md from the code that they describe."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

from typer.models import ArgumentInfo

import ctsynth
from ctsynth.cli.app import COMMANDS, app
from ctsynth.config import TrainingConfig
from ctsynth.metrics import base as metrics
from ctsynth.schema import Help, described

PAGE = Path(__file__).with_name("cli.md")
METRICS_PAGE = Path(__file__).with_name("metrics.md")
SETTINGS_PAGE = Path(__file__).with_name("settings.md")
PYTHON_PAGE = Path(__file__).with_name("python.md")

TOP = """# Commands

Made by `python docs/reference/make_cli.py` from what `ctsynth COMMAND --help` shows; do not edit it by hand.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 the work failed, 2 bad usage or bad input,
75 stopped by SIGTERM or SIGUSR1 after saving (run the same command again), 130 stopped by Ctrl-C after saving; a
second Ctrl-C stops at once.
"""

METRICS_TOP = """# Metrics

Made by `python docs/reference/make_cli.py` from the files of `ctsynth/metrics`; do not edit it by hand. How each
number is computed and was checked stands in [../metrics.md](../metrics.md).

| name | title | unit | better | measures |
|---|---|---|---|---|
"""


SETTINGS_TOP = """# Training settings

Made by `python docs/reference/make_cli.py` from `ctsynth.config.TrainingConfig`; do not edit it by hand. The table
`[training]` of `ctsynth train --config FILE` may hold each of them, and RUN/config.json holds all.

| name | value | default | |
|---|---|---|---|
"""


PYTHON_TOP = """# Python

Made by `python docs/reference/make_cli.py` from the docstrings of `ctsynth/api`; do not edit it by hand. Examples:
[../python.md](../python.md).
"""

PYTHON_NAMES = ("load", "Model", "Model.draw", "preprocess", "score", "report")


def commands() -> dict[str, Callable[..., None]]:
    """The function behind each command, by name, in the order of the work."""
    return {name: import_module(f"ctsynth.cli.{name.replace('-', '_')}").command for name in COMMANDS}


def render() -> str:
    """The page."""
    top = app.registered_callback.callback
    sections = [_section("ctsynth", "COMMAND [ARGS]...", top)]
    sections += [_section(f"ctsynth {name}", "", function) for name, function in commands().items()]
    return "\n".join([TOP, *sections])


def render_metrics() -> str:
    """The page of metrics, in the order of tables: those of the package and of ``$CTSYNTH_PLUGINS``."""
    found = {name: metrics.find_metric(name) for name in metrics.metric_names()}
    found = dict(sorted(found.items(), key=lambda item: item[1].rank))
    better = {True: "higher", False: "lower", None: "neither"}
    rows, sections = [], []
    for name, metric in found.items():
        text = inspect.cleandoc(metric.__doc__ or "").split("\n\nArgs:")[0]
        what, *rest = text.replace("``", "`").split("\n\n")
        what = " ".join(what.split())
        rows.append(f"| `{name}` | {metric.title} | {metric.unit} | {better[metric.higher_is_better]} | {what} |")
        if rest:
            sections.append("\n\n".join([f"## {metric.title}", *rest]) + "\n")
    return METRICS_TOP + "\n".join([*rows, "", *sections])


def render_settings() -> str:
    """The page of training settings."""
    rows = []
    for name, hint in typing.get_type_hints(TrainingConfig, include_extras=True).items():
        (words,) = (part for part in hint.__metadata__ if isinstance(part, Help))
        default = words.default or f"`{getattr(TrainingConfig(), name)}`"
        rows.append(f"| `{name}` | {_cell(described(hint))} | {_cell(default)} | {_cell(words.text)} |")
    return SETTINGS_TOP + "\n".join([*rows, ""])


def render_python() -> str:
    """The page of functions and classes."""
    return "\n".join([PYTHON_TOP, *(_documented(name) for name in PYTHON_NAMES)])


def _documented(name: str) -> str:
    """A heading, the call, and the docstring with its arguments as a table."""
    thing = attrgetter(name)(ctsynth)
    text, *parts = re.split(r"\n\n(Args|Attributes|Returns|Raises):\n", inspect.cleandoc(thing.__doc__ or ""))
    lines = [f"## {name}", ""]
    if not inspect.isclass(thing):
        parameters = list(inspect.signature(thing).parameters.values())
        shown = [str(each.replace(annotation=inspect.Parameter.empty)) for each in parameters]
        stars = [n for n, each in enumerate(parameters) if each.kind is each.KEYWORD_ONLY][:1]
        for place in stars:
            shown.insert(place, "*")
        call = "model.draw" if name == "Model.draw" else f"ctsynth.{name}"
        lines += ["```text", f"{call}({', '.join(word for word in shown if word != 'self')})", "```", ""]
    lines += [text.replace("``", "`"), ""]
    for title, body in zip(parts[::2], parts[1::2], strict=True):
        items = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", body, re.MULTILINE)
        if title in ("Args", "Attributes"):
            rows = [f"| `{key}` | {_cell(' '.join(words.split()).replace('``', '`'))} |" for key, words in items]
            lines += [f"| {'argument' if title == 'Args' else 'attribute'} | |", "|---|---|", *rows, ""]
        else:
            lines += [f"{title}: {' '.join(body.split()).replace('``', '`')}", ""]
    return "\n".join(lines)


def _section(title: str, tail: str, function: Callable[..., None]) -> str:
    rows, arguments = [], []
    for kind, name, default, info in _parameters(function):
        is_argument = isinstance(info, ArgumentInfo)
        shown = info.metavar or name.upper() if is_argument else _option(kind, name, info)
        if is_argument:
            usage = shown if default is inspect.Parameter.empty else f"[{shown}]"
            arguments.append(f"{usage}..." if typing.get_origin(kind) is list else usage)
        rows.append(f"| `{_cell(shown)}` | {_cell(info.help)} | {_cell(_default(default, info))} |")
    usage = " ".join([title, "[OPTIONS]", *arguments, *([tail] if tail else [])])
    text = inspect.cleandoc(function.__doc__ or "").replace("[bold]", "**").replace("[/]", "**")
    return "\n".join(
        [f"## {title}", "", f"    {usage}", "", text, "", "| | | default |", "|---|---|---|", *rows, ""]
    )


def _parameters(function: Callable[..., None]) -> Iterator[tuple[Any, str, Any, Any]]:
    """Type without None, name, default and typer's description of each parameter."""
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        kind, info = typing.get_args(parameter.annotation)
        if typing.get_origin(kind) in (types.UnionType, typing.Union):
            kind = next(part for part in typing.get_args(kind) if part is not type(None))
        yield kind, name, parameter.default, info


def _option(kind: Any, name: str, info: Any) -> str:  # noqa: ANN401  any annotation
    given = [word for word in (info.default, *(info.param_decls or ())) if str(word).startswith("-")]
    names = ", ".join(given or [f"--{name.replace('_', '-')}"])
    if kind is bool:
        return names
    if typing.get_origin(kind) is Literal:
        return f"{names} {'|'.join(typing.get_args(kind))}"
    plain = {str: "TEXT", int: "INTEGER", float: "NUMBER", Path: "PATH", list[Path]: "PATH"}
    return f"{names} {info.metavar or plain[kind]}"


def _default(default: Any, info: Any) -> str:  # noqa: ANN401  any value
    if isinstance(info.show_default, str):
        return info.show_default
    if not info.show_default or any(default is nothing for nothing in (None, False, inspect.Parameter.empty)):
        return ""
    return "yes" if default is True else f"`{default}`"


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|").replace("\\[", "[")


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    METRICS_PAGE.write_text(render_metrics(), encoding="utf-8")
    SETTINGS_PAGE.write_text(render_settings(), encoding="utf-8")
    PYTHON_PAGE.write_text(render_python(), encoding="utf-8")
