"""A synthetic volume as a DICOM CT series: derived, marked as synthetic, with UIDs of its own."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from ctsynth import __version__
from ctsynth.data.dicom.headers import CT
from ctsynth.data.itk_volume import LPS, frame
from ctsynth.data.volume import Volume

PATIENT = "SYNTHETIC^CTSYNTH"


def write_series(volume: Volume, folder: Path, description: str, window: tuple[float, float] | None) -> None:
    """Writes an axial slice a file, from the feet up, rows toward the patient's back, in HU.

    Nothing of the patient whose labels it was drawn from is in it. UIDs follow from the content, so that equal
    volumes give equal bytes.

    Args:
        volume: int16 HU, RAS+.
        folder: Where to; it must not be there.
        description: What the volume is.
        window: Lowest and highest HU to show.

    Raises:
        DataError: Its axes are not at right angles.
    """
    slices = np.ascontiguousarray(volume.voxels[::-1, ::-1].transpose(2, 1, 0), np.int16)
    x, y, _ = volume.geometry.shape
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    flip[:2, 3] = [x - 1, y - 1]
    directions, spacing, origin = frame(folder, LPS @ volume.geometry.affine @ flip)
    content = hashlib.sha256(slices.tobytes() + volume.geometry.affine.tobytes()).hexdigest()
    common = _common(content, description)
    common.ImageOrientationPatient = [_decimal(value) for value in directions[:, :2].T.ravel()]
    common.PixelSpacing = [_decimal(spacing[1]), _decimal(spacing[0])]
    common.SliceThickness = common.SpacingBetweenSlices = _decimal(spacing[2])
    common.Rows, common.Columns = slices.shape[1:]
    if window is not None:
        common.WindowCenter, common.WindowWidth = _decimal(sum(window) / 2), _decimal(window[1] - window[0])
    folder.mkdir()
    for place, pixels in enumerate(slices):
        number = place + 1
        common.SOPInstanceUID = generate_uid(entropy_srcs=[content, str(number)])
        common.InstanceNumber = number
        position = origin + place * spacing[2] * directions[:, 2]
        common.ImagePositionPatient = [_decimal(value) for value in position]
        common.SliceLocation = _decimal(position @ directions[:, 2])
        common.PixelData = pixels.tobytes()
        common.file_meta = _file_meta(common.SOPInstanceUID)
        common.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)


def _common(content: str, description: str) -> Dataset:
    """What all slices say."""
    one = Dataset()
    one.SOPClassUID = CT
    one.Modality = "CT"
    one.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    one.DerivationDescription = description
    one.ImageComments = description
    one.SeriesDescription = "synthetic CT"
    one.ContentQualification = "RESEARCH"
    one.BurnedInAnnotation = "NO"
    one.PatientName, one.PatientID = PATIENT, f"SYNTHETIC-{content[:12]}"
    one.PatientBirthDate = one.PatientSex = one.StudyDate = one.StudyTime = ""
    one.AccessionNumber = one.ReferringPhysicianName = one.StudyID = one.PositionReferenceIndicator = ""
    one.Manufacturer, one.ManufacturerModelName, one.SoftwareVersions = "ctsynth", "ctsynth", __version__
    one.StudyInstanceUID = generate_uid(entropy_srcs=[content, "study"])
    one.SeriesInstanceUID = generate_uid(entropy_srcs=[content, "series"])
    one.FrameOfReferenceUID = generate_uid(entropy_srcs=[content, "frame"])
    one.SeriesNumber, one.AcquisitionNumber = 1, 1
    one.KVP = ""
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated = one.BitsStored = 16
    one.HighBit, one.PixelRepresentation = 15, 1
    one.RescaleIntercept, one.RescaleSlope, one.RescaleType = 0, 1, "HU"
    return one


def _file_meta(instance: UID) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(CT), instance
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return meta


def _decimal(value: float) -> str:
    """A number in the 16 characters that DICOM's decimal strings have."""
    digits = next(n for n in range(16, 0, -1) if len(f"{value:.{n}g}") <= 16)
    return f"{float(f'{value:.{digits}g}'):.{digits}g}"
