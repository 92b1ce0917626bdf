"""`imsim report`: one page about two images."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from image_files import DEEP, GREY, NOISY, RGB, save
from PIL import Image

import imsim
from imsim.cli import main
from imsim.pages import layers

pytestmark = pytest.mark.usefixtures("empty_directory")


def report(*arguments):
    return main(["report", *arguments, "-o", "page.html"])


def test_a_page_about_two_images(capsys):
    mask = save("mask.png", np.tri(*GREY.shape, dtype=bool))
    assert report(save("a.png", GREY), save("<b>.png", NOISY), "--mask", mask) == 0
    assert capsys.readouterr() == ("Report: page.html\n", "")
    html = Path("page.html").read_text(encoding="utf-8")
    assert "a.png" in html
    assert "&lt;b&gt;.png" in html
    assert "<b>.png" not in html


def test_colours_and_deep_images():
    assert report(save("a.png", RGB), save("b.png", 255 - RGB)) == 0
    deep = save("a.tif", DEEP)
    assert report(deep, deep, "--data-range", "65535") == 0


def test_images_of_stacks():
    stack = save("s.npy", np.stack([GREY, NOISY]))
    assert report(f"{stack}[0]", f"{stack}[1]") == 0
    assert "s.npy[1] against s.npy[0]" in Path("page.html").read_text(encoding="utf-8")


def test_notes_stand_on_the_page(capsys):
    exif = Image.Exif()
    exif[274] = 6  # to be turned
    turned = save("turned.jpg", GREY, exif=exif)
    nothing = save("mask.png", np.zeros(GREY.T.shape, bool))
    assert report(turned, turned, "--mask", nothing) == 0
    html = Path("page.html").read_text(encoding="utf-8")
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 2
    for note in notes:
        assert f"<li>{note.removeprefix('imsim: note: ')}</li>" in html
    assert "its orientation tag" in html
    assert "There is nothing inside the mask" in html


def test_why_scores_are_nan_stands_on_the_page_and_in_the_terminal(capsys):
    image = np.random.default_rng(1).random((40, 48))
    broken = image.copy()
    broken[3, 4:7], broken[30, 9] = np.nan, np.inf
    whole, save_nan = save("a.npy", image), save("b.npy", broken)
    mask = np.zeros(image.shape, bool)
    mask[0, 0] = True
    for test, option, said, shown in (
        (
            save_nan,
            [],
            ["b.npy: NaN over all pixels: ", "b.npy: 4 of its pixels are NaN or infinite"],
            ["4 of them a value is NaN or infinite.", "4 of the pixels that count are NaN"],
        ),
        (
            save("c.npy", image + 0.5),
            ["--mask", save("m.png", mask)],
            ["c.npy: NaN with the mask m.png: "],
            [", by at most 0.5.<", "since nothing is left for these metrics to score"],
        ),
        (
            save("d.npy", np.full_like(image, np.nan)),
            [],
            ["d.npy: NaN over all pixels: ", "d.npy: 1920 of its pixels are NaN or infinite"],
            ["(100%). At 1920 of them a value is NaN"],
        ),
    ):
        assert report(whole, test, "--data-range", "1", *option) == 0
        html = Path("page.html").read_text(encoding="utf-8")
        err = capsys.readouterr().err.splitlines()
        assert len(err) == len(said)
        for line, words in zip(err, said, strict=True):
            assert line.startswith(f"imsim: note: {words}")
            assert line.removeprefix("imsim: note: ") in html
        assert "gmsd" in err[0]
        for words in shown:
            assert words in html
        assert "by at most 0." not in html.replace("by at most 0.5", "")


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux")
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("caf\udcc3\udca9.png", "caf\u00e9.png"),  # as Python has it in the C locale
        ("\udcff\x1b\n.png", r"\xff\x1b\n.png"),
    ],
)
def test_names_of_any_bytes_make_a_valid_page(name, shown):
    save("a.png", GREY)
    Path(name).write_bytes(Path("a.png").read_bytes())
    assert report("a.png", name) == 0
    page = Path("page.html").read_bytes().decode("utf-8")
    assert f"<h1>{shown} against a.png</h1>" in page


def test_what_is_refused(capsys):
    a, deep = save("a.png", GREY), save("a.tif", DEEP)
    small = save("small.png", GREY[:9, :9] > 99)
    for arguments, words in (
        ((a, "nowhere.png"), "nowhere.png: cannot be read"),
        ((a, "."), ".: is a folder, and the other is not; report takes two images, or two folders"),
        ((a, a, "--mask", "."), ".: is a folder; the mask of two images is an image"),
        ((a, deep), "save both with the same number of bits"),
        ((save("s.npy", np.stack([GREY, NOISY])), a), "name one of them: 's.npy[0]' to 's.npy[1]'"),
        ((a, a, "--mask", small), "the mask is 9 x 9 pixels"),
        ((deep, deep), "a.tif: is 48 x 40 pixels, 16-bit, grey; add --data-range"),
        ((a, a, "-o", "nowhere/page.html"), "there is no folder"),
        ((a, a, "-o", a), "is a file to be read"),
        ((a, a, "-o", "page.png"), "is called like an image"),
    ):
        assert main(["report", "-o", "page.html", *arguments]) == 2
        assert words in capsys.readouterr().err
    assert not Path("page.html").exists()


@pytest.mark.parametrize(("limits", "status"), [([], 0), (["--fail-under", "ssim=0.1"], 1)])
def test_images_of_different_sizes_are_shown(limits, status, capsys):
    mask = np.ones(GREY.shape, bool)
    mask[:5] = False
    paths = save("a.png", GREY), save("b.png", NOISY[:30])
    assert report(*paths, "--mask", save("m.png", mask), *limits) == status
    said = "fails: b.png: size 48x30 against 48x40" if status else "note: b.png: size 48x30 against"
    assert said in capsys.readouterr().err
    html = Path("page.html").read_text(encoding="utf-8")
    assert "The sizes differ: size 48x30 against 48x40." in html
    assert "have the same 48 × 30 pixels" in html
    assert "The mask uses 1200 of 1440 pixels (83.3%)" in html
    scores = imsim.compare(GREY[:30], NOISY[:30], mask=mask[:30])
    assert f"{scores['rmse']:.6g}" in html
    assert report("a.png", save("rgb.png", RGB[:30])) == 0
    assert "size 48x30 against 48x40" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("limit", "status"),
    [("ssim=0.1", 0), ("ssim=0.9999", 1), ("pixels=0", 1)],
)
def test_a_page_fails_as_compare_does(limit, status, capsys):
    option = "--fail-over" if limit.startswith("pixels") else "--fail-under"
    paths = save("a.png", GREY), save("b.png", NOISY)
    given = ("--metrics", "ssim,rmse", "--tolerance", "3", option, limit)
    assert report(*paths, *given) == status
    err = capsys.readouterr().err
    assert main(["compare", *paths, *given]) == status
    assert capsys.readouterr().err == err
    html = Path("page.html").read_text(encoding="utf-8")
    assert "picture-ssim" in html
    assert "picture-fsim" not in html
    assert ("answer failed" in html) == bool(status)
    found = imsim.differing_pixels(GREY, NOISY, tolerance=3)
    assert f"Pixels that differ: {found.count}." in html
    assert "pixels that differ by more than 3 in some channel" in html
    (y, bottom), (x, right) = found.boxes[0].tolist()
    assert f"{right - x} × {bottom - y} at {x}, {y}</a>" in html


@pytest.mark.parametrize("rows", [40, 30])
def test_options_of_metrics_are_those_of_the_scores_and_maps(rows, capsys):
    """Of images of one size, and of others, whose scores the page computes."""
    a, b = np.float64(GREY), np.float64(NOISY)  # of which kernels for other windows are at hand
    paths = save("a.npy", a), save("b.npy", b[:rows])
    call = ("--metrics", "zncc,sh", "--option", "zncc.window_size=5", "--option", "sh.hash=average")
    call += ("--data-range", "255")
    assert report(*paths, *call) == 0
    html = Path("page.html").read_text(encoding="utf-8")
    want = imsim.zncc(a[:rows], b[:rows], window_size=5)
    assert want != imsim.zncc(a[:rows], b[:rows])
    assert f"{want:.6g}" in html
    assert "b.npy: scored with zncc.window_size=5, sh.hash=average" in html
    assert report(*paths, "--metrics", "sh", "--option", "ssim.sigma=2") == 2
    assert "ssim is not run" in capsys.readouterr().err
    maps = layers.map_layers(
        layers.ImagePair(GREY[..., None], NOISY[..., None], None, 255),
        *(a, b),
        {"mask": None},
        ["zncc", "imed"],
        own={"zncc": {"window_size": 5}, "imed": {"nonsense": 1}},
    )
    (layer,) = maps
    np.testing.assert_array_equal(layer.map.values, imsim.zncc_map(a, b, window_size=5))
