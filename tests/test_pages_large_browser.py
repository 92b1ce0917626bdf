"""The large picture of a page, as a reader meets it: wipe, flicker, zoom, keys and links."""

from __future__ import annotations

import io
import itertools
import time

import numpy as np
import pytest
from headless import accessible, browser
from PIL import Image
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from imsim import pages

DARK, BRIGHT = 40, 220
"""The reference, and the test image but for a square in its middle that is equal."""
SHAPE = (60, 80)


@pytest.fixture(scope="module")
def reader():
    with browser(1000, 900) as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    reference = np.full(SHAPE, DARK, np.uint8)
    test = np.full(SHAPE, BRIGHT, np.uint8)
    test[20:40, 30:50] = DARK
    path = tmp_path_factory.mktemp("report") / "report.html"
    boxes = [(30, 20, 20, 20)]
    text = pages.pair_report(reference, test, metrics=["rmse"], boxes=boxes)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """Sizes that differ: the reference is wider, the test image higher."""
    path = tmp_path_factory.mktemp("uneven") / "report.html"
    images = np.full((40, 80), DARK, np.uint8), np.full((60, 60), DARK, np.uint8)
    mask = np.ones((40, 80), bool)
    mask[:10, :10] = False
    text = pages.pair_report(*images, mask=mask, metrics=["se"])
    path.write_text(text, encoding="utf-8")
    return path


def stage(reader):
    return reader.driver.find_element(By.CSS_SELECTOR, ".stage")


def look(reader):
    """Return the grey of the large picture at places (u, v), in shares of its size."""
    frame = stage(reader)
    reader.driver.execute_script("arguments[0].scrollIntoView({ block: 'center' })", frame)
    shown = np.asarray(Image.open(io.BytesIO(frame.screenshot_as_png)).convert("RGB")).astype(int)
    height, width = shown.shape[:2]
    return lambda u, v: shown[int(v * height), int(u * width)]


def choose(reader, mode):
    button = reader.driver.find_element(By.CSS_SELECTOR, f"[data-mode={mode}]")
    reader.driver.execute_script("arguments[0].click()", button)
    pressed = reader.driver.find_elements(By.CSS_SELECTOR, "[aria-pressed=true]")
    assert [one.text for one in pressed] == [mode]


def hash_of(reader, wanted):
    WebDriverWait(reader.driver, 5).until(
        lambda driver: driver.execute_script("return location.hash") == wanted
    )
    link = reader.driver.find_element(By.ID, "link").get_attribute("href")
    assert link.endswith(wanted)


def test_the_wipe_shows_one_image_on_each_side(reader, report):
    reader.open(report)
    at = look(reader)
    assert at(0.1, 0.5) == pytest.approx(DARK)
    assert at(0.9, 0.5) == pytest.approx(BRIGHT)
    assert at(0.58, 0.5) == pytest.approx(DARK)  # the square, which both have
    divider = reader.driver.find_element(By.CSS_SELECTOR, ".divider")
    actions = reader.driver.execute_script(
        "const b = arguments[0].getBoundingClientRect(); return [b.left + b.width / 2, b.top + 80]",
        divider,
    )

    chain = ActionChains(reader.driver, duration=50)
    width = stage(reader).size["width"]
    chain.w3c_actions.pointer_action.move_to_location(*map(int, actions))
    chain.w3c_actions.pointer_action.pointer_down()
    chain.w3c_actions.pointer_action.move_to_location(
        int(actions[0] + width * 0.3), int(actions[1])
    )
    chain.w3c_actions.pointer_action.pointer_up()
    chain.perform()
    at = look(reader)
    assert at(0.7, 0.5) == pytest.approx(DARK)
    assert at(0.9, 0.5) == pytest.approx(BRIGHT)
    slider = reader.driver.find_element(By.ID, "wipe")
    assert abs(float(slider.get_attribute("value")) - 80) < 2
    slider.send_keys(Keys.HOME)  # a slider without a step moves by keys as well
    at = look(reader)
    assert at(0.1, 0.5) == pytest.approx(BRIGHT)
    stage(reader).send_keys("]]")
    assert float(slider.get_attribute("value")) == 10
    assert "10%" in slider.get_attribute("aria-valuetext")
    assert reader.problems() == []


def test_the_flicker_turns_at_its_rate_and_by_hand(reader, report):
    reader.open(report)
    choose(reader, "flicker")
    which = reader.driver.find_element(By.CSS_SELECTOR, ".which")
    seen = set()
    end = time.monotonic() + 20
    while seen != {"reference", "test"} and time.monotonic() < end:
        seen.add(which.text)
        time.sleep(0.1)
    assert seen == {"reference", "test"}
    rate = reader.driver.find_element(By.ID, "rate")
    rate.find_element(By.CSS_SELECTOR, "[value='0']").click()
    for _ in range(2):
        before = which.text
        reader.driver.find_element(By.ID, "swap").click()
        assert which.text != before
        value = DARK if which.text == "reference" else BRIGHT
        assert look(reader)(0.5, 0.05) == pytest.approx(value)
    stage(reader).send_keys("f")
    assert which.text == before  # the key turns, too
    fastest = max(
        float(option.get_attribute("value")) for option in rate.find_elements(By.TAG_NAME, "option")
    )
    assert fastest <= 6  # three flashes a second, each of two changes, are the most that is safe
    choose(reader, "wipe")
    assert not rate.is_displayed()


