"""What the mutations start from: a data set, a store, runs, volumes and scores, all made by ctsynth, all tiny.

ROOT/in         inputs, which nothing may change
ROOT/out        what a command may write to
ROOT/scratch    the system's folder for temporary files, empty again when a command ends
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from typer.testing import CliRunner

from ctsynth import weights
from ctsynth.cli.app import app
from ctsynth.data.dicom.headers import RTSTRUCT
from ctsynth.data.volume import Volume
from ctsynth.files import sha256
from ctsynth.labels import AMOS22

HAS_FORMATS = all(find_spec(name) for name in ("SimpleITK", "pydicom", "highdicom"))
"""Whether the extra ctsynth[formats] is here."""

SHAPE = (16, 12, 4)
SIZE = 16
STEPS = 40
"""Of the runs: enough for slices that have air in them."""
SEGMENTER = (
    "--preset tiny --device cpu --set channels=8 --set 'multipliers=[1, 2]' --batch-size 2 --lr 0.01 --ema 0.5"
)
"""How it is trained, but for how long."""

STUDY = (
    "augment in/store --out out/augment --preset tiny --method ddpm-concat --device cpu --arms R,R+S --fractions 1"
    " --seeds 1 --doses 1 --iterations 2 --generator-iterations 2 --steps 1"
)
"""A study of two subjects, one to train on, one to choose the checkpoint; ``begun`` is it before its last run."""

TOML = """method = "ddpm-concat"
preset = "tiny"

[training]
iterations = 40
batch_size = 2
lr = 0.01
betas = [0.9, 0.999]
lr_schedule = "constant"
warmup = 0
clip_norm = 1.0
ema = 0.5
seed = 3
save_every = 20
keep_every = 20
sample_every = 1000
log_every = 10
precision = "fp32"

[options]
channels = 8
multipliers = [1, 2]
res_blocks = 1
attention = []
patch = 2
schedule = "cosine"
prediction = "v"
label_dropout = 0.1
"""

LABELS = {
    "name": "mine",
    "classes": [
        {"id": 1, "name": "spleen", "colour": "#e05a4e", "dice": "spleen", "aliases": ["milt"]},
        {"id": 6, "name": "liver", "colour": "#c65fb5"},
    ],
}

DATASET = {
    "name": "tiny", "modality": {"0": "CT"}, "channel_names": {"0": "CT"}, "file_ending": ".nii.gz",
    "numTraining": 2, "labels": {"background": 0, "spleen": 1, "liver": 6, "body": 16},
    "training": [{"image": "./imagesTr/amos_0001.nii.gz", "label": "./labelsTr/amos_0001.nii.gz"}],
}  # fmt: skip

XML = (
    '<CaretExtension><LabelTable><Label Key="1"><![CDATA[spleen]]></Label><Label Key="6"><![CDATA[liver]]></Label>'
    "</LabelTable></CaretExtension>"
)


AMOS = {
    1: "spleen", 2: "right kidney", 3: "left kidney", 4: "gall bladder", 5: "esophagus", 6: "liver", 7: "stomach",
    8: "arota", 9: "postcava", 10: "pancreas", 11: "right adrenal gland", 12: "left adrenal gland",
    13: "duodenum", 14: "bladder", 15: "prostate/uterus",
}  # fmt: skip


def case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A patient of 16 x 12 x 4 voxels of 20 mm: HU and labels, int16."""
    rng = np.random.default_rng(seed)
    x, y, _ = np.meshgrid(np.arange(16) - 7.5, np.arange(12) - 5.5, np.arange(4), indexing="ij")
    hu = np.where((x / 7) ** 2 + (y / 5) ** 2 <= 1, 40, -1000) + rng.integers(-15, 16, x.shape)
    labels = np.zeros(x.shape, np.int16)
    labels[(x - 3) ** 2 + y**2 <= 6] = 6
    labels[(x + 3) ** 2 + y**2 <= 3] = 1
    return hu.astype(np.int16), labels


