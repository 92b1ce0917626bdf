"""`imsim anomaly`: simulate, train, score and report, on files."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import by_kind
from image_files import save
from PIL import Image

from imsim import anomaly
from imsim.anomaly import simulate
from imsim.cli import main
from imsim.cli.anomaly.labelled import OPEN_BEAM
from imsim.tables import breadth

SAMPLES = simulate.dataset(good=24, bad=6, kinds="hollow_heart", sizes=1.0, size=64, seed=5)
BAD = SAMPLES.labels == 1


def deep(images):
    return np.clip(np.rint(images * OPEN_BEAM), 0, 65535).astype(np.uint16)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A detector in a file, trained by the command."""
    folder = tmp_path_factory.mktemp("model")
    np.save(folder / "good.npy", SAMPLES.images[~BAD])
    assert (
        main(["anomaly", "train", str(folder / "good.npy"), "-o", str(folder / "m.safetensors")])
        == 0
    )
    return str(folder / "m.safetensors")


pytestmark = pytest.mark.usefixtures("empty_directory")


def run(*arguments):
    return main(["anomaly", *arguments])


@pytest.fixture(scope="module")
def deep_model(tmp_path_factory):
    """One of 16-bit files."""
    folder = tmp_path_factory.mktemp("deep")
    np.save(folder / "good.npy", deep(SAMPLES.images[~BAD]))
    call = ["anomaly", "train", str(folder / "good.npy"), "-o", str(folder / "m.safetensors")]
    assert main([*call, "--metric", "rmse"]) == 0
    return str(folder / "m.safetensors")


def score(capsys, model, *arguments, status=0):
    """Run `imsim anomaly score`; return its lines of JSON by kinds, and those of its messages."""
    assert run("score", model, *arguments, "--json") == status
    out, err = capsys.readouterr()
    return by_kind(out), err.splitlines()


