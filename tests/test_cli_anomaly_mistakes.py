"""Mistakes with `imsim anomaly` that would lose images, or mix results, unseen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from image_files import save

from imsim.cli import main
from imsim.cli.anomaly import detectors

RNG = np.random.default_rng(3)
WAVES = np.sin(np.mgrid[:32, :32][1] / 3 + RNG.random((24, 1, 1)))
GOOD = np.rint(120 + 60 * WAVES + RNG.normal(0, 4, WAVES.shape)).astype(np.uint8)
FULL = Path("/dev/full")
"""A file on a disk that is always full."""
PLAIN = ("--preprocess", "none", "--metric", "rmse")


@pytest.fixture(autouse=True)
def _in_a_directory_with_a_detector(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save("good.npy", GOOD)
    assert run("train", "good.npy", "-o", "m.npz", *PLAIN) == 0


def run(*arguments):
    return main(["anomaly", *arguments])


def errors(capsys, *arguments, status=2):
    """Run a command and return the lines of its messages."""
    capsys.readouterr()
    assert run(*arguments) == status
    return capsys.readouterr().err.splitlines()


def test_an_image_in_a_named_folder_is_not_replaced(capsys):
    save("good/000.png", GOOD[0])
    before = Path("good/000.png").read_bytes()
    for call in (("train", "good"), ("score", "m.npz", "good", "--csv")):
        assert "lies in good, whose" in errors(capsys, *call, "-o", "good/000.png")[0]
    flat = ("--flat", save("flat.png", GOOD[0]))
    for call in (("train", "good"), ("score", "m.npz", "good", "--csv")):
        assert "is an image to be read" in errors(capsys, *call, *flat, "-o", "flat.png")[0]
    assert Path("good/000.png").read_bytes() == Path("flat.png").read_bytes() == before


def test_a_cut_stack_counts_as_damaged(capsys):
    with tifffile.TiffWriter("s.tif") as file:
        for page in GOOD[:4]:
            file.write(page, photometric="minisblack", metadata=None, contiguous=False)
    with tifffile.TiffFile("s.tif") as file:
        size = file.pages[2].offset
    Path("s.tif").write_bytes(Path("s.tif").read_bytes()[:size])
    assert run("score", "m.npz", "s.tif", "--json") == 2
    out, err = capsys.readouterr()
    assert [row["image"] for row in json.loads(out)["results"]] == ["s.tif[0]", "s.tif[1]"]
    assert "s.tif[2]: damaged: the file is cut off" in err


def test_notes_are_said(capsys):
    for i in range(5):
        save(f"in/{i}.png", np.dstack([GOOD[i], GOOD[i]]))
    err = errors(capsys, "score", "m.npz", "in", status=0)
    note = "its transparent parts are laid over white"
    assert err == [f"imsim: note: in/{i}.png: {note}" for i in range(3)] + [
        f"imsim: note: 2 more images: {note}"
    ]
    err = errors(capsys, "score", "m.npz", "good.npy", "--flat", "in/0.png", status=0)
    assert err == [f"imsim: note: in/0.png: {note}"]


@pytest.mark.parametrize("name", ["o.csv", "o.json"])
@pytest.mark.parametrize("change", ["model", "flat"])
def test_resume_refuses_rows_of_another_detector(capsys, name, change):
    for i in range(4):
        save(f"in/{i}.png", GOOD[i])
    call = ("score", "m.npz", "in", "-o", name)
    assert run(*call) == 0
    whole = Path(name).read_bytes()
    Path(name).write_bytes(whole[: whole.index(b"in/2.png")])
    more = ("--flat", save("flat.png", np.full((32, 32), 200, np.uint8)))
    if change == "model":
        model, more = Path("m.npz").read_bytes(), ()
        save("other.npy", GOOD[:12])
        assert run("train", "other.npy", "-o", "m.npz", *PLAIN) == 0
    err = errors(capsys, *call, *more, "--resume")
    reason = "its first line differs" if name == "o.json" else "(the row of in/0.png is now another"
    assert f"{name}: holds the results of another run" in err[0]
    assert reason in err[0]
    if change == "model":
        Path("m.npz").write_bytes(model)
    assert run(*call, "--resume") == 0
    assert Path(name).read_bytes().count(b"in/") == 4


@pytest.mark.skipif(not FULL.exists(), reason="a disk that is full is elsewhere hard to come by")
def test_a_full_disk(capsys, monkeypatch):
    err = errors(capsys, "score", "m.npz", "good.npy", "--csv", "-o", str(FULL))
    assert err == ["imsim: error: /dev/full: cannot be written: No space left on device"]

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("imsim.anomaly.AnomalyDetector.save", full)
    err = errors(capsys, "train", "good.npy", "-o", "new.npz", *PLAIN)
    assert err == ["imsim: error: new.npz: cannot be written: No space left on device"]


def test_options_that_would_do_nothing(capsys):
    flat = ("--flat", save("flat.png", GOOD[0]))
    for more in ((), (*PLAIN, *flat)):
        err = errors(capsys, "train", "good.npy", "-o", "x.npz", "--data-range", "5", *more)
        assert "--data-range: is of use with --preprocess none and without --flat" in err[0]
    err = errors(capsys, "score", "m.npz", "good.npy", "-o", "o.csv", "--json")
    assert "--output o.csv: contradicts --json" in err[0]
    err = errors(capsys, "simulate", "-o", "sim", "--good", "0", "--bad", "0")
    assert "--good 0 --bad 0: no image to make" in err[0]
    assert not Path("sim").exists()


def test_remedies_are_those_of_the_command(capsys):
    """The patterns fit what the library says now."""
    noise = save("noise.npy", RNG.normal(100, 20, (6, 32, 32)).astype(np.float32))
    (err,) = errors(capsys, "train", noise, "-o", "x.npz")
    assert "use --preprocess none in training, or images with background" in err
    err = errors(capsys, "score", "m.npz", save("small.npy", GOOD[:1, :20]))
    assert "resize them, or train a detector on images of this size" in err[0]
    source = Path(detectors.__file__).parents[2] / "anomaly" / "xray" / "peel.py"
    assert ": is width too large for the items?" in source.read_text(encoding="utf-8")


def test_empty_folders_and_wrong_labels(capsys):
    Path("empty").mkdir()
    err = errors(capsys, "score", "m.npz", "empty", "good.npy")
    assert err[0].startswith("imsim: error: empty: holds no image; these endings")
    Path("labels.csv").write_text("file,kind,size\ngood.npy[0],worm,big\n")
    call = ("report", "m.npz", "good.npy", "good.npy", "-o", "page", "--labels", "labels.csv")
    err = errors(capsys, *call)
    assert err == ["imsim: error: labels.csv: the size of good.npy[0], 'big', is not a number"]
