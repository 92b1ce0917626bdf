"""The options on reading, which pixels count, and what the notes say of it everywhere."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from command import by_kind, compared
from image_files import DEEP, GREY, NOISY, RGB, save
from PIL import Image

import imsim
from imsim.cli import main

FULL = Path("/dev/full")
FLOATS = [("f4", "f8"), ("f8", "f4"), ("f2", "f8"), ("f2", "f4")]
SCENE = np.random.default_rng(1).random((40, 48)).astype(np.float32)


pytestmark = pytest.mark.usefixtures("empty_directory")


def rmse(capsys, *arguments):
    """Return the only score and the notes on it."""
    found, err = compared(capsys, *arguments, "--metrics", "rmse")
    (result,) = found["scored"]
    assert [f"imsim: note: {note}" for note in result["notes"]] == err
    return result["scores"]["rmse"], result["notes"]


class TestPixelsLeftOut:
    @pytest.mark.parametrize("value", [-9999, -3.4e38, np.nan])
    def test_by_a_value_in_either_image(self, capsys, value):
        a, b = SCENE.copy(), SCENE[::-1].copy()
        a[:3, 5], b[20, :7] = value, value
        save("a.npy", a), save("b.npy", b)
        mask = np.ones(a.shape, bool)
        mask[:3, 5] = mask[20, :7] = False
        option = ["--ignore-nan"] if np.isnan(value) else ["--ignore-value", f"{value:g}"]
        score, notes = rmse(capsys, "a.npy", "b.npy", *option)
        assert score == imsim.rmse(a, b, mask=mask)
        assert notes == [
            f"a.npy: 3 of 1920 pixels (0.2%) are left out by {' '.join(option)}",
            f"b.npy: 7 of 1920 pixels (0.4%) are left out by {' '.join(option)}",
        ]

    def test_in_any_channel_several_values_and_a_mask(self, capsys):
        a, b = RGB.copy(), RGB[::-1].copy()
        a[a == 7], a[a == 9] = 8, 8
        b[b == 7], b[b == 9] = 8, 8
        a[4, 5, 1], b[30, 8, 2] = 7, 9
        mask = np.tri(*GREY.shape, dtype=bool) | (GREY > 99)
        both = mask.copy()
        both[4, 5] = both[30, 8] = False
        options = ["--ignore-value", "7", "--ignore-value", "9", "--mask", save("m.png", mask)]
        score, notes = rmse(capsys, save("a.png", a), save("b.png", b), *options)
        assert score == imsim.rmse(a, b, mask=both, channel_axis=-1)
        assert len(notes) == 2
        for value in ("0.5", "300", "1e30", "inf", "nan", "-1"):  # which no such pixel has
            assert rmse(capsys, "a.png", "b.png", "--ignore-value", value)[1] == []

    @pytest.mark.parametrize(
        ("value", "kinds"),
        [
            *((value, pair) for value in ("-999.9", "0.1", "1e-50") for pair in FLOATS),
            *(("-3.4028235e38", pair) for pair in FLOATS[:2]),
        ],
    )
    def test_a_value_is_rounded_to_the_type_of_each_file(self, capsys, value, kinds):
        """Files of two types are compared as the wider one, in which it is another number."""
        images = [np.ones((9, 9), kind) for kind in kinds]
        for image in images:
            image[2, 3:5] = float(value)
        a, b = (save(f"{i}.npy", image) for i, image in enumerate(images))
        score, notes = rmse(capsys, a, b, "--ignore-value", value)
        assert score == 0
        assert sum("2 of 81 pixels (2.5%) are left out" in note for note in notes) == 2

    def test_a_value_beyond_the_type_is_not_infinity(self, capsys):
        a, b = np.zeros((9, 9), np.float16), np.zeros((9, 9), np.float16)
        a[0, 0] = np.inf
        call = [save("a.npy", a), save("b.npy", b), "--ignore-value"]
        assert rmse(capsys, *call, "1e30")[0] == "NaN"
        assert rmse(capsys, *call, "inf")[0] == 0
        for value in ("1e400", "1" + "0" * 400):
            with pytest.raises(SystemExit):
                main(["compare", *call, value])

    def test_values_of_1_bit_images_are_those_of_the_file(self, capsys):
        bits = GREY > 99
        save("a.png", bits), save("b.png", np.where(bits, 255, 9).astype(np.uint8))
        score, notes = rmse(capsys, "a.png", "b.png", "--ignore-value", "1")
        assert (score, len(notes)) == (9, 2)

    def test_that_the_file_declares(self, capsys):
        a, b = DEEP.copy(), DEEP[::-1].copy()
        a[a == 0], b[b == 0] = 1, 1
        a[3:9, 5:9] = 0
        save("a.tif", a, extratags=[(42113, "s", 0, "0", True)]), save("b.tif", b)
        mask = np.ones(a.shape, bool)
        mask[3:9, 5:9] = False
        score, notes = rmse(capsys, "a.tif", "b.tif")
        assert score == imsim.rmse(a, b, mask=mask)
        assert "a.tif: no data (GDAL_NODATA 0) at 24 of 1920 pixels" in notes[0]
        assert rmse(capsys, "b.tif", "a.tif")[0] == score
        call = ["report", "a.tif", "b.tif", "--data-range", "65535", "-o", "page.html"]
        assert main([*call, "--metrics", "se"]) == 0
        assert "24 of 1920 pixels" in Path("page.html").read_text(encoding="utf-8")

    def test_all_of_them(self, capsys):
        a = save("a.npy", np.full((20, 20), np.nan))
        found, err = compared(capsys, a, a, "--ignore-nan", "--metrics", "rmse,zncc")
        assert found["scored"][0]["scores"] == {"rmse": "NaN", "zncc": "NaN"}
        assert err[-1] == "imsim: note: a.npy: every pixel is left out, so that the scores are NaN"
        gate = ["--fail-under", "rmse=9", "--metrics", "rmse"]
        assert "rmse is NaN" in compared(capsys, a, a, "--ignore-nan", *gate, status=1)[1][-1]


class TestReading:
    def test_background(self, capsys):
        for name, place in (("a.png", np.s_[9:19, 9:19]), ("b.png", np.s_[5:9, 2:40])):
            pixels = np.zeros((40, 48, 4), np.uint8)
            pixels[place] = [0, 0, 0, 255]
            save(name, pixels)
        gate = ["--metrics", "ssim", "--fail-under", "ssim=0.99"]
        found, err = compared(capsys, "a.png", "b.png", *gate, status=1)
        assert "laid over white" in err[0]
        assert len(found["scored"][0]["notes"]) == 2
        assert rmse(capsys, "a.png", "b.png", "--background", "black")[0] == 0
        assert rmse(capsys, "a.png", "b.png", "--background", "#000")[0] == 0
        assert main(["compare", "a.png", "b.png", "--background", "blurple"]) == 2
        assert "'blurple' is no colour" in capsys.readouterr().err
        for colour in ([], ["--background", "black"]):
            assert main(["report", "a.png", "b.png", "-o", "page.html", *colour]) == 0
            html = Path("page.html").read_text(encoding="utf-8")
            assert "its transparent parts are laid over" in html
            assert ("The images are equal" in html) == bool(colour)

    def test_limits_and_axes(self, capsys):
        a, b = save("a.png", GREY), save("b.png", NOISY)
        assert main(["compare", a, b, "--max-pixels", "1919"]) == 2
        assert "a.png: its 48 x 40 = 1920 pixels are more than" in capsys.readouterr().err
        assert rmse(capsys, a, b, "--max-pixels", "1920")[0] > 0
        planes = np.stack([GREY, NOISY, GREY])
        c, d = save("c.npy", planes), save("d.npy", planes[::-1] + np.uint8(1))
        score, _ = rmse(capsys, c, d, "--channel-axis", "0")
        assert score == imsim.rmse(planes, planes[::-1] + np.uint8(1), channel_axis=0)
        assert main(["report", c, d, "--channel-axis", "0", "-o", "page.html"]) == 0
        for option in (["--max-pixels", "0"], ["--channel-axis", "x"], ["--ignore-value", "x"]):
            with pytest.raises(SystemExit) as end:
                main(["compare", c, d, *option])
            assert end.value.code == 2

    def test_widening_is_noted(self, capsys):
        bits = GREY > 99
        save("a.png", bits), save("b.png", bits * np.uint8(255)), save("c.png", GREY)
        score, notes = rmse(capsys, "a.png", "b.png")
        assert (score, len(notes)) == (0, 1)
        assert "widened" in notes[0]
        save("rgb.png", np.repeat(GREY[..., None], 3, axis=-1))
        assert rmse(capsys, "rgb.png", "c.png")[0] == 0

    def test_a_refusal_over_size_names_the_tag_that_turns(self, capsys):
        save("a.png", GREY), save("turned.png", GREY.T)
        exif = Image.Exif()
        exif[274] = 6
        Image.fromarray(GREY).save("tagged.jpg", exif=exif, quality=100)
        _, err = compared(capsys, "a.png", "tagged.jpg", "turned.png", status=2)
        cause = "cause is likely the orientation tag of tagged.jpg, which is"
        assert f"{cause} obeyed; --orientation ignore" in err[0]
        assert "tag" not in err[1]
        _, err = compared(capsys, "turned.png", "tagged.jpg", "--orientation", "ignore", status=2)
        assert f"{cause} ignored; --orientation obey" in err[0]

    def test_reasons_name_options_of_the_command(self, capsys):
        a = save("a.png", GREY[:4, :4])
        found, _ = compared(capsys, a, a)
        reason = found["scored"][0]["skipped"]["ssim"]
        assert "--channel-axis" in reason
        assert "channel_axis" not in reason


@pytest.mark.skipif(sys.platform != "linux", reason="pipes have names")
class TestPipes:
    @pytest.mark.parametrize("name", ["/dev/fd/0", "/dev/stdin", "-"])
    @pytest.mark.parametrize("is_piped", [False, True])
    def test_each_is_opened_once(self, name, is_piped, capsys, monkeypatch):
        save("a.png", GREY), save("b.png", NOISY)
        kept = os.dup(0)
        with (
            open("b.png", "rb") as file,
            subprocess.Popen(["cat", "b.png"], stdout=subprocess.PIPE) as cat,
        ):
            os.dup2((cat.stdout if is_piped else file).fileno(), 0)
            try:
                with open(0, closefd=False) as stream:
                    monkeypatch.setattr("sys.stdin", stream)
                    assert main(["compare", "a.png", name, "--metrics", "rmse", "--csv"]) == 0
            finally:
                os.dup2(kept, 0)
                os.close(kept)
        out, err = capsys.readouterr()
        assert float(out.splitlines()[1].split(",")[2]) == imsim.rmse(GREY, NOISY)
        assert err == ""

    def test_a_pipe_that_is_named(self, capsys):
        save("a.png", GREY), os.mkfifo("p.png")
        content = Path("a.png").read_bytes()
        threading.Thread(target=Path("p.png").write_bytes, args=(content,), daemon=True).start()
        assert main(["compare", "a.png", "p.png", "p.png", "--metrics", "rmse"]) == 0
        assert capsys.readouterr().out.count("p.png: 48 x 40") == 2


class TestOutputs:
    def test_rows_on_the_standard_output(self, capsys):
        a, b = save("a.png", GREY), save("b.png", NOISY)
        for option, form in (([], "--csv"), (["--csv"], "--csv"), (["--json"], "--json")):
            assert main(["compare", a, b, "--metrics", "se", form]) == 0
            want = capsys.readouterr().out
            assert main(["compare", a, b, "--metrics", "se", "-o", "-", *option]) == 0
            assert capsys.readouterr().out == want
        assert main(["report", a, b, "-o", "-"]) == 0
        assert capsys.readouterr().out.startswith("<!doctype html>")
        assert not Path("-").exists()

    @pytest.mark.parametrize("name", ["o.csv", "o.json"])
    def test_what_has_no_score_is_in_the_file(self, capsys, name):
        for i in range(3):
            save(f"ref/{i}.png", GREY), save(f"test/{i}.png", NOISY)
        save("ref/gone.png", GREY), save("test/new.png", GREY)
        save("test/1.tif", NOISY), Path("test/1.png").write_bytes(b"damaged")
        call = ["compare", "ref", "test", "--metrics", "rmse", "-o", name]
        assert main(call) == 2
        capsys.readouterr()
        text = Path(name).read_text()
        if name == "o.csv":
            rows = list(csv.DictReader(text.splitlines()))
            shown = [(row["test"], row["status"]) for row in rows]
            assert [row["rmse"] == "" for row in rows] == [False] * 3 + [True] * 3
            assert [row["notes"].split(":")[0] for row in rows[3:]] == [
                "test/1.png",
                "test/new.png",
                "ref/gone.png",
            ]
        else:
            found = by_kind(text)
            kinds = ("scored", "failed", "no partner")
            shown = [(row["test"] or "", kind) for kind in kinds for row in found[kind]]
            assert found["failed"][0]["reason"].startswith("test/1.png: not a PNG")
        assert shown == [
            ("test/0.png", "scored"),
            ("test/1.tif", "scored"),
            ("test/2.png", "scored"),
            ("test/1.png", "failed"),
            ("test/new.png", "no partner"),
            ("", "no partner"),
        ]
        # What failed is tried again, and its row then goes.
        save("test/1.png", NOISY)
        assert main([*call, "--resume"]) == 0
        assert "failed," not in Path(name).read_text()
        assert Path(name).read_text().count("test/1.png") == 1

    @pytest.mark.skipif(sys.platform != "linux", reason="links of both kinds")
    def test_no_link_leads_to_an_image_that_is_written_over(self, capsys):
        save("ref/a.png", GREY), save("store/a.png", NOISY), Path("test").mkdir()
        os.symlink("../store", "test/sub"), save("ref/sub/a.png", GREY)
        os.link("store/a.png", "hard.csv"), os.symlink("store/a.png", "soft.csv")
        os.link("ref/a.png", "hard.json")
        os.link(save("test/new.png", GREY), "alone.csv")  # without a partner
        before = Path("store/a.png").read_bytes()
        for name, words in (
            ("hard.csv", "hard.csv: is test/sub/a.png, in a folder that is read"),
            ("soft.csv", "soft.csv: is test/sub/a.png, in a folder that is read"),
            ("alone.csv", "alone.csv: is test/new.png, in a folder that is read"),
            ("store/o.png", "store/o.png: is called like an image"),
        ):
            assert main(["compare", "ref", "test", "-o", name, "--csv"]) == 2
            assert words in capsys.readouterr().err
        assert main(["report", "ref/a.png", "store/a.png", "-o", "hard.json"]) == 2
        assert "is a file to be read" in capsys.readouterr().err
        assert main(["compare", "ref", "test", "--maps", "store/maps"]) == 2
        assert "store/maps: lies in test/sub, which is read" in capsys.readouterr().err
        assert Path("store/a.png").read_bytes() == before

    @pytest.mark.skipif(sys.platform != "linux", reason="links of both kinds")
    def test_maps_follow_no_link(self, capsys):
        save("a.png", GREY), save("b.png", NOISY), Path("maps").mkdir()
        before = Path("a.png").read_bytes()
        os.symlink("../a.png", "maps/b.ssim.png"), os.link("a.png", "maps/b.se.png")
        call = ["compare", "a.png", "b.png", "--maps", "maps", "--metrics", "ssim,se"]
        assert main(call) == 0
        assert Path("a.png").read_bytes() == before
        assert sorted(os.listdir("maps")) == ["b.se.png", "b.ssim.png"]
        for name in os.listdir("maps"):
            with Image.open(f"maps/{name}") as image:
                assert image.mode == "RGB"

    @pytest.mark.skipif(not FULL.exists(), reason="Linux has a device that is full")
    def test_no_part_of_a_page_stays_after_a_full_disk(self, capsys, monkeypatch):
        a = save("a.png", GREY)
        assert main(["report", a, a, "-o", "/dev/full"]) == 2
        assert "/dev/full: cannot be written: No space left" in capsys.readouterr().err
        assert FULL.exists()

        put = Path.write_bytes

        def full(path, content):
            put(path, content[:100])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        assert main(["report", a, a, "-o", "page.html"]) == 2
        assert os.listdir() == ["a.png"]