class TestSimulate:
    def test_images(self):
        arguments = ["--good", "3", "--bad", "2", "--size", "64", "--kinds", "ball,gap"]
        assert run("simulate", "-o", "sim", *arguments, "--seed", "7") == 0
        samples = simulate.dataset(good=3, bad=2, size=64, kinds=["ball", "gap"], seed=7)
        with open("sim/labels.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["label"] for row in rows] == ["0", "0", "0", "1", "1"]
        assert [row["kind"] for row in rows] == samples.kinds.tolist()
        assert [row["file"].split("/")[0] for row in rows] == ["good"] * 3 + ["bad"] * 2
        for i, row in enumerate(rows):
            with Image.open(f"sim/{row['file']}") as image:
                np.testing.assert_array_equal(np.asarray(image), deep(samples.images[i]))
        name = Path(rows[4]["file"]).name
        with Image.open(f"sim/defect_masks/{name}") as image:
            np.testing.assert_array_equal(np.asarray(image) == 255, samples.defect_masks[4])
        with Image.open(f"sim/clean/{name}") as image:
            np.testing.assert_array_equal(np.asarray(image), deep(samples.clean[4]))
        assert float(rows[4]["cnr"]) == samples.cnr[4]

    def test_stacks(self):
        arguments = ["--good", "2", "--bad", "1", "--size", "64", "--item", "bar", "--npy"]
        assert run("simulate", "-o", "sim", *arguments) == 0
        samples = simulate.dataset("bar", good=2, bad=1, size=64)
        np.testing.assert_array_equal(np.load("sim/good.npy"), samples.images[:2])
        np.testing.assert_array_equal(np.load("sim/defect_masks.npy"), samples.defect_masks[2:])
        rows = Path("sim/labels.csv").read_text().splitlines()
        assert [row.split(",")[0] for row in rows[1:]] == [
            "good.npy[0]",
            "good.npy[1]",
            "bad.npy[0]",
        ]

    def test_what_is_refused(self, capsys, tmp_path):
        for arguments, words in (
            (["-o", "nowhere/sim"], "there is no folder"),
            (["-o", "sim", "--kinds", "worm"], "worm"),
            (["-o", "sim", "--size", "3"], "size=3"),
        ):
            assert run("simulate", *arguments) == 2
            assert words in capsys.readouterr().err
        assert not (tmp_path / "sim").exists()
        save("sim/mine.png", np.zeros((9, 9), np.uint8))
        assert run("simulate", "-o", "sim") == 2
        assert "not empty" in capsys.readouterr().err


class TestTrain:
    def test_the_detector_is_that_of_the_library(self, model):
        found = anomaly.AnomalyDetector.load(model)
        expected = anomaly.AnomalyDetector(random_state=0).fit(SAMPLES.images[~BAD])
        assert found.threshold_ == expected.threshold_

    def test_options(self, capsys):
        save("good.npy", SAMPLES.images[~BAD])
        options = ["--metric", "ssim", "--aggregate", "mean", "--false-alarm-rate", "0.2"]
        assert run("train", "good.npy", "-o", "m.safetensors", *options) == 0
        detector = anomaly.AnomalyDetector.load("m.safetensors")
        assert (detector.metric, detector.aggregate, detector.false_alarm_rate) == (
            "ssim",
            "mean",
            0.2,
        )
        assert f"above {detector.threshold_:.6g}" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("preprocess", "components", "patch"), [("xray", 4, 16), ("none", 60, None)]
    )
    def test_a_linear_model_by_name(self, preprocess, components, patch):
        save("good.npy", simulate.potatoes(8, seed=1).images)
        options = ["--model", "pca", "--preprocess", preprocess, "--metric", "gmsd"]
        assert run("train", "good.npy", "-o", "m.safetensors", *options) == 0
        model = anomaly.AnomalyDetector.load("m.safetensors").model_
        assert isinstance(model, anomaly.PCAAutoencoder)
        assert (model.components, model.patch) == (components, patch)

    def test_images_as_they_are(self, capsys):
        """The model is that of the pixel values in the files."""
        save("good.npy", np.rint(np.clip(SAMPLES.images[~BAD] / 1.3, 0, 1) * 255).astype(np.uint8))
        save("deep.npy", np.load("good.npy").astype(np.uint16) * 257)
        for name, more, data_range, depth in (
            ("good.npy", [], 255, "uint8"),
            ("deep.npy", [], np.ptp(np.load("deep.npy")), "uint16"),
            ("deep.npy", ["--data-range", "4095"], 4095, "uint16"),
        ):
            plain = ["--preprocess", "none", "--metric", "rmse"]
            assert run("train", name, "-o", "m.safetensors", *plain, *more) == 0
            detector = anomaly.AnomalyDetector.load("m.safetensors")
            assert (detector.data_range_, detector.depth_) == (data_range, depth)
            assert detector.shape_ == (64, 64)
            capsys.readouterr()
            found, _ = score(capsys, "m.safetensors", name)
            assert [r["anomaly_score"] for r in found["image"]] == pytest.approx(
                detector.anomaly_score(np.load(name)).tolist(), rel=1e-6
            )

    def test_bad_files_are_named_and_skipped(self, capsys, tmp_path):
        for i, image in enumerate(deep(SAMPLES.images[~BAD])):
            save(f"good/{i:02}.png", image)
        (tmp_path / "good" / "03.png").write_bytes(b"damaged")
        save("good/04.png", deep(SAMPLES.images[:1])[0, :50])
        save("good/05.png", np.zeros((64, 64, 3), np.uint8))
        save("good/06.png", np.full((64, 64), OPEN_BEAM, np.uint16))
        assert run("train", "good", "-o", "m.safetensors") == 2
        out, err = capsys.readouterr()
        assert [f"good/0{i}.png" in line for i, line in enumerate(err.splitlines(), 3)] == (
            [True] * 4 + [False]
        )
        assert "4 could not be used" in err
        assert out.startswith("m.safetensors: trained on 20 images")
        assert anomaly.AnomalyDetector.load("m.safetensors").threshold_ > 0

    def test_what_is_refused(self, capsys):
        save("good.npy", SAMPLES.images[~BAD])
        save("small.npy", SAMPLES.images[~BAD][:, ::2, ::2])  # no patch of 16 fits into the items
        for arguments, words in (
            (["nowhere.png", "-o", "m.safetensors"], "nowhere.png"),
            (["good.npy", "-o", "nowhere/m.safetensors"], "there is no folder"),
            (["good.npy", "-o", "good.npy"], "is a file to be read"),
            (["good.npy", "-o", "m.safetensors", "--metric", "lpips"], "lpips"),
            (["good.npy", "-o", "m.safetensors", "--false-alarm-rate", "2"], "false_alarm_rate"),
            (["good.npy", "-o", "m.safetensors", "--dark", "good.npy"], "give both"),
            (
                ["small.npy", "-o", "m.safetensors", "--model", "pca"],
                "larger masks, or a smaller patch",
            ),
        ):
            assert run("train", *arguments) == 2
            assert words in capsys.readouterr().err
        assert not Path("m.safetensors").exists()


