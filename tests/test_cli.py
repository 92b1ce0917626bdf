"""The `imsim` command: what it prints, what it refuses, and how it ends."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import compared
from image_files import DEEP, GREY, NOISY, RGB, refusal, save
from PIL import Image

import imsim
from imsim._version import __version__
from imsim.cli import main
from imsim.comparison import Comparison
from imsim.errors import ImsimError

NEED_RANGE = {name for name, metric in imsim.METRICS.items() if metric.needs_data_range}


pytestmark = pytest.mark.usefixtures("empty_directory")


def result_of(capsys, *arguments, status=0):
    (result,) = compared(capsys, *arguments, status=status)[0]["scored"]
    return result


def scores_of(capsys, *arguments):
    return result_of(capsys, *arguments)["scores"]


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
        result = result_of(capsys, a, b)
        assert set(result["skipped"]) == NEED_RANGE
        assert set(result["scores"]) == set(imsim.METRICS) - NEED_RANGE
        assert all("--data-range" in reason for reason in result["skipped"].values())
        assert main(["compare", a, b]) == 0
        lines = capsys.readouterr().out.splitlines()
        (said,) = (line for line in lines if "skipped" in line)  # once, not for each of them
        names = ", ".join(name for name in imsim.METRICS if name in NEED_RANGE)
        assert said.startswith(f"skipped: {names}: needs --data-range")

    def test_other_reasons_for_leaving_out_are_kept(self, capsys):
        tiny = save("tiny.png", GREY[:4, :4])
        result = result_of(capsys, tiny, tiny)
        assert "ssim" in result["skipped"]
        assert "--data-range" not in result["skipped"]["ssim"]

    def test_json_is_valid_for_infinity_and_nan(self, capsys):
        a, black = save("a.png", GREY), save("black.png", np.zeros_like(GREY))
        assert scores_of(capsys, a, a, "--metrics", "psnr")["psnr"] == "Infinity"
        assert scores_of(capsys, black, a, "--metrics", "sre")["sre"] == "-Infinity"
        found, err = compared(capsys, a, a, "--mask", black, "--metrics", "rmse")
        assert found["scored"][0]["scores"]["rmse"] == "NaN"
        assert err[0].startswith("imsim: note: black.png: this mask leaves out every pixel")

    def test_json_names_its_input(self, capsys):
        a = save("a.png", GREY)
        found, _ = compared(capsys, a, a, "--metrics", "se", "--data-range", "255")
        (run,) = found["run"]
        assert (run["reference"], run["mask"], run["data_range"]) == ("a.png", None, 255.0)
        assert found["scored"][0]["test"] == "a.png"

    def test_a_metric_asked_for_by_name_must_be_scored(self, capsys):
        a, b = save("a.png", DEEP), save("b.png", DEEP ^ 1)
        found, err = compared(capsys, a, b, "--metrics", "se,ssim", status=2)
        assert set(found["scored"][0]["scores"]) == {"se"}
        assert err[0].startswith("imsim: error: b.png: ssim was skipped: needs --data-range")
        assert "1 for floats from 0 to 1" in err[0]
        dot = save("dot.png", GREY[:1, :1])
        assert main(["compare", dot, dot, "--metrics", "ssim"]) == 2
        assert "dot.png: ssim was skipped: the images are 1x1" in capsys.readouterr().err
        assert main(["compare", a, b, "--metrics", "se,ssim,fsim"]) == 2
        assert "b.png: ssim, fsim were skipped: needs" in capsys.readouterr().err
        assert main(["compare", dot, dot]) == 0

    def test_something_must_be_scored(self, capsys, monkeypatch):
        nothing = Comparison({}, dict.fromkeys(imsim.METRICS, ImsimError("a reason")))
        monkeypatch.setattr("imsim.cli.pair_scoring.compare", lambda *args, **options: nothing)
        a = save("a.png", GREY)
        assert main(["compare", a, a]) == 2
        assert "a.png: every metric was skipped" in capsys.readouterr().err

    def test_notes_about_the_mask_are_printed(self, capsys):
        a = save("a.png", GREY)
        levels = np.where(GREY > 99, 255, 0).astype(np.uint8)
        Image.fromarray(levels).convert("P").save("mask.png")
        assert main(["compare", a, a, "--mask", "mask.png", "--metrics", "se"]) == 0
        assert "imsim: note: mask.png: its palette" in capsys.readouterr().err


class TestRefusals:
    """Exit status 2, and one message that names the file and the remedy."""

    def test_missing(self, capsys):
        save("a.png", GREY)
        assert "nowhere.png: cannot be read: No such file" in refusal(
            capsys, "a.png", "nowhere.png"
        )
        assert "nowhere.png" in refusal(capsys, "nowhere.png", "a.png")
        assert "nowhere.png" in refusal(capsys, "a.png", "a.png", "--mask", "nowhere.png")

    def test_other_size(self, capsys):
        message = refusal(capsys, save("a.png", GREY), save("b.png", GREY[:-1]))
        assert "b.png" in message
        assert "48 x 39" in message
        assert "48 x 40" in message

    def test_grey_against_other_numbers_of_channels(self, capsys):
        save("a.npy", GREY), save("b.npy", RGB[..., :2])
        message = refusal(capsys, "a.npy", "b.npy", "--channel-axis", "-1")
        assert "2 channels" in message
        assert "grey" in message

    def test_8_bit_against_16_bit(self, capsys):
        message = refusal(capsys, save("a.png", GREY), save("b.png", DEEP))
        assert "same number of bits" in message

    def test_masks(self, capsys):
        save("a.png", GREY)
        for name, pixels, word in (
            ("rgb.png", RGB, "Threshold"),
            ("soft.png", GREY, "Threshold"),
            ("labels.png", GREY // 99, "Threshold"),
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


def command(*arguments, module="imsim", **options):
    """Run the command in a process of its own."""
    home = Path(imsim.__file__).parents[1]
    path = os.pathsep.join([str(home), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "ascii:strict"}
    call = [sys.executable, "-m", module, *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(call, **(pipes | options), env=environment)


@pytest.mark.parametrize("module", ["imsim", "imsim.cli"])
def test_command_of_the_interpreter(module):
    """It writes ASCII for the list, whatever the console."""
    out, err = (process := command("list", module=module)).communicate()
    assert (process.returncode, err) == (0, "")
    assert out.startswith("name")


def test_closed_pipe_ends_without_a_traceback():
    with command("list") as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is full")
def test_full_disk():
    with open("/dev/full", "w") as full, command("list", stdout=full) as process:
        message = process.stderr.read()
    assert message == "imsim: error: standard output cannot be written: No space left on device\n"
    assert process.returncode == 2


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, names of files are text")
def test_names_that_the_console_cannot_show():
    name = save(os.fsdecode(b"caf\xe9.png"), GREY)
    out, err = (process := command("compare", name, name, "--metrics", "se")).communicate()
    assert (process.returncode, err) == (0, "")
    assert out.startswith(r"caf\xe9.png: 48 x 40 pixels")


def test_module_runs_in_process(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["imsim", "list"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("imsim", run_name="__main__")
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("name")
