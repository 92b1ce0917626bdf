"""`imsim compare --volume`: stacks as volumes, with masks, gates, folders and spacing."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from command import compared
from image_files import GREY, refusal, save
from medical_files import CHANGED, DEPTH, SPACING, VOLUME

import imsim
from imsim.cli import main

pytestmark = pytest.mark.usefixtures("empty_directory")

A = ((VOLUME + 1000) // 10).astype(np.uint8)
B = ((CHANGED + 1040) // 10).astype(np.uint8)
RGB = np.random.default_rng(3).integers(0, 256, (DEPTH, 13, 15, 3)).astype(np.uint8)
MASK = np.ones(A.shape, bool)
MASK[0] = MASK[5:, 9, 9] = False
FEW = ("--metrics", "rmse,psnr")
FLOATS, RANGE = (A.astype(np.float64), B.astype(np.float64)), ("--data-range", "255")
"""Where windows count: integers would take kernels of their own."""


def scores(capsys, *arguments):
    """Return the scores of the only pair."""
    (row,) = compared(capsys, *arguments, "--volume")[0]["scored"]
    return row["scores"]


def test_the_list_tells_what_scores_volumes(capsys):
    assert main(["list", "--json"]) == 0
    said = {record["name"]: record["volumes"] for record in json.loads(capsys.readouterr().out)}
    assert {name for name, what in said.items() if what == "no"} == {"fsim", "issm", "sh"}
    assert said["gmsd"] == "experimental"


class TestStacks:
    @pytest.mark.parametrize("ending", [".tif", ".npy"])
    def test_one_row_per_volume(self, ending, capsys):
        a, b = (save(f"{name}{ending}", v) for name, v in zip("ab", FLOATS, strict=True))
        found, err = compared(capsys, a, b, "--volume", *RANGE)
        (row,) = found["scored"]
        wanted = imsim.compare(*FLOATS, ndim=3, data_range=255)
        assert row["test"] == b
        assert row["scores"] == pytest.approx(dict(wanted))
        assert row["skipped"].keys() == {"fsim", "issm", "sh"}
        assert row["skipped"]["fsim"].endswith("; without --volume, each slice has a score")
        assert found["run"][0]["volume"] is True
        assert err == []
        images = compared(capsys, a, b, *FEW, *RANGE)[0]["scored"]
        assert len(images) == DEPTH  # as before, without it

    def test_archives_and_one_volume_for_many(self, capsys):
        np.savez("a.npz", one=A, two=B)
        found, _ = compared(capsys, "a.npz:one", "a.npz:one", "a.npz:two", "--volume", *FEW)
        assert [row["scores"]["rmse"] for row in found["scored"]] == [
            0,
            pytest.approx(imsim.rmse(A, B, ndim=3)),
        ]

    def test_masks_and_values_that_are_left_out(self, capsys):
        a, b, mask = save("a.npy", A), save("b.npy", B), save("m.tif", MASK.astype(np.uint8) * 255)
        names = ["rmse", "gmsd", "zncc"]
        wanted = dict(imsim.compare(A, B, names, ndim=3, mask=MASK))
        found = scores(capsys, a, b, "--mask", mask, "--metrics", ",".join(names))
        assert found == pytest.approx(wanted)
        assert scores(capsys, a, b, *FEW, "--ignore-value", "77")["rmse"] == pytest.approx(
            imsim.rmse(A, B, ndim=3, mask=(A != 77) & (B != 77))
        )
        err = refusal(capsys, a, b, "--volume", "--mask", save("n.npy", MASK[1:]))
        assert "n.npy: the mask is 17 x 14 x 11 voxels, but a.npy is 17 x 14 x 12 voxels" in err

    def test_nan_and_floats(self, capsys):
        a, b = A.astype(np.float32), B.astype(np.float32)
        b[2, 3, 4] = np.nan
        names = save("a.npy", a), save("b.npy", b)
        _, err = compared(capsys, *names, "--volume", *FEW, "--data-range", "255")
        assert "imsim: note: b.npy: 1 of its pixels are NaN or infinite" in "\n".join(err)
        found = scores(capsys, *names, *FEW, "--data-range", "255", "--ignore-nan")
        assert found["rmse"] == pytest.approx(imsim.rmse(a, b, ndim=3, mask=~np.isnan(b)))

    def test_colours(self, capsys):
        a, b = save("a.npy", RGB), save("b.tif", 255 - RGB, photometric="rgb")
        names = ["gmsd", "sam", "se"]
        wanted = dict(imsim.compare(RGB, 255 - RGB, names, ndim=3, channel_axis=-1))
        assert scores(capsys, a, b, "--metrics", ",".join(names)) == pytest.approx(wanted)
        first = save("c.npy", np.moveaxis(RGB, -1, 0))
        found = scores(capsys, first, first, "--channel-axis", "0", "--metrics", "sam")
        assert found == {"sam": 0}

    def test_text(self, capsys):
        a, b = save("a.npy", FLOATS[0]), save("b.npy", FLOATS[1])
        assert main(["compare", a, b, "--volume", *RANGE]) == 0
        out = capsys.readouterr().out
        assert out.startswith("b.npy: 17 x 14 x 12 voxels, 64-bit float, grey\n")
        assert "skipped: fsim: " in out

    @pytest.mark.parametrize(
        ("pixels", "words"),
        [
            (GREY, "holds one image, and no volume; --volume takes TIFF files of several pages"),
            (A[:1], "holds one image, and no volume"),
            (np.stack([RGB, RGB]), "--channel-axis"),
            (A[:, :, :3], "--channel-axis"),
        ],
    )
    def test_what_is_no_volume(self, pixels, words, capsys):
        assert words in refusal(capsys, save("a.npy", pixels), save("b.npy", A), "--volume")

    def test_several_volumes_in_a_file_are_refused(self, capsys):
        tifffile.imwrite("a.ome.tif", np.stack([A, B]), metadata={"axes": "TZYX"}, ome=True)
        err = refusal(capsys, "a.ome.tif", "a.ome.tif", "--volume")
        assert "counts images along 2 axes, of lengths 2 and 12" in err
        save("b.npy", np.stack([RGB, RGB]))
        assert "along 2 axes" in refusal(
            capsys, "b.npy", "b.npy", "--volume", "--channel-axis", "-1"
        )

    def test_pages_of_several_sizes_and_broken_files_are_refused(self, capsys):
        with tifffile.TiffWriter("a.tif") as file:
            for page in (A[0], A[1], A[2, 1:]):
                file.write(page, metadata=None)
        err = refusal(capsys, "a.tif", "a.tif", "--volume")
        assert "its image 2 has shape (13, 17)" in err
        content = Path(save("b.tif", A, metadata=None)).read_bytes()
        Path("b.tif").write_bytes(content[: len(content) // 2])
        assert "b.tif: damaged" in refusal(capsys, "b.tif", "b.tif", "--volume")

    def test_other_sizes_and_types_are_refused(self, capsys):
        save("a.npy", A)
        found, _ = compared(
            capsys, "a.npy", save("b.npy", B[1:]), save("c.npy", VOLUME), "--volume", status=2
        )
        (other_size,) = found["size differs"]
        assert other_size["reason"].startswith("size 17x14x11 against 17x14x12: b.npy: is 17 x")
        assert "save both as one type of numbers" in found["failed"][0]["reason"]

    def test_too_large(self, capsys):
        save("a.npy", A)
        err = refusal(capsys, "a.npy", "a.npy", "--volume", "--max-pixels", "2855")
        assert "its 17 x 14 x 12 = 2856 pixels are more than" in err


class TestRuns:
    def test_csv_gates_and_folders(self, capsys):
        for name, pixels in {"one.tif": A, "two.npy": A, "sub/three.npy": A}.items():
            save(f"r/{name}", pixels)
        for name, pixels in {"one.npy": A, "two.tif": B, "sub/three.npy": B}.items():
            save(f"t/{name}", pixels)
        save("t/slice.png", GREY)
        status = main(["compare", "r", "t", "--volume", *FEW, "--csv", "--fail-under", "psnr=99"])
        out, err = capsys.readouterr()
        rows = list(csv.DictReader(io.StringIO(out)))
        assert [row["test"] for row in rows] == [
            "t/one.npy",
            "t/sub/three.npy",
            "t/two.tif",
            "t/slice.png",
        ]
        assert [row["status"] for row in rows] == [*["scored"] * 3, "failed"]
        assert rows[0]["rmse"] == "0.0"
        assert {row["spacing"] for row in rows} == {""}
        assert "fails: t/two.tif: psnr is" in err
        assert status == 2  # an image that was not looked for goes before a gate
        assert "t/slice.png: is an image, and no volume; save it as TIFF of several pages" in err
        os.remove("t/slice.png")
        assert main(["compare", "r", "t", "--volume", *FEW, "--fail-under", "psnr=99"]) == 1
        assert main(["compare", "r", "t", "--volume", *FEW, "--fail-under", "psnr=9"]) == 0

    def test_folders_without_volumes(self, capsys):
        save("r/a.png", GREY), save("t/a.png", GREY)
        err = refusal(capsys, "r", "t", "--volume")
        assert "r: holds no volume; looked for are folders of DICOM files and the endings" in err

    def test_a_gate_on_a_metric_that_is_not_defined_for_volumes(self, capsys):
        a = save("a.npy", FLOATS[0])
        assert main(["compare", a, a, "--volume", *RANGE, "--fail-under", "fsim=0.9"]) == 2
        assert "fsim was skipped: fsim is defined for images only" in capsys.readouterr().err

    def test_resume_keeps_options_apart(self, capsys):
        save("r/a.npy", A), save("t/a.npy", B), save("r/b.npy", A), save("t/b.npy", A)
        run = ["compare", "r", "t", "--volume", *FEW, "-o", "s.csv", "--resume"]
        assert main(run) == 0
        lines = Path("s.csv").read_text(encoding="utf-8").splitlines(keepends=True)
        Path("s.csv").write_text("".join(lines[:2]), encoding="utf-8")
        assert main(run) == 0
        assert Path("s.csv").read_text(encoding="utf-8").splitlines(keepends=True) == lines
        capsys.readouterr()
        assert main([*run, "--spacing", "2,1,1"]) == 2
        assert "another run" in capsys.readouterr().err

    def test_few_volumes_are_in_memory_at_a_time(self, capsys, monkeypatch):
        monkeypatch.setattr("imsim.cli.jobs.ThreadPoolExecutor", lambda _: 1 / 0)
        tests = [save(f"t/{i}.npy", B) for i in range(5)]
        run = [save("a.npy", A), *tests, *FEW, "--workers", "2"]
        assert len(compared(capsys, *run, "--volume")[0]["scored"]) == 5

    def test_maps_are_stacks(self, capsys):
        a, b = save("a.npy", FLOATS[0]), save("b.npy", FLOATS[1])
        metrics = "se,ssim,imed"
        run = ["compare", a, b, "--volume", "--metrics", metrics, "--maps", "maps", *RANGE]
        assert main([*run, "--spacing", "2,1,1"]) == 0
        for name in metrics.split(","):
            assert tifffile.imread(f"maps/b.{name}.tif").shape == (*A.shape, 3)
        scale = imsim.pages.map_scale("ssim", 255)
        local = imsim.ssim_map(*FLOATS, ndim=3, data_range=255, spacing=(2, 1, 1))
        wanted = scale.colours_of(local[7])
        assert np.array_equal(tifffile.imread("maps/b.ssim.tif")[7], wanted)

    def test_spacing(self, capsys):
        a, b = save("a.npy", FLOATS[0]), save("b.npy", FLOATS[1])
        names = ["ssim", "imed", "rmse"]
        run = (a, b, "--metrics", ",".join(names), *RANGE)
        given = dict(imsim.compare(*FLOATS, names, ndim=3, data_range=255, spacing=SPACING))
        assert scores(capsys, *run, "--spacing", "3,0.8,0.7") == pytest.approx(given)
        plain = scores(capsys, *run)
        assert scores(capsys, *run, "--spacing", "1,1,1") == pytest.approx(plain, rel=1e-13)
        assert given["imed"] != pytest.approx(plain["imed"])

    @pytest.mark.parametrize("text", ["1,1", "1,1,0", "1,1,nan", "a", "1,1,inf", "1,1,1,1"])
    def test_what_is_no_spacing(self, text, capsys):
        with pytest.raises(SystemExit):
            main(["compare", "a.npy", "b.npy", "--volume", "--spacing", text])
        assert "is not three positive numbers" in capsys.readouterr().err

    def test_spacing_is_for_volumes(self, capsys):
        a = save("a.npy", A)
        assert "add --volume" in refusal(capsys, a, a, "--spacing", "1,1,1")


class TestReport:
    def test_a_page(self, capsys):
        a, b = save("a.npy", FLOATS[0]), save("b.npy", FLOATS[1])
        call = ["report", a, b, "--volume", "--mask", save("m.npy", MASK), *RANGE]
        assert main([*call, "--metrics", "rmse,gmsd", "-o", "page.html"]) == 0
        assert capsys.readouterr() == ("Report: page.html\n", "")
        html = Path("page.html").read_text(encoding="utf-8")
        assert "17 × 14 × 12 voxels, float64, grey" in html
        assert f"The mask uses {MASK.sum()} of {MASK.size} voxels" in html
        assert main(["report", a, save("c.npy", VOLUME), "--volume", "-o", "page.html"]) == 2
        assert "save both as one type of numbers" in capsys.readouterr().err

    def test_a_page_needs_two_volumes(self, capsys):
        a = save("a.npy", A)
        assert main(["report", a, a, "-o", "page.html"]) == 2
        assert "holds 12 images; name one of them" in capsys.readouterr().err
        assert main(["report", a, ".", "--volume", "-o", "page.html"]) == 2
        assert (
            ".: is a folder, and the other is not; report takes two images"
            in capsys.readouterr().err
        )
        assert main(["report", a, a, "--spacing", "1,1,1", "-o", "page.html"]) == 2
        assert "add --volume" in capsys.readouterr().err
