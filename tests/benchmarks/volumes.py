"""From a file to a batch, on a phantom; and how soon the command line answers."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
from functools import partial
from itertools import count
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from ctsynth.data.loader import SliceDataset, shuffled
from ctsynth.data.slices import to_slices, unstack
from ctsynth.data.store import Store, write_manifest, write_subject
from ctsynth.data.volume import Geometry, Volume
from ctsynth.data.window import Window
from ctsynth.labels import AMOS22
from ctsynth.methods import base
from ctsynth.phantom.subject import PhantomSubject, make_subject

from .row import Row, Side, relative
from .steps import Repeated, training

CPU = torch.device("cpu")
DRAWS = 50


@functools.cache
def phantom() -> PhantomSubject:
    return make_subject(0, 0, size=512, slices=40)


def reading(official: Path, folder: Path) -> tuple[Side, Side]:
    path = folder / "ct.nii.gz"
    nib.save(nib.Nifti1Image(phantom().hu, phantom().affine), path)

    return lambda: Volume.load(path).voxels, lambda: np.asanyarray(nib.load(path).dataobj)


def writing(official: Path, folder: Path) -> tuple[Side, Side]:
    hu, affine = phantom().hu, phantom().affine
    volume = Volume(hu, Geometry(hu.shape, affine))

    def ours() -> Path:
        volume.save(folder / "ours.nii.gz")
        return folder / "ours.nii.gz"

    def theirs() -> Path:
        nib.save(nib.Nifti1Image(hu, affine), folder / "theirs.nii.gz")
        return folder / "theirs.nii.gz"

    return ours, theirs


def files(ours: Path, theirs: Path) -> float:
    """How much two NIfTI files differ in voxels or in their place."""
    one, other = (nib.load(path) for path in (ours, theirs))
    return max(relative(one.get_fdata(), other.get_fdata()), relative(one.affine, other.affine))


def slicing(way: str, official: Path, folder: Path) -> tuple[Side, Side]:
    """In two of MONAI's ways, both of 2-D slices, for nothing changes in z.

    Of its ways ``bilinear``, with antialiasing and slices as channels, is the nearest to ours; ``area``, slice by
    slice, takes the least time of all, trilinear without antialiasing included.
    """
    from monai.transforms import Compose, EnsureTyped, Resized, ScaleIntensityRanged

    window, hu = Window(), np.asfortranarray(phantom().hu)  # as a file's voxels lie in memory
    theirs = Compose(
        [
            EnsureTyped(keys="image", dtype=torch.float32),
            ScaleIntensityRanged(keys="image", a_min=window.low, a_max=window.high, b_min=-1, b_max=1, clip=True),
            Resized(keys="image", spatial_size=(256, 256), mode=way, anti_aliasing=way == "bilinear"),
        ]
    )

    def as_channels() -> NDArray[np.float32]:
        return theirs({"image": hu.transpose(2, 0, 1)})["image"].numpy()

    def one_by_one() -> NDArray[np.float32]:
        return np.concatenate([theirs({"image": hu[None, :, :, z]})["image"].numpy() for z in range(hu.shape[2])])

    return lambda: to_slices(window.clip(hu), 256, "ct"), as_channels if way == "bilinear" else one_by_one


def gray(ours: NDArray[np.int16], theirs: NDArray[np.float32]) -> float:
    """The mean difference as a share of the window: the two filters are not the same."""
    return float(np.abs(Window().normalize(ours) - (unstack(theirs.transpose(1, 2, 0)) + 1) / 2).mean())


def stored(folder: Path) -> SliceDataset:
    """The phantom's slices, 256 x 256."""
    subject = phantom()
    ct = to_slices(Window().clip(subject.hu), 256, "ct")
    mask = to_slices(subject.labels, 256, "labels")
    settings = {"size": 256, "level": 40.0, "width": 400.0, "labels": AMOS22.as_json()}
    geometry = Geometry(subject.hu.shape, subject.affine).as_json()
    write_subject(folder, {"name": "subject", "split": "train", "geometry": geometry}, settings, ct, mask)
    write_manifest(folder, settings, [("train", "subject")])
    return SliceDataset(Store.open(folder), "train")