def _write(path: Path, voxels: np.ndarray, xml: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([20.0, 20.0, 5.0, 1.0])
    affine[:3, 3] = -160, -120, 30
    image = nib.Nifti1Image(voxels, affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    image.header.set_xyzt_units("mm")
    if xml:
        image.header.extensions.append(nib.nifti1.Nifti1Extension(0, xml.encode()))
    nib.save(image, path)


def _other_formats(folder: Path, ct: Path) -> None:
    """A CT as NRRD, MetaImage and DICOM, and labels of it as SEG, RTSTRUCT and .seg.nrrd."""
    import highdicom as hd
    import pydicom
    import SimpleITK as sitk  # noqa: N813

    volume = Volume.load(ct)
    for name in ("ct.nrrd", "ct.mha", "ct.dicom"):
        (folder / name).parent.mkdir(exist_ok=True)
        volume.save(folder / name, "a CT", (-160, 240))
    image = sitk.ReadImage(str(folder / "ct.nrrd")) > 0
    for key, value in {"Name": "liver", "LabelValue": "1", "Layer": "0"}.items():
        image.SetMetaData(f"Segment0_{key}", value)
    sitk.WriteImage(image, str(folder / "a.seg.nrrd"))
    slices = [pydicom.dcmread(file) for file in sorted((folder / "ct.dicom").iterdir())]
    code = hd.sr.CodedConcept("10200004", "SCT", "Liver")
    uids = [pydicom.uid.generate_uid(entropy_srcs=[name]) for name in ("series", "instance")]
    liver = hd.seg.SegmentDescription(1, "liver", code, code, hd.seg.SegmentAlgorithmTypeValues.MANUAL)
    pixels = np.stack([one.pixel_array > 0 for one in slices]).astype(np.uint8)
    hd.seg.Segmentation(slices, pixels, "BINARY", [liver], uids[0], 2, uids[1], 1, "x", "x", "1", "1").save_as(
        folder / "seg.dcm"
    )
    _contours(folder / "contours.dcm", slices)


def _contours(path: Path, slices: list[Any]) -> None:
    """An RTSTRUCT with a square in each slice."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    of_series, study, frame, roi, structure = (Dataset() for _ in range(5))
    of_series.SeriesInstanceUID, study.RTReferencedSeriesSequence = slices[0].SeriesInstanceUID, [of_series]
    frame.RTReferencedStudySequence = [study]
    roi.ROINumber, roi.ROIName = 1, "liver"
    structure.ReferencedROINumber, structure.ContourSequence = 1, []
    for one in slices:
        x, y, z = one.ImagePositionPatient
        contour = Dataset()
        contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", 4
        corners = ((60, 60), (180, 60), (180, 160), (60, 160))
        contour.ContourData = [f"{float(at):.2f}" for a, b in corners for at in (x + a, y + b, z)]
        structure.ContourSequence.append(contour)
    file = Dataset()
    file.SOPClassUID, file.SOPInstanceUID, file.Modality = RTSTRUCT, "1.2.3", "RTSTRUCT"
    file.ReferencedFrameOfReferenceSequence = [frame]
    file.StructureSetROISequence, file.ROIContourSequence = [roi], [structure]
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.save_as(path, enforce_file_format=True)


class World:
    """A folder with the files to mutate.

    Args:
        root: An empty folder.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.inputs, self.out, self.scratch = root, root / "in", root / "out", root / "scratch"
        for folder in (self.inputs, self.out, self.scratch, root / "home"):
            folder.mkdir(parents=True)
        os.chdir(root)
        self._data()
        self._command(f"preprocess in/amos in/store --size {SIZE} --workers 1")
        self._command("train --config in/run.toml --data in/store --out in/run --device cpu")
        self._command(
            f"train-segmenter in/store --out in/segmenter --iterations {STEPS} --save-every 20 {SEGMENTER}"
        )
        self._command("sample --data in/store --model in/run --steps 1 --out in/synthetic")
        score = "score in/synthetic --data in/store"
        self._command(f"{score} --metrics dice --segmenter in/segmenter --out out/scores.json")
        self._command(
            f"{score} --metrics psnr,ssim,dice,hu,z-gradient,z-correlation --segmenter in/found --native"
        )
        self._command(STUDY)
        shutil.copytree(self.out / "augment", self.inputs / "augment")
        shutil.copytree(self.out / "augment", self.inputs / "begun", ignore=shutil.ignore_patterns("copies.json"))
        (self.inputs / "begun" / "fraction-1" / "draw-0" / "R+S" / "seed-0" / "result.json").unlink()
        self._command("export in/run in/export --scores in/synthetic/scores.json")
        self._command("report in/synthetic in/run --out out/report")  # matplotlib makes its cache of fonts
        self.clear()

    def clear(self) -> None:
        """Empties OUT."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()

    def _data(self) -> None:
        for split, number in (("Tr", 1), ("Tr", 2), ("Va", 101)):
            hu, labels = case(number)
            name = f"amos_{number:04}.nii.gz"
            _write(self.inputs / "amos" / f"images{split}" / name, hu)
            _write(self.inputs / "amos" / f"labels{split}" / name, labels)
        if HAS_FORMATS:
            _other_formats(self.inputs / "formats", self.inputs / "amos" / "imagesVa" / name)
        masks, found = self.inputs / "masks", self.inputs / "found"
        _write(self.inputs / "bodies" / "ct.nii", hu)
        _write(masks / "seg.nii", labels)
        _write(masks / "seg.nii.gz", labels)
        _write(masks / "named.nii.gz", labels, XML)
        _write(found / "amos_0101.nii.gz", labels, XML)
        _write(self.inputs / "organs" / "amos_0101" / "liver.nii.gz", (labels == 6).astype(np.int16))
        texts = {
            "labels.json": LABELS,
            "classes.json": AMOS22.as_json() | {"name": "mine"},
            "dataset.json": DATASET,
            "amos/dataset.json": DATASET | {"labels": {"background": 0} | {name: n for n, name in AMOS.items()}},
            "split.json": {"train": ["amos_0001", "amos_0002"], "test": ["amos_0101"]},
        }
        for name, content in texts.items():
            (self.inputs / name).write_text(json.dumps(content))
        (self.inputs / "run.toml").write_text(TOML)
        (self.inputs / "train.toml").write_text(TOML.replace("= 40", "= 2"))
        (self.inputs / "weights").mkdir()
        vgg = self.inputs / "weights" / weights.TABLE["vgg19"].file
        vgg.write_bytes(b"PK\3\4" + bytes(100))
        weights.TABLE["vgg19"] = replace(weights.TABLE["vgg19"], sha256=sha256(vgg))
        torch.save({"a.weight": torch.zeros(2, 3), "a.bias": torch.zeros(2)}, self.inputs / "weights" / "other.pt")

    def _command(self, line: str) -> None:
        done = CliRunner().invoke(app, shlex.split(line))
        assert done.exit_code == 0, done.output
