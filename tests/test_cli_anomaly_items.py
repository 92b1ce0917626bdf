"""`imsim anomaly` on images of several items: a row for each, with its place."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from command import by_kind
from image_files import save

from imsim.anomaly import ItemDetector
from imsim.cli import main

pytestmark = pytest.mark.usefixtures("empty_directory")


def run(*arguments):
    return main(["anomaly", *arguments])


def frame(seed, *places, shape=(50, 90)):
    """8-bit photographs of light cups with a dark middle on dark ground."""
    image = np.random.default_rng(seed).normal(40, 2, shape)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    for y, x in places:
        reach = np.hypot(rows - y, columns - x)
        image[reach < 11] += 100
        image[reach < 4] -= 60
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def good(seed):
    return frame(seed, (20, 20), (30, 42 + seed % 3), (20, 70))  # the first two touch


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    np.save(folder / "good.npy", np.stack([good(seed) for seed in range(12)]))
    call = ["anomaly", "train", str(folder / "good.npy"), "-o", str(folder / "m.safetensors")]
    assert main([*call, "--items", "--preprocess", "none"]) == 0
    return str(folder / "m.safetensors")


@pytest.fixture
def images():
    """A good one, a bad one of another size, an empty one, one in colour."""
    save("a.png", good(50))
    bad = frame(51, (30, 30), (60, 60), (30, 118), (80, 80), shape=(90, 120))
    bad[60:66, 60:66] = 250
    bad[10:15, 60:65] = 140
    save("b.png", bad)
    save("c.png", frame(52))
    save("d.png", np.zeros((50, 90, 3), np.uint8))
    return ["a.png", "b.png", "c.png", "d.png"]


class TestTrain:
    def test_the_model_is_that_of_the_library(self, model, capsys):
        detector = ItemDetector.load(model)
        assert len(detector.detector_.held_out_scores_) == 36
        assert detector.detector_.depth_ == "uint8"

    def test_what_was_learned_is_said(self, capsys):
        stack = np.stack([frame(s, (20, 20), (20, 60), (20, 88)) for s in range(8)])
        stack[3] = frame(3)
        save("good.npy", stack)
        options = ["--items", "--preprocess", "none", "--false-alarm-rate", "0.2"]
        assert run("train", "good.npy", "-o", "m.safetensors", *options) == 2
        out, err = capsys.readouterr()
        assert "trained on 14 items of up to 40 x 40 pixels in 8 images" in out
        assert "good.npy[3]: shows no item" in err
        assert "no whole single items: cut: 7" in err

    def test_images_without_items(self, capsys):
        save("good.npy", np.stack([frame(s) for s in range(5)]))
        assert run("train", "good.npy", "-o", "m.safetensors", "--items") == 2
        assert "show no items that stand out" in capsys.readouterr().err
        assert not Path("m.safetensors").exists()


class TestScore:
    def test_rows(self, capsys, model, images):
        assert run("score", model, *images, "--csv") == 2
        out, err = capsys.readouterr()
        rows = list(csv.DictReader(out.splitlines()))
        assert [row["image"] for row in rows] == [
            *["a.png"] * 3,
            *["b.png"] * 5,
            "c.png",
            "d.png",
        ]
        assert [row["verdict"] for row in rows[:3]] == ["good"] * 3
        found = {(row["object"], row["verdict"]): row for row in rows[3:8]}
        assert found.keys() == {
            ("item", "good"),
            ("item", "anomaly"),
            ("cut", "not inspected"),
            ("debris", "anomaly"),
        }
        box = [int(found["item", "anomaly"][name]) for name in ("x", "y", "width", "height")]
        assert box == pytest.approx([49, 49, 23, 23], abs=1)
        assert float(found["item", "anomaly"]["centre_x"]) == pytest.approx(60, abs=0.5)
        assert found["debris", "anomaly"]["anomaly_score"] == ""
        assert "smaller than any item" in found["debris", "anomaly"]["reason"]
        assert [row["verdict"] for row in rows[8:]] == ["not inspected"] * 2
        assert "shows no item" in rows[8]["reason"]
        assert "channels" in rows[9]["reason"]
        assert {row["model_sha256"] for row in rows} != {""}
        assert "b.png, at x=" in err
        assert "touches the border" in err
        assert "debris" not in err  # it was found, and has its verdict

    def test_the_library_has_the_same_scores(self, capsys, model, images):
        assert run("score", model, "a.png", "--json") == 0
        found = by_kind(capsys.readouterr().out)
        rows = ItemDetector.load(model).inspect_frame(good(50))
        assert [r["anomaly_score"] for r in found["item"]] == [r.anomaly_score for r in rows]
        assert [r["x"] for r in found["item"]] == [r.x for r in rows]
        assert found["run"][0]["threshold"] == ItemDetector.load(model).detector_.threshold_

    def test_the_table(self, capsys, model, images):
        assert run("score", model, "a.png") == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split() == ["x", "y", "width", "height", "score", "verdict"]
        assert lines[1].split()[0] == "a.png"
        assert len(lines) == 6
        assert lines[-1].startswith("0 of 3 items are anomalies (threshold")

    def test_images_without_items_are_not_counted_as_items(self, capsys, model, images):
        assert run("score", model, *images, "-o", "rows.csv") == 2
        summary = capsys.readouterr().out.splitlines()[0]
        assert summary.startswith(
            "2 of 8 items are anomalies, 2 could not be inspected: 4 rejected; "
            "images without an item, or unreadable: 2 (threshold"
        )

    def test_statuses(self, capsys, model, images):
        assert run("score", model, "a.png", "--fail-on-anomaly") == 0
        save("e.png", frame(53, (30, 30), (30, 60))[5:])
        damaged = frame(53, (30, 30), (30, 60))
        damaged[28:33, 58:63] = 255
        save("f.png", damaged)
        assert run("score", model, "e.png", "--fail-on-anomaly") == 0
        assert run("score", model, "f.png") == 0
        assert run("score", model, "f.png", "--fail-on-anomaly", "-o", "rows.csv") == 1
        assert "A row per item: rows.csv" in capsys.readouterr().out
        assert len(Path("rows.csv").read_text().splitlines()) == 3
        assert run("score", model, "c.png") == 2
        assert "no item was scored" in capsys.readouterr().err

    def test_what_is_refused(self, capsys, model, images):
        save("g.png", good(50).astype(np.uint16) * 100)
        assert run("score", model, "g.png") == 2
        assert "uint16" in capsys.readouterr().err
        assert run("report", model, "a.png", "b.png", "-o", "report") == 2
        assert "is a model of items" in capsys.readouterr().err
