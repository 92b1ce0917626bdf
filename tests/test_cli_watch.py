"""`imsim anomaly watch`: rows as images appear, whatever happens to the folder."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from command import by_kind
from image_files import save
from watching import between_looks

import imsim
from imsim.anomaly import AnomalyDetector
from imsim.cli import main
from imsim.cli.anomaly.inputs import Pictures

pytestmark = pytest.mark.usefixtures("empty_directory")


def noise(n, seed, deviation=5.0):
    values = np.random.default_rng(seed).normal(100, deviation, (n, 16, 16))
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def fitted(n):
    plain = {"preprocess": None, "metric": "rmse", "pose": None, "random_state": 0}
    return AnomalyDetector(**plain, false_alarm_rate=0.05).fit(noise(n, 1))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    fitted(60).save(path)
    return str(path)


@pytest.fixture
def looks(monkeypatch):
    return between_looks(monkeypatch)


def watch(capsys, model, *arguments, status=130, folder="in"):
    """Run the command; return its lines of JSON by kinds, and those of its messages."""
    assert main(["anomaly", "watch", model, folder, "--json", *arguments]) == status
    out, err = capsys.readouterr()
    return by_kind(out), err.splitlines()


def put(name, image, at=None):
    save(f"in/{name}", image)
    if at is not None:
        os.utime(f"in/{name}", (at, at))


GOOD = noise(80, 2)
BAD = np.kron([[1, 0], [0, 1]], np.full((8, 8), 255)).astype(np.uint8)


def names(found):
    return [row["image"] for row in found["image"]]


class TestArrivals:
    def test_new_images_have_rows_as_of_score_and_a_time(self, capsys, model, looks):
        put("old.png", GOOD[0])
        begun = datetime.now().astimezone()
        looks += [lambda: put("a.png", GOOD[1]), None, lambda: put("b.png", BAD), None]
        found, err = watch(capsys, model)
        assert names(found) == ["in/a.png", "in/b.png"]
        assert [row["verdict"] for row in found["image"]] == ["good", "anomaly"]
        times = [datetime.fromisoformat(row["time"]) for row in found["image"]]
        assert [begun, *times] == sorted([begun, *times])
        assert err[0] == (
            "imsim: note: files that are there already are not scored: 1, e.g. in/old.png; "
            "--existing takes them"
        )
        assert err[1].startswith("imsim: 1 of 2 images are anomalies (threshold ")
        assert err[2] == "imsim: interrupted"
        assert main(["anomaly", "score", model, "in/a.png", "in/b.png", "--json"]) == 0
        scored = by_kind(capsys.readouterr().out)
        assert found["run"] == scored["run"]
        for row, other in zip(found["image"], scored["image"], strict=True):
            del row["time"]
            assert row == pytest.approx(other)

    def test_csv_is_the_default(self, capsys, model, looks):
        put("a.png", GOOD[0])
        looks += [None]
        assert main(["anomaly", "watch", model, "in", "--existing", "--stop-after", "1"]) == 0
        (row,) = csv.DictReader(capsys.readouterr().out.splitlines()[-2:])
        columns = ["time", "image", "anomaly_score", "verdict", "reason", "threshold"]
        assert [*row] == [*columns, "model_sha256"]

    def test_existing_ones_the_oldest_first(self, capsys, model, looks):
        for i, name in enumerate(("c.png", "a.png", "sub/b.npy")):
            put(name, GOOD[i], at=1e9 + i)
        looks += [None]
        found, _ = watch(capsys, model, "--existing")
        assert names(found) == ["in/c.png", "in/a.png", "in/sub/b.npy"]

    def test_a_stack_has_a_row_per_image(self, capsys, model, looks):
        looks += [lambda: put("s.npy", GOOD[:3]), None]
        found, _ = watch(capsys, model)
        assert names(found) == [f"in/s.npy[{i}]" for i in range(3)]

    def test_a_file_that_is_being_written_does_not_count_yet(self, capsys, model, looks):
        save("whole.png", GOOD[0])
        data = Path("whole.png").read_bytes()

        def grow(size):
            return lambda: Path("in/a.png").write_bytes(data[:size])

        looks += [grow(size) for size in (0, 40, 80, len(data))] + [None] * 3
        found, _ = watch(capsys, model)
        assert [row["verdict"] for row in found["image"]] == ["good"]

    def test_one_that_stays_half_is_named_and_scored_when_it_is_whole(self, capsys, model, looks):
        save("whole.png", GOOD[0])
        data = Path("whole.png").read_bytes()
        looks += [
            lambda: Path("in/a.png").write_bytes(data[:80]),
            *[None] * 4,
            lambda: Path("in/a.png").write_bytes(data),
            None,
        ]
        found, err = watch(capsys, model)
        assert [row["verdict"] for row in found["image"]] == ["not inspected", "good"]
        assert found["image"][0]["reason"]
        assert err[0].startswith("imsim: error: in/a.png: ")
        assert "1 could not be inspected: 1 rejected" in err[1]

    def test_one_that_changes_while_it_is_read_waits(self, capsys, model, looks, monkeypatch):
        each_of, written = Pictures.each_of, []

        def slow(self, path, skip):
            for picture in each_of(self, path, skip):
                if not written:
                    written.append(put("a.png", BAD))
                yield picture

        monkeypatch.setattr(Pictures, "each_of", slow)
        looks += [lambda: put("a.png", GOOD[0]), None, None, None]
        found, _ = watch(capsys, model)
        assert [row["verdict"] for row in found["image"]] == ["anomaly"]

    def test_replaced_files_are_scored_again_and_deleted_ones_are_no_error(
        self, capsys, model, looks
    ):
        put("gone.png", GOOD[3])
        looks += [
            lambda: put("a.png", GOOD[0]),
            lambda: Path("in/gone.png").unlink(),
            lambda: put("a.png", BAD),
            None,
            lambda: Path("in/a.png").unlink(),
            lambda: put("a.png", GOOD[1]),
            None,
            lambda: put("short.png", GOOD[2]),
            lambda: Path("in/short.png").unlink(),
        ]
        found, err = watch(capsys, model)
        assert [row["verdict"] for row in found["image"]] == ["good", "anomaly", "good"]
        assert len(err) == 3  # that gone.png is there already, the summary, the interruption

    @pytest.mark.skipif(sys.platform == "win32", reason="the time of change is that of creation")
    def test_a_file_rewritten_with_its_size_and_time_is_scored_again(self, capsys, model, looks):
        def rewrite(image):
            with open("in/a.npy", "r+b" if os.path.exists("in/a.npy") else "wb") as file:
                np.save(file, image)
            os.utime("in/a.npy", (1e9, 1e9))

        looks += [lambda: rewrite(GOOD[0]), None, None, lambda: rewrite(BAD), None, None]
        found, _ = watch(capsys, model)
        assert [row["verdict"] for row in found["image"]] == ["good", "anomaly"]

    def test_what_is_not_looked_for(self, capsys, model, looks):
        def others():
            put(".hidden.png", GOOD[0])
            Path("in/notes.txt").write_text("no image")
            shutil.copy(Path("in/.hidden.png"), "in/misnamed")
            os.symlink("nowhere.png", "in/link.png")
            os.symlink("nowhere", "in/link")

        looks += [others, *[None] * 4]
        found, _ = watch(capsys, model)
        assert sorted(names(found)) == ["in/link", "in/link.png", "in/misnamed"]
        assert {row["verdict"] for row in found["image"]} == {"not inspected"}

    def test_raw_counts(self, capsys, model, looks):
        save("flat.npy", np.ones((16, 16)))
        looks += [lambda: put("a.npy", GOOD[0]), None]
        # Transmission is no 8-bit image: that is said of each.
        found, _ = watch(capsys, model, "--flat", "flat.npy")
        assert "of type float" in found["image"][0]["reason"]

    def test_raw_counts_that_are_not_finite_end_nothing(self, capsys, looks):
        transmission = noise(60, 1) / 100
        plain = {"preprocess": None, "metric": "rmse", "pose": None, "random_state": 0}
        AnomalyDetector(**plain).fit(transmission).save("m.safetensors")
        save("flat.npy", np.full((16, 16), 100.0))
        counts = GOOD[:3].astype(float)
        counts[1, 3, 3] = np.nan
        looks += [lambda: [put(f"{i}.npy", x) for i, x in enumerate(counts)], None]
        found, _ = watch(capsys, "m.safetensors", "--flat", "flat.npy")
        assert [row["verdict"] for row in found["image"]] == ["good", "not inspected", "good"]


class TestEnds:
    def test_images_after_the_last_one_are_no_drift(self, capsys, model, looks):
        looks += [lambda: [put(f"{i:02}.png", BAD) for i in range(60)], None]
        found, _ = watch(capsys, model, "--stop-after", "1", status=0)
        assert len(found["image"]) == 1
        assert found["drift"] == []

    def test_an_interval_of_ages(self, capsys, model, monkeypatch):
        Path("in").mkdir()
        slept = []

        def sleep(seconds):
            slept.append(seconds)
            raise KeyboardInterrupt

        monkeypatch.setattr("imsim.cli.anomaly.watch.time.sleep", sleep)
        watch(capsys, model, "--interval", "1e300")
        assert 0 < slept[0] < 1e5

    @pytest.mark.parametrize(("image", "status"), [(GOOD[0], 0), (BAD, 1)])
    def test_after_a_number_of_images(self, capsys, model, looks, image, status):
        looks += [lambda: [put(f"{i}.png", image) for i in range(5)], None]
        found, _ = watch(
            capsys, model, "--stop-after", "3", "--fail-on-anomaly", "--no-drift", status=status
        )
        assert len(found["image"]) == 3

    def test_after_a_time(self, capsys, model):
        Path("in").mkdir()
        begun = time.monotonic()
        found, err = watch(capsys, model, "--for", "0.2", "--interval", "0.05", status=0)
        assert 0.2 <= time.monotonic() - begun < 5
        assert found["image"] == []
        assert err[0].startswith("imsim: 0 of 0 images are anomalies")

    def test_a_folder_that_goes(self, capsys, model, looks):
        looks += [lambda: put("a.png", GOOD[0]), None, lambda: shutil.rmtree("in")]
        found, err = watch(capsys, model, status=2)
        assert len(found["image"]) == 1
        assert err == ["imsim: error: in: cannot be read: No such file or directory"]

    @pytest.mark.skipif(sys.platform != "linux", reason="sends a signal")
    def test_ctrl_c(self, model):
        Path("in").mkdir()
        put("a.png", GOOD[0])
        home = str(Path(imsim.__file__).parents[1])
        call = ["anomaly", "watch", model, "in", "--existing", "--interval", "0.05", "--json"]
        call += ["--for", "60"]  # whatever fails
        # A shell starts what runs in the background with this signal ignored. (Setting it between
        # fork and exec, JAX would warn of the fork.)
        program = (
            "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "from imsim.cli import main; sys.exit(main(sys.argv[1:]))"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program, *call],
            env={**os.environ, "PYTHONPATH": home},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert '"kind": "run"' in process.stdout.readline()
            assert '"image": "in/a.png"' in process.stdout.readline()
            time.sleep(0.2)  # until it waits for the next image
            process.send_signal(signal.SIGINT)
            err = process.stderr.read().splitlines()
        assert process.returncode == 130
        assert err[0].startswith("imsim: 0 of 1 images are anomalies")
        assert err[1:] == ["imsim: interrupted"]

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["in", "--interval", "0"], "--interval 0: expected a positive number"),
            (["in", "--interval", "nan"], "--interval nan: expected a positive number"),
            (["in", "--for", "-1"], "--for -1: expected a positive number"),
            (["nowhere"], "nowhere: there is no such folder"),
            (["a.png"], "a.png: is no folder"),
            (["-"], "-: is no folder"),
            (["in", "--resume"], "name it with -o FILE"),
            (["in", "-o", "in/rows.npy", "--csv"], "is called like an image"),
            (["in", "--dark", "a.png"], "give both"),
        ],
    )
    def test_what_is_refused(self, capsys, model, arguments, words):
        Path("in").mkdir()
        save("a.png", GOOD[0])
        assert main(["anomaly", "watch", model, *arguments]) == 2
        assert words in capsys.readouterr().err


class TestFile:
    @pytest.mark.parametrize("form", ["csv", "jsonl"])
    def test_resume_keeps_rows_and_adds_those_that_are_missing(self, capsys, model, looks, form):
        call = ["anomaly", "watch", model, "in", "-o", f"rows.{form}", "--existing", "--resume"]
        put("a.png", GOOD[0], at=1e9), put("s.npy", GOOD[:3], at=1e9 + 1)
        looks += [None]
        assert main([*call, "--stop-after", "2"]) == 0
        assert "0 of 2 images are anomalies" in capsys.readouterr().out
        first = Path(f"rows.{form}").read_text()
        put("b.png", GOOD[4])
        looks += [None, lambda: put("a.png", BAD), None]
        assert main(call) == 130
        whole = Path(f"rows.{form}").read_text()
        assert whole.startswith(first)
        added = whole[len(first) :]
        assert [added.count(n) for n in ("s.npy[0]", "s.npy[1]", "s.npy[2]")] == [0, 1, 1]
        assert [added.count(n) for n in ("in/a.png", "in/b.png")] == [1, 1]
        assert "1 of 6 images are anomalies" in capsys.readouterr().out

    def test_resume_alone_says_how_many_images_it_passes_over(self, capsys, model, looks):
        call = ["anomaly", "watch", model, "in", "-o", "rows.csv", "--resume"]
        put("a.png", GOOD[0], at=1e9)
        looks += [None]
        assert main([*call, "--existing"]) == 130
        put("b.png", GOOD[1])
        capsys.readouterr()
        assert main(call) == 130
        assert (
            "note: files that are there already, without a row that holds, are not scored: 1, "
            "e.g. in/b.png; --existing takes them"
        ) in capsys.readouterr().err

    @pytest.mark.parametrize("more", [[], [lambda: put("b.png", GOOD[1]), None]])
    @pytest.mark.parametrize("change", ["removed", "replaced"])
    def test_rows_do_not_go_where_nobody_finds_them(self, capsys, model, looks, change, more):
        def act():
            if change == "replaced":
                Path("other").write_text("")
                os.replace("other", "rows.csv")
            else:
                Path("rows.csv").unlink()

        looks += [lambda: put("a.png", GOOD[0]), None, act, *more]
        assert main(["anomaly", "watch", model, "in", "-o", "rows.csv"]) == 2
        assert "rows.csv: was moved, removed or replaced" in capsys.readouterr().err

    def test_rows_of_another_model_are_refused(self, capsys, model, looks):
        fitted(50).save("other.safetensors")
        put("a.png", GOOD[0])
        for used, status in (("other.safetensors", 130), (model, 2)):
            looks += [None]
            call = ["watch", used, "in", "-o", "rows.csv", "--existing", "--resume"]
            assert main(["anomaly", *call]) == status
        assert "of another model or threshold" in capsys.readouterr().err

    def test_rows_of_drift_are_passed_over(self, capsys, model, looks):
        call = ["anomaly", "watch", model, "in", "-o", "rows.json", "--existing", "--resume"]
        looks += [lambda: [put(f"{i:02}.png", x) for i, x in enumerate(noise(40, 3, 15.0))], None]
        assert main(call) == 130
        assert by_kind(Path("rows.json").read_text())["drift"]
        looks += [None]
        assert main(call) == 130
        found = by_kind(Path("rows.json").read_text())
        assert len(found["image"]) == 40
        assert found["drift"]
        assert "of 40 images are anomalies" in capsys.readouterr().out


class TestDrift:
    def test_it_begins_and_ends(self, capsys, model, looks):
        def arrive(prefix, images):
            return lambda: [
                put(f"{prefix}{i:03}.png", image, at=1e9 + ord(prefix) * 1e3 + i)
                for i, image in enumerate(images)
            ]

        looks += [arrive("a", GOOD[:30]), None, arrive("b", noise(30, 3, 12.0)), None]
        looks += [arrive("c", noise(300, 4)), None]
        found, err = watch(capsys, model)
        assert len(found["image"]) == 360
        begun = {r["name"]: r for r in found["drift"] if r["state"] == "begins"}
        ended = {r["name"] for r in found["drift"] if r["state"] == "ends"}
        assert {"noise", "contrast", "anomaly score"} <= set(begun)
        assert set(begun) == ended
        row = begun["noise"]
        assert 2 < row["now"] / row["usual"] < 3
        assert abs(row["value"]) > row["limit"]
        assert row["since"][:4] in ("in/b", "in/a")
        assert row["text"].startswith("noise is 2.")
        assert f"imsim: drift: {row['text']}, since {row['since']}" in err
        assert "imsim: drift: noise is again as in the good images" in err

    def test_images_that_cannot_be_read_are_drift(self, capsys, model, looks):
        def broken():
            for i in range(20):
                Path(f"in/{i:02}.png").write_bytes(b"damaged")

        looks += [broken, None]
        found, _ = watch(capsys, model)
        (row,) = found["drift"]
        assert (row["name"], row["now"], row["since"]) == ("not inspected", 1, "in/00.png")

    @pytest.mark.parametrize("option", ["--no-drift", "--drift"])
    def test_without_it_and_with_too_few_good_images(self, capsys, looks, option):
        with pytest.warns(UserWarning, match="few for a false-alarm rate"):
            fitted(8).save("few.safetensors")
        looks += [lambda: [put(f"{i}.png", x) for i, x in enumerate(noise(30, 3, 20.0))], None]
        found, err = watch(capsys, "few.safetensors", option)
        assert len(found["image"]) == 30
        assert found["drift"] == []
        assert ("there is no drift alarm: 8 good images" in err[0]) is (option == "--drift")