def fetching(batches: list[list[int]], official: Path, folder: Path) -> tuple[Side, Side]:
    """Theirs are 8-bit PNG of CT and of labels."""
    import cv2

    window, dataset = Window(), stored(folder)
    ct, mask = dataset.subjects[0].ct(), dataset.subjects[0].mask()
    gray = np.rint(window.normalize(ct) * 255).astype(np.uint8)
    for number in range(len(ct)):
        cv2.imwrite(str(folder / f"ct_{number}.png"), gray[number])
        cv2.imwrite(str(folder / f"mask_{number}.png"), mask[number])

    def ours() -> list[NDArray[np.uint8]]:
        return [mask for _, mask in map(dataset.read, batches)]

    def read(kind: str, indices: list[int]) -> NDArray[np.uint8]:
        files = (str(folder / f"{kind}_{number}.png") for number in indices)
        return np.stack([cv2.imread(file, cv2.IMREAD_GRAYSCALE) for file in files])

    def theirs() -> list[NDArray[np.uint8]]:
        return [mask for _, mask in ((read("ct", indices), read("mask", indices)) for indices in batches)]

    return ours, theirs


def fetching_warm(official: Path, folder: Path) -> tuple[Side, Side]:
    """Batches of 16 in an order at random, of files that the system has in memory."""
    batches = np.random.default_rng(0).integers(phantom().hu.shape[2], size=(DRAWS, 16)).tolist()
    return fetching(batches, official, folder)


def fetching_cold(official: Path, folder: Path) -> tuple[Side, Side]:
    """Each slice once, of files that have left memory; by the clock, for a processor does not wait for a disk."""
    order = np.random.default_rng(0).permutation(phantom().hu.shape[2])
    sides = fetching([part.tolist() for part in np.array_split(order, len(order) // 10 or 1)], official, folder)

    def seconds(side: Side) -> float:
        for file in filter(Path.is_file, folder.rglob("*")):
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
                os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        began = time.perf_counter()
        side()
        return time.perf_counter() - began

    ours, theirs = (partial(seconds, side) for side in sides)
    return ours, theirs


def loading(official: Path, folder: Path) -> tuple[Side, Side]:
    """The share of a training step that goes to its data."""
    dataset, size = stored(folder), 2
    options = base.find_method("ddpm-mask").presets["small"].options
    step = count()

    def ours() -> None:
        dataset.batch(shuffled(len(dataset), 0, next(step) * size, size), CPU)

    return ours, training("ddpm-mask", Repeated(size, 256), **options)


def starting(official: Path, folder: Path) -> tuple[Side, Side]:
    def run(*words: str) -> None:
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)

    return lambda: run("-m", "ctsynth", "--help"), lambda: run("-c", "import torch")


ROWS = (
    Row(
        name="reading",
        quantity="reading a .nii.gz of 512 x 512 x 40, int16",
        peer="nibabel's dataobj",
        hold=0.60,
        setup=reading,
        within=0,
    ),
    Row(
        name="writing",
        quantity="writing it",
        peer="nibabel's save",
        hold=0.50,
        setup=writing,
        within=0,
        difference=files,
    ),
    Row(
        name="slicing",
        quantity="window and resize of 40 slices, 512 x 512 to 256 x 256",
        peer="MONAI's dictionary transforms: bilinear, antialiased, slices as channels",
        hold=0.10,
        setup=partial(slicing, "bilinear"),
        within=0.02,
        difference=gray,
    ),
    Row(
        name="slicing-fastest",
        quantity="the same",
        peer="MONAI's fastest way: area, slice by slice",
        hold=0.30,
        setup=partial(slicing, "area"),
        within=0.02,
        difference=gray,
    ),
    Row(
        name="fetching",
        quantity=f"{DRAWS} batches of 16 training slices of 256 x 256 with labels, as they are kept, from memory",
        peer="PNG through cv2",
        hold=0.08,
        setup=fetching_warm,
        within=0,
    ),
    Row(
        name="fetching-cold",
        quantity="each of 40 of them once, from this machine's disk, by the clock",
        peer="PNG through cv2",
        hold=None,
        setup=fetching_cold,
        returned=True,
    ),
    Row(
        name="loading",
        quantity="loading a batch of 2 slices of 256 x 256",
        peer="ddpm-mask's training step on it, small preset",
        hold=0.05,
        setup=loading,
    ),
    Row(name="help", quantity="ctsynth --help", peer="import torch", hold=0.10, setup=starting),
)
