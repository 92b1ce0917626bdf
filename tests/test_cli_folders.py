"""`imsim compare` on folders and stacks: what is compared with what, and what is said."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from command import compared
from image_files import DEEP, GREY, NOISY, RGB, save
from PIL import Image

import imsim
from imsim.cli import main
from imsim.comparison import Comparison
from imsim.tables import breadth, number, table

MASK = np.zeros(GREY.shape, bool)
MASK[8:30, 8:40] = True


pytestmark = pytest.mark.usefixtures("empty_directory")


def run(capsys, *arguments, status=0):
    """Run `imsim compare` and return the results of its JSON, and the lines of its messages."""
    found, said = compared(capsys, *arguments, status=status)
    return found["scored"], said


def pairs(results):
    return [(result["reference"], result["test"]) for result in results]


def scores(results, metric="rmse"):
    return [result["scores"][metric] for result in results]


class TestPairs:
    def test_same_path_whatever_the_ending(self, capsys):
        for name in ("b.png", "a.png", "sub/a.tif"):
            save(f"ref/{name}", GREY)
        for name in ("a.png", "b.tif", "sub/a.png"):
            save(f"test/{name}", NOISY)
        results, err = run(capsys, "ref", "test", "--metrics", "rmse")
        assert err == []
        assert pairs(results) == [
            ("ref/a.png", "test/a.png"),
            ("ref/b.png", "test/b.tif"),
            ("ref/sub/a.tif", "test/sub/a.png"),
        ]
        assert scores(results) == [imsim.rmse(GREY, NOISY)] * 3

    def test_without_partner(self, capsys, tmp_path):
        for name in (
            "ref/a.png",
            "test/a.png",
            "ref/gone.png",
            "test/new.png",
            "test/.hidden.png",
            "test/.thumbs/a.png",
        ):
            save(name, GREY)
        (tmp_path / "test" / "notes.txt").write_text("")
        results, err = run(capsys, "ref", "test", "--metrics", "rmse")
        assert len(results) == 1
        assert err == [
            "imsim: note: test/new.png: has no partner in ref",
            "imsim: note: ref/gone.png: has no partner in test",
            "imsim: note: files of other kinds left aside: 1, e.g. test/notes.txt",
        ]
        # As a check, the run does not pass.
        _, err = run(capsys, "ref", "test", "--fail-under", "rmse=0", status=1)
        assert err[-1] == "imsim: 2 files have no partner, and count as failed"
        (tmp_path / "ref" / "gone.png").unlink()
        _, err = run(capsys, "ref", "test", "--fail-under", "rmse=0", status=1)
        assert err[-1] == "imsim: 1 file has no partner, and counts as failed"

    def test_same_ending_goes_first_and_two_partners_are_refused(self, capsys):
        for name in ("ref/a.png", "ref/a.tif", "test/a.tif"):
            save(name, GREY)
        assert pairs(run(capsys, "ref", "test")[0]) == [("ref/a.tif", "test/a.tif")]
        save("other/a.jpg", GREY)
        _, err = run(capsys, "ref", "other", status=2)
        assert "a.jpg: has more than one partner in ref: a.png, a.tif" in err[0]

    def test_one_reference_for_a_folder(self, capsys):
        save("a.png", GREY), save("test/a.png", GREY), save("test/b.png", NOISY)
        results, _ = run(capsys, "a.png", "test", "--metrics", "rmse")
        assert pairs(results) == [("a.png", "test/a.png"), ("a.png", "test/b.png")]
        assert scores(results) == [0, imsim.rmse(GREY, NOISY)]

    @pytest.mark.skipif(sys.platform == "win32", reason="links may need rights")
    def test_images_that_are_their_own_reference(self, capsys, tmp_path):
        """A gate whose two folders are one, or linked, passes whatever is in them."""
        save("ref/a.png", GREY), save("ref/b.png", NOISY), save("test/b.png", GREY)
        (tmp_path / "test" / "a.png").symlink_to("../ref/a.png")
        (tmp_path / "all").symlink_to("ref")
        call = ("--metrics", "rmse", "--fail-over", "rmse=99")
        words = "imsim: note: images compared with themselves, each one file: {}, e.g. {}"
        for test, count in (("ref", 2), ("all", 2), ("test", 1)):
            _, err = run(capsys, "ref", test, *call)
            assert err[0] == words.format(count, f"{test}/a.png")
        _, err = run(capsys, "test", "test/../ref", *call)
        assert err == [words.format(1, "test/../ref/a.png")]
        assert run(capsys, "ref/a.png", "test/b.png", *call)[1] == []

    def test_nothing_to_compare(self, capsys, tmp_path):
        (tmp_path / "empty").mkdir()
        save("ref/a.png", GREY), save("test/b.png", GREY), save("a.png", GREY)
        assert "empty: holds no image" in run(capsys, "a.png", "empty", status=2)[1][0]
        assert "no image has the name" in run(capsys, "ref", "test", status=2)[1][0]
        assert "there is no such folder" in run(capsys, "ref", "nowhere", status=2)[1][0]
        assert "a.png: is not a folder" in run(capsys, "ref", "a.png", status=2)[1][0]
        assert "-: is not a folder" in run(capsys, "ref", "-", status=2)[1][0]

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, fewer names are allowed")
    def test_odd_names(self, capsys):
        names = ["a,b.png", 'q"uote.png', "line\nbreak.png", "[1].png", "-x.png", "caf\udce9.png"]
        for name in names:
            save(f"ref/{name}", GREY), save(f"test/{name}", GREY)
        results, _ = run(capsys, "ref", "test", "--metrics", "rmse")
        assert sorted(test for _, test in pairs(results)) == sorted(f"test/{n}" for n in names)


class TestStacks:
    STACK = np.stack([GREY, NOISY, 255 - GREY])

    @pytest.mark.parametrize("name", ["s.npy", "s.tif"])
    def test_image_by_image(self, capsys, name):
        save(name, self.STACK, **({"photometric": "minisblack"} if name == "s.tif" else {}))
        save("a.png", GREY)
        results, _ = run(capsys, "a.png", name, "--metrics", "rmse")
        assert pairs(results) == [("a.png", f"{name}[{i}]") for i in range(3)]
        assert scores(results) == imsim.rmse(GREY, self.STACK).tolist()
        other = save("o.npy", self.STACK[::-1])
        results, _ = run(capsys, name, other, "--metrics", "rmse")
        assert pairs(results)[2] == (f"{name}[2]", "o.npy[2]")
        assert scores(results) == imsim.rmse(self.STACK, self.STACK[::-1]).tolist()

    def test_one_image_of_a_stack(self, capsys):
        save("s.npy", self.STACK)
        results, _ = run(capsys, "s.npy[0]", "s.npy[1]", "s.npy", "--metrics", "rmse")
        names = ["s.npy[1]", "s.npy[0]", "s.npy[1]", "s.npy[2]"]
        assert pairs(results) == [("s.npy[0]", name) for name in names]
        assert scores(results)[:2] == [imsim.rmse(GREY, NOISY), 0]

    def test_numbers_must_agree(self, capsys):
        save("three.npy", self.STACK), save("two.npy", self.STACK[:2]), save("a.png", GREY)
        for reference in ("two.npy", "three.npy"):
            results, err = run(capsys, reference, "three.npy", "a.png", status=2)
            assert len(results) == (3 if reference == "three.npy" else 0)
            assert "a.png: number of images: 1, but" in "".join(err)
        _, err = run(capsys, "a.png", "three.npy", "--mask", "two.npy", status=2)
        assert err[0] == (
            "imsim: error: three.npy: number of images: 3, but two.npy holds 2; "
            "expected 3, or one for all"
        )

    def test_stacks_in_folders(self, capsys):
        save("ref/s.npy", self.STACK), save("test/s.tif", self.STACK, photometric="minisblack")
        results, _ = run(capsys, "ref", "test", "--metrics", "rmse", "--workers", "2")
        assert scores(results) == [0, 0, 0]


class TestMasks:
    def test_a_folder_of_masks(self, capsys):
        for name in ("a.png", "b.png", "c.png"):
            save(f"ref/{name}", GREY), save(f"test/{name}", NOISY)
        save("masks/a.png", MASK), save("masks/b.tif", ~MASK)
        results, err = run(capsys, "ref", "test", "--mask", "masks", "--metrics", "rmse", status=2)
        assert scores(results) == [imsim.rmse(GREY, NOISY, mask=m) for m in (MASK, ~MASK)]
        assert err[0] == "imsim: error: test/c.png: has no mask in masks"

    def test_a_mask_for_each_image_of_a_stack(self, capsys):
        save("a.png", GREY), save("s.npy", np.stack([NOISY, NOISY]))
        results, _ = run(
            capsys,
            "a.png",
            "s.npy",
            "--mask",
            save("m.npy", np.stack([MASK, ~MASK])),
            "--metrics",
            "rmse",
        )
        assert scores(results) == [imsim.rmse(GREY, NOISY, mask=m) for m in (MASK, ~MASK)]

    def test_a_mask_for_all(self, capsys):
        save("a.png", GREY), save("test/a.png", NOISY), save("test/b.png", NOISY)
        results, _ = run(
            capsys, "a.png", "test", "--mask", save("m.png", MASK), "--metrics", "rmse"
        )
        assert scores(results) == [imsim.rmse(GREY, NOISY, mask=MASK)] * 2


def test_damaged_files_are_named_counted_and_skipped(capsys, tmp_path):
    for i in range(5):
        save(f"ref/{i}.png", GREY), save(f"test/{i}.png", NOISY)
    (tmp_path / "test" / "1.png").write_bytes(b"not an image")
    (tmp_path / "ref" / "3.png").write_bytes((tmp_path / "ref" / "3.png").read_bytes()[:500])
    for workers in ("1", "2"):
        results, err = run(capsys, "ref", "test", "--workers", workers, status=2)
        assert [test for _, test in pairs(results)] == [f"test/{i}.png" for i in (0, 2, 4)]
        assert "test/1.png: not a PNG" in err[0]
        assert "ref/3.png: damaged" in err[1]
        assert err[2] == "imsim: error: 2 of 5 could not be scored; they are named above"


def test_notes_that_repeat_are_counted(capsys):
    for i in range(5):
        save(f"test/{i}.png", np.dstack([RGB, GREY]))
    save("a.png", RGB)
    _, err = run(capsys, "a.png", "test", "--metrics", "rmse")
    assert [line.split(": ")[2] for line in err[:3]] == ["test/0.png", "test/1.png", "test/2.png"]
    assert err[3:] == ["imsim: note: 2 more images: its transparent parts are laid over white"]


def test_skipped_metrics_are_counted(capsys):
    save("a.tif", DEEP), save("test/a.tif", DEEP), save("test/b.tif", DEEP)
    _, err = run(capsys, "a.tif", "test", "--metrics", "ssim,rmse", status=2)
    assert len(err) == 1
    assert err[0].startswith("imsim: error: test/a.tif: ssim was skipped: needs --data-range")
    assert err[0].endswith("(and 1 more)")


class TestTables:
    @pytest.fixture(autouse=True)
    def _files(self, empty_directory):
        save("a.png", GREY)
        for i in range(4):
            save(f"test/{'long' * 15}{i}.png", GREY if i else NOISY)

    def test_a_row_per_pair_and_a_summary(self, capsys):
        assert main(["compare", "a.png", "test", "--metrics", "rmse,ssim"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 80
        assert lines[0].split() == ["rmse", "ssim"]
        assert lines[1].split()[0].startswith("longlong")
        assert lines[1].split()[0].endswith("long0.png")
        assert float(lines[1].split()[1]) == pytest.approx(imsim.rmse(GREY, NOISY), rel=1e-5)
        assert lines[6] == "4 pairs scored"
        assert [line.split()[0] for line in lines[7:]] == ["metric", "rmse", "ssim"]
        assert "0.png" in lines[8]  # the worst

    def test_columns_keep_apart(self, capsys):
        """The longest numbers: small negative ones of six digits, and large whole ones."""
        tiny = {"zncc": -0.000687169, "ssim": -1.23457e-05, "se": 123456789012.0}
        found = Comparison(dict(tiny), {})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("imsim.cli.pair_scoring.compare", lambda *args, **options: found)
            assert main(["compare", "a.png", "test", "--metrics", ",".join(tiny)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 80
        for line in lines[1:5]:
            assert line.split("  ")[-3:] == ["-0.000687169", "-1.23457e-05", "123456789012"]
        for line, value in zip(lines[-3:], tiny.values(), strict=True):
            assert line.split()[1:4] == [number(value)] * 3

    def test_many_metrics_have_a_summary_only(self, capsys):
        assert main(["compare", "a.png", "test"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 80
        assert lines[0] == "4 pairs scored"
        assert [line.split()[0] for line in lines[2:-1]] == list(imsim.METRICS)
        assert "-o FILE.csv" in lines[-1]

    def test_nan_is_counted(self, capsys):
        save("black.png", np.zeros_like(GREY))
        assert main(["compare", "black.png", "test", "--mask", "black.png", "--metrics", "se"]) == 0
        assert "(4 NaN)" in capsys.readouterr().out.splitlines()[-1]


class TestMaps:
    def test_colours_on_a_fixed_scale(self, capsys):
        save("ref/x/a.png", GREY), save("test/x/a.tif", GREY)
        save("ref/s.npy", np.stack([GREY, NOISY])), save("test/s.npy", np.stack([GREY, GREY]))
        call = ["compare", "ref", "test", "--maps", "maps", "--metrics", "ssim,se,rmse,parts"]
        assert main(call) == 0
        assert "ssim 1 to -1, se 0 to" in " ".join(capsys.readouterr().out.split())
        with Image.open("maps/x/a.ssim.png") as image:
            pixels = np.asarray(image)
        assert pixels.shape == (*GREY.shape, 3)
        assert set(map(tuple, pixels[8:-8, 8:-8].reshape(-1, 3).tolist())) == {(68, 1, 84)}
        with Image.open("maps/s_1.se.png") as image:
            assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 9

    def test_what_has_no_map_is_said(self, capsys):
        save("a.tif", DEEP)
        arguments = ["a.tif", "a.tif", "--maps", "maps", "--metrics", "sam,se"]
        _, err = run(capsys, *arguments)
        assert "imsim: note: a.tif: no map of se: its scale needs --data-range" in err
        assert "no map of sam: sam_map compares the channels" in "".join(err)
        save("a.png", GREY)
        assert run(capsys, "a.png", "a.png", "--maps", "maps")[1] == []

    def test_metrics_of_which_none_has_a_map(self, capsys):
        call = [save("a.png", GREY), "a.png", "--maps", "maps", "--metrics"]
        _, err = run(capsys, *call, "rmse,psnr", status=2)
        assert "no metric of --metrics has a map; add one of fsim, gmsd, imed" in err[0]
        assert run(capsys, *call, "rmse,se")[1] == []

    def test_places_that_will_not_do(self, capsys):
        save("ref/a.png", GREY), save("test/a.png", GREY), save("file.png", GREY)
        for place, word in (
            ("nowhere/maps", "there is no folder"),
            ("test/maps", "lies in test"),
            ("file.png", "cannot be made: File exists"),
        ):
            assert word in run(capsys, "ref", "test", "--maps", place, status=2)[1][0]
        _, err = run(capsys, "ref/a.png", "test/a.png", "ref/a.png", "--maps", "m", status=2)
        assert "2 images are called a" in err[0]
        files = ["test/a.png", "file.png", save("file.se.png", GREY)]
        _, err = run(capsys, *files, "--maps", ".", status=2)
        assert "would be written over file.se.png" in err[0]


def test_names_that_differ_in_case_are_no_partners_and_are_said(capsys):
    """Where the disk tells them apart; other systems would pair them."""
    save("ref/sub/Menu.png", GREY), save("ref/a.png", GREY)
    save("test/sub/menu.PNG", NOISY), save("test/a.png", NOISY)
    found, err = compared(capsys, "ref", "test", "--metrics", "rmse")
    assert [row["test"] for row in found["scored"]] == ["test/a.png"]
    assert err == [
        "imsim: note: test/sub/menu.PNG: has no partner in ref; sub/Menu.png there is written in "
        "other letters",
        "imsim: note: ref/sub/Menu.png: has no partner in test; sub/menu.PNG there is written in "
        "other letters",
    ]


def test_columns_of_wide_letters_stand_below_each_other(capsys):
    """East Asian letters take two columns of a terminal, and accents none."""
    names = ["a", "画像" * 3, "cafe\u0301 " * 4, "\uff46" * 8, "画像" * 90]
    for name in names:
        save(f"ref/{name[:70]}.png", GREY), save(f"test/{name[:70]}.png", NOISY)
    assert main(["compare", "ref", "test", "--metrics", "rmse,ssim"]) == 0
    rows = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert len(rows) == 1 + len(names)
    assert {breadth(row) for row in rows} == {breadth(rows[0])}
    assert breadth(rows[0]) <= 80
    assert breadth("画像a\u0301") == 5
    assert any("..." in row for row in rows)


def test_tables_of_wide_letters():
    text = table([["head", "n"], ["画像", "12"], ["cafe\u0301", "3"]], "lr")
    assert text == "head   n\n画像  12\ncafe\u0301   3"


@pytest.mark.parametrize("columns", [1, 20, 200])
def test_words_are_not_shortened_as_names_are(capsys, monkeypatch, columns):
    monkeypatch.setattr("imsim.cli.compare.width", lambda: columns)
    for name in ("a", "b"):
        save(f"ref/{name}.png", GREY), save(f"test/{name}.png", GREY)
    assert main(["compare", "ref", "test", "--metrics", "rmse,psnr,se", "--maps", "m"]) == 0
    assert capsys.readouterr().out.count("all are equal") == 3
