"""Image files for the command line: raster formats, arrays, FITS, OpenEXR and Zarr.

Pages and frames are images. Volumes are stacks of images, and NIfTI and DICOM files. Images of
TIFF, `.npy` and Zarr that are too large for the memory stay on the disk; parts of them are read.

A note tells what was left aside or converted between the file and the pixels. Missing, inconsistent
or doubtful pixels are damage, and an error. Damaged metadata that do not describe the pixels are no
error. Colour profiles and gamma are not applied.
"""

from imsim._images.dicom import is_series
from imsim._images.files import (
    EXTENSIONS,
    ImageFile,
    file_of,
    read_picture,
    same_file,
    why_not_read,
    without_index,
)
from imsim._images.pictures import (
    Array,
    ImageFileError,
    Picture,
    as_mask,
    sized,
    where_equal,
    widened,
)
from imsim._images.png import write_png
from imsim._images.reading import ORIENTATIONS, STDIN, Reading
from imsim._images.tiff import write_stack
from imsim._images.volumes import VOLUME_EXTENSIONS
from imsim._images.zarr_arrays import is_zarr

__all__ = [
    "EXTENSIONS",
    "ORIENTATIONS",
    "STDIN",
    "VOLUME_EXTENSIONS",
    "Array",
    "ImageFile",
    "ImageFileError",
    "Picture",
    "Reading",
    "as_mask",
    "file_of",
    "is_series",
    "is_zarr",
    "read_picture",
    "same_file",
    "sized",
    "where_equal",
    "why_not_read",
    "widened",
    "without_index",
    "write_png",
    "write_stack",
]
