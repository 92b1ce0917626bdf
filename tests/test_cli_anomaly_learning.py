"""`imsim anomaly train`, `update` and `info`: what is learned, and what is said about it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from imsim.anomaly import AnomalyDetector
from imsim.anomaly.report import Writer
from imsim.cli import main

pytestmark = pytest.mark.usefixtures("empty_directory")
SIDE = 24
X = np.arange(SIDE)
PLAIN = ("--preprocess", "none", "--metric", "se", "--data-range", "1")


def waves(count, seed):
    rng = np.random.default_rng(seed)
    height = rng.uniform(0.5, 1.5, (count, 1, 1))
    return 0.5 + 0.2 * height * np.sin(X / 4) + rng.normal(0, 0.01, (count, SIDE, SIDE))


def spotted(count, seed):
    images, rng = waves(count, seed), np.random.default_rng(seed)
    for image, row, column in zip(images, *rng.integers(0, SIDE - 5, (2, count)), strict=True):
        image[row : row + 5, column : column + 5] += 0.4
    return images


def run(capsys, *arguments, status=0):
    """Run a command; return what it said on both channels."""
    assert main(["anomaly", *arguments]) == status
    return capsys.readouterr()


@pytest.fixture
def model(capsys):
    np.save("good.npy", waves(60, 0))
    run(capsys, "train", "good.npy", "-o", "model", "--note", "line 3", *PLAIN)
    return "model"


def test_training_says_what_to_expect(capsys):
    np.save("good.npy", waves(60, 0))
    said, _ = run(capsys, "train", "good.npy", "-o", "model", *PLAIN)
    found = AnomalyDetector.load("model").false_alarms_
    assert f"score is above {found.value:.6g}" in said
    assert f"{found.rate:.1%} are expected above it" in said
    assert f"{found.low:.1%} to {found.high:.1%}" in said


def test_bad_images_among_the_good_are_named(capsys):
    images = waves(100, 0)
    images[::10] = spotted(10, 1)
    np.save("mixed.npy", images)
    _, err = run(capsys, "train", "mixed.npy", "-o", "model", *PLAIN)
    assert "note: mixed.npy[10]: unlike the other good images" in err
    assert "--fence none keeps them" in err
    said, err = run(capsys, "train", "mixed.npy", "-o", "model", *PLAIN, "--fence", "none")
    assert "unlike" not in err
    assert "trained on 100 images" in said


def test_groups_come_from_names(capsys):
    for item in range(12):
        noise = np.random.default_rng(item).normal(0, 1e-4, (3, SIDE, SIDE))
        for view, image in enumerate(waves(1, item) + noise):
            np.save(f"item{item}_{view}.npy", image[None])
    how = ("train", ".", *PLAIN, "--model", "pca", "-o")
    run(capsys, *how, "../apart")
    run(capsys, *how, "../together", "--group-by", "(item[0-9]+)_")
    apart, together = (AnomalyDetector.load(f"../{name}") for name in ("apart", "together"))
    assert together.held_out_columns_.max() > 3 * apart.held_out_columns_.max()
    _, err = run(capsys, *how, "../x", "--group-by", "(", status=2)
    assert "--group-by: '(' is no regular expression" in err
    _, err = run(capsys, *how, "../x", "--group-by", "item1", status=2)
    assert "is not in the name" in err


def test_info(capsys, model):
    said, _ = run(capsys, "info", model)
    assert "line 3" in said
    assert "60 good images of 24 x 24 pixels" in said
    np.save("some.npy", np.concatenate([waves(60, 0)[:1], waves(1, 9)]))
    said, _ = run(capsys, "info", model, "some.npy")
    assert "1 of 2 images were learned from" in said
    facts = json.loads(run(capsys, "info", model, "some.npy", "--json").out)
    assert [image["learned_from"] for image in facts["images"]] == [True, False]
    assert [lesson["images"] for lesson in facts["lessons"]] == [60]
    assert facts["expected"]["low"] < facts["expected"]["rate"] < facts["expected"]["high"]
    _, err = run(capsys, "info", "nothing", status=2)
    assert "nothing: cannot be read" in err


def test_update(capsys, model):
    np.save("new.npy", waves(40, 5) + 0.02)
    said, _ = run(capsys, "update", model, "new.npy", "-o", "newer", "--note", "harvest of May")
    assert "learned 40 more images, 100 in all" in said
    detector = AnomalyDetector.load("newer")
    assert [lesson.note for lesson in detector.card_.lessons] == ["line 3", "harvest of May"]
    old = AnomalyDetector.load(model)
    above = np.count_nonzero(old.predict(np.load("new.npy")) == -1)
    assert f"Before, it was {old.threshold_:.6g}; new images above that: {above}" in said
    _, err = run(capsys, "update", "newer", "new.npy", "-o", "newest", status=2)
    assert "none of 40 images can be learned from" in err
    assert "was learned from before" in err
    _, err = run(capsys, "update", "newer", "new.npy", "-o", "newer", status=2)
    assert "newer" in err


def test_an_update_of_peeled_images(capsys):
    run(capsys, "simulate", "-o", "a", "--good", "30", "--bad", "0", "--size", "64")
    run(capsys, "simulate", "-o", "b", "--good", "10", "--bad", "0", "--size", "64", "--seed", "9")
    run(capsys, "train", "a/good", "-o", "model", "--metric", "rmse")
    said, _ = run(capsys, "update", "model", "b/good", "-o", "newer")
    assert "learned 10 more images, 40 in all" in said


def test_a_report_tells_of_the_model_and_of_images_it_learned_from(capsys, model, monkeypatch):
    monkeypatch.setattr(Writer, "figure", lambda *_: "")  # its text is all that is read here
    np.save("bad.npy", spotted(10, 4))
    _, err = run(capsys, "report", model, "good.npy", "bad.npy", "-o", "learned")
    assert "the model learned from 60 of these images" in err
    np.save("fresh.npy", waves(20, 7))
    _, err = run(capsys, "report", model, "fresh.npy", "bad.npy", "-o", "fresh")
    assert "learned from" not in err
    page = Path("fresh/report.html").read_text(encoding="utf-8")
    assert str(AnomalyDetector.load(model).false_alarms_) in page
    assert "line 3" in page


def test_an_image_unlike_most_others_is_left_out_though_it_comes_first(capsys):
    Path("good").mkdir()
    np.save("good/0.npy", waves(1, 1)[0, :9])
    np.save("good/1.npy", waves(60, 0))
    found = run(capsys, "train", "good", "-o", "model", *PLAIN, status=2)
    assert "trained on 60 images of 24 x 24 pixels" in found.out
    assert found.err.startswith("imsim: error: good/0.npy: is 24 x 9 pixels, 64-bit float, grey")
    assert "good/1.npy[0] is 24 x 24 pixels, 64-bit float, grey; they must be alike" in found.err
