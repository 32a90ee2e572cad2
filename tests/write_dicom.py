"""DICOM as scanners and workstations write it: a CT series, a segmentation of it, contours on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom", reason="the extra ctsynth[formats] is not installed")
hd = pytest.importorskip("highdicom", reason="the extra ctsynth[formats] is not installed")
sitk = pytest.importorskip("SimpleITK", reason="the extra ctsynth[formats] is not installed")

CT = "1.2.840.10008.5.1.4.1.1.2"
RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
SHAPE = (6, 9, 12)  # slices, rows, columns
SPACING, ORIGIN = (4.5, 0.71234, 0.65), (-31.25, 12.5, -700.75)  # slices, rows, columns; mm
STUDY = pydicom.uid.generate_uid(entropy_srcs=["study"])
FRAME = pydicom.uid.generate_uid(entropy_srcs=["frame"])


def hu(seed: int = 0) -> np.ndarray:
    """(slices, rows, columns) int16 HU."""
    return np.random.default_rng(seed).integers(-1024, 1500, SHAPE).astype(np.int16)


def dataset(kind: str, uid: str) -> pydicom.Dataset:
    """What every file says."""
    one = pydicom.Dataset()
    one.SOPClassUID, one.SOPInstanceUID = kind, uid
    one.file_meta = pydicom.FileMetaDataset()
    one.file_meta.MediaStorageSOPClassUID, one.file_meta.MediaStorageSOPInstanceUID = kind, uid
    one.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    one.StudyInstanceUID, one.FrameOfReferenceUID = STUDY, FRAME
    one.PatientName, one.PatientID, one.PatientBirthDate, one.PatientSex = "A^B", "17", "", ""
    one.StudyDate, one.StudyTime, one.StudyID, one.AccessionNumber = "20260101", "120000", "1", ""
    one.ReferringPhysicianName, one.Manufacturer = "", "ACME"
    one.SeriesNumber, one.InstanceNumber = 1, 1
    return one


def write_slices(folder: Path, voxels: np.ndarray, *, series: str = "ct", normal=(0, 0, 1), **extra) -> list[Path]:
    """A CT series; the files' names say nothing of the order, and values are stored with an intercept of -1024."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for place, plane in enumerate(voxels):
        name = f"{series}{place * 7 % 31:03d}.dcm"
        one = dataset(CT, pydicom.uid.generate_uid(entropy_srcs=[series, str(place)]))
        one.SeriesInstanceUID = pydicom.uid.generate_uid(entropy_srcs=[series])
        one.Modality, one.SeriesDescription, one.ImageType = "CT", series, ["ORIGINAL", "PRIMARY", "AXIAL"]
        one.InstanceNumber = len(voxels) - place
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.ImagePositionPatient = [o + n * place * SPACING[0] for o, n in zip(ORIGIN, normal, strict=True)]
        one.PixelSpacing, one.SliceThickness = list(SPACING[1:]), SPACING[0]
        one.Rows, one.Columns = plane.shape
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 0
        one.RescaleIntercept, one.RescaleSlope = -1024, 1
        one.PixelData = (plane.astype(np.int32) + 1024).astype("<u2").tobytes()
        for key, value in extra.items():
            setattr(one, key, value)
        one.save_as(folder / name, enforce_file_format=True)
        files.append(folder / name)
    return files


def write_seg(path: Path, files: list[Path], masks: dict[str, np.ndarray], *, kind: str = "BINARY") -> None:
    """A segmentation of these slices, (slices, rows, columns) bool by name, as highdicom writes it."""
    slices = [pydicom.dcmread(file) for file in files]
    code = hd.sr.CodedConcept("85756007", "SCT", "Tissue")
    described = [
        hd.seg.SegmentDescription(number, name, code, code, hd.seg.SegmentAlgorithmTypeValues.MANUAL)
        for number, name in enumerate(masks, 1)
    ]
    pixels = np.stack(list(masks.values()), axis=-1)
    hd.seg.Segmentation(
        slices, pixels.astype(np.float32 if kind == "FRACTIONAL" else np.uint8), kind, described,
        series_instance_uid=pydicom.uid.generate_uid(), series_number=2, instance_number=1,
        sop_instance_uid=pydicom.uid.generate_uid(), manufacturer="ACME", manufacturer_model_name="x",
        software_versions="1", device_serial_number="1", omit_empty_frames=True,
    ).save_as(path)  # fmt: skip


def write_contours(path: Path, contours: dict[str, list[np.ndarray]], *, series: str = "ct") -> None:
    """Contours of these names, each (points, 3) in mm toward left, back and head."""
    one = dataset(RTSTRUCT, pydicom.uid.generate_uid())
    one.Modality, one.SeriesInstanceUID, one.StructureSetLabel = "RTSTRUCT", pydicom.uid.generate_uid(), "x"
    frame, study, of_series = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    of_series.SeriesInstanceUID = pydicom.uid.generate_uid(entropy_srcs=[series])
    study.RTReferencedSeriesSequence = [of_series]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = FRAME, [study]
    one.ReferencedFrameOfReferenceSequence = [frame]
    one.StructureSetROISequence, one.ROIContourSequence = [], []
    for number, (name, curves) in enumerate(contours.items(), 1):
        roi, structure = pydicom.Dataset(), pydicom.Dataset()
        roi.ROINumber, roi.ROIName = number, name
        structure.ReferencedROINumber, structure.ContourSequence = number, []
        for points in curves:
            contour = pydicom.Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            contour.ContourData = [f"{value:.4f}" for value in points.ravel()]
            structure.ContourSequence.append(contour)
        one.StructureSetROISequence.append(roi)
        one.ROIContourSequence.append(structure)
    one.save_as(path, enforce_file_format=True)
