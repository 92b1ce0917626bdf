"""Colours of pictures, and their files."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import imsim
from imsim import pages
from imsim.pages import colour

PAIRS = Path(__file__).parent / "golden" / "pairs"


def test_ends_beyond_and_nan():
    values = [[0.0, 1.0, -9.0, 9.0, np.inf, -np.inf, np.nan]]
    first, last, *others = pages.colour_map(values, 0, 1)[0].tolist()
    assert (first, last) == ([68, 1, 84], [253, 231, 37])
    assert others == [first, last, last, first, [150, 150, 150]]


def test_masked_numbers_are_missing():
    values = np.ma.masked_equal([[0, 5]], 5)
    assert pages.colour_map(values, 0, 9).tolist() == [[[68, 1, 84], [150, 150, 150]]]


def test_a_map_can_run_backwards():
    values = np.linspace(0, 1, 64)[None]
    assert (pages.colour_map(values, 1, 0) == pages.colour_map(1 - values, 0, 1)).all()


def test_lightness_rises_with_the_value():
    colours = pages.colour_map(np.linspace(0, 1, 256)[None], 0, 1)[0]
    luma = colours @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luma) > -0.5).all()  # half a level: the channels are whole numbers
    assert luma[-1] - luma[0] > 180


def test_the_scale_does_not_follow_the_picture():
    one, two = np.full((2, 2), 0.3), np.array([[0.3, 5.0], [-2.0, 0.1]])
    assert (pages.colour_map(one, 0, 1)[0, 0] == pages.colour_map(two, 0, 1)[0, 0]).all()


@pytest.mark.parametrize("colours", colour.TABLES)
def test_the_colours_stay(colours, image_regression):
    """Whoever changes them looks at them: pages of other releases are to compare."""
    values = np.tile(np.linspace(-0.1, 1.1, 240), (8, 1))
    values[:, 100:104] = np.nan
    picture = pages.Scale(0, 1, colours=colours).colours_of(values)
    image_regression.check(picture, channel_axis=-1)


def test_root_scale_reads_back():
    scale = pages.Scale(-4.0, 4.0, root=True)
    assert [scale.value_at(p) for p in (0, 0.25, 0.5, 0.75, 1)] == [-4, -1, 0, 1, 4]


@pytest.mark.parametrize("metric", [m for m in imsim.METRICS.values() if m.map_function])
def test_dark_is_alike_in_every_map(metric, rng):
    reference, test = rng.integers(40, 200, (2, 48, 40), dtype=np.uint8)
    colour = [np.stack([image, image, 255 - image]) for image in (reference, test)]
    scale = pages.map_scale(metric.name, 255)
    alike = metric.map_function(colour[0], colour[0], channel_axis=0)
    scored = ~np.isnan(alike)
    assert np.allclose(alike[scored], scale.low, atol=1e-7)  # rounding of windows' moments
    local = metric.map_function(*colour, channel_axis=0)
    ends = sorted((scale.low, scale.high))
    if not scale.root:  # squares of several channels are added, and go beyond
        assert np.nanmin(local) >= ends[0] - 1e-9
        assert np.nanmax(local) <= ends[1] + 1e-9
    assert scale.colours_of(local)[scored].mean() > scale.colours_of(alike)[scored].mean()


@pytest.mark.parametrize("metric", [m.name for m in imsim.METRICS.values() if m.map_function])
def test_the_pictures_of_maps_stay(metric, image_regression):
    """Of a photograph and one with salt and pepper, with a corner masked."""
    photo, spoilt = (
        np.asarray(Image.open(PAIRS / f"camera256__{which}.png"))[60:108, 90:154]
        for which in ("ref", "saltpepper")
    )
    reference, test = (np.stack([image, photo // 2, 255 - image]) for image in (photo, spoilt))
    mask = np.ones(photo.shape, dtype=bool)
    mask[:20, :24] = False
    local = imsim.METRICS[metric].map_function(reference, test, mask=mask, channel_axis=0)
    # Rounding may put a value on the other side of the border between two colours.
    picture = pages.map_scale(metric, 255).colours_of(local)
    image_regression.check(picture, tolerance=4, channel_axis=-1)


@pytest.mark.parametrize("colours", [1, 256, 257])
@pytest.mark.parametrize("width", [33, 600])
def test_small_png_holds_the_pixels(colours, width):
    levels = np.arange(32 * width) % colours * 65_521
    pixels = np.stack([levels >> 16, levels >> 8, levels], axis=-1).astype(np.uint8)
    pixels = pixels.reshape(32, width, 3)
    content = colour.small_png(pixels)
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.mode == ("P" if colours <= 256 else "RGB")
        assert (np.asarray(picture.convert("RGB")) == pixels).all()


def test_png_holds_the_pixels():
    pixels = pages.colour_map(np.random.default_rng(0).uniform(size=(5, 7)), 0, 1)
    assert (np.asarray(Image.open(io.BytesIO(pages.png(pixels)))) == pixels).all()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: pages.colour_map(np.zeros((2, 3, 4)), 0, 1), imsim.ShapeError, "(2, 3, 4)"),
        (lambda: pages.colour_map([[1, 2], [3]], 0, 1), imsim.ShapeError, "not a rectangular"),
        (lambda: pages.colour_map([[1j]], 0, 1), imsim.DTypeError, "values has dtype complex"),
        (lambda: pages.colour_map([[1.0]], 2, 2), imsim.OptionError, "two different"),
        (lambda: pages.colour_map([[1.0]], 0, np.inf), imsim.OptionError, "finite"),
        (lambda: pages.map_scale("psnr", 255), imsim.OptionError, "a metric with a map"),
        (lambda: pages.png(np.zeros((2, 2))), imsim.ImsimError, "float64"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=re.escape(words)):
        call()


def test_masked_numbers_that_are_not_real_are_refused() -> None:
    for values in ([[1j, 2]], [["a", "b"]]):
        with pytest.raises(imsim.DTypeError, match="values"):
            imsim.pages.colour_map(np.ma.masked_array(values), 0.0, 1.0)
