"""What ``ctsynth score`` does: draws volumes where it must, measures them, collects their scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ctsynth.cli import console
from ctsynth.cli._checkpoints import checkpoints_of, draw_volumes
from ctsynth.device import DeviceName
from ctsynth.sampling.settings import Preset, SamplingSettings

if TYPE_CHECKING:
    from ctsynth.data.store import Store
    from ctsynth.scoring.run import ScoringOptions
    from ctsynth.scoring.scores import Result, Scores


@dataclass
class Work:
    """What is scored, how, and what was found.

    Args:
        store: The real slices.
        split: Whose subjects are scored.
        how: All other arguments of ``scoring``.
        workers: As for ``Scoring.measure``.
        found: The scores, by the name of what was scored.
        shares: With --shard, how many subjects were measured and kept.
    """

    store: Store
    split: str
    how: ScoringOptions
    workers: int | None
    found: dict[str, Scores] = field(default_factory=dict)
    shares: dict[str, dict[str, int]] = field(default_factory=dict)

    def score(
        self, volumes: Path, target: Path, name: str | None = None, more: Mapping[str, Result] | None = None
    ) -> Scores | None:
        """Measures the volumes and, unless this is a shard, writes their scores and what ``more`` is known."""
        from ctsynth.outputs import refuse_foreign
        from ctsynth.reporting.tables import labelled, remarks
        from ctsynth.scoring.run import scoring
        from ctsynth.scoring.scores import is_scores

        refuse_foreign(target, is_scores, "a file of scores")  # before the work is done
        work = scoring(volumes, self.store, self.split, **self.how)
        with work as now, console.progress("scoring", len(now.subjects)) as progress:
            made = now.measure(progress, self.workers)
            scores = now.scores() if self.how["shard"] is None else None
        if scores is None:
            self.shares[name or str(volumes)] = {"measured": made, "kept": len(now.subjects) - made}
            return None
        if more:
            scores = replace(scores, name=f"{scores.name}, {name}", metrics={**scores.metrics, **more})
        scores.save(target, overwrite=self.how["overwrite"])
        self.found[labelled(name or scores.name, phantom=scores.phantom)] = scores
        for column, result in scores.metrics.items():
            for note in result.notes:
                console.log.info("%s: %s", column, note)
        for words in remarks(scores):
            console.log.info("%s", words)
        console.log.info("written: %s", target)
        return scores

    def score_checkpoints(
        self, run: Path, wanted: str, out: Path | None, preset: Preset, device: DeviceName
    ) -> None:
        """Draws and measures the volumes of each of these checkpoints.

        Args:
            run: A training run.
            wanted: As in ``checkpoints_of``.
            out: Folder of the checkpoints' folders; None is RUN/scored.
            preset: How to draw.
            device: Where to draw.
        """
        for step in checkpoints_of(run, wanted):
            folder = (out or run / "scored") / step.name
            self._draw(step, folder, preset, device)
            self.score(folder, folder / "scores.json", f"step {int(step.name.removeprefix('step_')):,}")

    def _draw(self, step: Path, folder: Path, preset: Preset, device: DeviceName) -> None:
        from ctsynth.device import find_device
        from ctsynth.sampling.batches import resolve
        from ctsynth.sampling.cases import cases_of_store
        from ctsynth.training import checkpoint

        where = find_device(device)
        trained = checkpoint.load(step, where)
        sampling = resolve(SamplingSettings(preset=preset), trained.method, where)
        cases = cases_of_store(self.store, self.split, trained, folder)
        draw_volumes(trained, cases, sampling, self.how["shard"], step.name, overwrite=self.how["overwrite"])

    def shown(self, form: Literal["table", "csv", "markdown", "latex"], *, as_json: bool, one: bool) -> str:
        """What is printed of it."""
        from ctsynth.reporting.tables import count, render

        if self.how["shard"] is not None:
            lines = (
                f"{name}: {count(n['measured'], 'subjects')} measured, {n['kept']} kept"
                for name, n in self.shares.items()
            )
            return dumps(self.shares) if as_json else "\n".join(lines)
        if as_json:
            contents = {name: scores.as_json() for name, scores in self.found.items()}
            return dumps(next(iter(contents.values())) if one else contents, indent=2)
        return render(self.found, form, console.width())
