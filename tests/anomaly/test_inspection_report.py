"""The report on images without labels: what it says, marks, and leaves out."""

from __future__ import annotations

import base64
import io
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="only reports draw")

from headless import browser, rendered
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import imsim
from imsim.anomaly import (
    AnomalyDetector,
    InspectionRecord,
    ItemDetector,
    figures,
    inspection_report,
    report,
    scoring,
    write_inspection_report,
)
from imsim.anomaly.held_out import threshold_at

NASTY = "<script>alert(1)</script> $x_$ \udcff.png"
SIDE = 24


def images(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(0.4, 0.6, (count, SIDE, SIDE))


def marked(count: int, bad: Any, seed: int = 1) -> Any:
    """Return images, some with a bright square at row 14, column 5."""
    result = images(count, seed)
    result[bad, 14:17, 5:8] = 1.5
    return result


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Nobody looks at the figures here."""
    monkeypatch.setattr(report, "DPI", 20)


@pytest.fixture(scope="module")
def detector() -> AnomalyDetector:
    return AnomalyDetector(
        preprocess=None, metric="se", data_range=1.0, false_alarm_rate=0.2, pose=None, fence=None
    ).fit(images(40))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def pictures_of(text: str) -> list[Any]:
    """Return the pictures of the rejects."""
    part = text[text.index('<div class="rejects">') :] if 'class="rejects"' in text else ""
    return [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(source))).convert("RGB"))
        for source in re.findall(r'src="data:image/png;base64,(.*?)"', part)
    ]


def rows_of(text: str) -> list[list[str]]:
    """Return the cells of the table of images."""
    body = text[text.index('class="sortable"') :]
    body = body[body.index("<tbody>") : body.index("</tbody>")]
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in body.split("</tr>")[:-1]]


def plain(text: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())


def test_says_what_was_found_and_where(detector, tmp_path):
    frames = marked(30, [3, 20])
    frames[7, 0, 0] = np.nan
    names = [f"{i:03}.png" for i in range(30)]
    names[3] = NASTY
    page = write_inspection_report(
        tmp_path / "a" / "b",
        detector,
        frames,
        names=names,
        title="Line <3>",
        facts={"model": "m<>"},
    )
    assert {path.name for path in page.parent.iterdir()} == {
        "inspection.html",
        "inspection_order.png",
        "inspection_scores.png",
    }
    text = text_of(page)
    scores, problems = detector.inspect(frames)
    flagged = scores > detector.threshold_
    assert flagged[[3, 20]].all()
    answer = text[text.index('<p class="answer">') :].split("</p>")[0]
    assert text.index('<p class="answer">') < text.index("<img")
    assert f"Of 30 images, {flagged.sum()} are anomalies and 1 could not be inspected" in answer
    assert f"{flagged.sum() + 1} rejected, {29 - flagged.sum()} passed" in answer
    assert f"above {detector.threshold_:.6g}" in answer
    mean, low, high = detector.false_alarms_.alarms(29)
    assert f"{mean:.2g} would be rejected by mistake on average ({low:.0f} to {high:.0f}" in text
    rows = rows_of(text)
    assert len(rows) == 30
    for i, (number, _, score, verdict, place, reason) in enumerate(rows):
        assert number == str(i + 1)
        if i == 7:
            assert (score, verdict, place, reason) == ("", "not inspected", "", problems[7])
        else:
            assert score == f"{scores[i]:.6g}"
            assert verdict == ("anomaly" if flagged[i] else "good")
            assert bool(place) == flagged[i]
    assert rows[3][4] == rows[20][4] == "x 5 to 7, y 14 to 16"
    assert "&lt;script&gt;alert(1)" in rows[3][1]
    assert "<h1>Line &lt;3&gt;</h1>" in text
    assert text.count("<script") == 1  # that which sorts
    assert "http" not in re.sub('http-equiv|src="[^"]*"', "", text)
    for words in ("m&lt;&gt;", "40 good images of 24 x 24 pixels", imsim.__version__):
        assert words in text


def test_nothing_is_wider_than_a_phone(detector, tmp_path):
    names = [f"a-folder/with-a-long-name/and-a-camera-to-the-left-{i}.png" for i in range(12)]
    page = write_inspection_report(tmp_path, detector, marked(12, [4]), names=names)
    with browser() as reader:
        assert reader.beyond(page, 420) == []


def test_marks_the_place_in_image_and_map(detector, tmp_path):
    image, local = pictures_of(
        text_of(write_inspection_report(tmp_path, detector, marked(12, [4]), gallery=1))
    )
    factor = figures.THUMBNAIL // SIDE
    assert image.shape == local.shape == (SIDE * factor, SIDE * factor, 3)
    white = (image == 255).all(axis=-1) & (local == 255).all(axis=-1)  # the box is in both
    rows, columns = (np.flatnonzero(white.any(axis=axis)) for axis in (1, 0))
    middle = (rows[0] + rows[-1]) / 2 / factor, (columns[0] + columns[-1]) / 2 / factor
    assert middle == pytest.approx((15.5, 6.5), abs=0.3)
    inside = local[14 * factor + 2 : 17 * factor - 2, 5 * factor + 2 : 8 * factor - 2]
    assert (inside[..., 2] < 200).all()  # the box, which is white, is around it, not on it
    assert local[15 * factor, 6 * factor, 0] > 100  # bright differs
    assert local[factor * 2, factor * 20, 0] < 100


def test_the_worst_come_first_and_the_others_are_counted(detector, tmp_path):
    frames = images(20, 2)
    for i in range(12):
        frames[i, 2:5, 2:5] = 1.2 + (i * 5 % 12) / 10
    text = text_of(write_inspection_report(tmp_path, detector, frames, gallery=4))
    shown = re.findall(r"<h3>image (\d+)</h3>", text)
    scores = detector.anomaly_score(frames)
    assert shown == [str(i) for i in np.argsort(-scores)[:4]]
    count = int((scores > detector.threshold_).sum())
    assert f"{count - 4} rejects are not pictured." in plain(text)
    assert len(pictures_of(text)) == 8


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(0, 4))
def test_memory_holds_the_worst_alone(scores: list[int], gallery: int) -> None:
    """Of equal scores, the first ones stay."""

    class Flat(AnomalyDetector):
        window = 3

    record = InspectionRecord(Flat(metric="se"), gallery=gallery)
    image = images(1)
    for i, score in enumerate(scores):
        record.add(str(i), score, flagged=True, image=image[0], values=image[0])
    kept = sorted(record._worst, reverse=True)
    best = sorted(range(len(scores)), key=lambda i: -scores[i])[:gallery]
    assert [-one.order - 1 for one in kept] == best
    assert len(record.rows) == len(scores)


@pytest.mark.parametrize("given_rows", ["none", "all", "unseen", "one", "flat"])
def test_pages_with_nothing_or_everything_to_show(detector, tmp_path, given_rows):
    frames = {
        "none": np.full((3, SIDE, SIDE), 0.5),
        "all": marked(5, slice(None)),
        "unseen": np.full((4, SIDE, SIDE), np.nan),
        "one": marked(1, [0]),
        "flat": np.zeros((2, SIDE, SIDE)),
    }[given_rows]
    text = text_of(write_inspection_report(tmp_path, detector, frames))
    words = {
        "none": "Of 3 images, 0 are anomalies and 0 could not be inspected: 0 rejected, 3 passed.",
        "all": "5 are anomalies and 0 could not be inspected: 5 rejected, 0 passed.",
        "unseen": "0 are anomalies and 4 could not be inspected: 4 rejected, 0 passed.",
        "one": "Of 1 image, 1 is an anomaly",
        "flat": "Of 2 images",
    }[given_rows]
    assert words in plain(text)
    assert len(rows_of(text)) == len(frames)
    if given_rows in ("none", "unseen"):
        assert "No image is an anomaly." in text
    if given_rows == "unseen":
        assert "inspection_order.png" not in {path.name for path in tmp_path.iterdir()}
        assert "<td>4</td><td>holds NaN or infinity" in text


def test_what_cannot_be_seen_has_its_row(detector, tmp_path):
    record = InspectionRecord(detector)
    record.add("old.png", 99.0, flagged=True)
    record.add("broken.png", float("nan"), reason="is damaged")
    record.inspect(marked(2, [1]), ["a.png", "b.png"])
    text = text_of(record.write(tmp_path))
    assert [row[1] for row in rows_of(text)] == ["old.png", "broken.png", "a.png", "b.png"]
    assert "of 1, only the score of an earlier run is known" in text
    assert "is damaged" in text
    assert "<h3>b.png</h3>" in text
    assert "<h3>old.png</h3>" not in text


def test_without_a_map_there_is_no_place(tmp_path):
    detector = AnomalyDetector(preprocess=None, metric="rmse", data_range=1.0, pose=None).fit(
        images(40)
    )
    text = text_of(write_inspection_report(tmp_path, detector, marked(4, [2])))
    assert "rmse has no map, so that no place is marked. These metrics have one: fsim," in text
    assert len(pictures_of(text)) == 1
    assert rows_of(text)[2][3:5] == ["anomaly", ""]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"metric": "se", "aggregate": "worst"}, None),
        ({"metric": "se", "aggregate": "mean"}, "the score is that of the whole image"),
        ({}, "the score comes from the statistics of good images"),
    ],
)
def test_says_if_the_map_is_not_what_decided(tmp_path, options, words):
    detector = AnomalyDetector(preprocess=None, data_range=1.0, pose=None, **options)
    detector.fit(images(20))
    detector.threshold_ = -100.0
    text = text_of(write_inspection_report(tmp_path, detector, images(1, 5)))
    assert ("not what decided" in text) == (words is not None)
    assert words is None or words in text


def test_a_map_that_fails_takes_nothing_with_it(detector, tmp_path, monkeypatch):
    whole = AnomalyDetector.anomaly_map
    frames = marked(6, [1, 4])

    def fails(self, given, masks=None):
        if (given == frames[4]).all(axis=(1, 2)).any():
            raise MemoryError
        return whole(self, given, masks)

    monkeypatch.setattr(AnomalyDetector, "anomaly_map", fails)
    rows = rows_of(text_of(write_inspection_report(tmp_path, detector, frames)))
    assert [bool(row[4]) for row in rows][1:5:3] == [True, False]
    assert rows[4][3] == "anomaly"


def test_images_of_16_bits_and_masks(tmp_path):
    deep = (images(30) * 60_000).astype(np.uint16)
    mask = np.ones((SIDE, SIDE), bool)
    mask[:, 12:] = False
    detector = AnomalyDetector(preprocess=None, metric="se", false_alarm_rate=0.2).fit(
        deep[:26], masks=mask
    )
    deep[28, 4:8, 2:6] = 65535
    deep[29, 4:8, 14:18] = 65535  # outside
    text = text_of(write_inspection_report(tmp_path, detector, deep[26:], masks=mask))
    rows = rows_of(text)
    assert rows[2][3] == "anomaly"
    assert rows[2][4].startswith("x 3 to 5")
    assert rows[3][3] == detector_verdict(detector, deep[29:], mask)
    image, local = pictures_of(text)[:2]
    assert image[..., 0].std() > 20  # 16 bits are seen
    assert (local[4 * 10, 20 * 10] == 150).all()  # what was not compared is grey


def detector_verdict(detector: Any, image: Any, mask: Any) -> str:
    return "good" if detector.inspect(image, mask).scores[0] <= detector.threshold_ else "anomaly"


def test_a_long_run_stays_small(detector, tmp_path, monkeypatch):
    """Rows, not pictures, grow with the number of images; beyond a number, good ones are left."""
    monkeypatch.setattr(inspection_report, "MOST_ROWS", 50)
    record = InspectionRecord(detector, gallery=2)
    for i in range(0, 400, 40):
        for k, image in enumerate(images(40)):
            torn = {"score": np.nan, "reason": "is torn"} if k == 3 else {"score": k / 40}
            record.add(f"{i + k}", image=image, **torn)
    page = record.write(tmp_path)
    text = text_of(page)
    assert "350 images have no row here" in text
    verdicts = [row[3] for row in rows_of(text)]
    assert (verdicts.count("not inspected"), len(verdicts)) == (10, 50)
    assert page.stat().st_size < 300_000


def test_large_and_thin_images_become_small_pictures():
    large = np.zeros((700, 900), np.uint8)
    large[350, 450] = 255
    small = figures.thumbnail(large, (slice(350, 351), slice(450, 451)), largest=True)
    assert small.values.shape == (175, 225)
    assert small.values.max() == 255  # a defect of one pixel is seen
    assert figures.thumbnail(large, None).values.max() < 255
    top, bottom, left, right = small.box
    assert top < 350 / 4 < bottom
    assert left < 450 / 4 < right
    assert figures.thumbnail(np.ones((1, 900)), None).values.shape == (1, 225)
    grown = figures.thumbnail(np.array([[True, False]]), (slice(0, 1), slice(0, 1)))
    assert grown.values.shape == (128, 256)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 12), st.integers(1, 12), st.integers(1, 6), st.integers(0, 10_000), st.booleans()
)
def test_the_place_is_the_window_of_the_score(height, width, window, seed, holes):
    """Its mean is the largest; a window counts as `worst_window` counts."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(size=(height, width))
    if holes:
        values[rng.random(values.shape) < 0.4] = np.nan
    place = scoring.worst_place(values, window)
    score = scoring.worst_window(values[None], window)[0]
    if place is None:
        assert np.isnan(score)
        return
    rows, columns = place
    assert 0 <= rows.start < rows.stop <= height
    assert 0 <= columns.start < columns.stop <= width
    assert np.nanmean(values[place]) == pytest.approx(score)


def test_alarms_to_expect_are_those_of_fresh_images():
    """The rate holds on average, and the interval nine times in ten."""
    rng = np.random.default_rng(0)
    counts, inside, means = [], [], []
    for _ in range(150):
        held_out = rng.normal(size=39)
        threshold = threshold_at(held_out, 0.1)
        mean, low, high = threshold.alarms(50, 0.9)
        counts.append((rng.normal(size=50) > threshold.value).sum())
        means.append(mean)
        inside.append(low <= counts[-1] <= high)
    assert np.mean(counts) == pytest.approx(np.mean(means), rel=0.15)
    assert 0.86 <= np.mean(inside) <= 0.98  # whole numbers reach further


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"names": ["a"]}, imsim.ShapeError, "names has length 1; expected one for each of the 3"),
        ({"names": "abc"}, imsim.OptionError, "names is of type str; expected a list"),
        ({"names": {"a": 1, "b": 2, "c": 3}}, imsim.OptionError, "names is of type dict"),
        ({"names": 3}, imsim.OptionError, "names is of type int"),
        ({"facts": ["line 3"]}, imsim.OptionError, "facts is of type list; expected a dict"),
        ({"gallery": -1}, imsim.OptionError, "gallery=-1"),
        ({"detector": "no"}, imsim.OptionError, "detector is of type str"),
        ({"detector": ItemDetector()}, imsim.OptionError, "detector is of type ItemDetector"),
        ({"images": images(1)[0]}, imsim.ShapeError, "images has shape"),
        ({"images": images(2)[:, :9]}, imsim.ShapeError, "images are 24 x 9 pixels"),
        ({"masks": np.ones((3, 3), bool)}, imsim.MaskError, "masks has shape"),
    ],
)
def test_wrong_arguments_are_named(detector, tmp_path, change, error, message):
    given = {"detector": detector, "images": images(3)} | change
    with pytest.raises(error, match=message):
        write_inspection_report(tmp_path, **given)


