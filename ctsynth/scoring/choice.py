"""Which metrics can be computed here."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ctsynth.errors import UsageError
from ctsynth.metrics import base
from ctsynth.metrics.base import Context, Metric

log = logging.getLogger(__name__)


def choose(names: Sequence[str] | None, context: Context) -> tuple[dict[str, Metric], dict[str, str]]:
    """The metrics that can be computed here, and why the others cannot.

    Args:
        names: Names of metrics; all that there are if None.
        context: The scoring that they are made for.

    Raises:
        UsageError: No such metric, or none of them can be computed here.
    """
    chosen: dict[str, Metric] = {}
    left_out: dict[str, str] = {}
    found = {name: base.find_metric(name) for name in (base.metric_names() if names is None else names)}
    for name, metric in sorted(found.items(), key=lambda item: item[1].rank):
        made = metric.make(context)
        if isinstance(made, str):
            left_out[name] = made
            log.info("%s is left out: %s", name, made)
        else:
            chosen[name] = made
    if not chosen:
        why = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise UsageError(
            f"no metric to compute: {why or 'none was named'}",
            hint="choose other `metrics`: ctsynth info lists them",
        )
    return chosen, left_out
