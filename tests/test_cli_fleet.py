"""`imsim compare --scheduler`: the rows of a run here, by the workers of a cluster."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from clusters import workers
from command import by_kind
from image_files import GREY, NOISY, save

import imsim
from imsim.cli import fleet, jobs, main, pair_scoring

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.usefixtures("empty_directory")
COUNT = 12


@pytest.fixture(scope="module")
def cluster():
    with workers(2) as found:
        yield found


@pytest.fixture(scope="module")
def address(cluster):
    return cluster.scheduler_address


@pytest.fixture
def folders(empty_directory):
    for i in range(COUNT):
        save(f"ref/{i:02}.png", GREY), save(f"test/{i:02}.png", np.roll(NOISY, i, axis=1))


def compare(*arguments, status=0):
    assert main(["compare", *arguments]) == status


def lines(file):
    """The head and the rows of a file; rows have no order."""
    head, *rows = Path(file).read_text().splitlines()
    return head, sorted(rows)


def both(address, *arguments, status=0, capsys=None, form="csv"):
    """Run here and there, and expect the same rows and messages."""
    said = []
    for name, more in (("here", []), ("there", ["--scheduler", address])):
        compare(*arguments, "-o", f"{name}.{form}", *more, status=status)
        out, err = capsys.readouterr() if capsys else ("", "")
        said.append(
            [sorted(text.replace(f"{name}.{form}", "x").splitlines()) for text in (out, err)]
        )
    assert lines(f"there.{form}") == lines(f"here.{form}")
    assert said[0] == said[1]
    return lines(f"there.{form}")[1]


@pytest.mark.parametrize("form", ["csv", "json"])
@pytest.mark.usefixtures("folders")
def test_the_rows_are_those_of_a_run_here(capsys, address, form):
    (Path("test") / "03.png").write_bytes(b"damaged")
    save("mask.png", np.uint8(255) * (GREY > 9))
    call = ["ref", "test", "--metrics", "ssim,psnr,fsim", "--mask", "mask.png"]
    rows = both(address, *call, status=2, capsys=capsys, form=form)
    assert len(rows) == COUNT + (form == "json")  # that has a last line


def test_every_metric_of_a_pair(capsys, address):
    save("a.png", GREY), save("b.png", NOISY)
    both(address, "a.png", "b.png", capsys=capsys)


def test_tables(capsys, address):
    save("a.png", GREY), save("b.png", NOISY)
    compare("a.png", "b.png", "a.png")
    expected = capsys.readouterr().out
    compare("a.png", "b.png", "a.png", "--scheduler", address)
    tables = capsys.readouterr().out.strip().split("\n\n")
    assert sorted(tables) == sorted(expected.strip().split("\n\n"))


@pytest.mark.parametrize("length", [1, 33, 100])
def test_stacks_are_parted(capsys, address, length):
    """The first task learns how many images there are, and others take the rest."""
    save("stack.npy", np.stack([np.roll(NOISY, i) for i in range(length)]))
    save("ref.png", GREY)
    rows = both(address, "ref.png", "stack.npy", "ref.png", "--metrics", "rmse", capsys=capsys)
    assert len(rows) == length + 1


def test_labels(capsys, address):
    save("a.png", GREY), save("b.png", NOISY)
    labels = np.zeros(GREY.shape, np.uint8)
    labels[:20, :20], labels[25:27, 30:32] = 3, 7
    save("labels.png", labels)
    metrics = ("--metrics", "rmse,ssim")
    both(address, "a.png", "b.png", "--labels", "labels.png", *metrics, capsys=capsys)


@pytest.mark.usefixtures("folders")
def test_maps_and_whose_they_are(capsys, address):
    save("ref/stack.npy", GREY[None].repeat(3, 0)), save("test/stack.npy", NOISY[None].repeat(3, 0))
    save("ref/stack_1.png", GREY), save("test/stack_1.png", GREY)
    call = ["ref", "test", "--metrics", "ssim"]
    for name, more in (("here", []), ("there", ["--scheduler", address])):
        compare(*call, "--maps", name, "-o", f"{name}.csv", *more, status=2)
        assert "its maps would be called stack_1, like those of" in capsys.readouterr().err
    maps = {path.name: path.read_bytes() for path in Path("here").iterdir()}
    assert {path.name: path.read_bytes() for path in Path("there").iterdir()} == maps
    assert len(maps) == COUNT + 3
    assert lines("there.csv") == lines("here.csv")


def test_workers_elsewhere_find_relative_paths(capsys, cluster, address):
    """Those of the cluster started in another directory than this test runs in."""
    with distributed.Client(cluster, set_as_default=False) as client:
        assert Path.cwd() not in map(Path, client.run(os.getcwd).values())
    save("sub/a.png", GREY), save("sub/b.png", NOISY)
    both(address, "sub/a.png", "sub/../sub/b.png", capsys=capsys)


class TestResume:
    @pytest.mark.parametrize("name", ["o.csv", "o.json"])
    @pytest.mark.usefixtures("folders")
    def test_what_is_there_is_not_scored_again(self, capsys, address, name):
        save("ref/s.npy", GREY[None].repeat(40, 0)), save("test/s.npy", NOISY[None].repeat(40, 0))
        call = ["ref", "test", "--metrics", "rmse", "-o", name]
        compare(*call)
        whole = lines(name)
        text = Path(name).read_text().splitlines(keepends=True)
        kept = text[:1] + text[3:5] + [line for line in text if "s.npy[3" in line]
        Path(name).write_text("".join(kept))
        compare(*call, "--resume", "--scheduler", address)
        assert lines(name) == whole
        assert Path(name).read_text().startswith("".join(kept))

    @pytest.mark.usefixtures("folders")
    def test_from_everything_no_cluster_is_needed(self, capsys):
        call = ["ref", "test", "--metrics", "rmse", "-o", "o.csv"]
        compare(*call)
        compare(*call, "--resume", "--scheduler", "tcp://127.0.0.1:9")

    @pytest.mark.usefixtures("folders")
    def test_after_ctrl_c(self, capsys, monkeypatch, address):
        parts = jobs.as_they_come

        def interrupted(*arguments):
            yield next(iter(parts(*arguments)))
            raise KeyboardInterrupt

        call = ["ref", "test", "--metrics", "rmse", "-o", "o.csv", "--scheduler", address]
        with monkeypatch.context() as patch:
            patch.setattr(jobs, "as_they_come", interrupted)
            compare(*call, status=130)
        assert "imsim: interrupted; 1 rows are in o.csv" in capsys.readouterr().err
        compare(*call, "--resume")
        assert len(lines("o.csv")[1]) == COUNT


def killed_when(file, rows, cluster, killed):
    """Kill a worker once a file has so many rows."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not killed:
        if Path(file).exists() and Path(file).read_text().count("\n") > rows:
            process = next(iter(cluster.workers.values())).process
            os.kill(process.pid, signal.SIGKILL)
            killed.append(process.pid)
        time.sleep(0.01)


