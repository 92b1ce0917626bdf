"""The exit status of the command, whatever becomes of its streams and of its start."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from image_files import GREY, NOISY, save

import imsim
from imsim import _interrupt
from imsim._images import ImageFileError, read_picture
from imsim.cli import _interruptible, main
from imsim.pages import readable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="closes streams by a shell")
HOME = str(Path(imsim.__file__).parents[1])
GATE = "--metrics rmse --fail-under rmse=0"


@pytest.fixture(autouse=True)
def _two_images(empty_directory, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", HOME)
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # processes start in half the time
    save("a.png", GREY), save("b.png", NOISY)


def shell(line):
    """Run a line in which IMSIM is the command, and return its status and what it printed."""
    line = line.replace("IMSIM", f"{sys.executable} -m imsim")
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)


def variant(*values):
    """Leave out, every day, what differs from its neighbours in one stream of two."""
    return pytest.param(*values, marks=pytest.mark.thorough)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        variant(f"IMSIM compare a.png a.png {GATE} 2>&-", 0),
        variant(f"IMSIM compare a.png a.png {GATE} >&-", 2),
        (f"IMSIM compare a.png a.png {GATE} >&- 2>&-", 2),
        (f"IMSIM compare a.png b.png {GATE} 2>&-", 1),
        variant(f"IMSIM compare a.png b.png {GATE} 2>/dev/full", 1),
        (f"IMSIM compare a.png a.png {GATE} >/dev/full", 2),
        ("IMSIM compare a.png nowhere.png 2>/dev/full", 2),
        variant("IMSIM compare a.png nowhere.png 2>&-", 2),
        variant("IMSIM compare 2>/dev/full", 2),
        ("IMSIM compare 2>&-", 2),
        ("IMSIM compare --help >/dev/full", 2),
        variant("IMSIM report a.png b.png --metrics rmse -o page.html >&- 2>&-", 2),
    ],
)
def test_statuses_hold_whatever_the_streams(line, status):
    done = shell(line)
    assert done.returncode == status
    assert "Traceback" not in done.stderr + done.stdout
    assert "Exception" not in done.stderr + done.stdout


def test_messages_do_not_go_into_a_file_that_took_the_number_of_a_closed_stream():
    assert shell("IMSIM compare a.png nowhere.png a.png --metrics se -o o.csv 2>&- >&-").returncode
    assert Path("o.csv").read_text().startswith("reference,test,se")
    assert "imsim:" not in Path("o.csv").read_text()


@contextlib.contextmanager
def printing_to(into):
    """Let what is printed go where a shell would send it, and /dev/stdout stand for that."""
    with open("out", "ab" if into == ">>" else "wb") as out:
        cat = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=out) if into == "|" else None
        kept = os.dup(1)
        os.dup2((cat.stdin if cat else out).fileno(), 1)
        try:
            with open(1, "w", closefd=False) as stream, contextlib.redirect_stdout(stream):
                yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)
            if cat:
                cat.communicate()


@pytest.mark.parametrize(
    ("name", "into"), [("/dev/stdout", ">"), ("/dev/stdout", "|"), ("out", ">>"), ("-", ">")]
)
def test_what_is_printed_is_not_written_over_what_goes_to_the_same_file(name, into, capsys):
    Path("out").write_text("")
    with printing_to(into):
        assert main(["report", "a.png", "b.png", "--metrics", "rmse", "-o", name]) == 0
    page = Path("out").read_text()
    assert page.lower().startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    Path("out").write_text("")
    images = ["compare", "a.png", "b.png", "a.png", "--metrics", "rmse"]
    with printing_to(into):
        assert main([*images, "--csv", "-o", name]) == 0
    rows = Path("out").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["reference", "a.png", "a.png"]
    with printing_to(into):
        assert main([*images, "--junit", name]) == 2
    assert "does not go to standard output" in capsys.readouterr().err


@pytest.mark.parametrize(
    "call",
    [
        ["compare", "a.png", "b.png", "--metrics", "ssim", "--maps"],
        ["compare", "a.png", "b.png", "--junit"],
        ["anomaly", "train", "a.png", "-o"],
        ["anomaly", "update", "m", "a.png", "-o"],
        ["anomaly", "report", "m", "a.png", "b.png", "-o"],
        ["anomaly", "simulate", "-o"],
    ],
)
def test_what_is_no_stream_does_not_go_to_standard_output(call, capsys):
    assert main([*call, "-"]) == 2
    assert "-: this does not go to standard output; name" in capsys.readouterr().err
    assert not Path("-").exists()


def test_in_a_folder_that_is_gone():
    home = os.getcwd()
    start = "mkdir gone; cd gone; rmdir ../gone; IMSIM"
    for call in (f"report {home}/a.png {home}/b.png --metrics rmse -o page.html", "compare a b"):
        done = shell(f"{start} {call}")
        assert done.returncode == 2
        assert "imsim itself failed" not in done.stderr
        assert done.stderr.startswith("imsim: error: ")


def test_a_page_is_utf_8_whatever_the_terminal():
    save("café.png", NOISY)
    call = "report a.png café.png --metrics rmse -o -"
    plain = "env LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 PYTHONIOENCODING= "
    assert shell(f"{plain} IMSIM {call} > c.html").returncode == 0
    with printing_to(">"):
        assert main(call.split()) == 0
    assert Path("out").read_bytes() == Path("c.html").read_bytes()
    page = Path("c.html").read_text(encoding="utf-8")
    assert "48 × 40 pixels" in page
    assert "café.png" in page
    assert "udcc3" not in page


def test_a_reader_that_went_away():
    np.save("s.npy", np.repeat(GREY[None], 3000, axis=0))
    line = f"IMSIM compare a.png s.npy --csv {GATE} | head -1 >&2; exit ${{PIPESTATUS[0]}}"
    done = shell(line)
    assert (done.returncode, done.stderr[:10]) == (2, "reference,")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("delay", [0.0, variant(0.15), 0.4])
def test_ctrl_c_while_it_starts(delay):
    """From the first line of the package on; before that, it is Python that is interrupted."""
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    Path("sitecustomize.py").write_text(program)  # a child of the background ignores it
    environment = {**os.environ, "PYTHONPATH": f"{os.getcwd()}:{HOME}"}
    command = [sys.executable, "-v", "-m", "imsim", "compare", "a.png", "b.png"]
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        for line in process.stderr:
            if "import 'imsim._interrupt'" in line:
                break
        time.sleep(0.05 + delay)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert "imsim: interrupted" in rest


@pytest.fixture
def _a_process_of_its_own():
    """Take Ctrl-C as in a process that is there for the command alone."""
    earlier = signal.signal(signal.SIGINT, _interrupt.leave)
    yield
    signal.signal(signal.SIGINT, earlier)


@pytest.mark.usefixtures("_a_process_of_its_own")
def test_ctrl_c_that_a_callback_loses():
    """Code that is not Python's calls back, and no exception passes through it."""

    @ctypes.CFUNCTYPE(None)
    def callback():
        raise KeyboardInterrupt

    def interrupted():
        with _interruptible():
            callback()
            time.sleep(9)

    with pytest.raises(KeyboardInterrupt):
        interrupted()