class TestScore:
    def test_scores_are_those_of_the_library(self, capsys, model):
        save("s.npy", SAMPLES.images)
        found, err = score(capsys, model, "s.npy")
        detector = anomaly.AnomalyDetector.load(model)
        expected = detector.anomaly_score(SAMPLES.images)
        assert err == []
        assert [r["anomaly_score"] for r in found["image"]] == pytest.approx(
            expected.tolist(),
            rel=1e-6,  # batches are of another size
        )
        verdicts = np.array([r["verdict"] for r in found["image"]])
        np.testing.assert_array_equal(verdicts == "anomaly", detector.predict(SAMPLES.images) == -1)
        assert found["run"][0]["threshold"] == detector.threshold_
        assert (verdicts[BAD] == "anomaly").all()

    def test_raw_counts(self, capsys, model):
        save("s.npy", SAMPLES.images), save("c.npy", SAMPLES.counts)
        save("flat.npy", SAMPLES.flat), save("dark.npy", SAMPLES.dark)
        want, _ = score(capsys, model, "s.npy")
        found, _ = score(capsys, model, "c.npy", "--flat", "flat.npy", "--dark", "dark.npy")
        a, b = ([r["anomaly_score"] for r in results["image"]] for results in (want, found))
        assert a == pytest.approx(b, rel=1e-3)  # two roundings of the same division, in float32

    def test_table_and_status(self, capsys, model):
        save("s.npy", SAMPLES.images[BAD])
        assert run("score", model, "s.npy") == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 80
        assert lines[1].split()[0] == "s.npy[0]"
        assert lines[-1].startswith("6 of 6 images are anomalies")
        assert run("score", model, "s.npy", "--fail-on-anomaly") == 1

    def test_columns_of_wide_letters_stand_below_each_other(self, capsys, model):
        for name in ("a.npy", "画像.npy"):
            np.save(name, SAMPLES.images[0])
        assert run("score", model, "a.npy", "画像.npy") == 0
        lines = capsys.readouterr().out.splitlines()[:3]
        assert len({breadth(line.rsplit("  ", 1)[0]) for line in lines}) == 1

    @pytest.mark.parametrize("form", ["csv", "json", "table"])
    def test_what_is_not_inspected_has_its_row_and_is_rejected(
        self, capsys, tmp_path, deep_model, form
    ):
        images = deep(SAMPLES.images)
        for i in range(9):
            save(f"in/{i}.png", images[i])
        (tmp_path / "in" / "1.png").write_bytes(b"damaged")
        save("in/2.png", np.zeros((64, 64, 3), np.uint8))
        save("in/3.png", np.full((64, 64), OPEN_BEAM, np.uint16))
        save("in/4.png", np.zeros((64, 64), np.uint16))
        save("in/5.png", images[0, :50])
        save("in/6.png", np.zeros((64, 64), np.uint8))
        words = {
            1: "not",
            2: "has 3 channels; convert it to grey",
            3: "shows no item",
            4: "is black along its border",
            5: "images are 64 x 50 pixels, those learned from 64 x 64",
            6: "images are of type uint8, those learned from uint16",
        }
        form_option = [] if form == "table" else [f"--{form}"]
        call = ["score", deep_model, "in", "nowhere.png", *form_option, "--fail-on-anomaly"]
        assert run(*call) == 2
        out, err = capsys.readouterr()
        lines = err.splitlines()
        assert lines[-1] == "imsim: error: 7 could not be inspected, and count as rejected"
        assert lines[-2].startswith("imsim: error: nowhere.png: cannot be read: No such file")
        for line, (i, reason) in zip(lines, words.items(), strict=False):
            assert line.startswith(f"imsim: error: in/{i}.png: ")
            assert reason in line
            assert "NaN" not in line
        if form == "table":
            assert "in/4.png" in out
            assert out.count("not inspected") == 7
            assert "7 could not be inspected: 7 rejected" in out
            return
        rows = by_kind(out)["image"] if form == "json" else [*csv.DictReader(out.splitlines())]
        assert [r["image"] for r in rows] == [f"in/{i}.png" for i in range(9)] + ["nowhere.png"]
        for i, row in enumerate(rows):
            if i in words or i == 9:
                assert row["verdict"] == "not inspected"
                assert row["anomaly_score"] in (None, "")
                assert words.get(i, "cannot be read") in row["reason"]
            else:
                assert row["verdict"] == "good"
                assert row["reason"] in (None, "")

    def test_resume_does_not_forget_what_was_not_inspected(self, capsys, tmp_path, model):
        save("in/0.npy", SAMPLES.images[0])
        (tmp_path / "in" / "1.png").write_bytes(b"damaged")
        for name in ("o.csv", "o.json"):
            assert run("score", model, "in", "-o", name) == 2
            save("in/2.npy", SAMPLES.images[2])
            capsys.readouterr()
            assert run("score", model, "in", "-o", name, "--resume") == 2
            out, err = capsys.readouterr()
            assert "1 could not be inspected: 1 rejected" in out
            assert err == "imsim: error: 1 could not be inspected, and counts as rejected\n"
            assert Path(name).read_bytes().count(b"in/") == 3
            Path("in/2.npy").unlink()

    def test_one_image_that_fails_is_that_images_failure(self, capsys, model, monkeypatch):
        """Whatever it raises, in reading or in scoring."""
        save("s.npy", SAMPLES.images[:5])
        inspect_all = anomaly.AnomalyDetector.inspect
        odd = SAMPLES.images[3, 0, 0]

        for error in (MemoryError(), RuntimeError("odd"), IndexError()):

            def fails(self, images, masks=None, error=error):
                if (images[:, 0, 0] == odd).any():
                    raise error
                return inspect_all(self, images, masks)

            monkeypatch.setattr(anomaly.AnomalyDetector, "inspect", fails)
            found, err = score(capsys, model, "s.npy", status=2)
            verdicts = [r["verdict"] for r in found["image"]]
            assert verdicts == ["good"] * 3 + ["not inspected", "good"]
            assert f"s.npy[3]: cannot be scored: {error!r}" in err[0]

    def test_rows_in_a_file_and_resume(self, capsys, model):
        for i, image in enumerate(SAMPLES.images[BAD]):
            save(f"in/{i}.npy", image)
        assert run("score", model, "in", "-o", "o.csv") == 0
        assert "6 of 6 images are anomalies" in capsys.readouterr().out
        whole = Path("o.csv").read_bytes()
        assert whole.startswith(
            b"image,anomaly_score,verdict,reason,threshold,model_sha256\nin/0.npy,"
        )
        Path("o.csv").write_bytes(whole[: whole.index(b"in/3.npy") + 4])
        assert run("score", model, "in", "-o", "o.csv", "--resume") == 0
        assert Path("o.csv").read_bytes().count(b"\n") == 7
        assert "6 of 6 images are anomalies" in capsys.readouterr().out

    def test_no_detector(self, capsys):
        save("s.npy", SAMPLES.images)
        np.savez("a.npz", a=1)
        for name in ("nowhere.npz", "a.npz", "s.npy"):
            assert run("score", name, "s.npy") == 2
            assert capsys.readouterr().err.startswith(f"imsim: error: {name}")