@pytest.mark.skipif(os.name != "posix", reason="elsewhere, no process is killed so")
def test_a_killed_worker_loses_no_row_and_doubles_none(capsys, cluster, address):
    save("s.npy", np.stack([np.roll(NOISY, i) for i in range(1000)])), save("a.png", GREY)
    killed = []
    thread = threading.Thread(target=killed_when, args=("o.csv", 20, cluster, killed))
    thread.start()
    compare("a.png", "s.npy", "--metrics", "ssim", "-o", "o.csv", "--scheduler", address)
    thread.join()
    assert killed
    with open("o.csv", newline="") as file:
        rows = Counter(row["test"] for row in csv.DictReader(file))
    assert rows == dict.fromkeys((f"s.npy[{i}]" for i in range(1000)), 1)
    assert "error" not in capsys.readouterr().err


class TestMistakes:
    @pytest.mark.parametrize(
        ("address", "words"),
        [
            ("nonsense", "missing port"),
            ("foo://host:1", "unknown address scheme"),
            ("tcp://127.0.0.1:9", "Timed out"),
        ],
    )
    def test_a_scheduler_out_of_reach(self, capsys, monkeypatch, address, words):
        monkeypatch.setattr(fleet, "CONNECT_SECONDS", 2)
        save("a.png", GREY)
        compare("a.png", "a.png", "--scheduler", address, status=2)
        out, err = capsys.readouterr()
        assert out == ""
        (line,) = err.splitlines()
        assert f"error: --scheduler {address}: cannot be reached: " in line
        assert words in line
        assert line.endswith("; start one with `dask scheduler`, and give the address it prints")

    def test_the_address_of_a_worker(self, capsys, cluster):
        save("a.png", GREY)
        address = next(iter(cluster.workers.values())).worker_address
        compare("a.png", "a.png", "--scheduler", address, status=2)
        assert "it is the address of a worker" in capsys.readouterr().err

    def test_distributed_is_missing(self, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "distributed", None)
        save("a.png", GREY)
        compare("a.png", "a.png", "--scheduler", "local", status=2)
        assert "pip install 'imsim[dask]'" in capsys.readouterr().err

    @pytest.mark.usefixtures("folders")
    def test_workers_of_another_version(self, capsys, monkeypatch, address):
        monkeypatch.setattr(fleet, "__version__", "9.9")
        call = ["ref", "test", "--metrics", "rmse", "-o", "o.csv", "--scheduler", address]
        compare(*call, status=2)
        err = capsys.readouterr().err
        assert f"has imsim {imsim.__version__}, not 9.9; install imsim" in err
        monkeypatch.setattr(fleet.Fleet, "_survey", lambda self: None)  # one that came later
        monkeypatch.setattr(pair_scoring, "Order", partial(fleet.Order, version="9.9"))
        compare(*call, status=2)
        err = capsys.readouterr().err
        assert f"has imsim {imsim.__version__}, not 9.9" in err
        assert err.count("\n") == 1

    @pytest.mark.usefixtures("folders")
    def test_workers_without_the_files(self, capsys, monkeypatch, address):
        monkeypatch.setattr(pair_scoring, "folders_of", lambda paths: ("/nowhere/at/all",))
        call = ["ref", "test", "--metrics", "rmse", "-o", "o.csv", "--scheduler", address]
        compare(*call, status=2)
        err = capsys.readouterr().err
        assert "has no folder /nowhere/at/all; the workers read the files" in err
        assert "0 rows are in o.csv, --resume goes on" in err

    def test_what_all_pairs_need_is_missing_there(self, capsys, monkeypatch, address):
        save("a.png", GREY), save("b.png", NOISY)
        monkeypatch.setattr(pair_scoring.os, "getcwd", lambda: "/")
        compare("a.png", "b.png", "--scheduler", address, status=2)
        err = capsys.readouterr().err
        assert "the worker tcp://" in err
        assert ": a.png: cannot be read: No such file or directory; the workers read" in err

    def test_standard_input(self, capsys):
        save("a.png", GREY)
        compare("a.png", "-", "--scheduler", "local", status=2)
        assert "-: is the standard input of this machine" in capsys.readouterr().err

    def test_without_workers_it_waits_and_says_so(self, capsys, monkeypatch):
        """And a worker that comes gets the work."""
        save("a.png", GREY)
        with workers(0) as cluster:
            waited = fleet.Fleet.slots

            def slots(self):
                number = waited(self)
                if not number:
                    cluster.scale(1)
                return number

            monkeypatch.setattr(fleet.Fleet, "slots", slots)
            compare("a.png", "a.png", "--scheduler", cluster.scheduler_address)
        assert "has no worker; waiting for one" in capsys.readouterr().err


