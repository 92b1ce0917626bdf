"""Image files for the command line: PNG, JPEG, TIFF with one or many pages, `.npy` and `.npz`.

What is left aside or converted on the way from the file to the pixels is said in a note.
Colour profiles and gamma are not applied.
"""

from imsim._images.files import EXTENSIONS, ImageFile, read_picture, same_file
from imsim._images.pictures import ImageFileError, Picture, as_mask
from imsim._images.png_jpeg import write_png

__all__ = [
    "EXTENSIONS",
    "ImageFile",
    "ImageFileError",
    "Picture",
    "as_mask",
    "read_picture",
    "same_file",
    "write_png",
]
