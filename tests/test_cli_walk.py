"""The walk over folders: links, loops, pipes, and names that fit more than once or not quite."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import compared
from image_files import GREY, NOISY, save
from PIL import Image

from imsim.cli import main
from imsim.cli.pairing import Folder

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="links, pipes and odd names"),
    pytest.mark.usefixtures("empty_directory"),
]
NFC, NFD = "caf\u00e9", "cafe\u0301"


def run(capsys, *arguments, status=0):
    """Run `imsim compare` and return pairs and the lines of its messages."""
    found, said = compared(capsys, "--metrics", "rmse", *arguments, status=status)
    return [(row["reference"], row["test"]) for row in found["scored"]], said


def test_linked_folders_and_files_are_compared(capsys):
    for side, image in (("ref", GREY), ("test", NOISY)):
        save(f"{side}/a.png", GREY), save(f"store/{side}/deep/b.png", image)
        save(f"store/{side}.png", image)
        os.symlink(f"../store/{side}", f"{side}/linked")
        os.symlink(f"../store/{side}", f"{side}/linked_too")
        os.symlink(f"../store/{side}.png", f"{side}/c.png")
    found, err = run(capsys, "ref", "test", "--fail-under", "rmse=0", status=1)
    names = ["a.png", "c.png", "linked/deep/b.png", "linked_too/deep/b.png"]
    assert found == [(f"ref/{name}", f"test/{name}") for name in names]
    assert [line.split(":")[1] for line in err[:3]] == [" fails"] * 3


def test_links_in_a_circle_end(capsys):
    save("ref/a.png", GREY), save("test/a.png", GREY), save("test/x/b.png", GREY)
    save("test/y/c.png", GREY)
    for target, link in (("..", "test/up"), (".", "test/here"), ("../y", "test/x/y")):
        os.symlink(target, link)
    os.symlink("../x", "test/y/x")
    os.symlink("self", "ref/self")
    assert Folder("test").names[:2] == ["a.png", "up/ref/a.png"]
    inside = [name for name in Folder("test").names if not name.startswith("up")]
    assert inside == ["a.png", "x/b.png", "x/y/c.png", "y/c.png", "y/x/b.png"]
    _, err = run(capsys, "ref/a.png", "ref", status=2)
    assert err[0] == "imsim: error: ref/self: is a link that leads nowhere"


def test_pipes_and_devices_in_folders_are_not_opened(capsys):
    for side in ("ref", "test"):
        save(f"{side}/a.png", GREY)
        os.mkfifo(f"{side}/p.png")
        os.symlink("/dev/zero", f"{side}/z.tif")
    found, err = run(capsys, "ref", "test")
    assert found == [("ref/a.png", "test/a.png")]
    assert err == ["imsim: note: no files but pipes or devices, left aside: 4, e.g. ref/p.png"]
    _, err = run(capsys, "ref", "test", "--fail-under", "rmse=0", status=2)
    assert err[0] == "imsim: error: ref/p.png: is a pipe or a device, and not compared"
    save("ref2/p.png", GREY), save("ref2/a.png", GREY)
    _, err = run(capsys, "ref2", "test", "--fail-under", "rmse=0", status=2)
    assert "ref2/p.png: has no partner in test" in err[0]


def test_pipes_are_not_waited_for_where_other_files_belong(capsys):
    save("a.png", GREY), save("ref/a.png", GREY), save("test/a.png", NOISY)
    Path("areas").mkdir(), Path("report").mkdir()
    os.mkfifo("areas/a.json"), os.mkfifo("report/index.html")
    assert main(["compare", "a.png", "a.png", "--ignore-from", "areas"]) == 2
    assert "areas/a.json: is a pipe or a device" in capsys.readouterr().err
    assert main(["report", "ref", "test", "-o", "report"]) == 2
    assert "holds no report" in capsys.readouterr().err


def test_a_gate_does_not_pass_over_images_that_are_not_read(capsys):
    gate = ["--fail-under", "rmse=10"]
    for side in ("ref", "test"):
        save(f"{side}/a.png", GREY), Path(f"{side}/readme.txt").write_text("")
    for call in (("ref", "test"), ("ref/a.png", "test"), ("test/a.png", "ref", "test")):
        _, err = run(capsys, *call, *gate)
        assert all(line.startswith("imsim: note: files of other kinds") for line in err)
    for name, why in (
        ("b.HEIC", "is HEIC, which is not read; save it as PNG or TIFF"),
        ("c.jxl", "is JPEG XL, which is not read; save it as PNG or TIFF"),
        ("sub/d.cr2", "is a raw camera file, which is not read; develop it as TIFF"),
        ("e.svg", "is SVG, which is not read; render it as PNG"),
        ("f.img", "is an image, but does not end like one; add the ending of its format"),
        ("g.tif.gz", "is packed; unpack it"),
    ):
        save("test/x.png", NOISY)
        Path(f"test/{name}").parent.mkdir(exist_ok=True)
        os.rename("test/x.png", f"test/{name}")
        found, err = run(capsys, "ref", "test")
        assert len(found) == 1
        assert err == [f"imsim: note: files of other kinds left aside: 3, e.g. test/{name}"]
        for reference in ("ref", "ref/a.png"):
            _, err = run(capsys, reference, "test", *gate, status=2)
            assert f"imsim: error: test/{name}: {why}" in err
            assert err[-1] == "imsim: error: 1 of 2 could not be scored; they are named above"
        rows, _ = compared(capsys, "--metrics", "rmse", "ref", "test", *gate, status=2)
        (failed,) = rows["failed"]
        assert failed["reason"] == f"test/{name}: {why}"
        os.remove(f"test/{name}")


@pytest.mark.parametrize("inside", [None, "readme.txt", "b.heic", ".hidden.png"])
def test_a_folder_without_images_is_an_error_among_several(capsys, inside):
    save("a.png", GREY), save("ref/a.png", GREY), save("test/a.png", GREY), Path("empty").mkdir()
    if inside:
        Path("empty", inside).write_bytes(b"")
    for call in (("a.png", "test/a.png", "empty"), ("a.png", "empty", "test")):
        found, err = run(capsys, *call, "--fail-under", "rmse=10", status=2)
        assert found == [("a.png", "test/a.png")]
        assert any(line.startswith("imsim: error: empty: holds no image") for line in err)
    _, err = run(capsys, "ref", "test", "empty", status=2)
    assert any(line.startswith("imsim: error: empty: holds no image") for line in err)


def test_an_ambiguous_name_ends_only_that_name(capsys):
    for name in ("ref/a.png", "ref/a.tif", "test/a.jpg", "ref/b.png", "test/b.png"):
        save(name, GREY)
    found, err = run(capsys, "ref", "test", status=2)
    assert found == [("ref/b.png", "test/b.png")]
    assert err == [
        "imsim: error: test/a.jpg: has more than one partner in ref: a.png, a.tif; "
        "keep one of them",
        "imsim: error: 1 of 2 could not be scored; they are named above",
    ]
    save("masks/b.tif", GREY > 9), save("masks/b.npy", GREY > 9)
    found, err = run(capsys, "ref/b.png", "test", "--mask", "masks", status=2)
    assert (found, len(err)) == ([], 3)
    assert "test/b.png: has more than one mask in masks: b.npy, b.tif" in err[1]


def test_two_ways_of_writing_an_accent(capsys):
    save(f"ref/{NFC}.png", GREY), save(f"test/{NFD}.png", GREY)
    save(f"ref/{NFC}/1.png", GREY), save(f"test/{NFD}/1.tif", GREY)
    found, err = run(capsys, "ref", "test", "--fail-under", "rmse=0")
    assert (len(found), err) == (2, [])
    save(f"test/{NFC}.png", NOISY)  # the same characters go first
    found, _ = run(capsys, "test", "ref")
    assert (f"test/{NFC}.png", f"ref/{NFC}.png") in found
    save(f"test2/{NFD}.tif", GREY)
    assert run(capsys, "ref", "test2")[0] == [(f"ref/{NFC}.png", f"test2/{NFD}.tif")]


def test_a_folder_that_cannot_be_read(capsys, monkeypatch):
    save("test/a.png", GREY), save("test/locked/b.png", GREY)
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found, err = run(capsys, "test/a.png", "test", status=2)
    assert found == [("test/a.png", "test/a.png")]
    assert err[0] == "imsim: error: test/locked: cannot be read: Permission denied"
    assert "locked: cannot be read" in run(capsys, "test/a.png", "test/locked", status=2)[1][0]


def test_any_failure_is_that_of_its_pair(capsys, monkeypatch):
    for name in ("ref/a.png", "ref/b.png", "ref/c.png"):
        save(name, GREY)
    from imsim.cli import pair_scoring

    compare = pair_scoring.compare
    errors = iter([RecursionError("deep"), MemoryError()])

    def fail(*args, **options):
        for error in errors:
            raise error
        return compare(*args, **options)

    monkeypatch.setattr(pair_scoring, "compare", fail)
    found, err = run(capsys, "ref", "ref", status=2)
    assert found == [("ref/c.png", "ref/c.png")]
    assert "ref/a.png: could not be scored: RecursionError: deep (test_cli_walk.py:" in err[1]
    assert "ref/b.png: too large for the memory" in err[2]
    assert Path("ref/a.png").exists()


@pytest.mark.parametrize("form", ["png", "jpeg", "tiff", "gif", "bmp", "webp", "ppm.gz", "npy"])
def test_an_image_by_any_name_is_seen_by_a_gate(capsys, form):
    for side in ("ref", "test"):
        save(f"{side}/a.png", GREY)
    name = f"test/{form}" if form != "ppm.gz" else "test/x.ppm.gz"
    why = "is Netpbm, which is not read" if form == "ppm.gz" else "add the ending of its format"
    if form == "npy":
        with open(name, "wb") as file:
            np.save(file, NOISY)
    elif form == "ppm.gz":
        Path(name).write_bytes(b"\x1f\x8b")
    else:
        Image.fromarray(NOISY).save(name, form)
    _, err = run(capsys, "ref", "test", "--fail-under", "rmse=10", status=2)
    assert f"error: {name}: " in err[0]
    assert why in err[0]


@pytest.mark.parametrize("content", [b"", b"BM stands for bench mark", b"PK\3\4", b"P5 is a label"])
def test_other_files_are_no_images(capsys, content):
    for side in ("ref", "test"):
        save(f"{side}/a.png", GREY)
    Path("test/notes").write_bytes(content)
    os.mkfifo("test/pipe")
    _, err = run(capsys, "ref", "test", "--fail-under", "rmse=10")
    assert err == ["imsim: note: files of other kinds left aside: 2, e.g. test/notes"]


def test_folders_lie_as_deep_in_each_other_as_the_system_lets_them(capsys):
    depth, home = 1300, os.getcwd()
    for side, image in (("ref", GREY), ("test", NOISY)):
        os.mkdir(side)
        os.chdir(side)
        for _ in range(depth):
            os.mkdir("d")
            os.chdir("d")
        save("a.png", image)
        os.chdir(home)
    found, _ = run(capsys, "ref", "test")
    subprocess.run(["rm", "-r", "ref", "test"], check=True)  # pytest could not
    assert found == [tuple(f"{side}/{'d/' * depth}a.png" for side in ("ref", "test"))]
