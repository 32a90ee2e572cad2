"""The loss terms of a run: summed on the device, watched for what is not finite, and written to metrics.jsonl."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ctsynth import history
from ctsynth.errors import RunError
from ctsynth.files import write_text
from ctsynth.training.distributed import World


class LossTerms:
    """The loss terms of the steps since the last row, summed on the device.

    Attributes:
        steps: How many these are.
    """

    def __init__(self, device: torch.device, world: World) -> None:
        self.world = world
        self.steps = 0
        self._sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=device))
        self._first_bad = torch.tensor(math.inf, device=device)

    def add(self, step: int, terms: dict[str, Tensor], weight: float = 1.0) -> None:
        """Adds the terms of a step, or of a part of its batch."""
        for name, term in terms.items():
            value = term.detach().float()
            self._sums[name] += value * weight
            self._first_bad = torch.where(torch.isfinite(value), self._first_bad, self._first_bad.clamp(max=step))

    def check(self, checkpoints: Callable[[], Sequence[Path]]) -> None:
        """Stops the run if a term has not been finite.

        Args:
            checkpoints: Lists what was saved, for the message.

        Raises:
            RunError: It names the step and the last good checkpoint.
        """
        step = self._first_bad.item()
        if step == math.inf:
            return
        bad = sorted(name for name, total in self._sums.items() if not math.isfinite(total.item()))
        saved = checkpoints()
        good = f"the last good checkpoint is {saved[-1]}" if saved else "there is no checkpoint yet"
        raise RunError(
            f"{', '.join(bad)} not finite at step {step:.0f}: stopped; {good}",
            hint="lower `lr` or say `precision` fp32; the same command continues from that checkpoint",
        )

    def means(self) -> dict[str, float]:
        """The mean of each term over these steps and all ranks; call it on each."""
        return {name: total.item() / max(self.steps, 1) for name, total in self.world.mean(self._sums).items()}

    def clear(self) -> None:
        """Begins the next row."""
        self.steps = 0
        self._sums.clear()

    def state(self) -> dict[str, Any]:
        """What every rank has added since the last row; call it on each."""
        if not self._sums:
            return {"steps": self.steps, "sums": {}}
        sums = self.world.gather(torch.stack(list(self._sums.values())))
        return {"steps": self.steps, "sums": dict(zip(self._sums, sums.T, strict=True))}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues from a state; another number of ranks than saved it continues from their mean."""
        self.steps = state.get("steps", 0)
        self._sums.clear()
        for name, sums in state.get("sums", {}).items():
            own = sums[self.world.rank] if len(sums) == self.world.size else sums.mean()
            self._sums[name] = own.to(self._first_bad.device)


class MetricsLog:
    """metrics.jsonl: one row every ``log_every`` steps."""

    def __init__(self, path: Path, terms: LossTerms, world: World) -> None:
        self.path, self.terms, self.world = path, terms, world
        self.restart_clock()

    def restart_clock(self) -> None:
        """Restarts images_per_s: time since the last row does not count."""
        self._since, self._steps_before = time.perf_counter(), self.terms.steps

    def write(self, step: int, lr: float, batch_size: int, dataset_size: int) -> dict[str, float]:
        """The row of this step, averaged over the ranks and written by the first; the next one begins."""
        elapsed = time.perf_counter() - self._since
        row: dict[str, float] = {"step": step, "epoch": round(step * batch_size / dataset_size, 3)}
        row |= self.terms.means()
        row.setdefault("loss", sum(value for name, value in row.items() if name.endswith("_loss")))
        row |= {
            "lr": lr,
            "images_per_s": (self.terms.steps - self._steps_before) * batch_size / max(elapsed, 1e-9),
        }
        try:
            if self.world.is_first:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise RunError(
                f"{self.path}: cannot write it: {error.strerror}",
                hint="free some space; the same command continues",
            ) from error
        self.terms.clear()
        self.restart_clock()
        return row

    def rows(self) -> list[history.Row]:
        """Every row so far."""
        return history.rows(self.path)

    def forget_after(self, step: int) -> None:
        """Drops the rows of steps that a resumed run does again, and lines that are no rows."""
        if self.world.is_first and self.path.exists():
            kept = [text.decode() for text, row in history.lines(self.path) if row["step"] <= step]
            write_text(self.path, "".join(f"{text}\n" for text in kept))
