"""Checks what JSON and TOML hold against type annotations, and names the field that is not as wanted.

A form is an annotation: a dataclass, which is built; a TypedDict, which is returned as it is and may have further
keys; lists, tuples, dicts, literals, unions, ``bool``, ``int``, ``float`` (finite), ``str``, any class, ``Any``.
Numbers have bounds by ``Annotated[int, Range(1)]``; ``Help`` beside it is for people, and checks nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import sys
import types
import typing
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from ctsynth.errors import CTSynthError, DataError, UsageError
from ctsynth.files import read_json

T = TypeVar("T")

_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 80

_UNIONS = (typing.Union, types.UnionType)


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds of a number.

    Args:
        low: Its least value.
        high: Its largest value.
        above: ``low`` itself is out of bounds.
        below: ``high`` itself is out of bounds.
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, number: float) -> bool:
        return (self.low < number if self.above else self.low <= number) and (
            number < self.high if self.below else number <= self.high
        )

    def __str__(self) -> str:
        low, high = (f"{end:,}" if isinstance(end, int) else f"{end:g}" for end in (self.low, self.high))
        if self.high == math.inf:
            return f"above {low}" if self.above else f"of at least {low}"
        return f"within {'(' if self.above else '['}{low}, {high}{')' if self.below else ']'}"


@dataclass(frozen=True, slots=True)
class Help:
    """What a setting is: for its option on the command line, and for the reference.

    Args:
        text: A few words.
        default: What is shown as its default where methods or presets differ; the field's own if empty.
        metavar: What stands for its value on the command line; the name of its type if empty.
    """

    text: str
    default: str = ""
    metavar: str = ""


Share = Annotated[float, Range(0, 1, below=True)]
"""From 0 to less than 1."""

Weight = Annotated[float, Range(0)]
"""Weight of a loss term, say."""

LabelContext = Annotated[int, Range(0, 16)]
"""Slices above, and as many below, whose label maps are read too."""

Width = Annotated[int, Range(1, 8192)]
"""Channels."""

Multipliers = tuple[Annotated[int, Range(1, 256)], ...]
"""Channels of each level, as multiples."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in which file a value stands, and the error that it raises."""

    source: str
    error: type[CTSynthError]
    path: str = ""

    def at(self, key: str | int) -> _Place:
        inner = f"{self.path}[{key}]" if isinstance(key, int) else f"{self.path}.{key}".removeprefix(".")
        return dataclasses.replace(self, path=inner)

    def fail(self, problem: str, hint: str | None = None) -> NoReturn:
        raise self.error(f"{self.source}: {problem}" if self.source else problem, hint=hint)

    def refuse(self, value: object, form: Any) -> NoReturn:  # noqa: ANN401  any annotation
        name = self.path if self.source else f"`{self.path}`"  # of no file, it is a setting: an option, perhaps
        what = f"{name} is {_SHORT.repr(value)}" if self.path else f"it holds {_SHORT.repr(value)}"
        self.fail(f"{what}, wanted {described(form)}")


def read(path: Path, form: type[T], *, schema: int | None = None, hint: str | None = None) -> T:
    """Reads a JSON file of that form.

    Args:
        path: The file.
        form: Form of its content.
        schema: What its key ``schema`` must be; None where it has none.
        hint: What to do about a file that cannot be read; one of a later schema wants a later ctsynth.

    Raises:
        DataError: There is no such file, or it is of another form or schema.
    """
    try:
        content = read_json(path)
        if schema is not None:
            found = content.get("schema") if isinstance(content, dict) else content
            if found != schema:
                if found is None:
                    raise DataError(f"{path}: it has no schema, wanted {schema}: not a file of this kind")
                later = "update ctsynth" if isinstance(found, int) and found > schema else None
                raise DataError(f"{path}: schema {_SHORT.repr(found)}, this version reads {schema}", hint=later)
        return parse(form, content, str(path))
    except DataError as error:
        raise DataError(error.message, hint=error.hint or hint) from error


def parse(form: type[T], value: object, source: str, error: type[CTSynthError] = DataError) -> T:
    """A value of that form.

    Args:
        form: What the value must be.
        value: Parsed JSON or TOML.
        source: Where it comes from, for messages.
        error: What is raised.
    """
    return typing.cast("T", _parse(form, value, _Place(source, error)))


def check_named(form: type, values: Mapping[str, Any], source: str, within: str) -> None:
    """Checks the settings that a file names, before defaults join them and hide where they are from.

    Args:
        form: Dataclass of the settings.
        values: Those in the file.
        source: The file, for messages.
        within: The table that holds them.

    Raises:
        UsageError: There is no such setting, or its value is of another type or out of bounds.
    """
    _named(form, values, _Place(source, UsageError, within))


def check(settings: object) -> None:
    """Checks a dataclass against its own annotations: for ``__post_init__``.

    Args:
        settings: The instance.

    Raises:
        UsageError: A field is of another type or out of bounds.
    """
    kind: Any = type(settings)
    for key, form in _hints(kind).items():
        _parse(form, getattr(settings, key), _Place("", UsageError, key))


