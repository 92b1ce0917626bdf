"""`imsim compare` as a gate: sizes, counts, limits, and what servers read."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from command import compared
from image_files import GREY, NOISY, RGB, refusal, save
from PIL import Image
from scipy import ndimage
from skimage.data import camera

import imsim
from imsim.cli import main
from imsim.differing import measure

pytestmark = pytest.mark.usefixtures("empty_directory")
DOT = GREY.copy()
DOT[5:7, 9:12] ^= 1
DOT[20, 30] ^= 64


def rows_of(capsys, *arguments: str, status: int = 0) -> tuple[list[dict[str, str]], str]:
    assert main(["compare", "--csv", *arguments]) == status
    out, err = capsys.readouterr()
    return list(csv.DictReader(io.StringIO(out))), err


class TestSizes:
    def files(self) -> tuple[str, str]:
        return save("a.png", GREY), save("b.png", GREY[:-1])

    def test_they_fail_a_gate_with_status_1(self, capsys):
        call = [*self.files(), "--metrics", "ssim", "--fail-under", "ssim=0.5"]
        found, err = compared(capsys, *call, status=1)
        (row,) = found["size differs"]
        assert row["reason"].startswith("size 48x39 against 48x40: b.png: is 48 x 39 pixels")
        assert "imsim: fails: b.png: size 48x39 against 48x40" in err
        assert "imsim: 1 pair has different sizes, and fails" in err
        rows, _ = rows_of(capsys, *call, status=1)
        assert (rows[0]["status"], rows[0]["ssim"]) == ("size differs", "")
        assert rows[0]["notes"].startswith("size 48x39 against 48x40")

    def test_without_a_gate_they_are_an_error(self, capsys):
        found, err = compared(capsys, *self.files(), "--metrics", "ssim", status=2)
        assert len(found["size differs"]) == 1
        assert "--on-size-mismatch" in err[0]

    @pytest.mark.parametrize("shape", [(30, 50), (50, 30), (40, 47), (39, 48)])
    def test_crop(self, capsys, shape):
        other = np.resize(NOISY, shape)
        files = save("a.png", GREY), save("b.png", other)
        found, err = compared(capsys, *files, "--on-size-mismatch", "crop", "--metrics", "rmse")
        common = tuple(slice(min(pair)) for pair in zip(GREY.shape, shape, strict=True))
        want = imsim.rmse(GREY[common], other[common])
        assert found["scored"][0]["scores"]["rmse"] == want
        assert any("cropped to the" in line and "from 48x40" in line for line in err) or (
            shape[0] >= 40 and shape[1] >= 48
        )
        assert found["run"][0]["on_size_mismatch"] == "crop"

    def test_a_mask_is_cropped_with_its_reference(self, capsys):
        mask = np.zeros(GREY.shape, bool)
        mask[:20, 5:30] = True
        files = save("a.png", GREY), save("b.png", NOISY[:-3, :-2])
        call = ["--mask", save("m.png", mask), "--on-size-mismatch", "crop", "--metrics", "ssim"]
        found, _ = compared(capsys, *files, *call)
        want = imsim.ssim(GREY[:-3, :-2], NOISY[:-3, :-2], mask=mask[:-3, :-2])
        assert found["scored"][0]["scores"]["ssim"] == want

    @pytest.mark.parametrize("level", [0, 40, 200, 255])
    @pytest.mark.parametrize("swapped", [False, True])
    def test_what_only_one_has_always_differs_if_padded(self, capsys, level, swapped):
        images = [np.full((20, 30), level, np.uint8), np.full((25, 24), level, np.uint8)]
        files = [save(f"{k}.png", image) for k, image in enumerate(images[:: -1 if swapped else 1])]
        call = ["--on-size-mismatch", "pad", "--metrics", ",".join(imsim.COUNTS)]
        found, err = compared(capsys, *files, *call, "--tolerance", "255")
        only_one = 20 * 6 + 5 * 24  # the corner of neither is left out
        scores = found["scored"][0]["scores"]
        assert scores["pixels"] == scores["aa_pixels"] == only_one
        assert scores["pixel_share"] == only_one / (25 * 30 - 5 * 6)
        assert any("filled up to 30x25" in line for line in err)

    @pytest.mark.parametrize("rule", ["crop", "pad"])
    @pytest.mark.parametrize("kind", [bool, np.int8, np.uint16, np.int64, np.uint64, np.float32])
    def test_every_kind_of_pixels(self, capsys, rule, kind):
        a = (GREY > 99) if kind is bool else GREY.astype(kind)
        files = save("a.npy", a), save("b.npy", a[2:])
        call = ["--on-size-mismatch", rule, "--metrics", "rmse", "--data-range", "1"]
        found, _ = compared(capsys, *files, *call)
        assert found["scored"][0]["scores"]["rmse"] > 0

    @pytest.mark.parametrize("kind", [np.int8, np.uint16, np.int64, np.uint64])
    def test_white_is_the_largest_number_of_the_type(self, capsys, kind):
        files = save("a.npy", np.zeros((20, 20), kind)), save("b.npy", np.zeros((18, 20), kind))
        call = ["--on-size-mismatch", "pad", "--metrics", "largest_difference"]
        found, _ = compared(capsys, *files, *call)
        assert found["scored"][0]["scores"]["largest_difference"] == float(np.iinfo(kind).max)

    @pytest.mark.parametrize("rule", ["crop", "pad"])
    def test_what_else_differs_is_said_without_a_size(self, capsys, rule):
        files = save("a.png", GREY), save("b.npy", GREY[:-1].astype(np.uint16))
        err = refusal(capsys, *files, "--on-size-mismatch", rule, "--json", "-o", "o.json")
        assert "b.npy: is 16-bit, grey, but a.png is 8-bit, grey; save both" in err

    def test_volumes_and_colours(self, capsys):
        files = save("a.png", RGB), save("b.png", RGB[:, 3:])
        found, _ = compared(capsys, *files, "--on-size-mismatch", "pad", "--metrics", "sam,pixels")
        assert found["scored"][0]["scores"]["pixels"] > 3 * len(RGB) - 1
        volume = np.stack([GREY, NOISY, GREY])
        files = save("a.npy", volume), save("b.npy", volume[:2])
        call = ["--volume", "--on-size-mismatch", "crop", "--metrics", "rmse"]
        found, _ = compared(capsys, *files, *call)
        assert found["scored"][0]["scores"]["rmse"] == 0

    def test_large_files_are_refused(self, capsys):
        files = save("a.npy", np.zeros((400, 300))), save("b.npy", np.zeros((400, 301)))
        err = refusal(capsys, *files, "--on-size-mismatch", "crop", "--memory", "500kB")
        assert "block by block" in err


class TestMasks:
    def test_some_images_only(self, capsys):
        for name in "12":
            save(f"r/{name}.png", GREY), save(f"t/{name}.png", DOT)
        mask = np.ones(GREY.shape, bool)
        mask[20, 30] = False
        save("m/1.png", mask)
        call = ["r", "t", "--mask", "m", "--metrics", "pixels"]
        found, _ = compared(capsys, *call, status=2)
        assert "has no mask in m" in found["failed"][0]["reason"]
        found, err = compared(capsys, *call, "--mask-missing", "whole")
        assert [row["scores"]["pixels"] for row in found["scored"]] == [6, 7]
        assert [row["mask"] for row in found["scored"]] == ["m/1.png", None]
        assert "imsim: note: images without a mask, scored whole: 1, e.g. t/2.png" in err
        assert found["run"][0]["mask_missing"] == "whole"
        assert "masks of no image" not in "".join(err)
        save("m/one.png", mask)
        _, err = compared(capsys, *call, "--mask-missing", "whole")
        assert "imsim: note: masks of no image: 1, e.g. m/one.png" in err
        assert "add --mask DIR" in refusal(capsys, "r", "t", "--mask-missing", "whole")


class TestAligned:
    MOVED = ndimage.shift(camera().astype(float), (0.4, -1.3))[100:300, 100:340].astype(np.uint8)
    SCENE = camera()[100:300, 100:340]
    CALL = ("--metrics", "ssim", "--align")

    def test_the_shift_is_taken_out_and_said(self, capsys):
        files = save("a.png", self.SCENE), save("b.png", self.MOVED)
        found, err = compared(capsys, *files, *self.CALL)
        row = found["scored"][0]
        want = imsim.align(self.SCENE, self.MOVED)
        assert row["shift"] == list(want.shift) == pytest.approx([-0.4, 1.3], abs=0.02)
        assert row["scores"]["ssim"] == imsim.ssim(self.SCENE, want.image, mask=want.valid) > 0.97
        assert "moved by -0.40 pixels down and +1.30 right; " in err[0]
        assert found["run"][0]["max_shift"] == 8
        (csv_row,), _ = rows_of(capsys, *files, *self.CALL)
        assert csv_row["shift"] == ",".join(f"{length:.15g}" for length in want.shift)

    def test_never_by_default(self, capsys):
        files = save("a.png", self.SCENE), save("b.png", self.MOVED)
        found, err = compared(capsys, *files, "--metrics", "ssim")
        assert found["scored"][0]["scores"]["ssim"] == imsim.ssim(self.SCENE, self.MOVED)
        assert err == []

    def test_other_sizes_and_masks(self, capsys):
        mask = np.zeros(self.SCENE.shape, bool)
        mask[20:150, 30:200] = True
        files = save("a.png", self.SCENE), save("b.png", self.MOVED[:-7])
        call = [*self.CALL, "--mask", save("m.png", mask), "--on-size-mismatch", "crop"]
        found, _ = compared(capsys, *files, *call)
        assert found["scored"][0]["shift"] == pytest.approx([-0.4, 1.3], abs=0.05)
        call = [*self.CALL, "--fail-under", "ssim=0.5"]
        assert len(compared(capsys, *files, *call, status=1)[0]["size differs"]) == 1

    def test_equal_images_need_no_structure(self, capsys):
        blank = save("a.png", np.full_like(self.SCENE, 255))
        found, _ = compared(capsys, blank, blank, *self.CALL)
        assert found["scored"][0]["shift"] == [0, 0]
        assert found["scored"][0]["scores"]["ssim"] == 1

    def test_refusals(self, capsys):
        a, b = save("a.png", self.SCENE), save("b.png", self.MOVED)
        assert "--max-shift: is a limit of --align" in refusal(capsys, a, b, "--max-shift", "3")
        assert "leave out --volume" in refusal(capsys, a, b, "--align", "--volume")
        words = "use --on-size-mismatch crop"
        assert words in refusal(capsys, a, b, "--align", "--on-size-mismatch", "pad")
        flat = save("flat.png", np.full_like(self.SCENE, 7))
        assert "flat.png" in refusal(capsys, a, flat, "--align")
        stored = save("a.npy", self.SCENE.astype(float))
        words = "raise --memory above"
        assert words in refusal(capsys, stored, stored, "--align", "--memory", "300kB")

    def test_pages(self, capsys):
        files = save("a.png", self.SCENE), save("b.png", self.MOVED[:-7])
        assert main(["report", *files, "-o", "r.html", "--align"]) == 0
        page = Path("r.html").read_text()
        assert "moved by -0.40 pixels down and +1.30 right" in page
        assert "size 240x193 against 240x200" in page
        assert "Moved onto each other, both have the same 240 × 193 pixels" in page
        assert "Aligned at the top left" not in page

    def test_a_page_keeps_what_only_one_image_has(self, capsys, monkeypatch):
        """Right of the other and below it; and each pair is moved by one search."""
        sought = []
        own = imsim.align

        def align(*args, **options):
            sought.append(1)
            return own(*args, **options)

        monkeypatch.setattr(imsim, "align", align)
        scene = camera()
        save("e/more.png", scene[100:200, 100:240])
        save("a/more.png", scene[96:230, 98:270])
        save("e/less.png", scene[100:200, 100:240])
        save("a/less.png", scene[104:180, 103:220])
        save("e/same.png", self.SCENE)
        save("a/same.png", self.MOVED)
        assert main(["report", "e", "a", "-o", "r", "--align"]) == 0
        assert len(sought) == 3
        pages = [path.read_text() for path in Path("r/pairs").iterdir()]
        (more,) = (page for page in pages if "a/more.png against" in page)
        assert '"sizes": [[140, 100], [170, 130]]' in more
        assert "equal at every pixel" in more
        (less,) = (page for page in pages if "a/less.png against" in page)
        assert '"sizes": [[140, 100], [120, 80]]' in less
        assert f"The mask uses {117 * 76} of {120 * 80} pixels" in less
        assert "equal at every pixel that the mask uses" in less

    def test_what_cannot_be_moved_is_shown_as_it_is(self, capsys):
        scene = camera()
        for name, frame in (("far", 340), ("size", 345)):
            save(f"e/{name}.png", scene[100:300, 100:340])
            save(f"a/{name}.png", scene[130:330, 100:frame])
        assert main(["report", "e", "a", "-o", "r", "--align"]) == 2
        err = capsys.readouterr().err
        assert "a/far.png: b fits a best when moved by (dy, dx) = (30, 0)" in err
        assert "1 of 2 could not be scored" in err
        pages = {path.read_text() for path in Path("r/pairs").iterdir()}
        (far,) = (page for page in pages if "a/far.png against" in page)
        assert "beyond max_shift=8" in far
        assert "psnr" not in far  # no score of a pair that was not moved
        (size,) = pages - {far}
        assert "a/size.png: not moved: b fits a best" in size
        assert "Aligned at the top left" in size
        assert main(["report", "e/far.png", "a/far.png", "-o", "r.html", "--align"]) == 2
        assert Path("r.html").exists()


class TestCounts:
    CALL = ("--metrics", "rmse", "--tolerance", "1")

    def test_csv_and_json_have_them(self, capsys):
        files = save("a.png", GREY), save("b.png", DOT)
        (row,), _ = rows_of(capsys, *files, "--metrics", "rmse", "--tolerance", "0")
        want = imsim.differing_pixels(GREY, DOT)
        assert float(row["pixels"]) == want.count == 7
        assert float(row["pixel_share"]) == want.share
        assert (float(row["parts"]), float(row["largest_difference"])) == (2, 64)
        found, _ = compared(capsys, *files, *self.CALL)
        assert found["scored"][0]["scores"]["pixels"] == 1
        assert found["scored"][0]["boxes"] == [[30, 20, 1, 1]]
        assert found["run"][0]["tolerance"] == 1

    def test_every_count_can_be_named_and_is_printed(self, capsys):
        files = save("a.png", GREY), save("b.png", DOT)
        assert main(["compare", *files, "--metrics", ",".join(imsim.COUNTS)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines[2:]] == list(imsim.COUNTS)

    @pytest.mark.parametrize("name", imsim.COUNTS)
    def test_every_count_can_be_a_gate(self, capsys, name):
        files = save("a.png", GREY), save("b.png", DOT)
        call = [*files, "--metrics", "rmse"]
        for flag in ("--fail-over", "--fail-under"):
            compared(capsys, *call, flag, f"{name}=0", status=1)
            high = min(imsim.COUNTS[name].bounds[1], 1e9)
            compared(capsys, *call, flag, f"{name}={high}", status=0)

    def test_a_mask_of_padded_images_holds(self, capsys):
        mask = np.ones(GREY.shape, bool)
        mask[-1, :8] = False
        files = save("a.png", GREY), save("b.png", GREY[:-1])
        call = ["--on-size-mismatch", "pad", "--metrics", "pixels", "--mask", save("m.png", mask)]
        found, _ = compared(capsys, *files, *call)
        assert found["scored"][0]["scores"]["pixels"] == 40

    def test_nan_is_said(self, capsys):
        a = GREY.astype(float)
        a[3, 4] = np.nan
        a = save("a.npy", a)
        found, err = compared(capsys, a, a, "--metrics", "pixels")
        assert found["scored"][0]["scores"]["pixels"] == 1
        assert "a.npy: 1 of its pixels are NaN or infinite; NaN differs from" in err[0]
        found, err = compared(capsys, a, a, "--metrics", "pixels", "--ignore-nan")
        assert found["scored"][0]["scores"]["pixels"] == 0
        assert not any("differs from" in line for line in err)

    def test_boxes_are_of_plain_parts_if_any_count_is(self, capsys):
        moved = np.roll(GREY, 1, axis=1)
        files = save("a.png", GREY), save("b.png", moved)
        for names, rule in (("pixels,aa_pixels", False), ("aa_pixels", True)):
            found, _ = compared(capsys, *files, "--metrics", names)
            want = imsim.differing_pixels(GREY, moved, anti_aliasing=rule)
            assert len(found["scored"][0]["boxes"]) == min(want.parts, 100)

    def test_the_mask_holds(self, capsys):
        mask = np.ones(GREY.shape, bool)
        mask[20, 30] = False
        files = save("a.png", GREY), save("b.png", DOT)
        found, _ = compared(capsys, *files, *self.CALL, "--mask", save("m.png", mask))
        assert found["scored"][0]["scores"]["pixels"] == 0

    def test_an_edge_one_pixel_away(self, capsys):
        files = save("a.png", GREY), save("b.png", np.roll(GREY, 1, axis=1))
        call = ["--metrics", "pixels,aa_pixels", "--mask", save("m.png", np.eye(40, 48) > -1)]
        mask = np.ones(GREY.shape, bool)
        mask[:, 0] = False
        save("m.png", mask)
        scores = compared(capsys, *files, *call)[0]["scored"][0]["scores"]
        assert scores["pixels"] > 1000
        assert scores["aa_pixels"] < scores["pixels"]

    def test_where_they_are_not_counted(self, capsys):
        files = save("a.npy", np.zeros((400, 300))), save("b.npy", np.zeros((400, 300)))
        call = [*files, "--metrics", "rmse,pixels", "--memory", "500kB"]
        found, _ = compared(capsys, *call, status=2)
        assert "raise --memory" in found["scored"][0]["skipped"]["pixels"]
        labels = save("l.png", np.ones(GREY.shape, np.uint8))
        a = save("a.png", GREY)
        assert "pixels are of whole" in refusal(
            capsys, a, a, "--labels", labels, "--metrics", "pixels"
        )


class TestLimits:
    def test_the_direction_is_that_of_the_record(self, capsys):
        a = save("a.png", GREY)
        for name, metric in imsim.METRICS.items():
            limit = f"{name}={metric.bounds[0] if metric.bounds[0] > -1e300 else 0:g}"
            if metric.higher_is_better:
                err = refusal(capsys, a, a, "--fail-over", limit)
                assert f"{name} is better if higher; --fail-under {name}=" in err

    def test_rules_for_each_pair_and_in_the_end(self, capsys):
        save("r/1.png", GREY), save("r/2.png", GREY), save("r/3.png", GREY)
        save("t/1.png", GREY), save("t/2.png", 255 - GREY), save("t/4.png", GREY)
        call = [
            "r",
            "t",
            "--metrics",
            "ssim",
            "--fail-under",
            "ssim=0.99",
            "--fail-over",
            "pixels=5",
        ]
        found, _ = compared(capsys, *call, status=1)
        assert found["scored"][0]["rules"] == {"ssim >= 0.99": True, "pixels <= 5": True}
        assert found["scored"][1]["rules"] == {"ssim >= 0.99": False, "pixels <= 5": False}
        (end,) = found["end"]
        assert end["counts"] == {"scored": 2, "failed": 0, "size differs": 0, "no partner": 2}
        half = {"passed": 1, "failed": 1}
        assert end["rules"] == {"ssim >= 0.99": half, "pixels <= 5": half}
        assert end["status"] == 1
        assert found["run"][0]["versions"]["imsim"] == imsim.__version__
        assert (found["scored"][0]["mask"], found["scored"][0]["data_range"]) == (None, 255)

    @pytest.mark.parametrize("name", [*imsim.METRICS, *imsim.COUNTS])
    @pytest.mark.parametrize("option", [["--mask", "m.png"], ["--ignore", "0,0,99,99"]])
    def test_nothing_left_to_score_never_passes(self, capsys, name, option):
        a = save("a.png", RGB)
        save("m.png", np.zeros(RGB.shape[:2], np.uint8))
        facts = measure(name)
        low, high = facts.bounds
        limit = max(low, -1e9) if facts.higher_is_better else min(high, 1e9)
        call = [a, a, "--metrics", name, "--fail-under", f"{name}={limit}"]
        compared(capsys, *call)
        found, err = compared(capsys, *call, *option, status=1)
        assert found["scored"][0]["scores"] == {name: "NaN"}
        assert f"imsim: fails: a.png: {name} is NaN" in err

    def test_what_is_said_of_numbers_that_are_close(self, capsys):
        big = np.zeros((1200, 1000), np.uint8)
        files = save("a.png", big), save("b.png", big + 1)
        call = [*files, "--metrics", "pixels", "--fail-over", "pixels=1199999"]
        found, err = compared(capsys, *call, status=1)
        assert found["scored"][0]["rules"] == {"pixels <= 1199999": False}
        assert "imsim: fails: b.png: pixels is 1200000, above 1199999" in err
        assert main(["compare", *files, "--metrics", "pixels"]) == 0
        assert "1200000" in capsys.readouterr().out
        score = imsim.rmse(GREY, NOISY)
        files = save("a.png", GREY), save("b.png", NOISY)
        call = [*files, "--metrics", "rmse", "--fail-over", f"rmse={score - 1e-9:.12f}"]
        _, err = compared(capsys, *call, status=1)
        said, limit = re.fullmatch(r".*rmse is (\S+), above (\S+)", err[0]).groups()
        assert float(said) == score > float(limit)

    def test_a_tolerance_in_another_unit(self, capsys):
        files = save("a.png", GREY), save("b.png", NOISY)
        for tolerance, count in (("300", 1), ("255", 1), ("254", 0)):
            found, _ = compared(capsys, *files, "--metrics", "rmse", "--tolerance", tolerance)
            notes = found["scored"][0]["notes"]
            assert len(notes) == count
            words = f"b.png: --tolerance {tolerance} is as wide as 8-bit pixels can differ (255)"
            assert all(words in note for note in notes)
        files = save("a.npy", GREY / 255), save("b.npy", NOISY / 255)
        for tolerance, count in (("2", 1), ("0.5", 0), ("0", 0)):
            found, _ = compared(capsys, *files, "--metrics", "rmse", "--tolerance", tolerance)
            notes = found["scored"][0]["notes"]
            assert len(notes) == count
            assert all("--tolerance 2 is as wide as all pixels, which are" in n for n in notes)

    @pytest.mark.parametrize("limit", ["psnr=1e400", "rmse=1e400", "psnr=-1e999"])
    def test_a_limit_beyond_every_number(self, capsys, limit):
        files = save("a.png", GREY), save("b.png", NOISY)
        words = refusal(capsys, *files, "--fail-under", limit)
        assert f"--fail-under {limit}: is beyond every number; write inf" in words

    def test_tolerances_are_refused_once(self, capsys):
        for name in "12":
            save(f"r/{name}.png", GREY), save(f"t/{name}.png", GREY)
        for value in ("-1", "nan", "inf", "1e200"):
            words = refusal(capsys, "r", "t", f"--tolerance={value}")
            assert f"--tolerance={float(value):g}; expected a number from 0" in words
        for value in ("", "abc", "1e400"):
            with pytest.raises(SystemExit, match="2"):
                main(["compare", "r", "t", f"--tolerance={value}"])
            assert f"argument --tolerance: '{value}' is " in capsys.readouterr().err

    @pytest.mark.parametrize("name", ["o.csv", "o.json"])
    @pytest.mark.parametrize("count", imsim.COUNTS)
    def test_counts_are_gone_on_with(self, capsys, name, count):
        save("r/1.png", GREY), save("t/1.png", DOT)
        call = ["compare", "r", "t", "--metrics", count, "-o", name]
        assert main(call) == main([*call, "--resume"]) == 0
        save("t/1.png", NOISY)
        assert main([*call, "--resume"]) == 2
        assert "another run" in capsys.readouterr().err

    def test_rules_of_other_limits_do_not_mix(self, capsys):
        save("r/1.png", GREY), save("t/1.png", DOT)
        save("r/2.png", GREY), save("t/2.png", GREY)
        call = ["compare", "r", "t", "--metrics", "pixels", "-o", "o.json", "--resume"]
        for limit, status in (("9", 0), ("9", 0), ("5", 1)):
            assert main([*call, "--fail-over", f"pixels={limit}"]) == status
            _, *rows, end = map(json.loads, Path("o.json").read_text().splitlines())
            assert [row["rules"] for row in rows] == [
                {f"pixels <= {limit}": limit == "9"},
                {f"pixels <= {limit}": True},
            ]
            assert list(end["rules"]) == [f"pixels <= {limit}"]
        Path("t/2.png").unlink()
        save("t/1.png", GREY[1:])
        assert main([*call[:-1], "--fail-over", "pixels=5"]) == 1
        end = json.loads(Path("o.json").read_text().splitlines()[-1])
        assert end["rules"] == {"pixels <= 5": {"passed": 0, "failed": 0}}

    def test_all_metrics(self, capsys):
        a = save("a.png", GREY)
        found, _ = compared(capsys, a, a, "--metrics", "pixels,all")
        assert found["run"][0]["metrics"] == ["pixels", *imsim.METRICS]


class TestOptions:
    @pytest.mark.parametrize(
        ("given", "options"),
        [
            ("ssim.downsample=true", {"downsample": True}),
            ("ssim.downsample=False", {"downsample": False}),
            ("ssim.sigma=1.2", {"sigma": 1.2}),
            ("zncc.window_size=9", {"window_size": 9}),
            ("sh.hash=difference", {"hash": "difference"}),
            ("fsim.chromatic=false", {"chromatic": False}),
            ("rmse.normalize=range", {"normalize": "range"}),
        ],
    )
    def test_values(self, capsys, given, options):
        metric = given.split(".")[0]
        files = save("a.png", RGB), save("b.png", RGB[::-1])
        found, _ = compared(capsys, *files, "--metrics", metric, "--option", given)
        want = imsim.METRICS[metric].function(RGB, RGB[::-1], channel_axis=-1, **options)
        assert found["scored"][0]["scores"][metric] == want
        assert found["run"][0]["options"] == {metric: options}

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ("ssim.downsample", "expected metric.option=value"),
            ("downsample=true", "expected metric.option=value"),
            ("sism.downsample=true", "sism is not run"),
            ("ssim.spacing=[1,1]", "ssim has no option 'spacing'; its options are window,"),
            ("ssim.sgima=2", "ssim has no option 'sgima'; its options are window,"),
            ("psnr.x=1", "it has none"),
            ("ssim.downsample=1", "downsample=1; expected True or False"),
            ("ssim.K1=-1", "K1=-1"),
        ],
    )
    def test_mistakes(self, capsys, given, words):
        a = save("a.png", GREY)
        assert words in refusal(capsys, a, a, "--option", given)

    def test_where_no_metric_is_run(self, capsys):
        a = save("a.png", GREY)
        call = [a, a, "--metrics", "pixels", "--option", "pixels.tolerance=3"]
        assert "pixels is a count, which takes no --option; use" in refusal(capsys, *call)
        call = [a, a, "--metrics", "pixels", "--option", "ssim.sigma=3"]
        assert "ssim is not run; leave it out, or name it in --metrics" in refusal(capsys, *call)

    def test_not_with_labels_which_have_none(self, capsys):
        a = save("a.png", GREY)
        call = [a, a, "--labels", a, "--metrics", "ssim", "--option", "ssim.sigma=3"]
        assert "leave out --option, or --labels" in refusal(capsys, *call)

    def test_they_hold_for_maps_and_strips(self, capsys):
        files = save("a.npy", np.float64(GREY)), save("b.npy", np.float64(NOISY))
        call = [*files, "--metrics", "ssim", "--data-range", "255", "--option", "ssim.sigma=3"]
        compared(capsys, *call, "--maps", "maps", "--map-format", "npy")
        want = imsim.ssim_map(np.float64(GREY), np.float64(NOISY), data_range=255, sigma=3)
        np.testing.assert_array_equal(np.load("maps/b.ssim.npy"), want)


def test_animated_counts_of_stacks(capsys):
    """The images of a stack are counted one by one."""
    Image.fromarray(GREY).save("a.tif", save_all=True, append_images=[Image.fromarray(GREY)])
    Image.fromarray(GREY).save("b.tif", save_all=True, append_images=[Image.fromarray(DOT)])
    found, _ = compared(capsys, "a.tif", "b.tif", "--metrics", "pixels", "--ignore", "30,20,1,1")
    assert [row["scores"]["pixels"] for row in found["scored"]] == [0, 6]
