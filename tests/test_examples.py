"""The example scripts run as they are, and say what they promise."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import imsim
import imsim.anomaly

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = {path.stem: path for path in sorted(EXAMPLES.glob("*.py"))}
HEAVY = {"plot_choosing_a_metric", "plot_anomaly_in_brief", "plot_training_with_ssim"}
"""More than five seconds; `make docs` runs them, and their errors are errors there."""
PICTURES = sorted(name for name in SCRIPTS if name.startswith("plot_") and name not in HEAVY)


def run(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPTS[name]), *arguments])
    runpy.run_path(str(SCRIPTS[name]), run_name="__main__")


def test_photographs_are_scored_by_every_metric(monkeypatch, capsys):
    run("compare_photographs", monkeypatch)
    out = capsys.readouterr().out
    assert all(name in out for name in imsim.METRICS)
    assert max(map(len, out.splitlines())) <= 100


def test_defects_of_drawn_boards_are_found(monkeypatch, capsys):
    run("board_defects", monkeypatch)
    heads, *rows = capsys.readouterr().out.splitlines()[1:]
    column = heads.split().index("F1")
    best = max(float(row.split()[column]) for row in rows)
    assert best > 0.9  # boards without noise: some metric finds nearly every defect


@pytest.fixture(scope="module")
def good_and_bad(tmp_path_factory):
    """A folder with good/ and bad/ textures, and the same images as a file."""
    rng = np.random.default_rng(0)
    images = rng.integers(90, 130, (60, 24, 24), dtype=np.uint8)
    images[45:, 8:13, 8:13] = 255
    folder = tmp_path_factory.mktemp("images")
    for i, image in enumerate(images):
        path = folder / ("good" if i < 45 else "bad") / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    (folder / "good" / "notes.txt").write_text("not an image", encoding="utf-8")
    labels = np.arange(60) >= 45
    parts = {"train_images": images[:30], "train_labels": labels[:30]}
    np.savez(folder / "all.npz", **parts, test_images=images[30:], test_labels=labels[30:])
    return folder


@pytest.mark.parametrize("source", [".", pytest.param("all.npz", marks=pytest.mark.thorough)])
def test_anomalies_in_own_images_are_found(source, good_and_bad, tmp_path, monkeypatch, capsys):
    data = ["--data", str(good_and_bad / source), "-o", str(tmp_path)]
    run("anomaly_detection", monkeypatch, *data)
    out, errors = capsys.readouterr()
    assert out.index("The straw man (to be beaten) compares whole images") < out.index("AUROC")
    assert "AUROC 1.000" in out
    assert "0 missed" in out
    assert ("notes.txt: left out" in errors) == (source == ".")
    assert str(tmp_path / "report.html") in out.splitlines()[-1]
    assert (tmp_path / "report.html").exists()
    beside = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert all(name in beside for name in ("straw man", "default", "linear autoencoder"))


def test_a_file_holds_the_same_images(good_and_bad):
    names = runpy.run_path(str(SCRIPTS["anomaly_detection"]))
    folder, file = names["from_folder"](good_and_bad), names["from_file"](good_and_bad / "all.npz")
    assert folder.good.shape[1:] == file.good.shape[1:] == (24, 24)
    assert file.labels.tolist() == [0] * 15 + [1] * 15
    everything = [np.sort(np.concatenate(data[:2]), axis=0) for data in (folder, file)]
    np.testing.assert_array_equal(*everything)


def test_without_jax_the_network_is_left_out(monkeypatch, capsys):
    detectors = runpy.run_path(str(SCRIPTS["anomaly_detection"]))["detectors"]
    assert list(detectors(peel=True, conv=True))[-1] == "convolutional autoencoder"
    monkeypatch.delitem(imsim.anomaly.__dict__, "ConvAutoencoder", raising=False)
    monkeypatch.delitem(sys.modules, "imsim.anomaly.convolutional", raising=False)
    for name in ("jax", "equinox", "optax"):
        monkeypatch.setitem(sys.modules, name, None)
    assert [name.split()[0] for name in detectors(peel=True, conv=True)] == [
        "straw",
        "default",
        "linear",
    ]
    out = capsys.readouterr().out
    assert out.startswith("The convolutional autoencoder is left out.")
    assert "pip install 'imsim[network]'" in out


@pytest.mark.parametrize(
    "name",
    # Volumes in windows of its own sizes are kernels of their own; docs/volumes.md has the calls.
    [pytest.param(n, marks=pytest.mark.thorough if n == "plot_volumes" else ()) for n in PICTURES],
)
def test_example_with_figures(name, monkeypatch, capsys):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("Agg")
    shown = []
    monkeypatch.setattr(pyplot, "show", lambda: shown.append(pyplot.get_fignums()))
    try:
        run(name, monkeypatch)
        assert shown, "it shows no figure"
        assert "False" not in capsys.readouterr().out, "what it claims does not hold"
        figures = [pyplot.figure(number) for number in pyplot.get_fignums()]
        assert all(figure.axes for figure in figures)
        for figure in figures:
            figure.canvas.draw()  # which is where a bad label or colour would fail
    finally:
        pyplot.close("all")


@pytest.mark.parametrize("name", SCRIPTS)
def test_example_has_a_title_and_a_text_for_the_gallery(name):
    source = SCRIPTS[name].read_text(encoding="utf-8")
    title, rule, blank, text = source.removeprefix('"""\n').split("\n")[:4]
    assert title
    assert set(rule) == {"="}
    assert len(rule) >= len(title)
    assert blank == ""
    assert text
