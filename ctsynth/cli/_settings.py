"""Options of the command line made from the fields of a settings dataclass: type, words and default from there."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer
from typer.models import ArgumentInfo, OptionInfo

from ctsynth.cli._options import check_seed
from ctsynth.schema import Help

Command = Callable[..., None]


def settings_options(
    form: type[Any], panels: Mapping[str, Sequence[str]], defaults: Mapping[str, str] | None = None
) -> Callable[[Command], Command]:
    """Gives a command an option for each of these fields; it gets those that were given as the dict ``training``.

    Args:
        form: The dataclass; each of these fields has a ``Help``.
        panels: All panels of the command's help in their order, and the fields whose options stand there.
        defaults: What to show as default where it is another for this command.
    """
    names = [name for fields in panels.values() for name in fields]

    def decorate(function: Command) -> Command:
        @functools.wraps(function)
        def command(**values: Any) -> None:  # noqa: ANN401  what the options hold
            given = {name: values.pop(name) for name in names}
            function(**values, training={name: value for name, value in given.items() if value is not None})

        own = inspect.signature(function, eval_str=True).parameters.values()
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [parameter.replace(kind=keyword) for parameter in own if parameter.name != "training"]
        parameters += [
            _parameter(form, name, panel, defaults or {}) for panel, fields in panels.items() for name in fields
        ]
        order = list(panels)
        parameters.sort(key=lambda parameter: _place(parameter, order))
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return command

    return decorate


def _parameter(form: type[Any], name: str, panel: str, defaults: Mapping[str, str]) -> inspect.Parameter:
    kind, words = _described(form)[name]
    default: Any = next(field.default for field in dataclasses.fields(form) if field.name == name)
    own = ("yes" if default else "no") if kind is bool else str(default)
    shown = defaults.get(name) or words.default or own
    flag = f"--{name.replace('_', '-')}"
    option = typer.Option(
        *([f"{flag}/--no-{flag[2:]}"] if kind is bool else []),
        help=words.text,
        show_default=shown,
        rich_help_panel=panel,
        callback=check_seed if name == "seed" else None,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _described(form: type[Any]) -> dict[str, tuple[Any, Help]]:
    """Type, without bounds and None, and words of each field that has words."""
    found = {}
    for name, hint in typing.get_type_hints(form, include_extras=True).items():
        words = [part for part in getattr(hint, "__metadata__", ()) if isinstance(part, Help)]
        if words:
            found[name] = next(_plain(hint)), words[0]
    return found


def _plain(hint: Any) -> Iterator[Any]:  # noqa: ANN401  any annotation
    if typing.get_origin(hint) is Annotated:
        yield from _plain(typing.get_args(hint)[0])
    elif typing.get_origin(hint) in (types.UnionType, typing.Union):
        for part in typing.get_args(hint):
            yield from _plain(part)
    elif hint is not types.NoneType:
        yield hint


def _place(parameter: inspect.Parameter, panels: Sequence[str]) -> int:
    """Arguments first, then the options panel by panel."""
    (info,) = (part for part in parameter.annotation.__metadata__ if isinstance(part, ArgumentInfo | OptionInfo))
    return -1 if isinstance(info, ArgumentInfo) else panels.index(str(info.rich_help_panel))
