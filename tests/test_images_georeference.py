"""Where GeoTIFF files say that their pixels lie, and when two of them lie elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from image_files import DEEP, contents, save

from imsim._images.metadata import Georeference, difference, of_attributes, of_tags

pytestmark = pytest.mark.usefixtures("empty_directory")

UTM = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633)
"""Keys: projected, pixels are areas, EPSG:32633."""
SIDES = (40, 48)


def tags(scale=(10.0, 10.0, 0.0), corner=(300000.0, 5000000.0), keys=UTM, **more):
    """Return the tags of a picture by their numbers."""
    found = {33550: scale, 33922: (0.0, 0.0, 0.0, *corner, 0.0), 34735: keys}
    return found | {int(code[1:]): value for code, value in more.items()}


def extra(found):
    """Return tags for the writer of tifffile."""
    return Georeference(tags=tuple(found.items())).extratags()


def test_scale_and_tie_point():
    place = of_tags(tags())
    assert place.transform == (10, 0, 300000, 0, -10, 5000000)
    assert place.crs == ("EPSG", 32633)
    tied = tags() | {33922: (2.0, 3.0, 0.0, 300020.0, 4999970.0, 0.0)}
    assert of_tags(tied).transform == place.transform


def test_the_middle_of_a_pixel_and_its_corner():
    points = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 2, 3072, 0, 1, 32633)
    middle = of_tags(tags(corner=(300005.0, 4999995.0), keys=points))
    assert middle.transform == of_tags(tags()).transform
    assert difference(of_tags(tags()), middle, SIDES) == ""


def test_a_matrix():
    matrix = (8.0, 6.0, 0, 300000, 6.0, -8.0, 0, 5000000, 0, 0, 0, 0, 0, 0, 0, 1)
    place = of_tags({34264: matrix})
    assert place.transform == (8, 6, 300000, 6, -8, 5000000)
    assert "away on the ground" in difference(of_tags(tags()), place, SIDES)


def test_keys_in_other_tags():
    own = (1, 1, 0, 4, 1024, 0, 1, 1, 3072, 0, 1, 32767, 3073, 34737, 4, 0, 3081, 34736, 1, 1)
    one = of_tags(tags(keys=own, t34736=(1.0, 45.5), t34737="Own|"))
    other = of_tags(tags(keys=own, t34736=(1.0, 46.5), t34737="Mine|"))
    renamed = of_tags(tags(keys=own, t34736=(1.0, 45.5), t34737="Same|"))
    assert one.name == "Own"
    assert difference(one, other, SIDES) == "its reference system is Mine, not Own"
    assert difference(one, renamed, SIDES) == ""
    assert difference(one, of_tags(tags()), SIDES) == ""  # told in two ways, of which nobody knows


def test_geographic_systems():
    keys = (1, 1, 0, 2, 1024, 0, 1, 2, 2048, 0, 1, 4326)
    assert of_tags(tags(keys=keys)).crs == ("EPSG", 4326)
    projected = (1, 1, 0, 3, 1024, 0, 1, 1, 2048, 0, 1, 4326, 3072, 0, 1, 32633)
    assert of_tags(tags(keys=projected)).crs == ("EPSG", 32633)


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (tags(), tags(corner=(300000.9, 5000000.0)), ""),
        (tags(), tags(corner=(300005.0, 5000000.0)), "it lies 0.5 pixels away on the ground"),
        (tags(), tags(corner=(300000.0, 4999970.0)), "it lies 3 pixels away on the ground"),
        (tags(), tags(scale=(20.0, 20.0, 0.0)), "its pixels are 20 wide on the ground, not 10"),
        (tags(), tags(scale=(10.001, 10.001, 0.0)), ""),
        (tags(), tags(keys=(*UTM[:-1], 32634)), "its reference system is EPSG:32634, not EPSG:3"),
        (tags(), {34735: UTM}, ""),
        ({33922: tuple(range(12))}, {33922: tuple(range(12))}, ""),
        ({33922: tuple(range(12))}, {33922: tuple(range(1, 13))}, "its ground control points are"),
    ],
)
def test_differences(one, other, said):
    found = difference(of_tags(one), of_tags(other), SIDES)
    assert found.startswith(said)
    assert bool(found) == bool(said)
    assert difference(of_tags(one), None, SIDES) == ""
    assert difference(of_tags(one), of_tags(one), SIDES) == ""


@given(st.integers(-5, 5), st.integers(-5, 5), st.floats(0.1, 1e5), st.floats(-3, 3))
def test_a_shift_is_told_in_pixels(columns, rows, size, turn):
    a, b, d, e = size * np.cos(turn), size * np.sin(turn), size * np.sin(turn), -size * np.cos(turn)
    one = Georeference((a, b, 5e5, d, e, 4e6))
    moved = (a, b, 5e5 + a * columns + b * rows, d, e, 4e6 + d * columns + e * rows)
    found = difference(one, Georeference(moved), SIDES)
    far = np.hypot(columns, rows)
    assert found == (f"it lies {far:.3g} pixels away on the ground" if far else "")


def test_attributes():
    wkt = 'PROJCS["NAD83 / UTM",GEOGCS["NAD83",AUTHORITY["EPSG","4269"]],AUTHORITY["EPSG","26911"]]'
    place = of_attributes({"spatial_ref": wkt, "GeoTransform": [300, 10, 0, 5000, 0, -10]})
    assert place.crs == ("EPSG", 26911)
    assert place.transform == (10, 0, 300, 0, -10, 5000)
    assert of_attributes({"crs_wkt": 'LOCAL_CS["site"]'}).crs == ("name", "site")
    assert of_attributes({"crs_wkt": 'LOCAL_CS["site"]', "GeoTransform": "a b c d e f"}).name
    assert of_attributes({"units": "m"}) is None


def test_a_file_and_the_copy_of_its_tags():
    found = tags(t34737="WGS 84 / UTM zone 33N|")
    save("a.tif", DEEP, extratags=extra(found))
    (picture,) = contents("a.tif")
    assert picture.place.transform == (10, 0, 300000, 0, -10, 5000000)
    assert picture.notes == ()
    save("b.tif", DEEP, extratags=picture.place.extratags())
    assert contents("b.tif")[0].place == picture.place
    with tifffile.TiffFile("b.tif") as tiff:
        assert tiff.geotiff_metadata["ProjectedCSTypeGeoKey"] == 32633


@pytest.mark.parametrize(
    "found",
    [
        {34735: (1, 1, 0, 3, 1024, 0, 1, 1)},
        {34735: (1, 1, 0, 1, 3073, 34737, 9, 0), 34737: "short"},
        {33550: (np.nan, 1.0, 0.0)},
    ],
)
def test_what_is_damaged_is_not_used(found):
    save("a.tif", DEEP, extratags=extra(found))
    (picture,) = contents("a.tif")
    assert picture.place is None
    assert picture.notes[0].startswith("its place on the ground is damaged and not used: ")