def _parse(form: Any, value: Any, place: _Place) -> Any:  # noqa: ANN401  any form, any value
    origin, parts = typing.get_origin(form), typing.get_args(form)
    if form is Any:
        return value
    if origin is Annotated:
        bounds = [part for part in parts[1:] if isinstance(part, Range)]
        if not bounds:
            return _parse(parts[0], value, place)
        with suppress(place.error):
            number = _parse(parts[0], value, place)
            if number in bounds[0]:
                return number
        return place.refuse(value, form)
    if origin in _UNIONS:
        return _parse_union(form, value, place)
    if origin is Literal:
        is_one = any(value == part and type(value) is type(part) for part in parts)
        return value if is_one else place.refuse(value, form)
    if origin is tuple and isinstance(value, list | tuple):
        forms = [parts[0]] * len(value) if parts[-1] is Ellipsis else list(parts)
        if len(forms) == len(value):
            return tuple(_parse(*pair, place.at(n)) for n, pair in enumerate(zip(forms, value, strict=True)))
    elif origin is list and isinstance(value, list):
        return [_parse(parts[0], item, place.at(n)) for n, item in enumerate(value)]
    elif origin in (dict, Mapping) and isinstance(value, Mapping):
        return {key: _parse(parts[1], item, place.at(str(key))) for key, item in value.items()}
    elif typing.is_typeddict(form):
        if isinstance(value, Mapping):
            return _parse_typeddict(form, value, place)
    elif dataclasses.is_dataclass(form):
        if isinstance(value, typing.cast(type, form)):
            return value
        if isinstance(value, Mapping):
            return _build(form, value, place)
    elif form is float and isinstance(value, int | float) and not isinstance(value, bool):
        if abs(value) <= sys.float_info.max:  # false for NaN
            return float(value)
    elif form is str and isinstance(value, str):
        if "\0" not in value:  # which no file system takes
            return value
    elif origin is None and isinstance(value, form) and (form is bool or not isinstance(value, bool)):
        return value
    return place.refuse(value, form)


def _parse_union(form: Any, value: Any, place: _Place) -> Any:  # noqa: ANN401  as above
    parts = [part for part in typing.get_args(form) if part is not types.NoneType]
    if value is None and len(parts) < len(typing.get_args(form)):
        return None
    if len(parts) == 1:
        return _parse(parts[0], value, place)
    for part in parts:
        try:
            return _parse(part, value, place)
        except place.error:
            continue
    return place.refuse(value, form)


def _parse_typeddict(form: Any, value: Mapping[str, Any], place: _Place) -> Mapping[str, Any]:  # noqa: ANN401
    for key, inner in _hints(form).items():
        is_optional = typing.get_origin(inner) is typing.NotRequired
        if key in value:
            _parse(typing.get_args(inner)[0] if is_optional else inner, value[key], place.at(key))
        elif not is_optional:
            place.fail(f"{place.at(key).path} is missing")
    return value


def _build(form: Any, value: Mapping[str, Any], place: _Place) -> Any:  # noqa: ANN401  as above
    for field in dataclasses.fields(form):
        if field.default is field.default_factory is dataclasses.MISSING and field.name not in value:
            place.fail(f"{place.at(field.name).path} is missing")
    settings = _named(form, value, place)
    try:
        return form(**settings)
    except CTSynthError as error:  # of its own __post_init__
        place.fail(f"{place.path}: {error.message}".removeprefix(": "), hint=error.hint)


def _named(form: Any, values: Mapping[str, Any], place: _Place) -> dict[str, Any]:  # noqa: ANN401  as above
    hints = _hints(form)
    for key in values:
        if key not in hints:
            place.fail(f"unknown key {place.at(str(key)).path!r}", hint=f"known: {', '.join(hints)}")
    return {key: _parse(hints[key], item, place.at(key)) for key, item in values.items()}


@functools.cache
def _hints(form: Any) -> dict[str, Any]:  # noqa: ANN401  as above
    hints = typing.get_type_hints(form, include_extras=True)
    known = [field.name for field in dataclasses.fields(form)] if dataclasses.is_dataclass(form) else hints
    return {key: hints[key] for key in known}


def described(form: Any) -> str:  # noqa: ANN401  as above
    """What an annotation wants, in words: ``a whole number of at least 1``."""
    origin, parts = typing.get_origin(form), typing.get_args(form)
    if origin is Annotated:
        return " ".join([described(parts[0]), *(str(part) for part in parts[1:] if isinstance(part, Range))])
    if origin in _UNIONS:
        return " or ".join(map(described, parts))
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin is tuple:
        return f"a list of {described(parts[0])}, ..." if parts[-1] is Ellipsis else f"a list of {len(parts)}"
    kind = origin or form
    names: dict[Any, str] = {int: "a whole number", float: "a finite number", str: "a string", list: "a list"}
    names |= {bool: "true or false", types.NoneType: "null"}
    if kind in names:
        return names[kind]
    is_object = typing.is_typeddict(kind) or dataclasses.is_dataclass(kind) or kind in (dict, Mapping)
    return "an object {...}" if is_object else f"a {kind.__name__}"
