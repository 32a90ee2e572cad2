"""A trained model that draws arrays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ctsynth.api.errors import as_path, value_errors
from ctsynth.data.limits import MOST_A_SIDE
from ctsynth.data.slices import from_slices, stack, to_slices, unstack
from ctsynth.data.volume import Geometry
from ctsynth.errors import shortened
from ctsynth.labels import BACKGROUND
from ctsynth.sampling.settings import Preset, SamplerName, SamplingSettings

if TYPE_CHECKING:
    from ctsynth.device import DeviceName, Precision
    from ctsynth.training.checkpoint import Trained


class Model:
    """A trained model; ``ctsynth.load`` makes it.

    Attributes:
        labels: The classes by the number that they have in label arrays; 0 is background, outside the patient.
        window: The lowest and the highest HU that it draws.
        size: Side of the slices that it draws, pixels; label arrays may have any other.
        path: Its checkpoint.
    """

    def __init__(self, trained: Trained, device: DeviceName, precision: Precision) -> None:
        from ctsynth.data.window import Window
        from ctsynth.device import find_device, find_precision

        self._trained = trained
        self._device = find_device(device)
        self._precision = find_precision(precision, self._device)
        window = Window(trained.config.level, trained.config.width)
        self.labels: dict[int, str] = dict(trained.labels.names)
        self.window = (window.low, window.high)
        self.size: int = trained.config.size
        self.path: Path = trained.path

    def __repr__(self) -> str:
        """The method, its size and where it is from."""
        return (
            f"<{self._trained.config.method}, {self.size} x {self.size}, {len(self.labels)} classes, {self.path}>"
        )

    def draw(
        self,
        labels: ArrayLike,
        *,
        spacing: float = 5.0,
        seed: int = 0,
        preset: Preset = "fast",
        sampler: SamplerName | None = None,
        steps: int | None = None,
        guidance: float = 1.0,
        outside: Literal["window", "air"] = "window",
        batch_size: int | None = None,
        name: str = "volume",
    ) -> NDArray[np.int16]:
        """Draws a CT of labels.

        A slice is seen from the feet: row 0 is anterior, column 0 is the patient's right; slice 0 is the lowest.
        Slices are padded to squares and resized to the model's size, and what is drawn is resized back.

        Args:
            labels: (Z, H, W) or (H, W) whole numbers: 0, or keys of ``Model.labels``, body included.
            spacing: Distance between slices, mm; nearer slices start from more similar noise.
            seed: The same labels and seed give the same HU.
            preset: ``fast``, or ``paper``: ancestral sampling in 1000 steps.
            sampler: ``dpm++``, ``ddim`` or ``ddpm``; the preset's if None.
            steps: Network evaluations a slice; the preset's if None.
            guidance: Scale of classifier-free guidance, 1 for none.
            outside: HU outside the patient: ``window``, as drawn, or ``air``, -1000.
            batch_size: Slices at once; changes rounding only. 16, or 4 on a CPU, if None.
            name: Determines the noise, together with the seed; ``ctsynth sample`` uses the mask file's name.

        Returns:
            int16 HU of the same shape, within ``Model.window``.

        Raises:
            ValueError: The labels or a setting cannot be used.
        """
        from ctsynth.sampling import batches, volumes

        array = self._checked(labels)
        slices = array if array.ndim == 3 else array[None]
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
            raise ValueError(f"seed is {seed!r}: give a whole number from 0 to {2**63 - 1}")
        _check_number("spacing", spacing, "mm between slices")
        _check_choice("outside", outside, ("window", "air"))
        _check_choice("preset", preset, ("fast", "paper"))
        with value_errors():
            settings = SamplingSettings(
                preset=preset, sampler=sampler, steps=steps, guidance=guidance, seed=int(seed),
                batch_size=batch_size, precision=self._precision,
            )  # fmt: skip
            sampling = batches.resolve(settings, self._trained.method, self._device)
            volumes.check(self._trained, sampling)
            masks = to_slices(stack(slices), self.size, "labels")
            drawn = batches.draw(self._trained, masks, spacing, name, sampling)
        z, y, x = slices.shape
        hu = unstack(from_slices(drawn, Geometry((x, y, z), np.diag([1.0, 1.0, spacing, 1.0])), "ct")).copy()
        if outside == "air":
            hu[slices == BACKGROUND] = volumes.AIR
        return hu.reshape(array.shape)

    def _checked(self, labels: ArrayLike) -> NDArray[np.uint8]:
        """Labels of the model's set, as uint8.

        Raises:
            ValueError: Shape, dtype or values are others, or the body is missing.
        """
        array = np.asarray(labels)
        if array.ndim not in (2, 3) or not array.size > 0 or max(array.shape) > MOST_A_SIDE:
            raise ValueError(
                f"labels have the shape {array.shape}: give (slices, rows, columns) or (rows, columns), at most"
                f" {MOST_A_SIDE:,} each"
            )
        if array.dtype.kind not in "iu":
            remedy = "labels.astype(np.uint8), if they are whole numbers" if array.dtype.kind in "fb" else ""
            raise ValueError(f"labels are {array.dtype}: give whole numbers{': ' if remedy else ''}{remedy}")
        known = [BACKGROUND, *self.labels]
        if strange := sorted({int(value) for value in np.unique(array)} - set(known)):
            listed = ", ".join(f"{number} {name}" for number, name in self.labels.items())
            raise ValueError(
                f"labels hold {shortened(map(str, strange))}: give 0 for background and the model's {listed}"
            )
        own = self._trained.labels
        if (array != BACKGROUND).any() and not (array >= own.body_id).any():
            raise ValueError(
                f"labels have no body, which is {own.body_id}: set it where the patient is and no organ, or let"
                f" `ctsynth sample --mask` estimate its outline"
            )
        return array.astype(np.uint8)


def load(
    model: str | Path | None = None,
    *,
    device: DeviceName = "auto",
    precision: Precision = "auto",
    raw: bool = False,
) -> Model:
    """Loads a trained model to draw with.

    Args:
        model: A run, a checkpoint or an exported model; the newest run in ./runs if None.
        device: Where to draw.
        precision: ``auto`` is bf16 on a GPU that has it, else fp32.
        raw: The raw weights, not the averaged ones.

    Raises:
        ValueError: There is no model, it is damaged, or there is no such device.
    """
    with value_errors():
        from ctsynth.device import find_device
        from ctsynth.training import checkpoint

        trained = checkpoint.load(checkpoint.find(as_path(model)), find_device(device), raw=raw)
        return Model(trained, device, precision)


def _check_number(name: str, value: float, meaning: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < float("inf"):
        raise ValueError(f"{name} is {value!r}: give a number above 0, {meaning}")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}: give {' or '.join(map(repr, choices))}")