@pytest.mark.usefixtures("_a_process_of_its_own")
def test_the_process_ends_at_once():
    """Python does not look through all objects once more."""
    gc.unfreeze()
    before = gc.get_freeze_count()
    try:
        assert main(["list"]) == 0
        assert gc.get_freeze_count() > before + 1000
    finally:
        gc.unfreeze()


def test_a_fault_of_the_program_is_not_a_score_beyond_its_limit(capsys, monkeypatch):
    monkeypatch.setattr("imsim.cli.compare.pair_files", lambda *_, **__: 1 / 0)
    assert main(["compare", "a.png", "a.png"]) == 2
    assert "ZeroDivisionError: division by zero (test_cli_streams.py:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("line\nbreak", r"line\nbreak"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\u2066\u200f\ufeff\u2028", r"\u2066\u200f\ufeff\u2028"),
        ("café 日本 🙂", "café 日本 🙂"),
        ("caf\udcc3\udca9", "café"),  # as Python has it in the C locale
        ("caf\udce9", r"caf\xe9"),
    ],
)
def test_names_are_shown_on_one_line_and_do_nothing(name, text):
    assert readable(name) == text


def test_names_are_shown_harmless_and_kept_exactly(capsys):
    name = "e\x1b[31mvil\n\u202e.png"
    save(f"in/{name}", GREY), save(f"in/b{name}", GREY[1:])
    assert main(["compare", "a.png", "in", "--metrics", "rmse"]) == 2
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "\u202e" not in out + err
    assert r"e\x1b[31mvil\n\u202e.png" in out
    assert r"be\x1b[31mvil\n\u202e.png" in err
    assert main(["compare", "a.png", "in", "--metrics", "rmse", "--csv"]) == 2
    assert f'a.png,"in/{name}",0.0' in capsys.readouterr().out


def test_complaints_about_usage_quote_names_harmlessly(capsys):
    with pytest.raises(SystemExit):
        main(["compare", "a.png", "a.png", "--colour\x1b[31m\n"])
    err = capsys.readouterr().err
    assert r"--colour\x1b[31m\n" in err
    assert "\x1b" not in err


def test_names_in_the_c_locale():
    save("café.png", GREY)
    line = "LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 IMSIM"
    assert shell(f"{line} compare a.png caf* --metrics se --csv").stdout.splitlines()[1] == (
        "a.png,café.png,0.0,scored,"
    )


def test_ctrl_c_does_not_wait_for_what_is_under_way(capsys, monkeypatch):
    np.save("s.npy", np.repeat(GREY[None], 9, axis=0))
    end = threading.Event()

    def slow(job, settings):
        if job.test == "s.npy[0]":
            raise KeyboardInterrupt
        end.wait(60)

    monkeypatch.setattr("imsim.cli.pair_scoring._score", slow)
    begun = time.monotonic()
    assert main(["compare", "a.png", "s.npy", "--metrics", "se", "--workers", "2"]) == 130
    assert time.monotonic() - begun < 30  # less than the other image would take
    end.set()
    assert "interrupted" in capsys.readouterr().err


def test_a_standard_input_that_is_closed_is_named(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(ImageFileError, match="-: cannot be read: the standard input is closed"):
        read_picture("-")
