"""The orientation tag: obeyed by default, in every format that has one, and in every way."""

from __future__ import annotations

import json

import numpy as np
import pytest
from command import compared
from image_files import GREY, RGB, save
from PIL import Image, features

from imsim._images import ImageFile, Reading, read_picture
from imsim.cli import main
from imsim.errors import OptionError

pytestmark = pytest.mark.usefixtures("empty_directory")
FORMS = ["jpg", "png", "tif", "webp", "avif"]
SHOWN = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),
    8: np.rot90,
}
"""By the value of the tag: from the pixels as they are stored to those that are shown."""


def tagged(name: str, pixels: np.ndarray, value: int) -> str:
    """Save an image with an orientation tag."""
    if name.endswith(".tif"):
        return save(name, pixels, extratags=[(274, "H", 1, value, True)])
    exif = Image.Exif()
    exif[274] = value
    return save(name, pixels, exif=exif)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", SHOWN)
def test_all_eight(form, value):
    if form == "avif" and not features.check("avif"):
        pytest.skip("Pillow was built without AVIF")
    name = tagged(f"a.{form}", RGB, value)
    stored = read_picture(name, Reading(orientation="ignore"))
    shown = read_picture(name)
    np.testing.assert_array_equal(shown.pixels, SHOWN[value](stored.pixels))
    if value == 1:
        assert (shown.turned, stored.turned, shown.notes, stored.notes) == ("", "", (), ())
        return
    assert (shown.turned, stored.turned) == ("obeyed", "ignored")
    for picture in (shown, stored):
        (note,) = picture.notes
        assert note.startswith(f"its orientation tag ({value}: ")
        assert picture.turned in note


def test_parts_that_are_decoded_together_are_turned_too():
    name = save("a.tif", GREY, tile=(16, 32), extratags=[(274, "H", 1, 6, True)])
    with ImageFile(name, Reading(memory=1)) as file:
        picture = file.read(0)
        assert picture.pixels.stored == (32, 16)
        np.testing.assert_array_equal(picture.pixels[:], np.rot90(GREY, -1))


def test_no_data_are_turned_with_the_pixels():
    pixels = GREY.astype(np.float32)
    pixels[3, 5] = -1
    tags = [(42113, "s", 0, "-1", True), (274, "H", 1, 6, True)]
    picture = read_picture(save("a.tif", pixels, extratags=tags))
    np.testing.assert_array_equal(picture.valid, picture.pixels != -1)
    assert not picture.valid.all()


def test_what_lies_on_the_ground_stays_as_it_is_stored():
    """The tags that tell where are about the rows of the file."""
    place = [(33550, "d", 3, (2.0, 2.0, 0.0), True), (33922, "d", 6, (0, 0, 0, 5, 9, 0), True)]
    save("a.tif", GREY, extratags=[*place, (274, "H", 1, 6, True)])
    picture = read_picture("a.tif")
    np.testing.assert_array_equal(picture.pixels, GREY)
    assert any("is ignored, since its place on the ground" in note for note in picture.notes)


def test_channels_in_the_middle_cannot_be_turned():
    planes = np.moveaxis(RGB, -1, 1)  # rows, channels, columns
    save("a.tif", planes, photometric="minisblack", extratags=[(274, "H", 1, 6, True)])
    with pytest.raises(ValueError, match="tag cannot be obeyed; --orientation ignore"):
        read_picture("a.tif", Reading(channel_axis=1))
    stored = read_picture("a.tif", Reading(channel_axis=1, orientation="ignore"))
    np.testing.assert_array_equal(stored.pixels, RGB)


def test_an_option_that_decides_scores(capsys):
    save("upright.png", np.ascontiguousarray(GREY.T[:, ::-1]))
    tagged("a.png", GREY, 6)
    found, err = compared(capsys, "upright.png", "a.png", "--metrics", "rmse")
    assert found["scored"][0]["scores"] == {"rmse": 0}
    assert found["run"][0]["orientation"] == "obey"
    assert len(err) == 1
    tagged("b.png", GREY, 3)
    arguments = ["compare", "a.png", "b.png", "--metrics", "rmse", "-o", "o.csv", "--orientation"]
    assert main([*arguments, "obey"]) == 2
    capsys.readouterr()
    assert main([*arguments, "ignore"]) == 0
    with open("o.csv", encoding="utf-8") as file:
        assert json.dumps({"orientation": "ignore"})[1:-1] in file.read().replace('""', '"')
    assert main([*arguments, "obey", "--resume"]) == 2
    assert "of another run" in capsys.readouterr().err


def test_there_are_two_ways():
    with pytest.raises(OptionError, match="orientation is 'turn'; expected obey or ignore"):
        Reading(orientation="turn")
