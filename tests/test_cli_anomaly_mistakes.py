"""Mistakes with `imsim anomaly` that would lose images, or mix results, unseen."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from command import by_kind
from image_files import save

from imsim.anomaly import AnomalyDetector
from imsim.cli import main
from imsim.cli.anomaly.inputs import Pictures, refuse_shared

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
    assert run("train", "good.npy", "-o", "m.safetensors", *PLAIN) == 0


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
    for call in (("train", "good"), ("score", "m.safetensors", "good", "--csv")):
        assert "is called like an image" in errors(capsys, *call, "-o", "good/000.png")[0]
    flat = ("--flat", save("flat.png", GOOD[0]))
    for call in (("train", "good"), ("score", "m.safetensors", "good", "--csv")):
        assert "is a file to be read" in errors(capsys, *call, *flat, "-o", "flat.png")[0]
    assert Path("good/000.png").read_bytes() == Path("flat.png").read_bytes() == before


@pytest.mark.skipif(sys.platform != "linux", reason="links of both kinds")
@pytest.mark.parametrize("link", [os.link, lambda source, name: Path(name).symlink_to(source)])
def test_no_link_leads_to_an_image_of_a_folder(link, capsys):
    save("good/000.png", GOOD[0])
    before = Path("good/000.png").read_bytes()
    link("good/000.png", "o.csv")
    calls = (
        ("train", "good"),
        ("update", "m.safetensors", "good"),
        ("score", "m.safetensors", "good"),
    )
    for call in (*calls, ("watch", "m.safetensors", "good", "--for", "0.1")):
        err = errors(capsys, *call, "-o", "o.csv")
        assert err == [
            "imsim: error: --output o.csv: is good/000.png, in a folder that is read; "
            "name another file"
        ]
    Path("page").mkdir(), link(os.path.abspath("good/000.png"), "page/inspection.html")
    assert run("score", "m.safetensors", "good", "--report", "page") == 0
    assert "<html" in Path("page/inspection.html").read_text()
    assert Path("good/000.png").read_bytes() == before
    # A result of an earlier run, among the images, is written anew.
    for _ in range(2):
        assert run("score", "m.safetensors", "good", "-o", "good/o.csv") == 0


def test_a_cut_stack_counts_as_damaged(capsys):
    with tifffile.TiffWriter("s.tif") as file:
        for page in GOOD[:4]:
            file.write(page, photometric="minisblack", metadata=None, contiguous=False)
    with tifffile.TiffFile("s.tif") as file:
        size = file.pages[2].offset
    Path("s.tif").write_bytes(Path("s.tif").read_bytes()[:size])
    assert run("score", "m.safetensors", "s.tif", "--json") == 2
    out, err = capsys.readouterr()
    rows = by_kind(out)["image"]
    assert [row["verdict"] for row in rows][:3] == ["good", "good", "not inspected"]
    assert rows[2]["image"] == "s.tif[2]"
    assert "damaged" in rows[2]["reason"]
    assert "s.tif[2]: damaged: the file is cut off" in err


def test_a_fence_that_is_no_number(capsys):
    with pytest.raises(SystemExit):
        run("train", "good.npy", "-o", "m.safetensors", *PLAIN, "--fence", "wide")
    assert "--fence: 'wide' is neither a number nor none" in capsys.readouterr().err


def test_facts_on_a_model_without_any_distance_are_json(capsys):
    """The same image over and over is reproduced exactly: PSNR is infinite."""
    save("equal.npy", np.repeat(GOOD[:1], 20, axis=0))
    assert run("train", "equal.npy", "-o", "n.safetensors", *PLAIN[:3], "psnr") == 0
    capsys.readouterr()
    assert run("info", "n.safetensors", "--json") == 0
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["threshold"] == (
        "-Infinity"
    )


def test_notes_are_said(capsys):
    for i in range(5):
        save(f"in/{i}.png", np.dstack([GOOD[i], GOOD[i]]))
    err = errors(capsys, "score", "m.safetensors", "in", status=0)
    note = "its transparent parts are laid over white"
    assert err == [f"imsim: note: in/{i}.png: {note}" for i in range(3)] + [
        f"imsim: note: 2 more images: {note}"
    ]
    assert run("train", "good.npy", "-o", "f.safetensors", *PLAIN, "--flat", "in/0.png") == 0
    err = errors(capsys, "score", "f.safetensors", "good.npy", "--flat", "in/0.png", status=0)
    assert err == [f"imsim: note: in/0.png: {note}"]


@pytest.mark.parametrize("name", ["o.csv", "o.json"])
@pytest.mark.parametrize("change", ["model", "flat"])
def test_resume_refuses_rows_of_another_detector(capsys, name, change):
    for i in range(4):
        save(f"in/{i}.png", GOOD[i])
    call = ("score", "m.safetensors", "in", "-o", name)
    assert run(*call) == 0
    whole = Path(name).read_bytes()
    Path(name).write_bytes(whole[: whole.index(b"in/2.png")])
    more = ("--flat", save("flat.png", np.full((32, 32), 200, np.uint8)))
    if change == "model":
        model, more = Path("m.safetensors").read_bytes(), ()
        save("other.npy", GOOD[:12])
        assert run("train", "other.npy", "-o", "m.safetensors", *PLAIN) == 0
    err = errors(capsys, *call, *more, "--resume")
    assert f"{name}: holds the results of another run" in err[0]
    if name == "o.json":
        assert "its first line differs" in err[0]
    else:
        reason = "(of another model" if change == "model" else "(the row of in/0.png is now another"
        assert reason in err[0]
    if change == "model":
        Path("m.safetensors").write_bytes(model)
    assert run(*call, "--resume") == 0
    assert Path(name).read_bytes().count(b"in/") == 4


@pytest.mark.skipif(not FULL.exists(), reason="a disk that is full is elsewhere hard to come by")
def test_a_full_disk(capsys, monkeypatch):
    err = errors(capsys, "score", "m.safetensors", "good.npy", "--csv", "-o", str(FULL))
    assert err == ["imsim: error: /dev/full: cannot be written: No space left on device"]

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("imsim.anomaly.AnomalyDetector.save", full)
    err = errors(capsys, "train", "good.npy", "-o", "new.safetensors", *PLAIN)
    assert err == ["imsim: error: new.safetensors: cannot be written: No space left on device"]


def test_options_that_would_do_nothing(capsys):
    flat = ("--flat", save("flat.png", GOOD[0]))
    for more in ((), (*PLAIN, *flat)):
        err = errors(capsys, "train", "good.npy", "-o", "x.safetensors", "--data-range", "5", *more)
        assert "--data-range: is of use with --preprocess none and without --flat" in err[0]
    err = errors(capsys, "score", "m.safetensors", "good.npy", "-o", "o.csv", "--json")
    assert "--output o.csv: contradicts --json" in err[0]
    err = errors(capsys, "simulate", "-o", "sim", "--good", "0", "--bad", "0")
    assert "--good 0 --bad 0: no image to make" in err[0]
    assert not Path("sim").exists()


@pytest.mark.parametrize("name", ["o.csv", "o.json"])
@pytest.mark.parametrize("change", ["model", "threshold"])
def test_resume_refuses_a_log_of_another_model_by_name(capsys, name, change):
    """Although its scores are the same."""
    save("in/0.png", GOOD[0])
    call = ("score", "m.safetensors", "in", "-o", name)
    assert run(*call) == 0
    text = Path(name).read_text()
    detector = AnomalyDetector.load("m.safetensors")
    if change == "threshold":
        assert repr(detector.threshold_) in text
        text = text.replace(repr(detector.threshold_), repr(detector.threshold_ + 1))
    else:
        detector.set_params(random_state=5).save("m.safetensors")
    Path(name).write_text(text)
    save("in/1.png", GOOD[1])
    before = Path(name).read_bytes()
    err = errors(capsys, *call, "--resume")
    assert f"{name}: holds the results of another run" in err[0]
    assert "in/1.png" not in Path(name).read_text()
    assert Path(name).read_bytes() == before


def test_a_log_without_names_is_refused(capsys):
    save("in/0.png", GOOD[0])
    Path("o.csv").write_text("image,anomaly_score,verdict\nin/0.png,1.0,good\n")
    err = errors(capsys, "score", "m.safetensors", "in", "-o", "o.csv", "--resume")
    assert "holds the results of another run (its first line differs)" in err[0]
    assert "another file" in err[0]


def photographs(count):
    """A scene without any background, in other light each time."""
    rng = np.random.default_rng(7)
    scene = 60 + 120 * (np.hypot(*(np.mgrid[:64, :64] - 30)) < 18)
    scene[40:] = 90
    scene[:, :20] += np.arange(64)[:, None]
    return np.stack(
        [scene * rng.uniform(0.9, 1.1) + rng.normal(0, 3, scene.shape) for _ in range(count)]
    )


def filling(count):
    """Something that fills the frame but for its corners."""
    y, x = np.mgrid[:64, :64] - 31.5
    inside = np.abs(y) + np.abs(x) < 60
    return 40 + 100 * inside + np.random.default_rng(0).normal(0, 3, (count, 64, 64))


def touching(count):
    """A piece that lies half outside the frame."""
    y, x = np.mgrid[:64, :64]
    inside = np.hypot(y - 32, x) < 20
    return 200 - 100 * inside + np.random.default_rng(0).normal(0, 3, (count, 64, 64))


def noise(count):
    return np.random.default_rng(0).normal(100, 20, (count, 64, 64))


@pytest.mark.parametrize("make", [photographs, filling, touching, noise])
def test_the_peel_refuses_images_that_are_no_x_rays(capsys, make):
    name = save("photos.npy", np.clip(np.rint(make(8)), 0, 255).astype(np.uint8))
    err = errors(capsys, "train", name, "-o", "x.safetensors", "--metric", "rmse")
    assert "--preprocess none" in err[-1]
    assert not Path("x.safetensors").exists()
    assert run("train", name, "-o", "x.safetensors", *PLAIN) == 0


def test_the_same_files_as_good_and_bad_are_refused(capsys):
    for i in range(3):
        save(f"good/{i}.png", GOOD[i])
        save(f"good/more/{i}.png", GOOD[i])
        save(f"bad/{i}.png", GOOD[i + 4])
        save(f"copy/renamed_{i}.tif", GOOD[i])
    save("mixed/new.png", GOOD[5])
    save("mixed/old.png", GOOD[1])
    Path("link").symlink_to("good")
    Path("one").mkdir()
    Path("one/0.png").symlink_to(Path("good/0.png").absolute())
    Path("two").mkdir()
    Path("two/x.png").hardlink_to("good/more/1.png")
    for good, bad in (
        ("good", "good"),
        ("good", "./good/../good"),
        ("good", "link"),
        ("link", "good/more"),
        ("good/more", "good"),
        ("good", "one"),
        ("good", "two"),
        ("good", "copy"),
        ("copy", "good.npy"),
        ("good", "mixed"),
        ("good.npy", "good.npy[3]"),
        ("good.npy[3]", "good.npy[3]"),
    ):
        err = errors(capsys, "report", "m.safetensors", good, bad, "-o", "page")
        assert "is among the bad images, but also among the good ones" in err[0], (good, bad)
    assert not list(Path().glob("page/*"))
    np.savez("both.npz", a=GOOD[:3], ab=GOOD[3:])
    for good, bad in (("both.npz:a", "both.npz:ab"), ("good.npy[1]", "good.npy[11]")):
        refuse_shared(Pictures([good]), Pictures([bad]))


def test_files_that_are_there_twice_are_learned_from_once(capsys):
    for i in range(12):
        save(f"good/in/{i:02}.png", GOOD[i])
    capsys.readouterr()
    assert run("train", "good", "good/in", "good/in/03.png", "-o", "x.safetensors", *PLAIN) == 0
    out, err = capsys.readouterr()
    assert "trained on 12 images" in out
    assert "files that are there twice, taken once: 13, e.g. good/in/00.png" in err


def test_empty_folders_and_wrong_labels(capsys):
    Path("empty").mkdir()
    err = errors(capsys, "score", "m.safetensors", "empty", "good.npy")
    assert err[0].startswith("imsim: error: empty: holds no image; these endings")
    Path("labels.csv").write_text("file,kind,size\ngood.npy[0],worm,big\n")
    bad = save("bad.npy", GOOD[:2] // 2)
    call = ("report", "m.safetensors", "good.npy", bad, "-o", "page", "--labels", "labels.csv")
    err = errors(capsys, *call)
    assert err == ["imsim: error: labels.csv: the size of good.npy[0], 'big', is not a number"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_links_are_followed_and_pipes_are_not_opened(capsys):
    save("in/0.png", GOOD[0])
    save("elsewhere/1.png", GOOD[1])
    Path("in/linked").symlink_to(Path("elsewhere").absolute())
    Path("elsewhere/back").symlink_to(Path("in").absolute())
    os.mkfifo("in/pipe.png")
    capsys.readouterr()
    assert run("score", "m.safetensors", "in", "--json") == 2
    rows = {row["image"]: row for row in by_kind(capsys.readouterr().out)["image"]}
    assert rows.keys() == {"in/0.png", "in/linked/1.png", "in/pipe.png"}
    assert rows["in/pipe.png"]["verdict"] == "not inspected"
    assert "pipe" in rows["in/pipe.png"]["reason"]


def test_pixels_without_data_are_not_inspected(capsys):
    pixels = GOOD[0].copy()
    pixels[3, 4] = 7
    tag = (42113, "s", 0, "7", True)  # GDAL's, for the value without data
    save("odd.tif", pixels, extratags=[tag], photometric="minisblack")
    capsys.readouterr()
    assert run("score", "m.safetensors", "odd.tif", "--json") == 2
    (row,) = by_kind(capsys.readouterr().out)["image"]
    assert row["verdict"] == "not inspected"
    assert "holds no data at" in row["reason"]


def test_images_with_other_endings_are_not_passed_over(capsys):
    for name in ("a.png", "b.bmp", "c.png", "d.png"):
        save(f"in/{name}", GOOD[0])
    os.rename("in/b.bmp", "in/b.img")
    os.rename("in/c.png", "in/c.heic")
    os.rename("in/d.png", "in/d")
    Path("in/notes.txt").write_text("good")
    capsys.readouterr()
    assert run("score", "m.safetensors", "in", "--json", "--fail-on-anomaly") == 2
    out, err = capsys.readouterr()
    rows = {row["image"]: row for row in by_kind(out)["image"]}
    assert {name: row["verdict"] for name, row in rows.items()} == {
        "in/a.png": "good",
        **dict.fromkeys(("in/b.img", "in/c.heic", "in/d"), "not inspected"),
    }
    assert "an ending that is not looked for" in rows["in/d"]["reason"]
    assert "note: files of other kinds left aside: 1, e.g. in/notes.txt" in err
    err = errors(capsys, "train", "in", "good.npy", "-o", "n.safetensors", *PLAIN)
    assert err[-1] == "imsim: error: 3 could not be used; they are named above"


@pytest.mark.parametrize("name", ["o.csv", "o.json"])
def test_resume_looks_at_images_that_were_changed(capsys, name):
    for i in range(4):
        save(f"in/{i}.png", GOOD[i])
    bad = save("bad.png", 255 - GOOD[1])
    call = ("score", "m.safetensors", "in", "-o", name, "--fail-on-anomaly")
    assert run(*call) == 0
    whole = Path(name).read_bytes()
    Path(name).write_bytes(whole[:-5])
    Path("in/0.png").touch()
    os.rename("in/2.png", "kept.png")
    os.rename(bad, "in/2.png")
    for _ in range(2):  # a refusal does not make the file newer than the image
        err = errors(capsys, *call, "--resume")
        assert "(the row of in/2.png is now another)" in err[-1]
    os.rename("kept.png", "in/2.png")
    assert run(*call, "--resume") == 0
    assert Path(name).read_bytes() == whole
