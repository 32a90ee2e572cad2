"""Options of the command line made from the fields of settings dataclasses: type, words, bounds and default."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer
from typer.models import ArgumentInfo, OptionInfo

from ctsynth.cli._options import check_seed
from ctsynth.schema import Help, Range

Command = Callable[..., None]


def settings_options(
    panels: Mapping[str, Sequence[str]], defaults: Mapping[str, str] | None = None, **forms: type[Any]
) -> Callable[[Command], Command]:
    """Gives a command an option for each of these fields.

    A parameter of the command that is annotated with its dataclass gets an instance. One that is a dict gets the
    options that were named on the command line: presets and files decide the others, and the bounds are checked
    when all of them are put together.

    Args:
        panels: All panels of the command's help in their order. The options of the fields, and of the command's
            own parameters that are named, stand there in this order, after those that are not named.
        defaults: What to show as default where it is another for this command.
        forms: The dataclass of each such parameter; each of the fields has a ``Help``.
    """
    names = [name for fields in panels.values() for name in fields]
    fields = {
        argument: [name for name in names if name in form.__dataclass_fields__] for argument, form in forms.items()
    }

    def decorate(function: Command) -> Command:
        own = inspect.signature(function, eval_str=True).parameters
        is_partial = {argument: own[argument].annotation is not form for argument, form in forms.items()}

        @functools.wraps(function)
        def command(**values: Any) -> None:  # noqa: ANN401  what the options hold
            for argument, form in forms.items():
                found = {name: values.pop(name) for name in fields[argument]}
                named = {name: value for name, value in found.items() if value is not None}
                values[argument] = named if is_partial[argument] else form(**found)
            function(**values)

        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own.values() if p.name not in forms]
        for argument, form in forms.items():
            for name in fields[argument]:
                panel = next(panel for panel, held in panels.items() if name in held)
                shown = (defaults or {}).get(name, "")
                parameters.append(_parameter(form, name, panel, shown, is_partial=is_partial[argument]))
        parameters.sort(key=lambda parameter: _place(parameter, panels))
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return decorate


def _parameter(form: type[Any], name: str, panel: str, shown: str, *, is_partial: bool) -> inspect.Parameter:
    """The option of a field, with its default and bounds; if partial, None where it is not named."""
    kind, words, bounds = _described(form, name)
    default = next(field.default for field in dataclasses.fields(form) if field.name == name)
    flag = f"--{name.replace('_', '-')}"
    negated = f"/--no-{flag[2:]}" if is_partial or default else ""
    in_words = ("yes" if default else "no") if kind is bool else str(default)
    is_checked_later = is_partial or name == "seed"
    option = typer.Option(
        *([flag + negated] if kind is bool else []),
        help=words.text,
        metavar=words.metavar or None,
        show_default=shown or words.default or (in_words if is_partial else default is not None),
        rich_help_panel=panel,
        min=None if is_checked_later or bounds.low == -math.inf else bounds.low,
        max=None if is_checked_later or bounds.high == math.inf else bounds.high,
        callback=check_seed if name == "seed" else None,
    )
    default = None if is_partial else default
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind if default is not None else kind | None, option],
    )


def _described(form: type[Any], name: str) -> tuple[Any, Help, Range]:
    """Type, without bounds and None, words and bounds of a field."""
    parts = list(_parts(typing.get_type_hints(form, include_extras=True)[name]))
    (kind,) = (part for part in parts if not isinstance(part, Help | Range))
    (words,) = (part for part in parts if isinstance(part, Help))
    return kind, words, next((part for part in parts if isinstance(part, Range)), Range())


def _parts(hint: Any) -> Iterator[Any]:  # noqa: ANN401  any annotation
    """What an annotation is made of: types and metadata, but for None."""
    if typing.get_origin(hint) in (Annotated, types.UnionType, typing.Union):
        for part in typing.get_args(hint):
            yield from _parts(part)
    elif hint is not types.NoneType:
        yield hint


def _place(parameter: inspect.Parameter, panels: Mapping[str, Sequence[str]]) -> tuple[int, int]:
    """Arguments first, then the options panel by panel."""
    (info,) = (part for part in parameter.annotation.__metadata__ if isinstance(part, ArgumentInfo | OptionInfo))
    if isinstance(info, ArgumentInfo):
        return -1, -1
    panel = str(info.rich_help_panel)
    listed = panels[panel]
    return list(panels).index(panel), listed.index(parameter.name) if parameter.name in listed else -1
