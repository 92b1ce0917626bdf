"""The `imsim` command: what it prints, what it refuses, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import imsim
from imsim._images import ImageFileError, read_mask, read_picture
from imsim._version import __version__
from imsim.cli import main

RNG = np.random.default_rng(7)
GREY = RNG.integers(0, 256, (40, 48)).astype(np.uint8)
NOISY = np.clip(GREY + RNG.normal(0, 9, GREY.shape), 0, 255).astype(np.uint8)
RGB = RNG.integers(0, 256, (40, 48, 3)).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (40, 48)).astype(np.uint16)
NEED_RANGE = {name for name, metric in imsim.METRICS.items() if metric.needs_data_range}


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def save(name, pixels, **options):
    if name.endswith(".tif"):
        tifffile.imwrite(name, pixels, **options)
    else:
        Image.fromarray(pixels).save(name, **options)
    return name


def compare_json(capsys, *arguments):
    assert main(["compare", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def scores_of(capsys, *arguments):
    return compare_json(capsys, *arguments)["results"][0]["scores"]


def refusal(capsys, *arguments):
    """Run a command that must fail, and return its message."""
    assert main(["compare", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("imsim: error: ")
    assert "Traceback" not in err
    return err


class TestList:
    def test_names_every_metric(self, capsys):
        assert main(["list"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines[1:]] == list(imsim.METRICS)
        assert max(map(len, lines)) <= 120

    def test_says_what_the_registry_says(self, capsys):
        main(["list"])
        rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
        assert "lower" in rows["gmsd"]
        assert "higher" in rows["fsim"]
        assert "(-inf, inf]" in rows["psnr"]
        assert "[0, inf)" in rows["se"]
        assert "experimental" in rows["issm"]

    def test_json(self, capsys):
        assert main(["list", "--json"]) == 0
        records = {r["name"]: r for r in json.loads(capsys.readouterr().out)}
        assert list(records) == list(imsim.METRICS)
        assert records["psnr"]["bounds"] == ["-Infinity", "Infinity"]
        assert records["issm"]["best"] == "NaN"
        assert {name for name, r in records.items() if r["needs_data_range"]} == NEED_RANGE


class TestCompare:
    def test_scores_are_those_of_the_library(self, capsys):
        found = scores_of(capsys, save("a.png", GREY), save("b.png", NOISY))
        expected = imsim.compare(GREY, NOISY)
        assert found == {name: float(score) for name, score in expected.items()}
        assert set(found) == set(imsim.METRICS)

    def test_table(self, capsys):
        assert main(["compare", save("a.png", GREY), save("b.png", NOISY)]) == 0
        head, columns, *rows = capsys.readouterr().out.splitlines()
        assert head == "b.png: 48 x 40 pixels, 8-bit, grey"
        assert columns.split() == ["metric", "score", "unit", "better"]
        assert [row.split()[0] for row in rows] == list(imsim.METRICS)
        shown = {row.split()[0]: float(row.split()[1]) for row in rows}
        assert shown["ssim"] == pytest.approx(imsim.ssim(GREY, NOISY), rel=1e-5)  # six digits

    def test_several_tests_each_have_a_block(self, capsys):
        save("a.png", GREY), save("b.png", NOISY)
        assert main(["compare", "a.png", "b.png", "a.png", "--metrics", "rmse, ssim"]) == 0
        blocks = capsys.readouterr().out.split("\n\n")
        assert [block.split(":")[0] for block in blocks] == ["b.png", "a.png"]
        assert [len(block.splitlines()) for block in blocks] == [4, 4]

    def test_mask(self, capsys):
        mask = np.zeros(GREY.shape, bool)
        mask[8:30, 8:40] = True
        expected = {name: float(s) for name, s in imsim.compare(GREY, NOISY, mask=mask).items()}
        save("a.png", GREY), save("b.png", NOISY)
        for name, image in (
            ("255.png", mask * np.uint8(255)),
            ("01.png", mask.astype(np.uint8)),
            ("bit.png", mask),
            ("deep.tif", mask * np.uint16(65535)),
        ):
            assert scores_of(capsys, "a.png", "b.png", "--mask", save(name, image)) == expected

    def test_colour(self, capsys):
        other = RGB[::-1].copy()
        found = scores_of(capsys, save("a.png", RGB), save("b.tif", other, photometric="rgb"))
        expected = imsim.compare(RGB, other, channel_axis=-1)
        assert found == {name: float(score) for name, score in expected.items()}

    @pytest.mark.parametrize("extension", ["png", "tif"])
    def test_16_bit_scores_at_full_depth(self, capsys, extension):
        a, b = save(f"a.{extension}", DEEP), save(f"b.{extension}", DEEP ^ 1)
        found = scores_of(capsys, a, b, "--data-range", "65535")
        assert found["rmse"] == 1.0
        assert found["psnr"] == pytest.approx(20 * np.log10(65535), rel=1e-14)

    def test_16_bit_without_data_range_names_what_is_left_out(self, capsys):
        a, b = save("a.tif", DEEP), save("b.tif", DEEP ^ 1)
        result = compare_json(capsys, a, b)["results"][0]
        assert set(result["skipped"]) == NEED_RANGE
        assert set(result["scores"]) == set(imsim.METRICS) - NEED_RANGE
        assert all("--data-range" in reason for reason in result["skipped"].values())
        assert main(["compare", a, b]) == 0
        assert "psnr      skipped: needs --data-range" in capsys.readouterr().out

    def test_other_reasons_for_leaving_out_are_kept(self, capsys):
        tiny = save("tiny.png", GREY[:4, :4])
        result = compare_json(capsys, tiny, tiny)["results"][0]
        assert "ssim" in result["skipped"]
        assert "--data-range" not in result["skipped"]["ssim"]

    def test_json_is_valid_for_infinity_and_nan(self, capsys):
        a, black = save("a.png", GREY), save("black.png", np.zeros_like(GREY))
        assert scores_of(capsys, a, a, "--metrics", "psnr")["psnr"] == "Infinity"
        assert scores_of(capsys, black, a, "--metrics", "sre")["sre"] == "-Infinity"
        assert main(["compare", "--json", a, a, "--mask", black, "--metrics", "rmse"]) == 0
        out, err = capsys.readouterr()
        assert json.loads(out)["results"][0]["scores"]["rmse"] == "NaN"
        assert err.startswith("imsim: warning: rmse: ")

    def test_json_names_its_input(self, capsys):
        a = save("a.png", GREY)
        report = compare_json(capsys, a, a, "--metrics", "se", "--data-range", "255")
        assert (report["reference"], report["mask"], report["data_range"]) == ("a.png", None, 255.0)
        assert report["results"][0]["test"] == "a.png"


class TestFiles:
    """What is read, and how."""

    def test_jpeg_and_grey_formats(self):
        save("a.jpg", GREY, quality=95)
        assert read_picture("a.jpg").pixels.shape == GREY.shape
        for name, pixels in (
            ("g.png", GREY),
            ("d.png", DEEP),
            ("d.tif", DEEP),
            ("b.png", GREY > 99),
        ):
            found = read_picture(save(name, pixels)).pixels
            assert found.dtype == pixels.dtype
            np.testing.assert_array_equal(found, pixels)

    def test_format_is_recognised_by_content(self):
        tifffile.imwrite("really_tiff.png", GREY)
        np.testing.assert_array_equal(read_picture("really_tiff.png").pixels, GREY)

    @pytest.mark.parametrize("bands", [2, 5])
    @pytest.mark.parametrize("planar", ["contig", "separate"])
    def test_multi_band_tiff(self, bands, planar):
        pixels = RNG.integers(0, 4096, (40, 48, bands)).astype(np.uint16)
        stored = pixels if planar == "contig" else np.moveaxis(pixels, -1, 0)
        save("m.tif", stored, photometric="minisblack", planarconfig=planar)
        picture = read_picture("m.tif")
        np.testing.assert_array_equal(picture.pixels, pixels)
        assert picture.channel_axis == -1
        assert str(picture) == f"48 x 40 pixels, 16-bit, {bands} channels"

    def test_palette_becomes_rgb(self):
        colours = np.repeat(GREY[..., None] // 64 * 64, 3, axis=-1)
        Image.fromarray(colours).quantize(8).save("p.png")
        np.testing.assert_array_equal(read_picture("p.png").pixels, colours)
        assert read_picture("p.png").notes == ()

    @pytest.mark.parametrize("name", ["rgba.png", "rgba.tif", "la.png", "la.tif", "p.png"])
    def test_alpha_is_left_aside_with_a_word(self, capsys, name):
        alpha = np.full((*GREY.shape, 1), 200, np.uint8)
        if name == "p.png":
            colours = np.repeat(GREY[..., None] // 64 * 64, 3, axis=-1)
            Image.fromarray(colours).quantize(8).save(name, transparency=0)
        else:
            colours = GREY[..., None] if name.startswith("la") else RGB
            tiff = {"photometric": "minisblack" if name.startswith("la") else "rgb"}
            options = tiff | {"extrasamples": ["unassalpha"]} if name.endswith(".tif") else {}
            save(name, np.concatenate([colours, alpha], axis=-1), **options)
        np.testing.assert_array_equal(read_picture(name).pixels, colours.squeeze())
        assert main(["compare", name, name, "--metrics", "se"]) == 0
        assert f"imsim: note: {name}: its alpha channel" in capsys.readouterr().err


class TestRefusals:
    """Exit status 2, and one message that names the file and the remedy."""

    def test_missing(self, capsys):
        save("a.png", GREY)
        assert "nowhere.png: cannot be read: No such file" in refusal(
            capsys, "a.png", "nowhere.png"
        )
        assert "nowhere.png" in refusal(capsys, "nowhere.png", "a.png")
        assert "nowhere.png" in refusal(capsys, "a.png", "a.png", "--mask", "nowhere.png")

    def test_directory(self, capsys, tmp_path):
        assert str(tmp_path) in refusal(capsys, str(tmp_path), "a.png")

    def test_not_an_image(self, capsys, tmp_path):
        (tmp_path / "notes.png").write_text("not an image")
        assert "notes.png: not a PNG, JPEG or TIFF file" in refusal(capsys, "notes.png", "a.png")

    @pytest.mark.parametrize("name", ["cut.png", "cut.jpg", "cut.tif", "tag.tif"])
    def test_damaged(self, capsys, tmp_path, name):
        file = tmp_path / save(name, GREY)
        length = 100 if name == "tag.tif" else file.stat().st_size // 2
        file.write_bytes(file.read_bytes()[:length])
        assert f"{name}: damaged" in refusal(capsys, name, name)

    def test_other_size(self, capsys):
        message = refusal(capsys, save("a.png", GREY), save("b.png", GREY[:-1]))
        assert "b.png" in message
        assert "48 x 39" in message
        assert "48 x 40" in message

    def test_grey_against_colour(self, capsys):
        message = refusal(capsys, save("a.png", GREY), save("b.png", RGB))
        assert "3 channels" in message
        assert "grey" in message

    def test_8_bit_against_16_bit(self, capsys):
        message = refusal(capsys, save("a.png", GREY), save("b.png", DEEP))
        assert "same number of bits" in message

    def test_16_bit_colour_png(self, capsys, tmp_path):
        file = tmp_path / save("a.png", RGB)
        content = bytearray(file.read_bytes())
        content[24] = 16  # the bit depth in the header; the decoder never gets to see it
        file.write_bytes(content)
        assert "save it as TIFF" in refusal(capsys, "a.png", "a.png")

    def test_several_pages(self, capsys):
        save("stack.tif", np.stack([GREY, GREY]), photometric="minisblack")
        assert "several images" in refusal(capsys, "stack.tif", "stack.tif")
        frames = [Image.fromarray(GREY), Image.fromarray(NOISY)]
        frames[0].save("film.png", save_all=True, append_images=frames[1:])
        assert "holds 2 images" in refusal(capsys, "film.png", "film.png")

    def test_unusual_colours(self, capsys):
        Image.fromarray(RGB).convert("CMYK").save("cmyk.jpg")
        assert "CMYK" in refusal(capsys, "cmyk.jpg", "cmyk.jpg")
        save("white.tif", GREY, photometric="miniswhite")
        assert "MINISWHITE" in refusal(capsys, "white.tif", "white.tif")
        save("volume.tif", np.zeros((16, 32, 32), np.uint8), volumetric=True, tile=(16, 16, 16))
        assert "axes" in refusal(capsys, "volume.tif", "volume.tif")

    def test_compression_that_needs_a_package(self, capsys, monkeypatch):
        Image.fromarray(GREY).save("lzw.tif", compression="tiff_lzw")
        monkeypatch.setattr(tifffile.TIFF, "DECOMPRESSORS", _WithoutLzw())
        message = refusal(capsys, "lzw.tif", "lzw.tif")
        assert "LZW" in message
        assert "imagecodecs" in message

    def test_masks(self, capsys):
        save("a.png", GREY)
        for name, pixels, word in (
            ("rgb.png", RGB, "must be grey"),
            ("soft.png", GREY, "Threshold"),
            ("labels.png", (GREY > 99) * np.uint8(2), "Threshold"),
            ("small.png", np.ones((9, 9), np.uint8), "same size"),
        ):
            message = refusal(capsys, "a.png", "a.png", "--mask", save(name, pixels))
            assert name in message
            assert word in message

    def test_options(self, capsys):
        save("a.png", GREY)
        assert "lpips" in refusal(capsys, "a.png", "a.png", "--metrics", "se,lpips")
        assert "data_range" in refusal(capsys, "a.png", "a.png", "--data-range", "-1")

    @pytest.mark.parametrize("arguments", [[], ["compare"], ["compare", "a"], ["unknown"]])
    def test_usage(self, capsys, arguments):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 2
        assert "usage: imsim" in capsys.readouterr().err

    def test_the_readers_raise_imsim_errors(self):
        assert issubclass(ImageFileError, imsim.ImsimError)
        with pytest.raises(ImageFileError):
            read_mask("nowhere.png")


class _WithoutLzw:
    """Stands for tifffile's table of decoders on a machine without imagecodecs."""

    def __getitem__(self, key):
        raise KeyError(f"{key} requires the 'imagecodecs' package")


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"imsim {__version__}\n"


def test_help_explains_json_and_exit_status(capsys):
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    out = capsys.readouterr().out
    assert '"Infinity"' in out
    assert "Exit status" in out


def test_installed_command_writes_ascii_and_survives_a_closed_pipe():
    """A console of any encoding shows the list; `imsim list | head` ends without a traceback."""
    command = [
        sys.executable,
        "-c",
        "import sys; from imsim.cli import main; sys.exit(main())",
        "list",
    ]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    home = Path(imsim.__file__).parents[1]
    whole = subprocess.run(
        command, capture_output=True, check=True, text=True, env=environment, cwd=home
    )
    assert whole.stdout.splitlines()[0].startswith("name")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, env=environment, cwd=home) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1
