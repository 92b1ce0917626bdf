"""The page on two volumes as a reader meets it: sliders, keys, and the pointer."""

from __future__ import annotations

import numpy as np
import pytest
from headless import browser
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from imsim import pages
from imsim.pages import voxels

RNG = np.random.default_rng(9)
A = RNG.integers(0, 256, (10, 22, 26)).astype(np.uint8)
B = A.copy()
B[6, 13, 17] ^= 255
MASK = np.ones(A.shape, bool)
MASK[:2] = MASK[:, :, :4] = False
AWAY = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], float)
PLACE = (6, 13, 17)


@pytest.fixture(scope="module")
def reader():
    with browser(width=500) as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The depth is too small for SSIM, so that the difference tells the worst place."""
    path = tmp_path_factory.mktemp("report") / "volume.html"
    html = pages.volume_report(A, B, mask=MASK, directions=AWAY, spacing=(3, 1, 1))
    path.write_text(html, encoding="utf-8")
    return path


def spot(reader):
    found = reader.driver.execute_script("return document.documentElement.dataset.spot")
    return tuple(map(int, found.split(", ")))


def frame(reader, layer, axis):
    return reader.driver.find_element(
        By.CSS_SELECTOR, f".frame[data-layer={layer}][data-axis='{axis}']"
    )


def painted(reader, layer, axis):
    """Return the pixels of a canvas, or None where the picture of the worst plane is seen."""
    width, values = reader.driver.execute_script(
        "const c = arguments[0].querySelector('canvas');"
        "if (getComputedStyle(c).visibility === 'hidden') return [0, []];"
        "return [c.width, [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]]",
        frame(reader, layer, axis),
    )
    return np.array(values).reshape(-1, width, 4)[..., :3] if width else None


def slider(reader, axis):
    return reader.driver.find_element(By.ID, f"slider-{axis}")


def test_it_opens_at_the_worst_place(reader, report):
    reader.open(report)
    assert spot(reader) == PLACE
    assert all(painted(reader, "test", axis) is None for axis in range(3))
    assert not reader.driver.find_element(By.ID, "back").is_enabled()
    assert reader.problems() == []


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slider_moves_its_cut_by_keys(axis, reader, report):
    reader.open(report)
    slider(reader, axis).send_keys(Keys.ARROW_RIGHT)
    at = list(PLACE)
    at[axis] -= 1  # drawn from the end
    assert spot(reader) == tuple(at)
    plane = A.take(at[axis], axis)[::-1, ::-1]
    used = MASK.take(at[axis], axis)[::-1, ::-1]
    shown = painted(reader, "reference", axis)
    grey = np.rint(np.rint(plane / 255 * 254) * 255 / 254)
    assert np.abs(shown[used] - grey[used][:, None]).max() <= 1
    striped = shown[~used][..., 0] - grey[~used] // 3
    assert set(np.unique(np.rint(striped))) <= {19, 20, 21, 149, 150, 151}
    output = reader.driver.find_element(By.CSS_SELECTOR, f"output[data-axis='{axis}']")
    assert output.text == f"{('depth', 'height', 'width')[axis]} {at[axis]}"
    assert [painted(reader, "test", other) is None for other in range(3)] == [
        other != axis for other in range(3)
    ]
    reader.driver.find_element(By.ID, "back").click()
    assert spot(reader) == PLACE
    assert painted(reader, "test", axis) is None


def test_the_pointer_and_keys_on_a_cut_move_the_others(reader, report):
    reader.open(report)
    element = frame(reader, "test", 0)
    reader.driver.execute_script(
        "const f = arguments[0]; f.scrollIntoView({ block: 'center' });"
        "const b = f.getBoundingClientRect();"
        "f.dispatchEvent(new MouseEvent('click', {"
        "clientX: b.left + b.width * 10.5 / 26, clientY: b.top + b.height * 4.5 / 22 }))",
        element,
    )
    assert spot(reader) == (6, 22 - 1 - 4, 26 - 1 - 10)
    element.send_keys(Keys.ARROW_LEFT)
    assert spot(reader) == (6, 17, 16)
    element.send_keys(Keys.PAGE_DOWN)
    assert spot(reader) == (5, 17, 16)
    element.send_keys(Keys.SHIFT + Keys.ARROW_DOWN + Keys.NULL)
    assert spot(reader) == (5, 7, 16)
    for _ in range(7):
        element.send_keys(Keys.PAGE_DOWN)
    assert spot(reader) == (0, 7, 16)
    said = reader.driver.find_element(By.ID, "at").text
    assert said == "now at depth 0, height 7, width 16"


def test_cuts_have_the_proportions_of_the_volume(reader, report):
    reader.open(report)
    for axis, ratio in ((0, 26 / 22), (1, 26 / 30), (2, 22 / 30)):
        box = frame(reader, "difference", axis).rect
        assert box["width"] / box["height"] == pytest.approx(ratio, rel=0.02)
    script = "return document.documentElement.scrollWidth - innerWidth"
    assert reader.driver.execute_script(script) <= 0  # nothing is wider than a narrow window


def test_blocks_and_colours(reader, tmp_path, monkeypatch):
    monkeypatch.setattr(voxels, "COPY_BYTES", 12_000)
    a = RNG.integers(0, 256, (8, 20, 22, 3)).astype(np.uint8)
    b = a.copy()
    b[7, 9, 9] ^= 255
    path = tmp_path / "volume.html"
    path.write_text(pages.volume_report(a, b, channel_axis=-1), encoding="utf-8")
    reader.open(path)
    slider(reader, 0).send_keys(Keys.HOME, *[Keys.ARROW_RIGHT] * 3)
    assert spot(reader)[0] == 3
    shown = painted(reader, "reference", 0)
    assert shown.shape == (10, 11, 3)  # blocks of 2 x 2 x 2
    blocks = a[2:4].reshape(2, 10, 2, 11, 2, 3).mean(axis=(0, 2, 4))
    assert np.abs(shown - blocks).max() <= 1
    assert reader.problems() == []