def test_report(capsys, model, monkeypatch):
    monkeypatch.setattr("imsim.anomaly.report.DPI", 20)
    save("good.npy", SAMPLES.images[~BAD][:12])
    for i, image in enumerate(SAMPLES.images[BAD]):
        save(f"bad/{i}.npy", image)
    rows = [f"bad/{i}.npy,worm,{(i + 1) / 6}\n" for i in range(6)]
    Path("labels.csv").write_text("file,kind,size\n" + "".join(rows))
    assert run("report", model, "good.npy", "bad", "-o", "page", "--labels", "labels.csv") == 0
    out, err = capsys.readouterr()
    assert "the model learned from 12 of these images" in err
    assert err.count("\n") == 1
    assert "AUROC" in out
    assert "worm" in out
    assert out.splitlines()[-1] == f"Report: {Path('page') / 'report.html'}"
    assert "worm" in Path("page/report.html").read_text(encoding="utf-8")


def test_reports_that_cannot_be(capsys, model):
    save("good.npy", SAMPLES.images[:2]), save("small.npy", SAMPLES.images[BAD][:, :50])
    save("bad.npy", SAMPLES.images[BAD]), save("deep.npy", deep(SAMPLES.images[BAD]))
    save("smaller.npy", SAMPLES.images[:2, :50])
    Path("labels.csv").write_text("file,kind\n")
    for arguments, words in (
        (["good.npy", "small.npy", "-o", "page"], "must have the same size and type"),
        (["good.npy", "deep.npy", "-o", "page"], "must have the same size and type"),
        (["smaller.npy", "small.npy", "-o", "page"], "smaller.npy, small.npy: images are 64 x 50"),
        (["good.npy", "nowhere.npy", "-o", "page"], "nowhere.npy: no image that could be read"),
        (["good.npy", "bad.npy", "-o", "nowhere/page"], "there is no folder"),
        (["good.npy", "bad.npy", "-o", "page", "--labels", "no.csv"], "no.csv: cannot be read"),
        (["good.npy", "bad.npy", "-o", "page", "--labels", "labels.csv"], "has no kind and size"),
    ):
        assert run("report", model, *arguments) == 2
        assert words in capsys.readouterr().err


def test_the_command_starts_without_the_workflow():
    code = (
        "import sys; from imsim.cli import main; main(['list']); "
        "print({'imsim.anomaly', 'sklearn', 'jax', 'scipy.stats', 'matplotlib', 'nibabel', "
        "'pydicom'} & {*sys.modules})"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "set()"


def test_a_missing_extra_is_said(capsys, monkeypatch):
    save("good.npy", SAMPLES.images[~BAD])
    monkeypatch.delitem(anomaly.__dict__, "ConvAutoencoder", raising=False)
    monkeypatch.delitem(sys.modules, "imsim.anomaly.convolutional", raising=False)
    for name in ("jax", "equinox", "optax"):
        monkeypatch.setitem(sys.modules, name, None)
    assert run("train", "good.npy", "-o", "m.safetensors", "--model", "conv") == 2
    error = capsys.readouterr().err
    assert error.startswith("imsim: error: imsim.anomaly.ConvAutoencoder needs the package ")
    assert "pip install 'imsim[network]'" in error
