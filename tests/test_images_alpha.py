"""Transparency, in every format that has it, against compositing in exact fractions."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from image_files import GREY, RGB, RNG, png_chunks, png_of, save, save_deep_png
from PIL import Image

from imsim._images import ImageFileError, Reading, read_picture
from imsim.errors import OptionError

SHAPE = (5, 7)


pytestmark = pytest.mark.usefixtures("empty_directory")


def image(dtype: str, channels: int) -> np.ndarray:
    """Return colours with alpha, which has its extremes among its values."""
    if np.dtype(dtype).kind == "f":
        pixels = RNG.random((*SHAPE, channels + 1)).astype(dtype)
        full: float = 1
    else:
        full = np.iinfo(dtype).max
        pixels = RNG.integers(0, full, (*SHAPE, channels + 1), dtype=dtype, endpoint=True)
    pixels[0, :3, -1] = 0, full, full // 2
    return pixels


def over(pixels: np.ndarray, background: tuple[int, ...], premultiplied: bool) -> np.ndarray:
    """Composite in fractions, and round to the nearest."""
    full = 1 if pixels.dtype.kind == "f" else int(np.iinfo(pixels.dtype).max)
    result = np.empty((*pixels.shape[:2], pixels.shape[-1] - 1), pixels.dtype)
    for (y, x, c), _ in np.ndenumerate(result):
        alpha = Fraction(pixels[y, x, -1].item()) / full
        colour = Fraction(pixels[y, x, c].item()) * (1 if premultiplied else alpha)
        behind = Fraction(background[c % len(background)], 255) * full
        if pixels.dtype.kind == "f":
            result[y, x, c] = float(colour + behind * (1 - alpha))
        else:  # of the background and of the sum, each to the nearest
            behind = Fraction(int(behind + Fraction(1, 2)))
            result[y, x, c] = min(full, int(colour + behind * (1 - alpha) + Fraction(1, 2)))
    return result[..., 0] if result.shape[-1] == 1 else result


BACKGROUNDS = {"white": (255,), "black": (0,), "#808080": (128,), "#2040f0": (32, 64, 240)}


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "kind",
    [("png", "uint8"), ("png", "uint16")]
    + [("unassalpha", t) for t in ("uint8", "uint16", "uint32", "float32", "int16")]
    + [("assocalpha", t) for t in ("uint8", "uint16", "float32")],
    ids="-".join,
)
def test_alpha_channels(kind, channels, background):
    form, dtype = kind
    pixels = image(dtype, channels)
    if dtype == "int16":  # of which negative alpha would be a mistake
        pixels[..., -1] = abs(pixels[..., -1].astype(int)).clip(0, 32767)
    if form == "assocalpha":  # colours are never above alpha
        pixels[..., :-1] = np.minimum(pixels[..., :-1], pixels[..., -1:])
    if form != "png":
        name = save(
            "a.tif",
            pixels,
            photometric="rgb" if channels == 3 else "minisblack",
            planarconfig="contig",
            extrasamples=[form],
        )
    else:
        name = (save if dtype == "uint8" else save_deep_png)("a.png", pixels)
    picture = read_picture(name, Reading(background=background))
    levels = BACKGROUNDS[background]
    stored = pixels
    if channels == 1 and len(levels) == 3:  # grey over a colour has colours
        stored = np.concatenate([pixels[..., :1]] * 3 + [pixels[..., 1:]], axis=-1)
    want = over(stored, levels, form == "assocalpha")
    assert picture.pixels.dtype == pixels.dtype
    if pixels.dtype.kind == "f":
        # float64 arithmetic, rounded once more: an ulp of float32.
        np.testing.assert_allclose(picture.pixels, want, rtol=1.2e-7)
    else:
        np.testing.assert_array_equal(picture.pixels, want)
    assert picture.notes == (f"its transparent parts are laid over {background}",)
    assert picture.valid is None


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_colours_that_stand_for_transparent(depth, channels):
    if channels == 3 and depth < 8:
        return
    levels = RNG.integers(0, 2**depth, (4, 8, channels))
    levels[0, :3] = 0
    levels[1, 1] = (levels[1, 0] + 1) % 2**depth
    key = levels[1, 0]
    bits = (levels[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    rows = np.packbits(bits.reshape(4, -1), axis=1)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", 8, 4, depth, 2 if channels == 3 else 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"tRNS", key.astype(">u2").tobytes()), (b"IDAT", data)]
    Path("a.png").write_bytes(png_of(*chunks, (b"IEND", b"")))
    gone = (levels == key).all(axis=-1)
    full = 2**depth - 1
    for last, behind in (("white", 1), ("black", 0)):
        picture = read_picture("a.png", Reading(background=last))
        want = np.where(gone[..., None], behind * full, levels)
        scale = {2: 85, 4: 17}.get(depth, 1)
        np.testing.assert_array_equal(picture.pixels, (want * scale).squeeze())
        assert picture.notes[-1] == f"its transparent parts are laid over {last}"
    if depth == 1:
        last = "#405060"
        picture = read_picture("a.png", Reading(background=last))
        assert picture.pixels.dtype == np.uint8
        assert picture.pixels[gone].tolist() == [[64, 80, 96]] * gone.sum()
    if depth < 16:  # the higher bits of a key have no meaning
        chunks[1] = (b"tRNS", (key + 2**depth).astype(">u2").tobytes())
        Path("a.png").write_bytes(png_of(*chunks, (b"IEND", b"")))
        again = read_picture("a.png", Reading(background=last))
        np.testing.assert_array_equal(again.pixels, picture.pixels)
    chunks[1] = (b"tRNS", key.astype(">u2").tobytes() + b"\0")
    Path("a.png").write_bytes(png_of(*chunks, (b"IEND", b"")))
    with pytest.raises(ImageFileError, match="damaged: its transparent colour has"):
        read_picture("a.png")


def test_palettes_with_transparency():
    colours = np.repeat(GREY[..., None] // 64 * 64, 3, axis=-1)
    quantized = Image.fromarray(colours).quantize(8)
    quantized.save("a.png", transparency=bytes([0, 128, 255]))
    index = np.asarray(quantized)
    alpha = np.full(256, 255, np.uint8)
    alpha[:3] = 0, 128, 255
    want = over(np.concatenate([colours, alpha[index][..., None]], -1), (255,), False)
    np.testing.assert_array_equal(read_picture("a.png").pixels, want)
    opaque = [
        (k, b"\xff" * 3 if k == b"tRNS" else b) for k, b in png_chunks(Path("a.png").read_bytes())
    ]
    Path("b.png").write_bytes(png_of(*opaque))
    np.testing.assert_array_equal(read_picture("b.png").pixels, colours)
    assert read_picture("b.png").notes == ("its palette is converted to RGB",)


@pytest.mark.parametrize("kind", ["png", "unassalpha", "assocalpha"])
@pytest.mark.parametrize("colours", [GREY, RGB], ids=["grey", "rgb"])
def test_opaque_throughout_is_no_note(kind, colours):
    alpha = np.full((*GREY.shape, 1), 255, np.uint8)
    pixels = np.concatenate([colours.reshape(*GREY.shape, -1), alpha], axis=-1)
    options = {"photometric": "rgb" if colours.ndim == 3 else "minisblack"}
    name = (
        save("a.png", pixels)
        if kind == "png"
        else save("a.tif", pixels, planarconfig="contig", extrasamples=[kind], **options)
    )
    picture = read_picture(name, Reading(background="red"))
    np.testing.assert_array_equal(picture.pixels, colours)
    assert picture.notes == ()


def test_what_hides_under_alpha_has_no_influence():
    shown = np.zeros((*SHAPE, 4), np.uint8)
    hidden = shown.copy()
    hidden[..., :3] = 217
    one, other = (read_picture(save(f"{i}.png", p)) for i, p in enumerate((shown, hidden)))
    np.testing.assert_array_equal(one.pixels, other.pixels)
    assert (one.pixels == 255).all()
    holes = image("float32", 3)
    holes[0, 0, :3] = np.nan
    save("f.tif", holes, photometric="rgb", extrasamples=["unassalpha"])
    assert read_picture("f.tif").pixels[0, 0].tolist() == [1, 1, 1]


def test_multispectral_images_with_alpha():
    pixels = image("uint16", 5)
    save(
        "m.tif",
        pixels,
        photometric="minisblack",
        planarconfig="contig",
        extrasamples=[0, 0, 0, 0, "unassalpha"],
    )
    want = over(pixels, (255,), False)
    np.testing.assert_array_equal(read_picture("m.tif").pixels, want)
    with pytest.raises(ImageFileError, match="has 5 channels and alpha, so that the background"):
        read_picture("m.tif", Reading(background="red"))


def test_four_channels_of_an_array_are_no_alpha():
    pixels = image("uint8", 3)
    picture = read_picture(save("a.npy", pixels[None]))
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert picture.notes == ()
    save("a.tif", pixels, photometric="minisblack", planarconfig="contig", extrasamples=[0, 0, 0])
    np.testing.assert_array_equal(read_picture("a.tif").pixels, pixels)


def test_alpha_beyond_opaque():
    pixels = image("float32", 3)
    for wrong in (255, -0.1, np.nan):
        pixels[2, 2, -1] = wrong
        save("a.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
        with pytest.raises(ImageFileError, match=r"a.tif: its alpha channel has values from"):
            read_picture("a.tif")


def test_backgrounds():
    assert Reading(background="#102030").rgb == (16, 32, 48)
    for wrong in ("no colour", "#12", "", "#ff00ff80"):  # nothing is seen through a background
        with pytest.raises(OptionError, match="is no colour; expected a name"):
            Reading(background=wrong)
    with pytest.raises(OptionError, match="max_pixels is 0; expected a positive number"):
        Reading(max_pixels=0)