def test_names_of_any_sort(detector, tmp_path):
    page = write_inspection_report(tmp_path, detector, images(3), names=(Path("a") for _ in "abc"))
    assert page.read_text(encoding="utf-8").count('<th scope="row">a</th>') == 3
    record = InspectionRecord(detector)
    with pytest.raises(imsim.OptionError, match="facts is of type str"):
        record.write(tmp_path, facts="line 3")


def test_folders_that_cannot_be_written(detector, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(imsim.ImsimError, match="choose another folder for the report"):
        write_inspection_report(tmp_path / "file" / "out", detector, images(2))
    monkeypatch.setattr(os, "access", lambda *_: False)

    def never(*_):
        raise AssertionError("this takes hours")

    monkeypatch.setattr(AnomalyDetector, "inspect", never)
    with pytest.raises(imsim.ImsimError, match="no permission to write"):
        write_inspection_report(tmp_path / "locked", detector, images(2))


def test_nothing_to_report_on(detector, tmp_path):
    with pytest.raises(imsim.ImsimError, match="there is no image to report on"):
        InspectionRecord(detector).write(tmp_path)


def test_infinite_scores_have_their_place_in_the_figures(detector, tmp_path):
    record = InspectionRecord(detector)
    record.add("a", float("inf"), flagged=True)
    record.add("b", 0.0)
    text = text_of(record.write(tmp_path))
    assert rows_of(text)[0][2:4] == ["inf", "anomaly"]
    assert 'id="inspection_order"' in text


def test_opens_in_a_browser_and_sorts(detector, tmp_path):
    frames = marked(12, [4])
    frames[2] = np.nan
    page = write_inspection_report(tmp_path / "out", detector, frames)
    dom, console = rendered(page, tmp_path / "profile")
    assert console == []
    assert dom.count("<img") >= 4
    scores = detector.inspect(frames).scores
    with browser(420, 900) as window:
        window.open(page)
        script = window.driver.execute_script
        root = "document.documentElement"
        assert script(f"return {root}.scrollWidth <= {root}.clientWidth")  # nothing is wider
        for descending in (False, True):
            script("document.querySelectorAll('.sortable thead button')[2].click()")
            order = script(
                "return [...document.querySelectorAll('.sortable tbody tr')]"
                ".map((row) => Number(row.cells[0].textContent) - 1)"
            )
            expected = np.argsort(-scores if descending else scores, kind="stable")
            assert order == expected.tolist()  # what has no score is last, either way
        assert window.problems() == []
