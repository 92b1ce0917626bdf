"""`imsim compare` on files that stay on the disk: rows, notes and maps of those in memory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from command import compared
from image_files import save
from PIL import Image

from imsim._images.map_files import Rows, picture_rows
from imsim.cli import main
from imsim.registry import METRICS

pytestmark = pytest.mark.usefixtures("empty_directory")

RNG = np.random.default_rng(16)
SIDES = 120, 118
A = RNG.integers(10, 4000, SIDES).astype(np.float64)
A[:, 40:80] = 2000 + A[:, 40:80] // 50
B = np.minimum(A + RNG.integers(0, 300, SIDES), 4095.0)
SMALL, LARGE = ("--memory", "1GB"), ("--memory", "100kB")
"""The same pair in memory, and on the disk: an image takes 113 kB."""
RANGE = ("--data-range", "4095")
IN_BLOCKS = [name for name, facts in METRICS.items() if facts.pieces is not None]
OF_GREY = [n for n, m in METRICS.items() if m.map_function and not m.map_needs_channels]
KEYS = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633)
NO_DATA = (42113, "s", 0, "7", True)


def ground(corner=(3e5, 5e6), code=32633):
    """Return the tags of a place on the ground."""
    return [
        (33550, "d", 3, (10.0, 10.0, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, *corner, 0.0), True),
        (34735, "H", 16, (*KEYS[:-1], code), True),
    ]


def tiled(name, pixels, tags=()):
    """Save a tiled and compressed TIFF file."""
    options = {
        "tile": (64, 48),
        "compression": "zlib",
        "predictor": 3 if pixels.dtype.kind == "f" else 2,
    }
    return save(name, pixels, extratags=list(tags), metadata=None, **options)


def stored(name, pixels):
    """Save an array, as `.npy` or Zarr by its name."""
    if name.endswith(".npy"):
        return save(name, pixels)
    zarr = pytest.importorskip("zarr")
    zarr.create_array(name, shape=pixels.shape, dtype=pixels.dtype, chunks=(70, 50))[:] = pixels
    return name


def same(large, small):
    """Compare the scores of two rows, and what is noted."""
    assert large["scores"].keys() == small["scores"].keys() & set(IN_BLOCKS)
    for name, score in large["scores"].items():
        np.testing.assert_allclose(float(score), float(small["scores"][name]), rtol=1e-12)
    assert sorted(large["notes"]) == sorted(small["notes"])


def both(capsys, *arguments, status=0):
    """Run the command on files in memory and on the disk; return both rows."""
    rows = []
    for memory in (SMALL, LARGE):
        found, _ = compared(capsys, *arguments, *RANGE, *memory, status=status)
        rows.append(found["scored"][0])
    same(rows[1], rows[0])
    return rows


@pytest.mark.parametrize("ending", ["tif", "npy", pytest.param("zarr", marks=pytest.mark.thorough)])
def test_every_metric(capsys, ending):
    write = tiled if ending == "tif" else stored
    pair = [A, B]
    if ending == "npy":  # whole numbers are summed exactly
        pair = [np.tile(pixels.astype(np.uint16), (2, 2)) for pixels in pair]
    for name, pixels in zip("ab", pair, strict=True):
        write(f"{name}.{ending}", pixels)
    small, large = both(capsys, f"a.{ending}", f"b.{ending}")
    for name in METRICS.keys() - set(IN_BLOCKS):
        assert name in small["scores"]
        assert "raise --memory above the size of an image" in large["skipped"][name]


def test_two_formats_and_colours(capsys):
    save("a.tif", np.dstack([A, B, A]), tile=(64, 48), photometric="rgb", compression="zlib")
    stored("b.npy", np.dstack([B, A, A]))
    both(capsys, "a.tif", "b.npy", "--channel-axis", "-1", "--metrics", "ssim,sam,psnr")


def test_no_data_values_and_masks(capsys):
    one, other, mask = A.copy(), B.copy(), np.zeros(SIDES, bool)
    one[5:20, 30:100] = 7
    other[60:, 110:] = 7
    mask[3:110, 2:] = True
    tiled("a.tif", one, [NO_DATA]), tiled("b.tif", other, [NO_DATA])
    small, _ = both(capsys, "a.tif", "b.tif")
    assert small["notes"][0].startswith("a.tif: no data (GDAL_NODATA 7) at 1050 of 14160 pixels")
    tiled("mask.tif", np.where(mask, 9.0, 0.0))
    ignored = ("--ignore-value", "2041", "--ignore-value", "0", "--mask", "mask.tif")
    small, _ = both(capsys, "a.tif", "b.tif", *ignored, "--metrics", "ssim")
    assert sum("left out by --ignore-value" in note for note in small["notes"]) >= 2
    stored("a.npy", one), stored("b.npy", other)
    both(capsys, "a.npy", "b.npy", "--ignore-value", "7", "--metrics", "rmse,fsim")


def test_transparent_parts_and_no_data_are_counted_once(capsys):
    """And not for each strip."""
    alpha = np.where(RNG.random(SIDES) > 0.2, 65535, 0)
    one, other = (np.dstack([x, x, x, alpha]).astype(np.uint16) for x in (A, B))
    how = {"photometric": "rgb", "extrasamples": ["unassalpha"], "rowsperstrip": 7}
    save("a.tif", one, **how), save("b.tif", other, extratags=[NO_DATA], **how)
    arguments = ("a.tif", "b.tif", "--metrics", "rmse", "--ignore-transparent")
    small, _ = both(capsys, *arguments)
    said = f"a.tif: no data (transparent) at {(alpha == 0).sum()} of 14160 pixels, which are masked"
    assert said in small["notes"]


@pytest.mark.parametrize("opaque", [True, False])
def test_grey_becomes_rgb_over_a_colour_only_where_it_is_transparent(capsys, opaque):
    alpha = np.full(SIDES, 65535)
    alpha[-1, -1] = 65535 if opaque else 0
    how = {"photometric": "minisblack", "extrasamples": ["unassalpha"], "rowsperstrip": 7}
    for name, pixels in (("a.tif", A), ("b.tif", B)):
        save(name, np.dstack([pixels, alpha]).repeat(2, 1).astype(np.uint16), **how)
    both(capsys, "a.tif", "b.tif", "--metrics", "se", "--background", "magenta")


def test_no_data_of_zarr(capsys):
    zarr = pytest.importorskip("zarr")
    one = A.copy()
    one[:9] = 7
    stored("a.zarr", one), stored("b.zarr", B)
    zarr.open_array("a.zarr").attrs["_FillValue"] = 7
    small, _ = both(capsys, "a.zarr", "b.zarr", "--metrics", "se,ssim")
    assert "no data (_FillValue 7) at 1062 of 14160 pixels" in small["notes"][0]


def test_chunks_that_are_missing_are_said(capsys):
    stored("a.zarr", A), stored("b.zarr", B)
    shutil.rmtree("b.zarr/c/1")
    _, large = both(capsys, "a.zarr", "b.zarr", "--metrics", "se,ssim")
    said = "b.zarr: 3 of its 6 chunks are not stored; as Zarr has it, their pixels have the fill"
    assert large["notes"][0].startswith(said)


def test_broken_pixels_and_the_range(capsys):
    one, other = A.copy(), B.copy()
    one[100, 70] = np.nan
    other[3, 3] = 9000
    stored("a.npy", one), stored("b.npy", other)
    ignored = ("--ignore-value", "-1")  # which no pixel has
    small, _ = both(capsys, "a.npy", "b.npy", "--metrics", "rmse,gmsd", *ignored)
    assert any("1 of its pixels are NaN or infinite" in note for note in small["notes"])
    small, _ = both(capsys, "a.npy", "b.npy", "--metrics", "rmse,gmsd", "--ignore-nan")
    assert any("span more than --data-range 4095" in note for note in small["notes"])
    nothing = save("mask.npy", np.zeros(SIDES, np.uint8))
    small, _ = both(capsys, "a.npy", "b.npy", "--metrics", "rmse,gmsd", "--mask", nothing)
    assert "leaves out every pixel" in small["notes"][-1]


def test_levels_and_resume(capsys):
    for name, pixels in (("a.tif", A), ("b.tif", B)):
        with tifffile.TiffWriter(name) as tiff:
            for step in (1, 2):
                more = {"tile": (64, 64), "compression": "zlib", "subfiletype": int(step > 1)}
                tiff.write(pixels[::step, ::step], metadata=None, **more)
    tiled("c.tif", A[::2, ::2]), tiled("d.tif", B[::2, ::2])
    metrics = ("--metrics", "ssim,se", *RANGE, *LARGE)
    low, _ = compared(capsys, "a.tif", "b.tif", "--level", "1", *metrics)
    wanted, _ = compared(capsys, "c.tif", "d.tif", *metrics)
    assert low["scored"][0]["scores"] == wanted["scored"][0]["scores"]
    assert low["run"][0]["level"] == 1
    high, _ = compared(capsys, "a.tif", "b.tif", *metrics)
    assert high["scored"][0]["scores"] != low["scored"][0]["scores"]
    assert len(high["scored"]) == 1
    failed, _ = compared(capsys, "a.tif", "b.tif", "--level", "2", *metrics, status=2)
    assert "has no level 2; it has 2 levels" in json.dumps(failed) + str(_)
    arguments = ("compare", "a.tif", "b.tif", "--csv", "-o", "rows.csv", *metrics)
    assert main([*arguments, "--level", "1"]) == 0
    assert main([*arguments, "--resume"]) == 2
    assert "level" in capsys.readouterr().err


def test_gates_and_folders(capsys):
    Path("ref").mkdir(), Path("test").mkdir()
    tiled("ref/1.tif", A), tiled("test/1.tif", B)
    stored("ref/2.npy", A[:20]), stored("test/2.npy", B[:20])
    arguments = ("ref", "test", "--metrics", "psnr", *RANGE)
    rows = [compared(capsys, *arguments, *memory)[0]["scored"] for memory in (SMALL, LARGE)]
    assert len(rows[1]) == 2
    for small, large in zip(*rows, strict=True):
        same(large, small)
    _, said = compared(capsys, *arguments, *LARGE, "--fail-under", "psnr=90", status=1)
    assert any("psnr is" in line and "below 90" in line for line in said)
    assert main(["compare", *arguments, *LARGE, "--csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("ref/1.tif,test/1.tif,")


@pytest.mark.parametrize("memory", [SMALL, LARGE])
class TestPlaces:
    def test_another_place_is_refused(self, capsys, memory):
        arguments = ("a.tif", "b.tif", "--metrics", "ssim", *RANGE, *memory)
        tiled("a.tif", A, ground())
        for tags, problem in (
            (ground((3e5 + 20, 5e6)), "it lies 2 pixels away on the ground"),
            (ground(code=32634), "its reference system is EPSG:32634, not EPSG:32633"),
        ):
            tiled("b.tif", B, tags)
            found, _ = compared(capsys, *arguments, status=2)
            reason = found["failed"][0]["reason"]
            assert problem in reason
            assert "--ignore-georeference" in reason
            found, _ = compared(capsys, *arguments, "--ignore-georeference")
            assert problem in found["scored"][0]["notes"][0]
            assert found["run"][0]["ignore_georeference"] is True

    def test_one_that_tells_none(self, capsys, memory):
        tiled("a.tif", A, ground()), tiled("b.tif", B)
        found, _ = compared(capsys, "a.tif", "b.tif", "--metrics", "se", *memory)
        (note,) = found["scored"][0]["notes"]
        assert note.startswith("b.tif: does not tell its place on the ground, as a.tif does")


class TestMaps:
    @pytest.fixture
    def maps(self, capsys):
        """Write maps of a pair with a place and no data, in memory and on the disk."""
        one = A.copy()
        one[5:40, 60:100] = 7
        tiled("a.tif", one, [*ground(), NO_DATA]), tiled("b.tif", B, ground())

        def write(form, names=("se", "fsim")):
            chosen = ("--metrics", ",".join(names))
            for folder, memory in (("small", SMALL), ("large", LARGE)):
                options = ("--maps", folder, "--map-format", form, *RANGE, *memory, *chosen)
                found, _ = compared(capsys, "a.tif", "b.tif", *options)
                unwritten = {n for n in names if f"no map of {n}" in str(found["scored"])}
                written = {path.name.split(".")[1] for path in Path(folder).iterdir()}
                assert written == set(names) - unwritten
            return sorted(written)

        return write

    def test_numbers(self, maps):
        found = {}
        for name in maps("npy", OF_GREY):
            small, large = (np.load(f"{folder}/b.{name}.npy") for folder in ("small", "large"))
            assert small.shape == SIDES
            assert small.dtype == large.dtype == np.float64
            np.testing.assert_allclose(large, small, rtol=1e-9, atol=1e-9)
            found[name] = small
        assert np.isnan(found["se"]).sum() == 35 * 40

    def test_tiff_lies_where_the_reference_lies(self, maps):
        maps("npy")
        for name in maps("tif"):
            for folder in ("small", "large"):
                with tifffile.TiffFile(f"{folder}/b.{name}.tif") as tiff:
                    page = tiff.pages[0]
                    values = page.asarray()
                    tags = {tag.code: tag.value for tag in page.tags}
                np.testing.assert_array_equal(values, np.load(f"{folder}/b.{name}.npy"))
                assert tags[33550] == (10, 10, 0)
                assert tags[33922] == (0, 0, 0, 3e5, 5e6, 0)
                assert tags[34735] == KEYS
                assert tags[42113] == "nan"

    def test_zarr(self, maps):
        zarr = pytest.importorskip("zarr")
        maps("npy")
        for name in maps("zarr"):
            for folder in ("small", "large"):
                array = zarr.open_array(f"{folder}/b.{name}.zarr", mode="r")
                np.testing.assert_array_equal(array[:], np.load(f"{folder}/b.{name}.npy"))
                assert array.metadata.dimension_names == ("y", "x")
        maps("zarr")  # over those that are there

    def test_pictures(self, maps):
        for name in maps("png"):
            small, large = (
                np.asarray(Image.open(f"{folder}/b.{name}.png").convert("RGB")).astype(int)
                for folder in ("small", "large")
            )
            assert small.shape == (*SIDES, 3)
            # A number at the edge of two colours may be rounded to the other.
            assert (small != large).any(axis=-1).mean() < 1e-3

    def test_damage_leaves_no_map(self, capsys):
        tiled("a.tif", A), tiled("b.tif", B)
        with tifffile.TiffFile("b.tif") as tiff:
            place = tiff.pages[0].dataoffsets[-1]
        content = bytearray(Path("b.tif").read_bytes())
        content[place + 20 : place + 60] = bytes(40)
        Path("b.tif").write_bytes(content)
        options = ("--metrics", "se", "--maps", "maps", "--map-format", "npy", *LARGE)
        found, _ = compared(capsys, "a.tif", "b.tif", *options, status=2)
        assert found["failed"][0]["reason"].startswith("b.tif: damaged")
        assert not Path("maps").exists() or not list(Path("maps").iterdir())

    def test_a_format_without_maps(self, capsys):
        tiled("a.tif", A)
        assert main(["compare", "a.tif", "a.tif", "--map-format", "tif"]) == 2
        assert "is for maps; add --maps DIR" in capsys.readouterr().err


def test_a_picture_takes_blocks_in_any_order():
    palette = np.arange(30, dtype=np.uint8).reshape(10, 3)
    wanted = RNG.integers(0, 10, (7, 9))
    with picture_rows("a.png", (7, 9), palette, lambda v: v.astype(np.uint8), np.float64) as rows:
        assert isinstance(rows, Rows)
        for part in [(slice(3, 7), slice(0, 4)), (slice(0, 3), slice(0, 4)), (..., slice(4, 9))]:
            rows[part if part[0] is not ... else (slice(0, 7), part[1])] = wanted[part]
    np.testing.assert_array_equal(np.asarray(Image.open("a.png").convert("RGB")), palette[wanted])


def test_labels_are_read_into_memory(capsys):
    tiled("a.tif", A), tiled("b.tif", B)
    save("labels.npy", (np.arange(SIDES[0] * SIDES[1]).reshape(SIDES) // 2000).astype(np.uint8))
    arguments = ("a.tif", "b.tif", "--labels", "labels.npy", "--metrics", "ssim,se", *RANGE)
    rows = [compared(capsys, *arguments, *memory)[0]["scored"] for memory in (SMALL, LARGE)]
    assert rows[0] == rows[1]
    assert len(rows[0]) > 3


@pytest.mark.parametrize("text", ["-1", "big", "5kB", "1e9", "3 bananas", ""])
def test_sizes_that_are_none(capsys, text):
    with pytest.raises(SystemExit) as stop:
        main(["compare", "a.npy", "b.npy", f"--memory={text}"])
    assert stop.value.code == 2
    assert "no size such as 512MB" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["100000", "512MB", "512 MB", "1.5GiB", "100kb"])
def test_sizes(capsys, text):
    save("a.npy", A)
    compared(capsys, "a.npy", "a.npy", "--metrics", "se", "--memory", text)
