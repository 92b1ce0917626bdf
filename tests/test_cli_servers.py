"""What servers read of `imsim compare`: JUnit XML, annotations, statuses; and what shells read."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from command import compared
from image_files import GREY, refusal, save

import imsim
from imsim.cli import command_parser, main
from imsim.cli.tools import SHELLS

pytestmark = pytest.mark.usefixtures("empty_directory")


class TestServers:
    def test_junit(self, capsys):
        for name in ("1", "2", "3", "4"):
            save(f"r/{name}.png", GREY)
        save("t/1.png", GREY), save("t/2.png", 255 - GREY), save("t/3.png", GREY[1:])
        Path("t/4.png").write_bytes(b"damaged")
        save("t/5\x01<&\udc80.png", GREY)
        call = ["r", "t", "--metrics", "ssim", "--fail-under", "ssim=0.99", "--junit", "j.xml"]
        compared(capsys, *call, status=2)
        root = ElementTree.parse("j.xml").getroot()
        assert root.tag == "testsuites"
        (suite,) = root
        counts = [suite.get(name) for name in ("tests", "failures", "errors", "skipped")]
        assert counts == ["5", "3", "1", "0"]
        cases = {case.get("name"): case for case in suite.iter("testcase")}
        assert len(cases["1.png"].findall("failure")) == 0
        (failure,) = cases["2.png"].findall("failure")
        assert re.match(r"ssim is \S+, below 0\.99", failure.get("message"))
        assert cases["3.png"].find("failure").get("message") == "size 48x39 against 48x40"
        assert cases["4.png"].find("error") is not None
        assert cases["1.png"].get("classname") == "t"
        assert cases["1.png"].find("system-out").text == "ssim 1"

    def test_junit_is_written_for_missing_partners_without_a_gate(self, capsys):
        save("r/1.png", GREY), save("t/1.png", GREY), save("t/2.png", GREY)
        compared(capsys, "r", "t", "--metrics", "ssim", "--junit", "j.xml")
        assert ElementTree.parse("j.xml").getroot().get("skipped") == "1"

    def test_a_place_that_cannot_be_written(self, capsys):
        a = save("a.png", GREY)
        assert "there is no folder" in refusal(capsys, a, a, "--junit", "no/j.xml")
        assert "--junit a.png: is a file to be read" in refusal(capsys, a, a, "--junit", "a.png")
        assert "--junit -: this does not go to" in refusal(capsys, a, a, "--junit", "-")
        words = refusal(capsys, a, a, "-o", "o.json", "--junit", "./o.json")
        assert "is the file of --output" in words
        Path("j.xml").mkdir()
        assert "--junit j.xml: is a folder" in refusal(capsys, a, a, "--junit", "j.xml")

    @pytest.mark.skipif(sys.platform != "linux", reason="links and /proc")
    def test_places_are_tried_before_the_run(self, capsys):
        save("r/1.png", GREY), save("t/1.png", GREY)
        assert "cannot be written" in refusal(capsys, "r", "t", "--junit", "/proc/j.xml")
        os.symlink("t/1.png", "j.xml")
        words = "--junit j.xml: is t/1.png, in a folder that is read"
        assert words in refusal(capsys, "r", "t", "--junit", "j.xml")

    def test_a_run_that_fails_leaves_no_result_of_an_earlier_one(self, capsys):
        save("r/1.png", GREY), save("t/1.png", GREY)
        call = ["compare", "r", "t", "--metrics", "ssim", "--junit", "j.xml", "-o", "o.csv"]
        assert main(call) == 0
        assert main([*call, "--resume", "--ignore-nan"]) == 2
        assert Path("j.xml").read_bytes() == b""

    @pytest.mark.skipif(sys.platform != "linux", reason="pipes")
    def test_pipes_are_failures_of_a_gate(self, capsys):
        for name in "12":
            save(f"r/{name}.png", GREY), save(f"t/{name}.png", GREY)
        os.mkfifo("t/3.png")
        call = ["r", "t", "--metrics", "ssim", "--junit", "j.xml"]
        assert compared(capsys, *call)[0]["failed"] == []
        found, _ = compared(capsys, *call, "--fail-under", "ssim=0.9", status=2)
        assert [row["test"] for row in found["failed"]] == ["t/3.png"]
        (error,) = ElementTree.parse("j.xml").getroot().iter("error")
        assert error.text == "t/3.png: is a pipe or a device, and not compared"

    def test_annotations(self, capsys):
        files = save("r,a.png", GREY), save("t:,%.png", 255 - GREY)
        call = [*files, "--metrics", "ssim", "--fail-under", "ssim=0.99", "--annotations", "github"]
        _, err = compared(capsys, *call, status=1)
        (said,) = (line for line in err if line.startswith("::"))
        assert said.startswith("::error file=t%3A%2C%25.png,title=imsim::ssim is ")

    @pytest.mark.parametrize("more", [(), ("--labels", "labels.npy")], ids=["stack", "regions"])
    def test_annotations_mark_files(self, capsys, more):
        """Not an image in a file, nor a region of it, which the message names."""
        np.save("a.npy", np.stack([GREY, GREY]))
        np.save("b.npy", np.stack([255 - GREY, GREY]))
        np.save("labels.npy", np.ones(GREY.shape, np.uint8))
        call = ["a.npy", "b.npy", "--metrics", "rmse", "--fail-over", "rmse=0", *more]
        _, err = compared(capsys, *call, "--annotations", "github", status=1)
        (said,) = (line for line in err if line.startswith("::"))
        name = "b.npy[0], label 1" if more else "b.npy[0]"
        assert said.startswith(f"::error file=b.npy,title=imsim::{name}: rmse is ")

    def test_an_interrupted_run_does_not_look_passed(self, capsys, monkeypatch):
        for name in "12":
            save(f"r/{name}.png", GREY), save(f"t/{name}.png", GREY)

        def interrupted(result):
            if result.test == "t/2.png":
                raise KeyboardInterrupt
            yield result

        monkeypatch.setattr("imsim.cli.compare.parted", interrupted)
        assert main(["compare", "r", "t", "--metrics", "ssim", "--junit", "j.xml"]) == 130
        root = ElementTree.parse("j.xml").getroot()
        assert (root.get("tests"), root.get("errors")) == ("2", "1")
        assert "before all pairs" in next(root.iter("error")).get("message")

    @pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
    @pytest.mark.parametrize(
        ("words", "completed"),
        [
            ("comp", {"compare", "compile", "completion"}),
            ("compare --on-size", {"--on-size-mismatch"}),
            ("compare --on-size-mismatch ", {"fail", "crop", "pad"}),
            ("compare a", {"a.png", "a b.png"}),
            ("compare a.png b.png --ignore-from a", {"a.png", "a b.png"}),
            ("compare a.png b.png --maps f", {"folder"}),
        ],
    )
    def test_bash_completes(self, capsys, words, completed):
        for name in ("a.png", "a b.png", "f.png"):
            save(name, GREY)
        Path("folder").mkdir()
        assert main(["completion", "bash"]) == 0
        program = capsys.readouterr().out + (
            'COMP_WORDS=("imsim" "$@"); COMP_CWORD=$#\n'
            '_shtab_imsim imsim "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"\n'
            "printf '%s\\n' \"${COMPREPLY[@]}\"\n"
        )
        call = ["bash", "--norc", "-c", program, "bash", *words.split(" ")]
        found = subprocess.run(call, capture_output=True, text=True, check=True)
        assert set(found.stdout.splitlines()) == completed

    @pytest.mark.parametrize("shell", SHELLS)
    def test_completion(self, capsys, shell):
        assert main(["completion", shell]) == 0
        script = capsys.readouterr().out
        assert "--on-size-mismatch" in script
        assert "anomaly" in script

    def test_the_help_has_a_table_of_statuses(self):
        commands = command_parser()._subparsers._group_actions[0].choices
        text = commands["compare"].format_help()
        for status in (0, 1, 2, 130):
            assert re.search(rf"^  {status} +\w", text, re.M)
        for name in imsim.COUNTS:
            assert re.search(rf"^  {name} ", text, re.M)
