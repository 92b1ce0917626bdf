"""The report of the workflow: its numbers, its figures, and that it is always written."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="only reports draw")

from headless import browser, rendered
from PIL import Image

import imsim
from imsim.anomaly import evaluate, figures, rank_metrics, scoring, write_report
from imsim.anomaly import report as pages
from imsim.anomaly.separation import Localisation
from imsim.pages import Scale, asset

GOOD, BAD = 24, 16
FIGURES = {
    "scores.png",
    "roc.png",
    "ranking.png",
    "groups.png",
    "gallery_hits.png",
    "gallery_misses.png",
    "gallery_false_alarms.png",
}
NASTY = "<script>alert(1)</script> $x_$ \udcff.png"


class Detector:
    """Scores by the worst squared error against flat images; found and missed are known."""

    threshold_ = 0.0

    def anomaly_score(self, images):
        return scoring.anomaly_scores("se", images, np.full_like(images, 0.5), aggregate="worst")


@pytest.fixture(scope="module")
def judged():
    """Return an evaluation, a ranking, what was compared, and the kinds."""
    rng = np.random.default_rng(5)
    labels = np.arange(GOOD + BAD) >= GOOD
    images = rng.uniform(0.45, 0.55, (len(labels), 24, 24))
    sizes = np.where(labels, np.arange(len(labels)) % 2 + 1, 0)
    kinds = np.where(sizes == 1, "faint", np.where(sizes == 2, "stone", "good"))
    images[sizes == 2, 8:16, 8:16] = 1.0
    masks = np.zeros(images.shape, dtype=bool)
    masks[:, 3:21, 3:21] = True
    detector = Detector()
    good = np.sort(detector.anomaly_score(images[:GOOD]))
    detector.threshold_ = float(good[-2:].mean())  # one false alarm
    evaluation = evaluate(
        detector, images, labels, kinds=kinds, sizes=sizes, n_bootstrap=20, random_state=0
    )
    compared = (images, np.full_like(images, 0.5), masks)
    ranking = rank_metrics(
        *compared[:2], labels, masks=masks, data_range=1.0, metrics=["se", "ssim"], n_bootstrap=20
    )
    return evaluation, ranking, compared, kinds


@pytest.fixture(scope="module")
def report(judged, tmp_path_factory):
    """Return the page of a full report."""
    evaluation, ranking, compared, kinds = judged
    names = [f"{index:03}.png" for index in range(len(kinds))]
    names[int(np.argmax(evaluation.scores))] = NASTY
    return write_report(
        tmp_path_factory.mktemp("out") / "deep" / "folder",
        evaluation,
        ranking,
        compared,
        images=compared[0],
        metric="ssim",
        data_range=1.0,
        kinds=kinds,
        names=names,
        title="Line <3>",
        gallery=3,
    )


def test_writes_every_figure_and_embeds_it(report):
    assert {path.name for path in report.parent.iterdir()} == FIGURES | {"report.html"}
    text = report.read_text(encoding="utf-8")
    sources = re.findall(r'src="data:image/png;base64,(.*?)"', text)
    embedded = {base64.b64decode(source) for source in sources}
    assert embedded == {(report.parent / name).read_bytes() for name in FIGURES}
    for name in FIGURES:
        with Image.open(report.parent / name) as picture:
            assert picture.format == "PNG"
            assert np.asarray(picture.convert("L")).std() > 5, f"{name} is empty"


def test_answers_first(report, judged):
    evaluation, ranking, *_ = judged
    text = report.read_text(encoding="utf-8")
    hits, misses, alarms, passes = evaluation.confusion
    assert (hits >= BAD // 2, misses > 0, alarms, passes) == (True, True, 1, GOOD - 1)
    answer = text.index('<p class="answer">')
    assert answer < text.index("<img")
    sentence = text[answer : text.index("</p>", answer)]
    assert f"found {hits} of {BAD} bad items ({hits / BAD:.1%})" in sentence
    assert f"1 false alarm on {GOOD} good ones ({1 / GOOD:.1%})" in sentence
    assert imsim.METRICS[ranking.best.metric].title in sentence
    assert f"AUROC {ranking.best.auroc:.3f}" in sentence
    assert f"the detector as a whole reaches {evaluation.auroc:.3f}." in sentence


def test_has_the_numbers_of_every_measure_and_group(report, judged):
    evaluation, ranking, *_ = judged
    text = report.read_text(encoding="utf-8")
    for record in ranking:
        row = text[text.index(f"<span>{record.name}</span>") :].split("</tr>")[0]
        for number in (
            f"{record.auroc:.3f}",
            f"{record.interval[0]:.3f}&nbsp;to&nbsp;{record.interval[1]:.3f}",
            f"{record.accuracy:.1%}",
            f"{record.detection_at_1_percent:.1%}",
            f"{record.images_per_second:.0f}",
        ):
            assert f"<td>{number}</td>" in row
    for group in (*evaluation.by_kind, *evaluation.by_size):
        row = f'<th scope="row">{group.name}</th><td>{group.count}</td>'
        assert f"{row}<td>{group.detection_rate:.1%}</td>" in text


def test_text_is_escaped_and_nothing_comes_from_elsewhere(report):
    text = report.read_text(encoding="utf-8")
    assert "<h1>Line &lt;3&gt;</h1>" in text
    assert "<script" not in text  # names stand in the pictures only
    assert "http" not in re.sub('http-equiv|src="[^"]*"', "", text)


def test_evaluation_alone(judged, tmp_path):
    page = write_report(tmp_path, judged[0])
    assert {path.name for path in tmp_path.glob("*.png")} == {"scores.png", "roc.png", "groups.png"}
    assert f"AUROC {judged[0].auroc:.3f}" in page.read_text(encoding="utf-8")


def test_a_figure_that_fails_does_not_take_the_page_with_it(judged, tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("no ink <left>")

    monkeypatch.setattr(figures, "roc_figure", fail)
    with pytest.warns(RuntimeWarning, match="roc.png could not be drawn: no ink"):
        page = write_report(tmp_path, judged[0], judged[1])
    text = page.read_text(encoding="utf-8")
    assert "roc.png could not be drawn: no ink &lt;left&gt;" in text
    assert "All measures" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "se"}, "pass data_range=detector.data_range_"),
        ({"reconstruction": (1, 2)}, "expected three parts"),
        ({"evaluation": "no"}, "evaluation is of type str"),
    ],
)
def test_wrong_arguments_are_named(judged, tmp_path, change, message):
    given = {"evaluation": judged[0], "reconstruction": judged[2]} | change
    with pytest.raises(imsim.ImsimError, match=message):
        write_report(tmp_path / "new", **given)
    assert not (tmp_path / "new").exists()


def test_gallery_shows_hits_of_every_strength_and_the_closest_misses(judged):
    evaluation = judged[0]
    hits, misses, alarms = pages.shown_images(evaluation, 3).values()
    scores, labels, flagged = evaluation.scores, evaluation.labels, evaluation.flagged
    assert (labels[hits] & flagged[hits]).all()
    assert (labels[misses] & ~flagged[misses]).all()
    assert (~labels[alarms] & flagged[alarms]).all()
    assert scores[hits[0]] == scores[labels].max()
    assert scores[hits[-1]] == scores[labels & flagged].min()
    assert scores[misses[0]] == scores[labels & ~flagged].max()
    assert [len(hits), len(misses), len(alarms)] == [3, min(3, evaluation.confusion.misses), 1]


def test_all_pictures_of_a_gallery_share_one_scale(judged, monkeypatch):
    evaluation, _, compared, _ = judged
    drawn: list[Any] = []
    monkeypatch.setattr(figures, "gallery_figure", lambda *given: drawn.append(given[1]))
    draw = pages.gallery_of(evaluation, compared, None, "psnr", 1.0, None, None)
    for i in (0, GOOD + 1):
        draw(np.array([i]))
    first, second = drawn
    assert [panel[2] for panel in first] == [panel[2] for panel in second]
    assert first[-1][2] == Scale(1.0, 0.0)  # psnr has no map: that of fsim
    outside = ~compared[2][0]
    assert np.isnan(first[0][1][0][outside]).all()


def test_images_without_a_score_are_counted(judged, tmp_path):
    images = judged[2][0].copy()
    images[3] = np.nan
    detector = Detector()
    detector.threshold_ = judged[0].threshold
    evaluation = evaluate(detector, images, judged[0].labels, n_bootstrap=20)
    text = write_report(tmp_path, evaluation).read_text(encoding="utf-8")
    assert "1 image could not be scored" in text


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"gallery": 0}, imsim.OptionError, "gallery=0"),
        ({"names": ["a"]}, imsim.ShapeError, "names has length 1"),
        ({"kinds": ["a"]}, imsim.ShapeError, "kinds has length 1"),
        ({"kinds": 60 * "a"}, imsim.OptionError, "kinds is of type str; expected a list"),
        ({"names": dict.fromkeys(range(60))}, imsim.OptionError, "names is of type dict"),
        ({"images": np.zeros((2, 24, 24))}, imsim.ShapeError, "images has length 2"),
    ],
)
def test_bad_input(judged, tmp_path, options, error, words):
    with pytest.raises(error, match=words):
        write_report(tmp_path, judged[0], None, judged[2], data_range=1.0, **options)


def test_a_folder_that_cannot_be_made(judged, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(imsim.ImsimError, match="choose another folder"):
        write_report(tmp_path / "file" / "out", judged[0])


def test_no_roc_curve_hides_another():
    """Each of twelve curves has a panel of its own, in front of all others in grey."""
    rng = np.random.default_rng(0)
    labels = np.arange(12) >= 6
    images = rng.uniform(0.4, 0.6, (12, 16, 16))
    images[labels, 4:8, 4:8] += 1
    grey = np.full_like(images, 0.5)
    metrics = [name for name in imsim.METRICS if name not in ("uiq", "zncc")]
    ranking = rank_metrics(images, grey, labels, data_range=1.0, metrics=metrics, n_bootstrap=2)
    detector = Detector()
    detector.threshold_ = 0.5
    evaluation = evaluate(detector, images, labels, n_bootstrap=2)
    figure = figures.roc_figure(evaluation, ranking)
    first = {record.metric: record.roc for record in reversed(list(ranking))}
    panels = [axes for axes in figure.axes if axes.lines]
    assert len(panels) == 1 + len(first) >= 11
    assert len({axes.get_title() for axes in panels}) == len(panels)
    assert [len(axes.get_lines()) for axes in panels] == [len(panels) + 2] + [len(panels) + 1] * (
        len(panels) - 1
    )
    for axes in panels:
        curves = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
        *others, own = curves
        assert {line.get_color() for line in others} == {figures.OTHER}
        assert own.get_color() == figures.GOOD
        assert own.get_linewidth() > 2 * max(line.get_linewidth() for line in others)
        name = axes.get_title().split()[0]
        roc = evaluation.separation.roc if name == "detector" else first[name]
        np.testing.assert_array_equal(own.get_ydata(), 100 * roc.detection_rates)


def test_the_page_says_how_sure_it_is_and_where_the_map_points(judged, tmp_path):
    where = Localisation(0.9, (0.8, 0.95), 0.7, (0.6, 0.75), 16, 0.5)
    text = write_report(tmp_path, replace(judged[0], localisation=where)).read_text("utf-8")
    low, high = judged[0].detection_interval
    assert f"it finds {low:.1%} to {high:.1%} of the bad ones" in text
    assert "(pixel AUROC 0.900 (0.800 to 0.950))" in text
    assert "Of 16 bad regions, on average 0.700 (0.600 to 0.750)" in text
    assert "50.0% of the bad pixels were compared" in text


def test_a_row_of_the_gallery_fits_a_phone(judged):
    """Its four pictures are as wide together as any figure; none is cut off."""
    evaluation, _, compared, _ = judged
    draw = pages.gallery_of(evaluation, compared, compared[0], "se", 1.0, None, None)
    figure = draw(np.array([0, 1]))
    assert figure.get_size_inches()[0] == figures.WIDTH
    rule = re.search(r"\.plot img {(.*?)}", asset("page.css"))
    assert rule
    assert "min-width" not in rule[1]


def test_nothing_is_wider_than_a_phone(report):
    with browser() as reader:
        assert reader.beyond(report, 420) == []


def test_leaves_pyplot_alone():
    package = Path(imsim.__file__).parent / "anomaly"
    assert not [path for path in package.rglob("*.py") if "pyplot" in path.read_text("utf-8")]


def test_opens_in_a_browser(report, tmp_path):
    dom, console = rendered(report, tmp_path / "profile")
    assert console == []
    assert dom.count("<img") == len(FIGURES)
