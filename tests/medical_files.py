"""Small volumes, and saving them as NIfTI and DICOM; the tests that need these skip without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

RNG = np.random.default_rng(11)
DEPTH, HEIGHT, WIDTH = 12, 14, 17
VOLUME = RNG.integers(-1000, 1500, (DEPTH, HEIGHT, WIDTH)).astype(np.int16)
CHANGED = (VOLUME + RNG.integers(-40, 40, VOLUME.shape)).astype(np.int16)
SPACING = (3.0, 0.8, 0.7)
AFFINE = np.diag([-0.7, -0.8, 3.0, 1.0])
"""Width to the left, height to the back, depth to the head, as DICOM has them by default."""
AFFINE[:3, 3] = 10, 20, -30


def save_nifti(
    name: str, volume: np.ndarray, affine: np.ndarray | None = AFFINE, unit: str = "mm", **tags: Any
) -> str:
    """Save a volume of shape (depth, height, width) or (volumes, depth, height, width)."""
    nib = pytest.importorskip("nibabel", reason="nibabel is not installed")
    kind = tags.pop("kind", nib.Nifti1Image)
    image = kind(volume.T, affine)
    image.header.set_xyzt_units(unit)
    slope, intercept = tags.pop("scaling", (None, None))
    for tag, value in tags.items():
        image.header[tag] = value
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    if slope is None:
        nib.save(image, name)
        return name
    # nibabel chooses its own slope for what it is to save: the header is written over.
    nib.save(image, name)
    content = bytearray(Path(name).read_bytes())
    content[112:120] = np.array([slope, intercept], "<f4").tobytes()
    Path(name).write_bytes(content)
    return name


def dicom(pixels: np.ndarray, place: int = 0, **tags: Any) -> Any:
    """Return the slice of a series, or a file of several frames, as pydicom has it."""
    pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed")
    from pydicom import uid

    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = uid.CTImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    data.SeriesInstanceUID = "1.2.3"
    colours = pixels.ndim == 3 and pixels.shape[-1] == 3
    if pixels.ndim == 3 and not colours:
        data.NumberOfFrames = len(pixels)
    data.Rows, data.Columns = pixels.shape[-3:-1] if colours else pixels.shape[-2:]
    data.SamplesPerPixel = 3 if colours else 1
    data.PhotometricInterpretation = "RGB" if colours else "MONOCHROME2"
    if colours:
        data.PlanarConfiguration = 0
    bits = 8 * pixels.itemsize
    data.BitsAllocated, data.BitsStored, data.HighBit = bits, bits, bits - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.PixelSpacing = [0.8, 0.7]
    data.SliceThickness = 5  # not the distance of slices
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.ImagePositionPatient = [-10, -20, -30 + 3 * place]
    data.PixelData = pixels.tobytes()
    for tag, value in tags.items():
        if value is None:
            delattr(data, tag)
        else:
            setattr(data, tag, value)
    return data


def save_series(folder: str, volume: np.ndarray, **tags: Any) -> str:
    """Save a volume as slices whose names are in another order than their places."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for place, pixels in enumerate(volume):
        data = dicom(pixels, place, **tags)
        data.save_as(f"{folder}/{name_of(place, len(volume))}", enforce_file_format=True)
    return folder


def name_of(place: int, number: int = DEPTH) -> str:
    """Return the name of a slice that `save_series` saved."""
    step = next(step for step in (5, 7, 11, 13) if number % step)
    return f"{step * place % number:03}.dcm"


def changed(folder: str, place: int, **tags: Any) -> None:
    """Change tags of one slice of a series."""
    pydicom = pytest.importorskip("pydicom")
    path = f"{folder}/{name_of(place)}"
    data = pydicom.dcmread(path)
    for tag, value in tags.items():
        if value is None:
            delattr(data, tag)
        else:
            setattr(data, tag, value)
    data.save_as(path, enforce_file_format=True)


def frames(volume: np.ndarray, places: Sequence[int], **tags: Any) -> Any:
    """Return a file of several frames, each of which has its place, as enhanced objects do."""
    pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed")

    def item(**values: Any) -> Any:
        data = pydicom.Dataset()
        for name, value in values.items():
            setattr(data, name, value)
        return data

    orientation = item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    shared = item(
        PlaneOrientationSequence=[orientation],
        PixelMeasuresSequence=[item(PixelSpacing=[0.8, 0.7], SliceThickness=5)],
    )
    groups = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[-10, -20, -30 + 3 * place])],
            PixelValueTransformationSequence=[item(RescaleSlope=1, RescaleIntercept=-place)],
        )
        for place in places
    ]
    return dicom(
        volume,
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=groups,
        ImagePositionPatient=None,
        ImageOrientationPatient=None,
        PixelSpacing=None,
        **tags,
    )
