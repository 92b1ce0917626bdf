"""NumPy's own files: the first axis counts the images."""

from __future__ import annotations

import zipfile
from typing import Any

import numpy as np

from imsim._images.pictures import Contents, ImageFileError, Pages


def open_npy(path: str) -> Pages:
    """Map a file into memory, anew for each image: what was read does not stay there."""

    def images() -> np.ndarray[Any, Any]:
        return _images(_without_pickle(np.load, path, mmap_mode="r", allow_pickle=False))

    return Pages(len(images()), lambda index: _copy(images(), index), lambda: None)


def open_npz(path: str, name: str | None) -> Pages:
    """Open the array of that name, or the only one of the file."""
    with open(path, "rb") as stream:
        try:
            archive = np.load(stream, allow_pickle=False)
        except zipfile.BadZipFile as error:
            raise ImageFileError(f"damaged or not an .npz file: {error}") from error
        names = ", ".join(archive.files)
        if name is None and len(archive.files) != 1:
            count = len(archive.files)
            raise ImageFileError(f"holds {count} arrays ({names}); name one: FILE:NAME")
        if name is not None and name not in archive.files:
            raise ImageFileError(f"holds no array {name!r}; it has {names}")
        images = _images(_without_pickle(archive.__getitem__, name or archive.files[0]))
    return Pages(len(images), lambda index: _copy(images, index), lambda: None)


def _without_pickle(load: Any, *arguments: Any, **options: Any) -> np.ndarray[Any, Any]:
    try:
        array: np.ndarray[Any, Any] = load(*arguments, **options)
    except ValueError as error:
        if "object" not in str(error).lower():
            raise
        raise ImageFileError(
            "holds Python objects, which are not loaded, since that can run code; "
            "save an array of numbers"
        ) from error
    return array


def _images(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the array with an axis of images in front, and refuse what has none."""
    shape = array.shape
    if array.dtype.kind not in "biuf":
        raise ImageFileError(f"its values are of type {array.dtype}, not real numbers")
    if array.ndim not in (2, 3, 4) or 0 in shape:
        raise ImageFileError(
            f"its shape is {shape}; expected (height, width), (images, height, width) or "
            "(images, height, width, channels)"
        )
    if array.ndim == 3 and shape[-1] <= 4:
        raise ImageFileError(
            f"its shape is {shape}, which could be one image with channels or {shape[0]} images "
            f"{shape[2]} pixels wide; save it as (images, height, width, channels)"
        )
    if array.ndim == 4 and shape[1] <= 4 < shape[-1]:
        raise ImageFileError(
            f"its shape is {shape}; channels must be the last axis: "
            "(images, height, width, channels)"
        )
    if array.ndim == 4 and shape[-1] == 1:
        array = array[..., 0]
    return array[None] if array.ndim == 2 else array


def _copy(images: np.ndarray[Any, Any], index: int) -> Contents:
    return np.array(images[index], subok=False), ()
