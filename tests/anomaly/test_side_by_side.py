"""Several detectors on one page: the same images, their reconstructions, maps, scores and ROC."""

from __future__ import annotations

import base64
import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="only reports draw")
pytest.importorskip("sklearn", reason="the detector is optional")

from headless import browser, rendered
from matplotlib.figure import Figure
from PIL import Image

import imsim
from imsim.anomaly import AnomalyDetector, PCAAutoencoder, evaluate, side_by_side, write_comparison
from imsim.anomaly.pca import MeanModel

FIGURES = {
    *(f"comparison_gallery_{i}.png" for i in (1, 2, 3)),
    "comparison_scores.png",
    "comparison_roc.png",
}
NASTY = "<script>alert(1)</script> $x_$ \udcff.png"
GOOD, BAD = 14, 8


class Halves:
    """A preprocess that leaves the left half of the images to compare, less 1."""

    def fit(self, images: Any) -> Halves:
        return self

    def transform(self, images: Any) -> tuple[Any, Any]:
        masks = np.zeros(images.shape, bool)
        masks[:, :, : images.shape[2] // 2] = True
        return images - 1, masks

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {}


@pytest.fixture(scope="module")
def judged() -> tuple[Any, ...]:
    """Return detectors, evaluations, images and labels; bad ones have a bright square."""
    rng = np.random.default_rng(0)
    labels = np.arange(GOOD + BAD) >= GOOD
    bars = np.zeros((40 + len(labels), 24, 24))
    for i, bar in enumerate(bars):  # level or upright, so that a pose is found
        bar[(slice(9, 15), slice(4, 20))[:: 1 - 2 * (i % 2)]] = 1
    bars += rng.uniform(-0.05, 0.05, bars.shape)
    good, images = bars[:40], bars[40:]
    for i in np.flatnonzero(labels):
        images[i, 10:14, 10:14] += 0.2 * (i - GOOD)
    common = {"random_state": 0, "data_range": 1.0}
    detectors = {
        "posed": AnomalyDetector(PCAAutoencoder(2), None, "se", **common),
        "left <half>": AnomalyDetector(MeanModel(), Halves(), "psnr", **common),
        "left again": AnomalyDetector(PCAAutoencoder(2), Halves(), "se", **common),
    }
    evaluations = {
        name: evaluate(one.fit(good), images, labels, n_bootstrap=20)
        for name, one in detectors.items()
    }
    return detectors, evaluations, images, labels


@pytest.fixture(scope="module")
def comparison(judged: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    detectors, evaluations, images, labels = judged
    names = [NASTY] * len(labels)
    folder = tmp_path_factory.mktemp("out") / "deep" / "folder"
    kinds = np.where(labels, "square", "good")
    return write_comparison(
        folder, detectors, evaluations, images, kinds=kinds, names=names, title="Line <3>"
    )


def test_writes_every_figure_and_embeds_it(comparison: Path) -> None:
    assert {path.name for path in comparison.parent.iterdir()} == FIGURES | {"comparison.html"}
    text = comparison.read_text(encoding="utf-8")
    sources = re.findall(r'src="data:image/png;base64,(.*?)"', text)
    embedded = {base64.b64decode(source) for source in sources}
    assert embedded == {(comparison.parent / name).read_bytes() for name in FIGURES}
    for name in FIGURES:
        with Image.open(comparison.parent / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 5, f"{name} is empty"


def test_has_the_numbers_and_names_the_best(comparison: Path, judged: Any) -> None:
    text = comparison.read_text(encoding="utf-8")
    evaluations = judged[1]
    best = max(evaluations, key=lambda name: evaluations[name].auroc)
    assert f"{best} tells good from bad best: AUROC {evaluations[best].auroc:.3f}" in text
    rows = [line.split("</tr>")[0] for line in text.split('<tr><th scope="row">')[1:]]
    assert len(rows) == len(evaluations)
    for row, one in zip(rows, evaluations.values(), strict=True):
        for number in (
            f"{one.auroc:.3f}",
            f"{one.detection_rate:.1%}",
            f"{one.false_alarm_rate:.1%}",
        ):
            assert f"<td>{number}</td>" in row


def test_text_is_escaped_and_nothing_comes_from_elsewhere(comparison: Path) -> None:
    text = comparison.read_text(encoding="utf-8")
    assert "<h1>Line &lt;3&gt;</h1>" in text
    assert "left &lt;half&gt;" in text
    assert "<script" not in text
    assert "http" not in re.sub('http-equiv|src="[^"]*"', "", text)


def test_shows_a_good_image_and_bad_ones_from_the_easiest_to_the_hardest(judged: Any) -> None:
    _, evaluations, _, labels = judged
    shown = side_by_side.shown_together(evaluations, 4)
    assert labels[shown].tolist() == [False, True, True, True]
    ranks = sum(one.scores.argsort().argsort() for one in evaluations.values())
    assert (np.diff(ranks[shown[1:]]) <= 0).all()
    assert ranks[shown[1]] == ranks[labels].max()
    assert ranks[shown[-1]] == ranks[labels].min()
    assert ranks[shown[0]] in sorted(ranks[~labels])[GOOD // 2 - 1 : GOOD // 2 + 1]
    assert labels[side_by_side.shown_together(evaluations, 1)].tolist() == [True]
    assert len(side_by_side.shown_together(evaluations, 100)) == 1 + BAD


def test_everything_lies_in_the_place_of_the_image(judged: Any) -> None:
    detectors, _, images, labels = judged
    chosen = np.flatnonzero(labels)[-2:]  # a level bar and an upright one, with clear squares
    posed, half, again = (
        side_by_side.panels_of(one, images[chosen])[0] for one in detectors.values()
    )
    assert detectors["posed"].pose_ is not None
    (_, _, _), (_, made_all, _), (_, maps, scale) = posed
    for image, made, local in zip(images[chosen], made_all, maps, strict=True):
        assert np.corrcoef(image[4:20, 4:20].ravel(), made[4:20, 4:20].ravel())[0, 1] > 0.8
        assert np.nanargmax(local) in np.arange(576).reshape(24, 24)[9:15, 9:15]
    headings = [one[0][0] for one in (posed, half, again)]
    assert headings == ["image", *["preprocessed"] * 2]
    left = images[chosen][:, :, :12] - 1
    np.testing.assert_allclose(half[0][1][:, :, :12], left, rtol=1e-6)  # float32
    for _, values, _ in half[:2]:
        assert np.isnan(values[:, :, 12:]).all()
    assert half[2][0] == "fsim: bright differs"  # psnr has no map
    assert half[2][2][:2] == scale[:2] == (0.0, 1.0)


def test_images_without_a_score(
    judged: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imsim.anomaly.report.DPI", 20)
    detectors, _, images, labels = judged
    broken = images.copy()
    broken[-1] = np.nan
    evaluations = {}
    for name, one in detectors.items():
        with pytest.warns(imsim.anomaly.detector.UnscorableImageWarning):
            evaluations[name] = evaluate(one, broken, labels, n_bootstrap=20)
    assert len(labels) - 1 in side_by_side.shown_together(evaluations, 6)
    text = write_comparison(tmp_path, detectors, evaluations, broken).read_text(encoding="utf-8")
    assert f"on {GOOD + BAD - 1} images, {BAD - 1} of them bad" in text
    for name, one in evaluations.items():
        row = text.split(f'scope="row">{name.replace("<", "&lt;").replace(">", "&gt;")}</th>')[1]
        assert f"<td>{one.false_alarm_rate:.1%}</td><td>1</td>" in row.split("</tr>")[0]


def test_infinite_scores_are_in_the_last_bar(judged: Any) -> None:
    one = judged[1]["posed"]
    scores = one.scores.copy()
    scores[-2:] = np.inf
    scores[-3] = np.nan
    (axes,) = side_by_side.scores_figure({"one": dataclasses.replace(one, scores=scores)}).axes
    shares = [patch.get_data().values for patch in axes.patches]
    assert [share.sum() for share in shares] == pytest.approx([100] * 4)
    others = scores[np.isfinite(scores) & one.labels]
    unit = one.threshold - np.median(one.scores[~one.labels])
    beyond = np.sum((others - np.median(one.scores[~one.labels])) / unit > 3.9)
    assert shares[2][-1] == pytest.approx(100 * (beyond + 2) / (BAD - 1))
    scores[~one.labels] = np.inf
    side_by_side.scores_figure({"one": dataclasses.replace(one, scores=scores)})


def test_a_foreign_body_leaves_texture_its_contrast() -> None:
    texture = np.random.default_rng(0).normal(size=1000)
    clear = side_by_side._contrast(np.where(np.arange(1000) < 20, 50, texture))
    assert -4 < clear.low < -2
    assert 2 < clear.high < 6
    assert side_by_side._contrast(np.ones(5))[:2] == (1.0, 2.0)
    assert side_by_side._contrast(np.full(2, np.nan))[:2] == (0.0, 1.0)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "float16"])
def test_images_of_any_type(dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imsim.anomaly.report.DPI", 20)
    rng = np.random.default_rng(0)
    images = (rng.uniform(size=(34, 8, 8)) > 0.5).astype(dtype)
    labels = np.arange(10) > 6
    detector = AnomalyDetector(MeanModel(), None, "se", random_state=0).fit(images[:24])
    evaluation = evaluate(detector, images[24:], labels, n_bootstrap=20)
    write_comparison(tmp_path, {"one": detector}, {"one": evaluation}, images[24:])
    assert (tmp_path / "comparison_gallery_1.png").exists()


def test_a_threshold_below_most_good_images(judged: Any) -> None:
    one = judged[1]["posed"]
    middle = float(np.median(one.scores[~one.labels]))
    low = dataclasses.replace(one, threshold=middle - 0.5)
    for evaluation, place in ((one, 1.0), (low, -0.5)):
        (axes,) = side_by_side.scores_figure({"one": evaluation}).axes
        (line,) = axes.lines
        assert line.get_xdata()[0] == pytest.approx(place)


def test_a_figure_that_fails_does_not_take_the_page_with_it(
    judged: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no ink <left>")

    monkeypatch.setattr("imsim.anomaly.report.DPI", 20)
    monkeypatch.setattr(side_by_side.figures, "gallery_figure", lambda *_: Figure())
    monkeypatch.setattr(side_by_side.figures, "roc_panels", fail)
    with pytest.warns(RuntimeWarning, match=r"comparison_roc.png could not be drawn: no ink"):
        page = write_comparison(tmp_path, *judged[:3])
    assert "could not be drawn: no ink &lt;left&gt;" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"detectors": {}}, "detectors is of type dict, or empty"),
        ({"detectors": {"posed": 3}}, r"detectors\['posed'\] is of type int; expected Anomaly"),
        ({"evaluations": [1]}, "evaluations is of type list"),
        ({"evaluations": {"posed": None}}, r"evaluations\['posed'\] is of type NoneType"),
        ({"images": np.zeros((2, 24, 24))}, "images has length 2; expected one for each of the 22"),
        ({"images": 3}, "images"),
        ({"kinds": ["a"]}, "kinds has length 1"),
        ({"names": 5}, "names is of type int"),
        ({"gallery": 0}, "gallery=0"),
    ],
)
def test_wrong_arguments_are_named(
    judged: Any, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    given = dict(zip(("detectors", "evaluations", "images"), judged, strict=False)) | change
    with pytest.raises(imsim.ImsimError, match=message):
        write_comparison(tmp_path / "new", **given)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("wrong", [None, 3])
def test_what_is_no_path_is_named(judged: Any, wrong: Any) -> None:
    with pytest.raises(imsim.OptionError, match=r"folder is of type .*; expected the path"):
        write_comparison(wrong, *judged[:3])
    for call in (judged[0]["posed"].save, AnomalyDetector.load):
        with pytest.raises(imsim.OptionError, match=r"path is of type .*; expected the path"):
            call(wrong)


def test_what_does_not_belong_together(judged: Any, tmp_path: Path) -> None:
    detectors, evaluations, images, labels = judged
    with pytest.raises(imsim.OptionError, match="the same names in the same order"):
        write_comparison(tmp_path, detectors, dict(reversed(evaluations.items())), images)
    other = evaluate(detectors["posed"], images, ~labels, n_bootstrap=20)
    with pytest.raises(imsim.OptionError, match="different labels"):
        write_comparison(tmp_path, detectors, {**evaluations, "posed": other}, images)
    (tmp_path / "file").write_text("")
    with pytest.raises(imsim.ImsimError, match="choose another folder"):
        write_comparison(tmp_path / "file" / "out", detectors, evaluations, images)


def test_a_detector_is_as_wide_as_a_phone(comparison: Path, judged: Any) -> None:
    """Three pictures a row, which are large enough there; the same rows for all detectors."""
    with Image.open(comparison.parent / "comparison_gallery_1.png") as first:
        assert first.width <= side_by_side.figures.WIDTH * 160
        for i in (2, 3):
            with Image.open(comparison.parent / f"comparison_gallery_{i}.png") as other:
                assert other.size == first.size
    with browser() as reader:
        assert reader.beyond(comparison, 420) == []


def test_images_are_shown_as_they_are_even_if_no_detector_sees_them_so(
    judged: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detectors, evaluations, images, _ = judged
    drawn = []

    def draw(words: Any, panels: Any, masks: Any) -> Figure:
        drawn.append([panel[0] for panel in panels[:-1]])
        return Figure()

    monkeypatch.setattr("imsim.anomaly.report.DPI", 20)
    monkeypatch.setattr(side_by_side.figures, "gallery_figure", draw)
    name, expected = "left <half>", "what it expects"
    write_comparison(tmp_path, {name: detectors[name]}, {name: evaluations[name]}, images)
    write_comparison(tmp_path, *judged[:3])
    assert drawn == [
        ["image", "preprocessed", expected],
        ["image", expected],
        *[["preprocessed", expected]] * 2,
    ]


def test_opens_in_a_browser(comparison: Path, tmp_path: Path) -> None:
    dom, console = rendered(comparison, tmp_path / "profile")
    assert console == []
    assert dom.count("<img") == len(FIGURES)
