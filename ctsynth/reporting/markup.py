"""HTML from the templates of this package, in which text is escaped and only ``Markup`` is not."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("ctsynth.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def page(template: str, **values: Any) -> str:  # noqa: ANN401  what the template shows
    """A whole page.

    Args:
        template: A file of ``templates``.
        values: What it shows, by name.
    """
    return _templates().get_template(template).render(**values)


def part(name: str, *values: Any) -> Markup:  # noqa: ANN401  as above
    """A part of a page.

    Args:
        name: A macro of ``templates/parts.html``.
        values: Its arguments.
    """
    macro = getattr(_templates().get_template("parts.html").module, name)
    return Markup(macro(*values))


def stacked(parts: Iterable[Markup]) -> Markup:
    """Parts below one another."""
    return Markup("\n").join(parts)