def test_a_pair_that_kills_workers_is_named_and_no_other_is_lost(capsys, monkeypatch, address):
    """The one that dies is told apart from those that were under way beside it."""
    import deadly

    for i in range(COUNT):
        save(f"test/{i:02}.png", np.roll(NOISY, i))
    save("ref.png", GREY)
    monkeypatch.setattr(pair_scoring, "score_parts", deadly.score_parts)
    call = ["ref.png", "test", "--metrics", "rmse", "-o", "o.csv", "--scheduler", address]
    with distributed.Client(address, set_as_default=False) as client:
        client.run_on_scheduler(deadly.allow, 0)
        compare(*call, status=2)
        client.run_on_scheduler(deadly.allow, 3)
    assert f"error: test/{deadly.NAME}: the workers that scored it died" in capsys.readouterr().err
    with open("o.csv", newline="") as file:
        found = {row["test"]: row["status"] for row in csv.DictReader(file)}
    assert found.pop(f"test/{deadly.NAME}") == "failed"
    assert found == dict.fromkeys((f"test/{i:02}.png" for i in range(COUNT) if i != 5), "scored")


def test_a_cluster_of_its_own():
    """It is imported only then, and leaves no process behind."""
    save("a.png", GREY), save("b.png", NOISY)
    program = (
        "import sys; from imsim.cli import main\n"
        "if __name__ == '__main__':\n"
        "    import multiprocessing\n"
        "    for more in ([], ['--scheduler', 'local', '--workers', '64']):\n"
        "        assert main([*sys.argv[1:], *more]) == 0\n"
        "        print('distributed' in sys.modules, len(multiprocessing.active_children()))\n"
    )
    Path("program.py").write_text(program)
    home = Path(imsim.__file__).parents[1]
    paths = os.pathsep.join([str(home), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "DASK_CPU_COUNT": "1"}
    environment["NUMBA_DISABLE_JIT"] = "1"  # processes start in half the time
    call = ["program.py", "compare", "a.png", "b.png", "--metrics", "rmse", "--json"]
    done = subprocess.run([sys.executable, *call], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    here, there = done.stdout.split("False 0\n")
    there = there.removesuffix("True 0\n")
    for said in (here, there):
        (row,) = by_kind(said)["scored"]
        assert row["scores"] == {"rmse": imsim.rmse(GREY, NOISY)}
        assert json.loads(said.splitlines()[0])["kind"] == "run"
