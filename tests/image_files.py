"""Small images, and saving them to files, for the tests of the command and of its readers."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from imsim._images import ImageFile, ImageFileError, Picture, Reading
from imsim.cli import main

RNG = np.random.default_rng(7)
GREY = RNG.integers(0, 256, (40, 48)).astype(np.uint8)
NOISY = np.clip(GREY + RNG.normal(0, 9, GREY.shape), 0, 255).astype(np.uint8)
RGB = RNG.integers(0, 256, (40, 48, 3)).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (40, 48)).astype(np.uint16)
COLOURS = np.repeat(GREY[..., None] // 64 * 64, 3, axis=-1)
"""Few enough for a palette."""


def save(name: str, pixels: np.ndarray, **options: Any) -> str:
    """Save an image in the current directory, and return its name."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".npy"):
        np.save(name, pixels, **options)
    elif name.endswith(".tif"):
        tifffile.imwrite(name, pixels, **options)
    else:
        Image.fromarray(pixels).save(name, **options)
    return name


def refused(content: bytes, words: str, name: str = "x") -> None:
    """Write a file, and see that it is refused as damaged, by name and in these words."""
    Path(name).write_bytes(content)
    with pytest.raises(ImageFileError, match=f"^{name}.*damaged.*{words}"):
        contents(name)


def save_deep_png(name: str, pixels: np.ndarray) -> str:
    """Save 16-bit colours as PNG, which Pillow cannot, each row by another of the five filters."""
    height, width, channels = pixels.shape
    rows = pixels.astype(">u2").view(np.uint8).reshape(height, -1).astype(int)
    content, above = b"", np.zeros_like(rows[0])
    for i, row in enumerate(rows):
        left, corner = (np.concatenate([np.zeros(2 * channels, int), r]) for r in (row, above))
        left, corner = left[: row.size], corner[: row.size]
        filters = [0, left, above, (left + above) // 2, _paeth(left, above, corner)]
        content += bytes([i % 5]) + ((row - filters[i % 5]) % 256).astype(np.uint8).tobytes()
        above = row
    colour = {2: 4, 3: 2, 4: 6}[channels]
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, colour, 0, 0, 0])
    data = zlib.compress(content)
    Path(name).write_bytes(png_of((b"IHDR", header), (b"IDAT", data), (b"IEND", b"")))
    return name


def patched(name: str, tag: str, value: int, item: int = 0) -> bytes:
    """Return a TIFF file with one item of a tag of its first page overwritten."""
    with tifffile.TiffFile(name) as tiff:
        found = tiff.pages[0].tags[tag]
        order, kind = tiff.byteorder, {3: "H", 4: "I"}[int(found.dtype)]
    content = bytearray(Path(name).read_bytes())
    struct.pack_into(order + kind, content, found.valueoffset + item * struct.calcsize(kind), value)
    return bytes(content)


def save_packed(name: str, samples: np.ndarray, bits: int) -> str:
    """Save grey samples of few bits as TIFF, one behind the other."""
    each = (samples[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    save(name, np.packbits(each.reshape(len(samples), -1).astype(np.uint8), axis=-1), metadata=None)
    Path(name).write_bytes(patched(name, "ImageWidth", samples.shape[1]))
    Path(name).write_bytes(patched(name, "BitsPerSample", bits))
    return name


def contents(path: str, reading: Reading | None = None) -> list[Picture]:
    """Read all images of a file."""
    with ImageFile(path, reading) as file:
        return [file.read(index) for index in range(len(file))]


def png_of(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return the content of a PNG file of these chunks, with their checksums."""
    content = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        check = zlib.crc32(kind + body).to_bytes(4, "big")
        content += len(body).to_bytes(4, "big") + kind + body + check
    return content


def png_chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """Return the chunks of a PNG file."""
    chunks, place = [], 8
    while place < len(content):
        end = place + 8 + int.from_bytes(content[place : place + 4], "big")
        chunks.append((content[place + 4 : place + 8], content[place + 8 : end]))
        place = end + 4
    return chunks


def _paeth(left: np.ndarray, above: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Return the neighbour that is nearest to left + above - corner; ties go in this order."""
    neighbours = np.stack([left, above, corner])
    return np.choose(np.argmin(np.abs(neighbours - (left + above - corner)), axis=0), neighbours)


def refusal(capsys: Any, *arguments: str) -> str:
    """Run `imsim compare` on what it must refuse, and return its message."""
    assert main(["compare", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("imsim: error: ")
    assert err.count("\n") == 1
    return err
