"""FID of the planes along all three axes: a volume that was drawn slice by slice looks wrong across its slices."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctsynth.data.store import Subject
from ctsynth.features.frechet import Stacked, frechet_distance
from ctsynth.features.inception import DIMENSIONS
from ctsynth.files import code_digest
from ctsynth.measures.planes import BODY, PLANES, SPACING, resampled_planes
from ctsynth.metrics._described import real_pair
from ctsynth.metrics._inception import ABSENT, Features, InceptionMetric, stacked
from ctsynth.metrics.base import Arrays, Pair, Record
from ctsynth.scoring.result import Result, Value

log = logging.getLogger(__name__)

_PLANES_AT_ONCE = 64


class FIDPlanes(InceptionMetric):
    """FID of axial, coronal and sagittal planes, and as the number of the set their mean.

    Volumes are interpolated linearly to 1.5 mm in each direction; planes with less than 5 % of body are left out.
    The network, its weights and what may be called FID are those of ``fid``. Some hundred planes a volume: two
    minutes on a CPU core.
    """

    title = "FID planes"
    digits = 2
    higher_is_better = False
    rank = 11

    @classmethod
    def available(cls) -> str | None:
        """Why not, in short; ``fid`` says it at length."""
        return ABSENT if super().available() else None

    @property
    def key(self) -> str:
        """Its name in scores.json, where the weights are not those of FID another than its file's."""
        return "" if self.is_fid else "fd_smoke-planes"

    @property
    def settings(self) -> Mapping[str, Any]:
        """The network, the grid, and which planes count."""
        return {**self.network, "grid": f"linear, {SPACING} mm", "planes": f"of {100 * BODY:g} % body and more"}

    def measure(self, pair: Pair) -> Record:
        """Features of the planes, (n, 2048): ``real_xy``, ``synthetic_yz`` and so on."""
        known = self._store.subjects_by_name.get(pair.subject) if self._store else None
        real = self._of(known, pair) if known else self._features(pair, pair.real)
        synthetic = self._features(pair, pair.synthetic)
        return {f"real_{name}": real[name] for name in PLANES} | {
            f"synthetic_{name}": synthetic[name] for name in PLANES
        }

    def result(self, records: Mapping[str, Arrays]) -> Result:
        """The mean of the three, and each as a variant."""
        return self._compare(
            {name: (stacked(records, f"real_{name}"), stacked(records, f"synthetic_{name}")) for name in PLANES}
        )

    def floor(self, records: Mapping[str, Arrays]) -> Result | None:
        """The same of real planes: those of the other split against those that were scored."""
        others = self.others
        if not others:
            return None
        self.ahead(others)

        def planes(name: str) -> Stacked:
            parts = [(len(self._of(one)[name]), functools.partial(self._read, one, name)) for one in others]
            return Stacked(parts, DIMENSIONS)

        return self._compare({name: (stacked(records, f"real_{name}"), planes(name)) for name in PLANES})

    def ahead(self, subjects: Sequence[Subject]) -> None:
        """Computes the features of real planes that are not in the store."""
        for done, subject in enumerate(subjects, start=1):
            self._of(subject)
            log.debug("features of planes: %d/%d subjects", done, len(subjects))

    def _compare(self, sets: Mapping[str, tuple[Stacked, Stacked]]) -> Result:
        counts = {name: min(map(len, pair)) for name, pair in sets.items()}
        each = {name: frechet_distance(*pair) if counts[name] > 1 else None for name, pair in sets.items()}
        known = [value for value in each.values() if value is not None]
        title = "FID" if self.is_fid else "FD, other weights,"
        found = Result(
            title=f"{title} planes",
            total=Value(value=float(np.mean(known)) if len(known) == len(each) else None, n=sum(counts.values())),
            digits=self.digits,
            higher_is_better=False,
            counted="planes",
            settings=self.settings,
        )
        variants = {
            name: replace(found, title=f"{title} {name.upper()}", total=Value(value=value, n=counts[name]))
            for name, value in each.items()
        }
        return replace(found, variants=variants)

    def _read(self, subject: Subject, name: str) -> Features:
        return self._of(subject)[name]

    def _of(self, subject: Subject, pair: Pair | None = None) -> Arrays:
        """The features of a subject's real planes, cached in the store."""
        store = self._store
        assert store is not None
        known = {
            "planes": [SPACING, BODY],
            "real": [subject.record[key] for key in ("ct_sha256", "mask_sha256", "geometry")],
            "window": [store.window.low, store.window.high, store.size],
            "weights": self.digest,
            "code": code_digest("features/inception.py", "measures/planes.py", "data/window.py", "data/slices.py"),
        }

        def compute() -> Record:
            whose = pair or real_pair(subject, store)
            return self._features(whose, whose.real)

        return self._kept.get(known, compute)

    def _features(self, pair: Pair, values: NDArray[np.floating[Any]]) -> dict[str, Features]:
        """By the plane's name, (n, 2048)."""
        x, y, z = pair.geometry.spacing
        found = {}
        for name, axis in PLANES.items():
            planes = resampled_planes(values, pair.body, (z, y, x), axis)
            parts = [np.empty((0, DIMENSIONS), np.float32)]
            while some := list(islice(planes, _PLANES_AT_ONCE)):
                parts.append(self.net(np.stack(some)))
            found[name] = np.concatenate(parts)
        return found