def test_who_asked_for_less_motion_turns_by_hand(reader, report):
    media = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    reader.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    try:
        reader.open(report)
        choose(reader, "flicker")
        assert reader.driver.find_element(By.ID, "rate").get_attribute("value") == "0"
        which = reader.driver.find_element(By.CSS_SELECTOR, ".which")
        before = which.text
        time.sleep(1.3)  # longer than the usual turn
        assert which.text == before
    finally:
        reader.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_zoom_is_shared_and_links_keep_the_view(reader, report):
    reader.open(report, "#31,21;view=difference;zoom=8;at=0.5,0.5")
    values = reader.values()
    assert values["place"] == "31, 21 (held)"
    transforms = reader.driver.execute_script(
        "return [...document.querySelectorAll('.frame img')].map((image) => image.style.transform)"
    )
    assert len(transforms) > 5
    assert len(set(transforms)) == 1
    assert "scale(8)" in transforms[0]
    equal, different = look(reader)(0.5, 0.5), None
    choose(reader, "test")
    hash_of(reader, "#31,21;view=test;zoom=8;at=0.5,0.5")
    assert look(reader)(0.5, 0.5) == pytest.approx(DARK)
    stage(reader).send_keys("0d")
    different = look(reader)(0.05, 0.5)
    assert np.abs(different - equal).max() > 60
    hash_of(reader, "#31,21;view=difference")
    stage(reader).send_keys("w[" + Keys.ESCAPE)
    hash_of(reader, "#;wipe=45")
    reader.open(report, "#;wipe=45")
    assert reader.driver.find_element(By.ID, "wipe").get_attribute("value") == "45"
    reader.driver.find_element(By.CSS_SELECTOR, ".boxes a").click()
    WebDriverWait(reader.driver, 5).until(lambda _: "(held)" in reader.values()["place"])
    assert reader.values()["place"] == "40, 30 (held)"
    reader.open(report, "#3,5;zoom=8")
    hash_of(reader, "#3,5;zoom=8;at=0.0625,0.0917")  # a place that is linked to is in view
    reader.driver.find_element(By.CSS_SELECTOR, ".boxes a").click()
    hash_of(reader, "#40,30;zoom=8;at=0.5062,0.5083")
    for wrong in ("#nonsense", "#1,2;zoom=x;at=y", "#9999,9999;view=none;wipe=900", "#;zoom=1e9"):
        reader.open(report, wrong)
    assert reader.problems() == []


def test_what_only_one_image_has_is_marked(reader, uneven):
    reader.open(uneven)
    text = reader.driver.find_element(By.TAG_NAME, "main").text
    assert "The sizes differ: size 60x60 against 80x40." in text
    found = {
        name: reader.point("difference", u, v)
        for name, u, v in (
            ("both", 0.4, 0.4),
            ("reference", 0.9, 0.3),
            ("test", 0.3, 0.9),
            ("none", 0.9, 0.9),
            ("masked", 0.05, 0.05),
        )
    }
    said = {name: (v["reference"], v["test"], v["difference"]) for name, v in found.items()}
    assert said == {
        "both": ("40", "40", "0"),
        "reference": ("40", "none", "none"),
        "test": ("none", "40", "none"),
        "none": ("none", "none", "none"),
        "masked": ("40", "40", "0"),
    }
    assert found["reference"]["place"].endswith("(only one has it)")
    assert (found["both"]["se"], found["test"]["se"]) == ("0", "not scored")
    assert found["masked"]["place"].endswith("(masked)")
    assert found["masked"]["se"] == "masked"

    def colours(layer, rows, columns):
        shown = reader.shown(layer).astype(int)
        height, width = shown.shape[:2]
        part = shown[
            int(rows[0] * height) : int(rows[1] * height),
            int(columns[0] * width) : int(columns[1] * width),
        ]
        return part.reshape(-1, 3).mean(axis=0)

    wide, high = ((0.1, 0.6), (0.8, 0.98)), ((0.7, 0.98), (0.05, 0.7))
    for layer, place, strongest in (
        ("reference", wide, 1),  # green stripes
        ("difference", wide, 1),
        ("test", high, 2),  # violet stripes
        ("difference", high, 2),
    ):
        mean = colours(layer, *place)
        assert mean.argmax() == strongest, layer
        assert mean.max() - mean.min() > 15, layer
    for layer, place in (("test", wide), ("reference", high)):
        mean = colours(layer, *place)  # grey chequers
        assert mean.max() - mean.min() < 2
        assert 100 < mean.mean() < 160
    assert reader.problems() == []


@pytest.mark.parametrize("width", [420, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_reader_with_other_senses_can_use_it(width, scheme, reader, report):
    reader.looks(width, scheme)
    reader.open(report)
    accessible(reader)
    across = reader.driver.execute_script("return document.documentElement.scrollWidth")
    assert across <= width


def test_keys_reach_everything_in_the_order_of_reading(reader, report):
    reader.looks(1280, "light")
    reader.open(report)
    body = reader.driver.find_element(By.TAG_NAME, "body")
    tops = []
    for _ in range(14):
        body.send_keys(Keys.TAB)
        place = reader.driver.execute_script(
            "const e = document.activeElement, b = e.getBoundingClientRect();"
            "const moves = e.closest('.readout') !== null;"
            "return [b.top + scrollY, getComputedStyle(e).outlineStyle, moves]"
        )
        body = reader.driver.switch_to.active_element
        assert place[1] != "none"
        if not place[2]:  # which moves with the window
            tops.append(place[0])
    assert len(tops) > 8
    assert all(second >= first - 40 for first, second in itertools.pairwise(tops))
