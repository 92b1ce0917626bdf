"""Results in files: CSV and JSON, limits, interruptions, and going on after them."""

from __future__ import annotations

import csv
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command import by_kind
from image_files import DEEP, GREY, NOISY, save

import imsim
from imsim import notice
from imsim.cli import main, pair_scoring
from imsim.cli.rows import Csv, Json, Writer

COUNT = 6


@pytest.fixture(autouse=True)
def _folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i in range(COUNT):
        save(f"ref/{i}.png", GREY), save(f"test/{i}.png", np.roll(NOISY, i, axis=1))


def compare(*arguments):
    return main(["compare", "ref", "test", *arguments])


def refused(capsys, *arguments):
    assert compare(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


class TestCsv:
    def test_a_row_per_pair(self, capsys):
        assert compare("--csv", "--metrics", "rmse,ssim") == 0
        rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
        assert list(rows[0]) == ["reference", "test", "rmse", "ssim", "status", "notes"]
        assert [row["test"] for row in rows] == [f"test/{i}.png" for i in range(COUNT)]
        assert float(rows[0]["ssim"]) == imsim.ssim(GREY, NOISY)

    def test_skipped_infinite_and_nan(self, capsys):
        a = save("a.tif", DEEP)
        assert main(["compare", a, a, "--csv", "--metrics", "ssim,sre"]) == 2
        assert capsys.readouterr().out.splitlines()[1] == "a.tif,a.tif,,inf,scored,"
        black = save("black.png", np.zeros_like(GREY))
        assert main(["compare", black, black, "--csv", "--mask", black, "--metrics", "se"]) == 0
        assert capsys.readouterr().out.splitlines()[1] == (
            'black.png,black.png,nan,scored,"black.png: this mask leaves out every pixel, '
            'so that the scores are NaN","{""mask"": ""black.png""}"'
        )

    def test_names_survive(self, capsys):
        name = save('odd, "n"\r\n.png', GREY)
        assert main(["compare", name, name, "--metrics", "se", "-o", "o.csv"]) == 0
        with open("o.csv", newline="") as file:
            assert list(csv.reader(file))[1] == [name, name, "0.0", "scored", ""]
        assert main(["compare", name, name, "--metrics", "se", "-o", "o.csv", "--resume"]) == 0
        assert Path("o.csv").read_bytes().count(b"0.0") == 1


@pytest.mark.parametrize("name", ["o.csv", "o.json"])
class TestFiles:
    def test_file_has_what_is_printed_otherwise(self, capsys, name):
        assert compare("--metrics", "rmse", f"--{name[2:]}") == 0
        printed = capsys.readouterr().out
        Path(name).write_text("old")
        assert compare("--metrics", "rmse", "-o", name) == 0
        assert Path(name).read_text() == printed
        assert f"A row per pair: {name}" in capsys.readouterr().out

    def test_rows_are_there_as_soon_as_they_are_known(self, monkeypatch, name):
        seen = []
        attempt = pair_scoring._attempt

        def watched(*arguments):
            seen.append(Path(name).read_text().count("test/"))
            return attempt(*arguments)

        monkeypatch.setattr(pair_scoring, "_attempt", watched)
        assert compare("--metrics", "rmse", "-o", name, "--workers", "1") == 0
        assert seen == list(range(COUNT))

    @pytest.mark.parametrize("torn", [0, 1, 9, 40])
    def test_resume(self, capsys, monkeypatch, name, torn):
        """Whatever the place where the file was cut, it ends as if it had not been."""
        assert compare("--metrics", "rmse,ssim", "-o", name) == 0
        summary = capsys.readouterr().out
        whole = Path(name).read_bytes()
        middle = whole.index(b"test/3.png")
        Path(name).write_bytes(whole[: middle + torn])
        scored = []
        score = pair_scoring._score
        monkeypatch.setattr(
            pair_scoring, "_score", lambda job, s: scored.append(job.test) or score(job, s)
        )
        assert compare("--metrics", "rmse,ssim", "-o", name, "--resume") == 0
        assert Path(name).read_bytes() == whole
        # The first again, to see that it is the same run.
        assert scored == [f"test/{i}.png" for i in (0, *range(3, COUNT))]
        assert capsys.readouterr().out == summary

    def test_resume_from_nothing_and_from_everything(self, capsys, name):
        assert compare("--metrics", "rmse", "-o", name, "--resume") == 0
        summary = capsys.readouterr().out
        whole = Path(name).read_bytes()
        head = whole.index(b"\n") + 1
        for length in (len(whole), len(whole) - 1, 0, 5, head - 1, head):
            Path(name).write_bytes(whole[:length])
            assert compare("--metrics", "rmse", "-o", name, "--resume") == 0
            assert Path(name).read_bytes() == whole
            assert capsys.readouterr().out == summary

    def test_resume_refuses_the_results_of_another_run(self, capsys, name):
        assert compare("--metrics", "rmse", "-o", name) == 0
        before = Path(name).read_bytes()
        capsys.readouterr()
        assert "of another run" in refused(capsys, "--metrics", "se", "-o", name, "--resume")
        assert Path(name).read_bytes() == before

    def test_limits_hold_for_earlier_rows_too(self, capsys, name):
        assert compare("--metrics", "rmse", "-o", name) == 0
        arguments = ["--metrics", "rmse", "-o", name, "--resume", "--fail-under", "rmse=1"]
        assert compare(*arguments) == 1
        assert f"{COUNT} of {COUNT} pairs fail" in capsys.readouterr().err

    def test_interruption_keeps_rows(self, capsys, monkeypatch, name):
        score = pair_scoring._score

        def until_the_third(job, settings):
            if job.test == "test/3.png":
                raise KeyboardInterrupt
            return score(job, settings)

        for workers in ("1", "2"):
            monkeypatch.setattr(pair_scoring, "_score", until_the_third)
            assert compare("--metrics", "rmse", "-o", name, "--workers", workers) == 130
            assert f"interrupted; 3 rows are in {name}" in capsys.readouterr().err
            assert Path(name).read_text().count("test/") == 3
        if name == "o.json":
            assert len(by_kind(Path(name).read_text())["scored"]) == 3


@pytest.mark.parametrize("layout", [Csv(["image", "reason"]), Json(model="m")], ids=["csv", "json"])
def test_a_file_that_is_torn_anywhere_is_gone_on_with(layout):
    rows = [{"image": f'{i}\n"é".png', "reason": f'"a,\n{i}\n"'} for i in range(3)]

    def write(resume):
        writer = Writer(layout, "rows", resume, dict)
        for row in rows[len(writer.earlier) :]:
            writer.row(row)
        writer.close()
        return len(writer.earlier)

    assert write(resume=False) == 0
    whole = Path("rows").read_bytes()
    kept = set()
    for length in range(len(whole) + 1):
        Path("rows").write_bytes(whole[:length])
        kept.add(write(resume=True))
        assert Path("rows").read_bytes() == whole
    assert kept == {0, 1, 2, 3}
    for rest in (b"nonsense\n", b"5\n", b"\0\0\0"):  # as a machine leaves it that lost its power
        Path("rows").write_bytes(whole + rest)
        assert write(resume=True) == 3
        assert Path("rows").read_bytes() == whole


def test_the_ending_of_json_lines(capsys):
    assert compare("--metrics", "rmse", "-o", "o.jsonl") == 0
    found = by_kind(Path("o.jsonl").read_text())
    assert [len(found[kind]) for kind in ("run", "scored")] == [1, COUNT]
    capsys.readouterr()
    assert "contradicts --csv" in refused(capsys, "--csv", "-o", "o.jsonl").splitlines()[-1]


class TestOptions:
    def test_places_that_will_not_do(self, capsys, tmp_path):
        for file, word in (
            ("nowhere/o.csv", "there is no folder"),
            ("ref", "add --csv or --json"),
            ("o.txt", "add --csv or --json"),
        ):
            assert word in refused(capsys, "-o", file)
        (tmp_path / "d.csv").mkdir()
        assert "is a folder" in refused(capsys, "-o", "d.csv")
        assert "name it with -o FILE" in refused(capsys, "--resume")
        save("a.npy", GREY)
        assert main(["compare", "a.npy", "a.npy", "--csv", "-o", "a.npy"]) == 2
        assert "is a file to be read" in capsys.readouterr().err

    def test_old_results_survive_a_wrong_call(self, capsys):
        Path("o.csv").write_text("precious")
        assert main(["compare", "nowhere.png", "test", "-o", "o.csv"]) == 2
        assert "nowhere.png: cannot be read" in capsys.readouterr().err
        refused(capsys, "-o", "o.csv", "--metrics", "lpips")
        refused(capsys, "-o", "o.csv", "--data-range", "0")
        assert Path("o.csv").read_text() == "precious"

    @pytest.mark.parametrize(
        ("limit", "status"), [("ssim=-0.9", 0), ("ssim=0.999", 1), ("gmsd=0.7", 0), ("gmsd=0", 1)]
    )
    def test_fail_under_respects_the_direction(self, capsys, limit, status):
        assert compare("--metrics", "ssim,gmsd", "--fail-under", limit) == status
        err = capsys.readouterr().err
        side = "below 0.999" if limit.startswith("s") else "above 0"
        assert err.count(side) == COUNT * status

    def test_fail_under_runs_its_metric_and_can_be_repeated(self, capsys):
        limits = ["--fail-under", "ssim=0", "--fail-under", "rmse=0"]
        assert compare("--metrics", "se", "--csv", *limits) == 1
        assert capsys.readouterr().out.startswith("reference,test,se,ssim,rmse,status,notes\n")

    def test_fail_under_and_scores_that_are_missing(self, capsys):
        black = save("black.png", np.zeros_like(GREY))
        call = ["compare", black, black, "--mask", black, "--fail-under", "rmse=9"]
        assert main(call) == 1
        assert "rmse is NaN" in capsys.readouterr().err
        deep = save("a.tif", DEEP)
        assert main(["compare", deep, deep, "--fail-under", "ssim=0.5"]) == 2

    def test_damage_counts_more_than_limits(self, tmp_path):
        (tmp_path / "test" / "2.png").write_bytes(b"")
        assert compare("--metrics", "rmse", "--fail-under", "rmse=0") == 2

    @pytest.mark.parametrize(
        ("limit", "word"),
        [
            ("ssim", "expected a metric and a number"),
            ("ssim=nan", "expected a metric and a number"),
            ("ssim=95", "never outside -1 to 1"),
            ("lpips=1", "there is no metric 'lpips'"),
            ("rmse=1", "rmse has a limit already, 9; give one"),
        ],
    )
    def test_limits_that_make_no_sense(self, capsys, limit, word):
        assert word in refused(capsys, "--fail-under", "rmse=9", "--fail-under", limit)

    @pytest.mark.parametrize("metrics", ["", " ", "ssim,", ","])
    def test_metrics_without_a_name(self, capsys, metrics):
        """As a variable that was never set."""
        assert "there is no metric ''" in refused(capsys, "--metrics", metrics)

    @pytest.mark.parametrize("number", ["0", "-1", "two", "1.5"])
    def test_workers(self, capsys, number):
        with pytest.raises(SystemExit) as end:
            compare("--workers", number)
        assert end.value.code == 2
        assert "at least 1" in capsys.readouterr().err

    def test_results_do_not_depend_on_workers(self, capsys):
        outputs = []
        for number in ("1", "2", "8"):
            assert compare("--csv", "--metrics", "fsim,ssim", "--workers", number) == 0
            outputs.append(capsys.readouterr().out)
        assert outputs[0] == outputs[1] == outputs[2]
        assert not any(math.isnan(float(row.split(",")[2])) for row in outputs[0].split()[1:])


@pytest.mark.skipif(os.name != "posix", reason="elsewhere, a process gets no such signal")
def test_ctrl_c(tmp_path):
    """A person's Ctrl-C ends a long run with a message, and the rows stay."""
    shape = 100_000, 40, 48  # of which no byte is written
    np.lib.format.open_memmap(tmp_path / "s.npy", "w+", np.uint8, shape)
    # A test run in the background of a shell ignores the signal, and so would its children.
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from imsim.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["compare", "ref/0.png", "s.npy", "-o", "o.csv", "--metrics", "se"]
    environment = {**os.environ, "PYTHONPATH": str(Path(imsim.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if Path("o.csv").exists() and Path("o.csv").read_text().count("\n") > 3:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.stderr.read().startswith("imsim: interrupted; ")
    assert process.returncode == 130
    assert Path("o.csv").read_text().endswith("\n")


@pytest.mark.skipif(os.name != "posix", reason="a terminal is made by other means elsewhere")
def test_progress_bar_on_a_terminal_only(capfd, monkeypatch):
    assert compare("--metrics", "rmse", "-o", "o.csv") == 0
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    (Path("test") / "2.png").write_bytes(b"damaged")
    assert compare("--metrics", "rmse", "-o", "o.csv") == 2
    err = capfd.readouterr().err
    assert f"{COUNT}/{COUNT}" in err or f"/{COUNT} [" in err
    assert "compiled" not in err
    assert "imsim: error: test/2.png" in err


@pytest.mark.parametrize("terminal", [True, False])
def test_compiling_is_told_on_a_terminal_only(capfd, monkeypatch, terminal):
    notice.compiling.cache_clear()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    score = pair_scoring.compare
    monkeypatch.setattr(
        pair_scoring, "compare", lambda *a, **o: notice.compiling() or score(*a, **o)
    )
    assert main(["compare", "ref/0.png", "test/0.png", "--metrics", "rmse"]) == 0
    err = capfd.readouterr().err
    assert err.count("imsim: note: a metric is compiled when it is first used") == terminal


@pytest.mark.skipif(sys.platform == "win32", reason="locks are those of POSIX")
@pytest.mark.parametrize("resume", [False, True])
def test_a_file_into_which_another_process_writes_rows_is_left_alone(capsys, resume):
    """Two runs at once would write over the rows of each other."""
    assert compare("--metrics", "rmse", "-o", "o.csv") == 0
    before = Path("o.csv").read_bytes()
    capsys.readouterr()
    code = "from imsim.cli.rows import *; writer = Writer(Csv(['image']), 'o.csv', False, dict); "
    run = [sys.executable, "-c", f"{code} print(flush=True); input()"]
    with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        options = ["--resume"] if resume else []
        said = refused(capsys, "--metrics", "rmse", "-o", "o.csv", *options)
        assert "o.csv: another run of imsim writes to it" in said
        assert Path("o.csv").read_bytes() == b"image\n"
        other.communicate(b"\n")
    assert compare("--metrics", "rmse", "-o", "o.csv") == 0
    assert Path("o.csv").read_bytes() == before
