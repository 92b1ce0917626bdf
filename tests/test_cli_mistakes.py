"""Mistakes of the caller and of the machine that would lose images, rows or time unseen."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from command import by_kind, compared
from image_files import DEEP, GREY, NOISY, save

from imsim._images import ImageFileError, read_picture
from imsim.cli import main
from imsim.cli.rows import changed_since

FULL = Path("/dev/full")
"""A file on a disk that is always full."""


pytestmark = pytest.mark.usefixtures("empty_directory")


def compare(capsys, *arguments, status):
    """Run `imsim compare` and return what it prints and the lines of its messages."""
    assert main(["compare", *arguments]) == status
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return out, err.splitlines()


@pytest.mark.parametrize("form", ["--csv", "--json"])
def test_an_image_in_a_named_folder_is_not_replaced(capsys, form):
    save("A/a.png", GREY), save("B/a.png", NOISY)
    before = Path("B/a.png").read_bytes()
    for name in ("B/a.png", "A/../B/a.png", "B/new.TIF"):
        _, err = compare(capsys, "A", "B", "-o", name, form, status=2)
        assert f"{name}: is called like an image" in err[0]
    assert Path("B/a.png").read_bytes() == before
    compare(capsys, "A", "B", "-o", f"B/scores.{form[2:]}", "--metrics", "rmse", status=0)


class TestCutStacks:
    PAGES = np.stack([GREY, NOISY, 255 - GREY, GREY])

    def cut(self, pages, *, series=False):
        """Write pages and cut the file between two of them."""
        if series:
            save("s.tif", self.PAGES, photometric="minisblack")
            with tifffile.TiffFile("s.tif") as file:
                size = file.pages[1].dataoffsets[0] + GREY.size // 2
        else:
            with tifffile.TiffWriter("s.tif") as file:
                for page in self.PAGES:
                    file.write(page, photometric="minisblack", metadata=None, contiguous=False)
            with tifffile.TiffFile("s.tif") as file:
                size = file.pages[pages].offset
        content = Path("s.tif").read_bytes()
        Path("s.tif").write_bytes(content[:size])

    def test_the_rest_is_scored_and_the_loss_counts(self, capsys):
        self.cut(2)
        save("a.png", GREY)
        for name in ("a.png", "s.tif"):
            out, err = compare(capsys, name, "s.tif", "--csv", "--metrics", "rmse", status=2)
            assert out.count("s.tif[0],") + out.count("s.tif[1]") >= 2
            assert err[0].startswith("imsim: error: s.tif[2]: damaged: the file is cut off")
            assert err[1:] == ["imsim: error: 1 of 3 could not be scored; they are named above"]
        with pytest.raises(ImageFileError, match="cut off"):
            read_picture("s.tif")

    def test_a_series(self, capsys):
        self.cut(1, series=True)
        save("a.png", GREY)
        out, err = compare(capsys, "a.png", "s.tif", "--csv", "--metrics", "rmse", status=2)
        assert out.splitlines()[1] == "a.png,s.tif[0],0.0,scored,"
        assert "s.tif[1]: damaged: the file is cut off" in err[0]

    def test_no_page_at_all(self, capsys):
        """As a program leaves it that ends before the first page is written."""
        Path("in").mkdir()
        Path("in/s.tif").write_bytes(b"II*\0" + bytes(4))
        save("a.png", GREY)
        _, err = compare(capsys, "a.png", "in", status=2)
        assert "in/s.tif: damaged: the file is cut off or broken here (there is no page)" in err[0]


@pytest.mark.parametrize("name", ["o.csv", "o.json"])
@pytest.mark.parametrize("change", ["mask", "range"])
def test_resume_refuses_rows_of_other_options(capsys, name, change):
    """The first pair, of equal images, has the same scores whatever the options."""
    for i in range(4):
        save(f"ref/{i}.png", DEEP), save(f"test/{i}.png", np.roll(DEEP, i, axis=1))
    mask = np.tri(*DEEP.shape, dtype=bool)
    call = ["ref", "test", "--metrics", "psnr", "-o", name, "--mask", save("m.png", mask)]
    compare(capsys, *call, "--data-range", "65535", status=0)
    whole = Path(name).read_bytes()
    before = whole[: whole.index(b"ref/3.png")]
    Path(name).write_bytes(before)
    if change == "mask":
        save("m.png", ~mask)
    data_range = "65535" if change == "mask" else "80000"
    _, err = compare(capsys, *call, "--data-range", data_range, "--resume", status=2)
    if change == "range":
        assert ("its first line differs" in err[-1]) == (name == "o.json")
        assert "give the same options, or another file" in err[-1]
    else:
        assert "(the row of test/1.png is now another); use another -o, or leave" in err[-1]
    save("m.png", mask)
    compare(capsys, *call, "--data-range", "65535", "--resume", status=0)
    assert Path(name).read_bytes() == whole


@pytest.mark.parametrize("name", ["o.csv", "o.json"])
@pytest.mark.parametrize("side", ["ref", "test", "mask"])
def test_resume_looks_at_files_that_were_changed(capsys, name, side):
    for i in range(3):
        save(f"ref/{i}.png", GREY), save(f"test/{i}.png", NOISY)
        save(f"mask/{i}.png", np.tri(*GREY.shape, dtype=bool))
    gated = ["--fail-under", "rmse=30"]
    call = ["ref", "test", "--mask", "mask", "--metrics", "rmse", "-o", name, *gated]
    compare(capsys, *call, status=0)
    whole = Path(name).read_bytes()
    Path(f"{side}/1.png").touch()
    compare(capsys, *call, "--resume", status=0)
    other = save("other.png", np.eye(*GREY.shape, dtype=bool) if side == "mask" else 255 - GREY)
    os.rename(f"{side}/2.png", "kept.png")
    os.rename(other, f"{side}/2.png")
    for _ in range(2):  # a refusal does not make the file newer than the image
        _, err = compare(capsys, *call, "--resume", status=2)
        assert "(the row of test/2.png is now another)" in err[-1]
    os.rename("kept.png", f"{side}/2.png")
    compare(capsys, *call, "--resume", status=0)
    assert Path(name).read_bytes() == whole


@pytest.mark.parametrize("name", ["o.csv", "o.json"])
@pytest.mark.parametrize(
    ("options", "others"),
    [
        (["--data-range", "uint16=65535"], [["--data-range", "uint16=60000"], []]),
        (["--ignore-value", "7"], [["--ignore-value", "8"], ["--ignore-nan"], []]),
        (["--ignore-value", "inf"], [["--ignore-value", "nan"]]),
        (["--background", "black"], [["--background", "#010000"], []]),
        (["--mask", "m.png"], [["--mask", "n.png"], []]),
        (["--channel-axis", "0"], [["--channel-axis", "-1"], []]),
        ([], [["--background", "black"], ["--ignore-nan"], ["--mask", "m.png"]]),
    ],
)
def test_resume_does_not_mix_options_that_touch_no_earlier_row(capsys, name, options, others):
    for i in range(3):
        save(f"ref/{i}.png", GREY), save(f"test/{i}.png", NOISY)
    save("m.png", np.ones_like(GREY)), save("n.png", np.ones_like(GREY))
    call = ["ref", "test", "--metrics", "rmse", "-o", name]
    compare(capsys, *call, *options, status=0)
    whole = Path(name).read_bytes()
    Path(name).write_bytes(whole[: whole.index(b"ref/2.png")])
    for other in others:
        before = Path(name).read_bytes()
        _, err = compare(capsys, *call, *other, "--resume", status=2)
        assert f"{name}: holds the results of another run" in err[-1]
        assert "give the same options, or another file" in err[-1]
        assert Path(name).read_bytes() == before
    same = {"black": "#000"}
    options = [same.get(option, option) for option in options]  # the same by another name
    compare(capsys, *call, *options, "--resume", "--workers", "1", status=0)
    assert Path(name).read_bytes() == whole
    if name == "o.json":
        by_kind(whole.decode())


@pytest.mark.skipif(not FULL.exists(), reason="a disk that is full is elsewhere hard to come by")
@pytest.mark.parametrize("form", ["--csv", "--json"])
def test_a_full_disk(capsys, form):
    save("a.png", GREY)
    _, err = compare(capsys, "a.png", "a.png", "-o", str(FULL), form, status=2)
    assert err == ["imsim: error: /dev/full: cannot be written: No space left on device"]


def test_an_empty_mask_is_named_once(capsys):
    for name in ("ref/0.png", "ref/1.png", "test/0.png", "test/1.png", "a.png"):
        save(name, GREY)
    mask = save("m.png", np.zeros_like(GREY))
    want = ["imsim: note: m.png: this mask leaves out every pixel, so that the scores are NaN"]
    assert compare(capsys, "ref", "test", "--mask", mask, status=0)[1] == want
    assert main(["report", "a.png", "a.png", "--mask", mask, "-o", "page.html"]) == 0
    assert capsys.readouterr().err.splitlines() == want


def test_a_mask_that_is_too_small_for_some_metrics(capsys):
    mask = np.zeros_like(GREY)
    mask[0, 0] = 255
    call = [save("a.png", GREY), save("b.png", NOISY), "--mask", save("m.png", mask)]
    _, err = compare(capsys, *call, "--metrics", "rmse,ssim", status=0)
    assert err == ["imsim: note: b.png: NaN with the mask m.png: ssim"]


def test_maps_do_not_replace_each_other(capsys):
    save("a.png", GREY), save("in/s_0.png", NOISY), save("in/s.npy", np.stack([NOISY, GREY]))
    call = ["a.png", "in", "--maps", "maps", "--csv", "--metrics", "ssim"]
    out, err = compare(capsys, *call, status=2)
    assert out.count(",scored,") == 2
    assert out.splitlines()[3].startswith("a.png,in/s_0.png,,failed,")
    assert len(list(Path("maps").iterdir())) == 2
    assert err[0] == (
        "imsim: error: in/s_0.png: its maps would be called s_0, like those of in/s.npy[0]; "
        "rename one of the files"
    )
    assert compare(capsys, "a.png", "in", "--metrics", "ssim", status=0)[1] == []


def test_data_ranges_that_do_not_fit(capsys):
    save("ref/a.png", GREY), save("test/a.png", NOISY)
    save("ref/b.tif", DEEP), save("test/b.tif", DEEP)
    call = ["ref", "test", "--metrics", "ssim", "--data-range"]
    _, err = compare(capsys, *call, "65535", "--fail-under", "ssim=0", status=2)
    assert err[0] == (
        "imsim: error: test/a.png: --data-range 65535 is beyond what 8-bit pixels hold (255); "
        "for files of several types, give one of each: --data-range uint8=255,..."
    )
    _, err = compare(capsys, *call, "255", status=0)
    low, high = DEEP.min(), DEEP.max()
    assert err == [
        f"imsim: note: test/b.tif: pixels span more than --data-range 255, from {low} to {high}; "
        "that is beyond it by more than the range itself: is it in another unit?"
    ]
    assert compare(capsys, *call, "uint8=255,uint16=65535", status=0)[1] == []
    assert compare(capsys, *call, "65535,uint8=255", status=0)[1] == []
    for text, words in (
        ("uint8=256", "--data-range uint8=256 is beyond what 8-bit pixels hold"),
        ("bool=2", "is beyond what 1-bit pixels hold (1)"),
        ("int16=65536", "is beyond what 16-bit pixels hold (65535)"),
        ("8bit=255", "there is no type '8bit' of pixels; expected one of bool, uint8"),
        ("uint8=", "must be a positive number"),
        ("nan", "--data-range nan: data_range must be a positive number"),
        ("uint8=255,uint8=100", "uint8 comes twice; give one for each type"),
        ("255,uint8=99,100", "the number without a type comes twice"),
    ):
        assert words in compare(capsys, *call, text, status=2)[1][0]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("memory", [None, "3MB"])
@pytest.mark.parametrize("base", [0, 2**60, 2**63 - 300])
def test_ends_of_whole_numbers_are_exact(capsys, base, memory, masked):
    """Floats near 2**60 are 256 apart."""
    large = np.tile(GREY, (8, 8)) if memory else GREY
    one, other = (
        save(f"{name}.npy", np.int64(base) + large[::step].astype(np.int64))
        for name, step in (("a", 1), ("b", -1))
    )
    low, high = base + int(GREY.min()), base + int(GREY.max())
    call = [one, other, "--metrics", "rmse", "--json"]
    call += ["--memory", memory] if memory else []
    if masked:
        save("m.png", np.pad(np.full_like(large[2:-2, 2:-2], 255), 2))
        call += ["--mask", "m.png"]
        used = large[2:-2, 2:-2]
        low, high = base + int(used.min()), base + int(used.max())
    assert compare(capsys, *call, "--data-range", str(high - low), status=0)[1] == []
    _, err = compare(capsys, *call, "--data-range", str((high - low) / 1.5), status=0)
    assert err[0].endswith(f", from {low} to {high}")


def test_floats_take_any_data_range_and_a_mistake_of_units_is_noted(capsys):
    metres = save("a.npy", GREY.astype(np.float32) / 255)
    millimetres = save("b.npy", np.float32(1000) * GREY / 255)
    call = [metres, millimetres, "--metrics", "psnr", "--json", "--data-range"]
    out, err = compare(capsys, *call, "1", status=0)
    assert "b.npy: pixels span more than --data-range 1, from 0 to 1000; that is" in err[0]
    assert by_kind(out)["scored"][0]["notes"] == [err[0].removeprefix("imsim: note: ")]
    assert compare(capsys, *call, "1e6", status=0)[1] == []
    holes = np.load("b.npy")
    holes[0, :2] = np.nan, np.inf  # which hide nothing
    np.save("b.npy", holes)
    assert "from 0 to 1000; that is" in compare(capsys, *call, "1", status=0)[1][0]


def test_contradictions_and_empty_folders(capsys):
    save("B/a.png", GREY), Path("empty").mkdir()
    _, err = compare(capsys, "B", "B", "-o", "out.csv", "--json", status=2)
    assert "--output out.csv: contradicts --json" in err[0]
    for call in (("empty", "B"), ("B/a.png", "empty")):
        assert "empty: holds no image" in compare(capsys, *call, status=2)[1][0]


def test_rows_of_several_folders_name_them(capsys):
    save("a.png", GREY), save("A/i.png", GREY), save("B/i.png", NOISY)
    out, _ = compare(capsys, "a.png", "A", "B", "--metrics", "rmse", status=0)
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["A/i.png", "B/i.png"]


@pytest.mark.parametrize(
    "call",
    [
        ("a.png", "--metrics", "rmse", "b.png", "c.png"),
        ("a.png", "b.png", "--metrics", "rmse", "c.png"),
        ("a.png", "b.png", "c.png", "--metrics", "rmse"),
        ("--metrics", "rmse", "--", "a.png", "b.png", "c.png"),
        ("a.png", "b.png", "--metrics", "rmse", "--", "c.png"),
    ],
)
def test_options_stand_before_between_and_after_files(capsys, call):
    for name in ("a.png", "b.png", "c.png"):
        save(name, GREY)
    rows, _ = compared(capsys, *call)
    assert [row["test"] for row in rows["scored"]] == ["b.png", "c.png"]


def test_names_that_begin_with_a_dash_stand_behind_two(capsys):
    save("-a.png", GREY)
    assert "-a.png" in compare(capsys, "--metrics", "rmse", "--", "-a.png", "-a.png", status=0)[0]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--mask", "--: cannot be read"),
        ("--data-range", "--data-range --: "),
        ("--workers", "'--' is not a whole number of at least 1"),
        ("--level", "'--' is not a whole number of at least 0"),
        ("--orientation", "invalid choice: '--'"),
    ],
)
def test_two_dashes_are_a_value_like_any_other(capsys, option, words):
    save("a.png", GREY)
    with contextlib.suppress(SystemExit):  # of the parser
        assert main(["compare", "a.png", "a.png", f"{option}=--", "--metrics", "se"]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("command", [["compare"], ["report", "-o", "p"], ["accept"]])
def test_an_unknown_option_is_said_by_its_command(capsys, command):
    with pytest.raises(SystemExit):
        main([*command, "a.png", "--metrix", "b.png", "c.png"])
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"imsim {command[0]}: error: unrecognized arguments: --metrix")


@pytest.mark.parametrize(
    ("shape", "more", "hint"),
    [((9, 6), (), False), ((9, 3), (), True), ((9, 3, 3), ("--channel-axis", "-1"), False)],
)
def test_a_small_image_is_told_of_channels_only_where_there_may_be_some(capsys, shape, more, hint):
    np.save("a.npy", np.arange(np.prod(shape), dtype=np.uint8).reshape(shape))
    _, err = compare(capsys, "a.npy", "a.npy", "--metrics", "ssim", *more, status=2)
    assert f"the images are 9x{shape[1]} pixels" in err[0]
    assert ("--channel-axis" in err[0]) == hint


def test_empty_values_are_refused(capsys):
    """As of variables of a script that are not set: no metric, or output, was named."""
    save("a.png", GREY)
    _, err = compare(capsys, "a.png", "a.png", "--metrics", "", status=2)
    assert err[0].startswith("imsim: error: --metrics: there is no metric ''; expected")
    for option, kind in (("--junit", "file"), ("--maps", "folder")):
        _, err = compare(capsys, "a.png", "a.png", "--metrics", "ssim", option, "", status=2)
        assert f"'': is empty; name a {kind}" in err[0]
    assert main(["report", "a.png", "a.png", "-o", ""]) == 2
    assert main(["anomaly", "train", "a.png", "-o", "", "--preprocess", "none"]) == 2
    found = capsys.readouterr().err.splitlines()
    assert found == ["imsim: error: --output '': is empty; name a file"] * 2
    for line in (["compare", "", "a.png"], ["compare", "a.png", ""], ["report", "", "a.png"]):
        assert main([*line, *(["-o", "page.html"] if line[0] == "report" else [])]) == 2
        assert "imsim: error: '': cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("names", [("a", "A"), ("caf\u00e9", "cafe\u0301"), ("d/a", "D/a")])
def test_maps_whose_names_are_one_on_the_disk(capsys, monkeypatch, names):
    """As on those of Windows and macOS, which may be mounted anywhere."""
    for name in names:
        save(f"ref/{name}.png", GREY), save(f"test/{name}.png", NOISY)
    call = ["ref", "test", "--metrics", "se", "--maps", "maps"]
    compare(capsys, *call, status=0)
    assert len([path for path in Path("maps").rglob("*") if path.is_file()]) == 2
    monkeypatch.setattr(
        "os.path.exists", lambda path: os.access(path, os.F_OK) or "-A" in str(path)
    )
    _, err = compare(capsys, *call, status=2)
    assert "2 images are called " in err[0]
    assert "would replace each other" in err[0]


def test_counts_that_no_computer_reaches(capsys):
    save("a.png", GREY), save("b.png", NOISY)
    for option in ("--workers", "--max-pixels"):
        compare(capsys, "a.png", "b.png", "--metrics", "rmse", option, str(10**30), status=0)


def test_a_link_that_leads_nowhere_hides_no_change():
    save("v/a.npy", GREY)
    written = Path("v/a.npy").stat().st_ctime
    assert changed_since(written, ["v"]) == {"v"}
    Path("v/b").symlink_to("nowhere")
    assert changed_since(written, ["v", "gone"]) == {"v"}
    assert changed_since(written + 1e6, ["v", "v/a.npy", "gone"]) == set()
