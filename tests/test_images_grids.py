"""Sizes and places of pixels that files tell: a note where those of a pair differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from command import compared
from image_files import DEEP, GREY, contents, save
from medical_files import dicom

from imsim._images import Reading, read_picture
from imsim._images.metadata import grid_difference

pytestmark = pytest.mark.usefixtures("empty_directory")
STACK = np.stack([GREY, GREY])


def save_fits(name: str, **cards: Any) -> str:
    hdu = pytest.importorskip("astropy.io.fits").PrimaryHDU(GREY)
    hdu.header.update(cards)
    hdu.writeto(f"{name}.fits")
    return f"{name}.fits"


def save_ome(name: str, **sizes: Any) -> str:
    return save(f"{name}.ome.tif", STACK, metadata={"axes": "ZYX", **sizes}, ome=True)


def save_imagej(name: str, **sizes: Any) -> str:
    return save(f"{name}.tif", STACK, metadata={"axes": "ZYX", "unit": "um", **sizes}, imagej=True)


def save_dicom(name: str, **tags: Any) -> str:
    dicom(GREY, **tags).save_as(f"{name}.dcm", enforce_file_format=True)
    return f"{name}.dcm"


@pytest.mark.parametrize(
    ("make", "keyword", "one", "other", "words"),
    [
        (save_fits, "CRVAL1", 150.0, 150.1, "CRVAL1 150.1, not 150"),
        (save_fits, "CD1_1", 1e-5, 2e-5, "CD1_1 2e-05, not 1e-05"),
        (save_fits, "CTYPE1", "RA---TAN", "GLON-TAN", "CTYPE1 GLON-TAN, not RA---TAN"),
        (save_ome, "PhysicalSizeX", 0.5, 0.25, "PhysicalSizeX 0.25, not 0.5"),
        (save_imagej, "spacing", 2.0, 3.0, "spacing 3, not 2"),
        (save_dicom, "PixelSpacing", [0.8, 0.7], [0.8, 0.5], r"PixelSpacing[1] 0.5, not 0.7"),
    ],
)
def test_what_differs_is_said(make, keyword, one, other, words, capsys):
    files = [
        make(key, **{keyword: value}) for key, value in zip("abc", (one, one, other), strict=True)
    ]
    found, _ = compared(capsys, *files, "--metrics", "rmse")
    for row in found["scored"]:
        said = [note for note in row["notes"] if "another size or to lie elsewhere" in note]
        if row["test"].startswith("b"):
            assert not said
        else:
            assert f"({words}); they are compared one by one" in said[0]
    if make in (save_ome, save_imagej):
        volume = read_picture(files[0], Reading(volume=True))
        assert volume.grid == read_picture(f"{files[0]}[0]").grid
        assert volume.grid[keyword] == one


def test_what_is_not_known_and_what_is_rounded():
    assert grid_difference(None, {"CRVAL1": 1.0}) == grid_difference({"CRVAL1": 1.0}, {}) == ""
    assert grid_difference({"CRVAL1": 1.0}, {"CRVAL1": 1.0 + 1e-9}) == ""
    many = {f"CRVAL{i}": float(i) for i in range(9)}
    assert grid_difference({"CRPIX1": 1.0}, many).endswith("CRVAL1 1, not none and 7 more)")


def save_netcdf(name: str, latitudes: np.ndarray, **options: Any) -> str:
    h5py = pytest.importorskip("h5py")
    with h5py.File(f"{name}.h5", "w") as file:
        file["x"] = GREY
        for axis, (key, values) in enumerate({"lat": latitudes, "lon": np.arange(48.0)}.items()):
            file.create_dataset(key, data=values, **options).make_scale(key)
            file["x"].dims[axis].attach_scale(file[key])
    return f"{name}.h5"


@pytest.mark.parametrize("options", [{}, {"chunks": (7,), "compression": "gzip"}])
def test_coordinates_that_run_the_other_way(options, capsys):
    north = np.linspace(60, 40, 40)
    files = [save_netcdf(k, lat, **options) for k, lat in (("a", north), ("b", north[::-1]))]
    assert read_picture(files[0]).grid == {"lat[0]": 60, "lat[-1]": 40, "lon[0]": 0, "lon[-1]": 47}
    found, _ = compared(capsys, *[f"{name}:/x" for name in files], "--metrics", "rmse")
    assert "(lat[-1] 60, not 40; lat[0] 40, not 60)" in found["scored"][0]["notes"][-1]


def gdal(*items: tuple[int, str, float]) -> dict[str, Any]:
    found = [f'<Item name="X" sample="{i}" role="{role}">{v}</Item>' for i, role, v in items]
    text = f"<GDALMetadata>{''.join(found)}</GDALMetadata>"
    return {"metadata": None, "extratags": [(42112, "s", 0, text, True)]}


def test_scale_and_offset_of_gdal(capsys):
    save("a.tif", DEEP, **gdal((0, "scale", 0.5), (0, "offset", 3)))
    save("b.tif", DEEP, **gdal((0, "offset", 3), (0, "scale", 0.5), (0, "unittype", 7)))
    save("c.tif", DEEP, **gdal((0, "scale", 0.25)))
    save("d.tif", DEEP, **gdal((0, "other", 1)))
    files = ("a.tif", "b.tif", "c.tif", "d.tif")
    found, _ = compared(capsys, *files, "--metrics", "rmse", status=2)
    assert [row["test"] for row in found["scored"]] == ["b.tif"]
    words = "c.tif: its values are 0.25 x stored + 0, but those of a.tif 0.5 x stored + 3, as they"
    assert found["failed"][0]["reason"].startswith(words)
    note = "its scale and offset (GDAL_METADATA) 0.5 x stored + 3 are not applied"
    assert read_picture("a.tif").notes == (note,)
    assert read_picture("d.tif").notes == ()
    (part,) = contents("a.tif", Reading(memory=1))
    assert (part.packing, part.notes) == ((0.5, 3.0), (note,))
    pixels = np.stack([DEEP] * 3, axis=-1)
    save("e.tif", pixels, photometric="rgb", **gdal((0, "scale", 2), (2, "scale", 4)))
    assert read_picture("e.tif").packing == (2, 0, 1, 0, 4, 0)


def save_ome_zarr(name: str, scale: Any) -> str:
    zarr = pytest.importorskip("zarr")
    group = zarr.create_group(name, zarr_format=3)
    group.create_array("0", data=GREY)
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
    group.attrs["ome"] = {"multiscales": [{"axes": axes, "datasets": [level]}]}
    return name


def test_ome_zarr(capsys):
    files = [save_ome_zarr(f"{k}.zarr", [0.5, x]) for k, x in (("a", 0.5), ("b", 0.25))]
    found, _ = compared(capsys, *files, "--metrics", "rmse")
    assert any("(scale x 0.25, not 0.5)" in note for note in found["scored"][0]["notes"])
    for damaged in (None, [1], ["a", "b"], 7):
        assert read_picture(save_ome_zarr(f"{damaged}.zarr", damaged)).pixels.shape == GREY.shape
