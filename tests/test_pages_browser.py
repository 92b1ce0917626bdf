"""The report of a pair as a reader meets it: in a browser, with a pointer."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from headless import browser
from PIL import Image
from selenium.webdriver.common.keys import Keys

import imsim
from imsim import pages
from imsim.pages import content, layers, pair

HEIGHT, WIDTH = 216, 768
COLUMN = 403
"""Where the test image has a red line, one pixel wide."""


@pytest.fixture(scope="module")
def reader():
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def lined():
    rng = np.random.default_rng(3)
    reference = rng.integers(90, 110, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    test = reference.copy()
    test[20:200, COLUMN] = (255, 0, 0)
    return reference, test


@pytest.fixture(scope="module")
def mask():
    """Leave out the lower right."""
    used = np.ones((HEIGHT, WIDTH), dtype=bool)
    used[150:, 600:] = False
    return used


@pytest.fixture(scope="module")
def report(lined, mask, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    text = pages.pair_report(*lined, mask=mask, channel_axis=-1)
    path.write_text(text, encoding="utf-8")
    return path


def listed(values):
    return ", ".join(str(value) for value in values)


def expected(reference, test, x, y):
    change = test[y, x].astype(int) - reference[y, x]
    return {
        "reference": listed(reference[y, x]),
        "test": listed(test[y, x]),
        "difference": ", ".join(f"+{d}" if d > 0 else str(d) for d in change),
    }


def test_the_pointer_reads_the_defect(reader, report, lined):
    reader.open(report)
    for layer in ("test", "difference", "se"):
        found = reader.point(layer, (COLUMN + 0.5) / WIDTH, 100.5 / HEIGHT)
        x, y = map(int, found["place"].split(", "))
        assert x == COLUMN  # though several columns share one of the screen
        assert abs(y - 100) <= 3
        assert found.items() >= expected(*lined, x, y).items()
        assert float(found["se"]) == ((lined[1][y, x].astype(float) - lined[0][y, x]) ** 2).sum()
    found = reader.point("reference", 0.1, 0.5)
    x, y = map(int, found["place"].split(", "))
    assert found.items() >= expected(*lined, x, y).items()
    assert found["difference"] == "0, 0, 0"
    assert reader.point("test", 0.95, 0.9)["place"].endswith("(masked)")
    assert reader.point("test", 0.95, 0.9)["ssim"] == "masked"
    assert reader.problems() == []


def test_links_lead_to_the_largest_difference(reader, report, lined, mask):
    reader.open(report)
    change = np.abs(lined[1].astype(int) - lined[0]).max(axis=-1)
    y, x = np.unravel_index(np.argmax(np.where(mask, change, 0)), mask.shape)
    found = reader.follow("difference")
    assert found["place"] == f"{x}, {y} (held)"
    assert found.items() >= expected(*lined, x, y).items()
    options = {"mask": mask, "channel_axis": -1}
    for name in ("ssim", "gmsd", "sam", "imed"):
        metric = imsim.METRICS[name]
        local = metric.map_function(*lined, **options)
        y, x = np.unravel_index(np.nanargmax(metric.map_dissimilarity(local)), local.shape)
        found = reader.follow(name)
        assert found["place"] == f"{x}, {y} (held)"
        assert float(found[name]) == pytest.approx(local[y, x], rel=1e-4)  # five digits are shown


def test_the_line_is_seen(reader, report):
    """On the screen, where the pictures take half the pixels of the images or fewer."""
    reader.open(report)
    for layer in ("test", "difference", "se", "imed", "sam", "ssim", "fsim", "uiq", "zncc"):
        shown = reader.shown(layer).astype(int)
        height, width = shown.shape[:2]
        assert width < WIDTH / 2
        column = round((COLUMN + 0.5) / WIDTH * width)
        rows = shown[height // 5 : 4 * height // 5]
        at_line = np.abs(rows[:, column - 2 : column + 2] - rows[:, :20].mean((0, 1)))
        assert at_line.max(axis=(1, 2)).mean() > 25, layer


def test_keys_and_zoom(reader, report, lined):
    reader.open(report, f"#{COLUMN},50")
    held = reader.values()
    assert held["place"] == f"{COLUMN}, 50 (held)"
    assert reader.point("test", 0.2, 0.2) == held  # moving on does not let go of a held spot
    assert reader.press(Keys.ESCAPE)["place"] == f"{COLUMN}, 50"
    assert reader.press(Keys.ARROW_RIGHT)["place"] == f"{COLUMN + 1}, 50"
    assert reader.press(Keys.SHIFT + Keys.ARROW_DOWN + Keys.NULL)["place"] == f"{COLUMN + 1}, 60"
    for _ in range(4):
        reader.press("+")
    zoomed = reader.shown("test")
    assert (np.abs(zoomed.astype(int) - (255, 0, 0)).max(axis=-1) < 9).mean() > 0.01
    fill = (
        "for (const e of document.querySelectorAll('[data-value]')) e.textContent = arguments[0];"
        "return [...document.querySelectorAll('.frame')].pop().getBoundingClientRect().top"
    )
    tops = [reader.driver.execute_script(fill, text) for text in ("", "123.456789012345")]
    assert abs(tops[1] - tops[0]) < 1  # no value, nor none, moves the pictures


def test_large_pages_read_true_values_too(reader, lined, tmp_path, monkeypatch):
    monkeypatch.setattr(content, "MOST_PIXELS", HEIGHT * WIDTH // 2)
    reference, test = lined[0], lined[1].copy()
    test[7, 9] = reference[7, 9] + 1  # not the worst of any block but its own
    path = tmp_path / "report.html"
    text = pages.pair_report(reference, test, channel_axis=-1)
    path.write_text(text, encoding="utf-8")
    reader.open(path)
    found = reader.point("difference", (COLUMN + 0.5) / WIDTH, 100.5 / HEIGHT)
    x, y = map(int, found["place"].split(", "))
    assert x == COLUMN
    assert found.items() >= expected(reference, test, x, y).items()
    assert found["pixels"] == f"{x // 2 * 2} to {x // 2 * 2 + 1}, {y // 2 * 2} to {y // 2 * 2 + 1}"
    local = imsim.ssim_map(reference, test, channel_axis=-1)
    y, x = np.unravel_index(np.nanargmin(local), local.shape)
    found = reader.follow("ssim")
    assert found["place"] == f"{x}, {y} (held)"
    assert found.items() >= expected(reference, test, x, y).items()
    reader.open(path, "#9,7")
    assert reader.values()["difference"] == "+1, +1, +1"


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (40, 3000)])
def test_images_of_any_shape_can_be_used(shape, reader, tmp_path):
    reference = np.full(shape, 7, np.uint8)
    test = reference.copy()
    test[shape[0] // 2, shape[1] // 2] = 201
    path = tmp_path / "report.html"
    path.write_text(pages.pair_report(reference, test), encoding="utf-8")
    reader.open(path)
    found = reader.point("difference", 0.5 + 0.01 / shape[1], 0.5 + 0.01 / shape[0])
    assert found["place"] == f"{shape[1] // 2}, {shape[0] // 2}"
    assert (found["reference"], found["test"], found["difference"]) == ("7", "201", "+194")
    height, width = reader.shown("difference").shape[:2]
    assert 60 < height < 700
    assert width > 250
    assert reader.problems() == []


@pytest.mark.parametrize(
    ("dtype", "before", "after", "change"),
    [
        ("int64", -(2**60) - 1, -(2**60) + 1, "+2"),
        ("int16", -9, -11, "-2"),
        ("float32", 0.1, 0.8, "+0.7"),
        ("float32", 16777214, 16777216, "+2"),
        ("float64", 0.1, 0.30000000000000004, "+0.2"),
    ],
)
def test_numbers_of_any_type_are_read(dtype, before, after, change, reader, tmp_path, monkeypatch):
    """Without scores and maps, whose kernels need not be compiled for this."""
    scores = imsim.compare(np.eye(3, dtype=np.uint8), np.eye(3, dtype=np.uint8))
    monkeypatch.setattr(pair, "compare", lambda *_, **__: scores)
    monkeypatch.setattr(pair, "map_layers", lambda *_: [])
    reference = np.arange(12).reshape(3, 4).astype(dtype) - np.array(5, dtype)
    test = reference.copy()
    reference[1, 2], test[1, 2] = before, after
    path = tmp_path / "report.html"
    path.write_text(pages.pair_report(reference, test, data_range=9), encoding="utf-8")
    reader.open(path)
    found = reader.follow("difference")
    assert (found["reference"], found["test"]) == (str(before), str(after))
    assert found["difference"] == change
    assert reader.press(Keys.ARROW_RIGHT)["reference"] == "2"


def _scene(kind, rng):
    """Return a pair, its data range, and the axis of its channels."""
    grey = rng.integers(0, 256, (380, 370))
    planes = np.stack([grey, grey[::-1], 255 - grey]).astype(np.uint8)
    other = np.where(rng.random(grey.shape) < 0.3, rng.integers(0, 256, grey.shape), grey)
    pairs = {
        "grey": (grey.astype(np.uint8), other.astype(np.uint8), 255, None),
        "colour": (planes, planes // 2, 255, 0),
        "deep": ((grey * 16).astype(np.uint16), (other * 16).astype(np.uint16), 4095, None),
        "float": (grey / 128 - 1, (other / 128 - 1).astype(np.float32), 2, None),
        "bool": (grey > 99, other > 99, 1, None),
    }
    return pairs[kind]


@pytest.mark.parametrize("kind", ["grey", "colour", "deep", "float", "bool"])
def test_what_the_page_draws_is_what_python_draws(kind, reader, tmp_path):
    """Every pixel of the images, of their difference and of the maps, none of them stored twice."""
    a, b, data_range, axis = _scene(kind, np.random.default_rng(5))
    options = {"data_range": data_range, "channel_axis": axis}
    text = pages.pair_report(a, b, metrics=["se", "zncc"], **options)
    assert 'class="detail"' not in text
    path = tmp_path / "report.html"
    path.write_text(text, encoding="utf-8")
    reader.open(path)
    assert reader.problems() == []
    of_pair = layers.ImagePair(
        *(layers.pixels_of("", image, axis) for image in (a, b)), None, data_range
    )
    wanted = [
        layers.image_layer(of_pair, "reference"),
        layers.image_layer(of_pair, "test"),
        layers.difference_layer(of_pair),
        *layers.map_layers(of_pair, a, b, {"mask": None, **options}, ["se", "zncc"]),
    ]
    for layer in wanted:
        content = reader.driver.execute_script(
            "const image = document.querySelector(`#picture-${arguments[0]} .detail`);"
            "const canvas = document.createElement('canvas');"
            "[canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];"
            "canvas.getContext('2d').drawImage(image, 0, 0);"
            "return canvas.toDataURL('image/png')",
            layer.name,
        )
        image = Image.open(io.BytesIO(base64.b64decode(content.partition(",")[2])))
        want = layer.draw((1, 1)).astype(int)
        off = np.abs(np.asarray(image.convert("RGB")) - want).max(axis=-1)
        # One step of the scale, where the float32 of a map rounds to the other side.
        assert (off > 0).mean() <= (1e-3 if layer.map else 0)
        assert off.max() <= 3


@pytest.mark.parametrize("kind", ["mask", "size", "nan", "wide", "large"])
def test_what_a_page_does_not_draw_is_stored(kind, monkeypatch):
    a, b, *_ = _scene("float", np.random.default_rng(5))
    options = {"data_range": 2}
    if kind == "mask":
        options["mask"] = np.arange(370) < np.full((380, 1), 200)
    elif kind == "size":
        b = b[:-3]
    elif kind == "nan":
        b[4, 5] = np.nan
    elif kind == "large":
        monkeypatch.setattr(content, "MOST_DRAWN", a.size - 1)
    else:
        a, b = ((v * 99).astype(np.int64) for v in (a, b))
    assert 'class="detail"' in pages.pair_report(a, b, metrics=[], **options)
