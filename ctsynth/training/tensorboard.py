"""The rows of metrics.jsonl for TensorBoard: a curve a column."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from ctsynth.errors import RunError, UsageError

FOLDER = "tensorboard"
"""In a run's folder."""

FILES = "events.out.tfevents.*"


def check_installed() -> None:
    """Refuses to write for TensorBoard without its package.

    Raises:
        UsageError: It is not here.
    """
    if find_spec("tensorboard") is None:
        raise UsageError("`tensorboard`: tensorboard is not installed", hint="pip install 'ctsynth[tensorboard]'")


class Curves:
    """Writes rows to RUN/tensorboard.

    Args:
        run: The run's folder.
        step: Where the run continues; what was written of later steps no longer counts.
    """

    def __init__(self, run: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder = run / FOLDER
        try:
            self._writer = SummaryWriter(str(self.folder), purge_step=step + 1)
        except OSError as error:
            raise self._cannot_write(error) from error

    def add(self, row: Mapping[str, float]) -> None:
        """Adds a row, which holds its step.

        Raises:
            RunError: It cannot be written.
        """
        step = int(row["step"])
        try:
            for name, value in row.items():
                if name != "step":
                    self._writer.add_scalar(name, value, step)
            self._writer.flush()
        except OSError as error:
            raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> RunError:
        return RunError(
            f"{self.folder}: cannot write it: {error.strerror}", hint="free some space; the same command continues"
        )
