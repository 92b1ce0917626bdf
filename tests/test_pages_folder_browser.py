"""The index of a report on two folders, as a reader meets it."""

from __future__ import annotations

import shlex

import numpy as np
import pytest
from headless import accessible, browser
from image_files import GREY, NOISY, save
from selenium.webdriver.common.by import By

from imsim.cli import main
from imsim.pages import Entry, folder_report
from imsim.pages.folder import thumbnails
from imsim.pages.layers import ImagePair

ODD = "it's <b> $(x).png"


@pytest.fixture(scope="module")
def reader():
    with browser(1280, 900) as found:
        yield found


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    entries = []
    pair = ImagePair(GREY[..., None], NOISY[..., None], None, None)
    statuses = {"failed": 2, "unmatched": 1, "differs": 4, "equal": 3, "could not be scored": 1}
    for status, number in statuses.items():
        for i in range(number):
            name = f"{status} {i}.png" if (status, i) != ("differs", 3) else ODD
            entries.append(
                Entry(
                    name,
                    status,
                    {"ssim": 1 - i / 10, "psnr": 10.0 * i - 3} if status != "unmatched" else {},
                    [f"why {name}"],
                    ["a note"],
                    thumbnails(pair),
                    None if status == "equal" else f"pairs/{len(entries):016x}.html",
                    name if status in ("failed", "differs") else None,
                )
            )
    path = tmp_path_factory.mktemp("index") / "index.html"
    html = folder_report(
        entries, folders=("a b/expected", "actual"), metrics=["ssim", "psnr"], facts={"imsim": "1"}
    )
    path.write_text(html, encoding="utf-8")
    return path


def shown(reader):
    script = (
        "return [...document.querySelectorAll('.index tbody tr')]"
        ".filter((r) => r.checkVisibility())"
        ".map((r) => r.querySelector('th').firstChild.textContent)"
    )
    return reader.driver.execute_script(script)


def click(reader, selector):
    for element in reader.driver.find_elements(By.CSS_SELECTOR, selector):
        reader.driver.execute_script("arguments[0].click()", element)


def test_rows_are_sorted_and_filtered(reader, index):
    reader.open(index)
    everything = shown(reader)
    assert len(everything) == 11
    assert everything[:3] == ["could not be scored 0.png", "failed 1.png", "failed 0.png"]
    click(reader, "[data-show][value=equal], [data-show][value=unmatched]")
    assert len(shown(reader)) == 7
    assert reader.driver.find_element(By.ID, "shown").text == "7 of 11 shown"
    search = reader.driver.find_element(By.ID, "search")
    search.send_keys("FAILED")
    assert shown(reader) == ["failed 1.png", "failed 0.png"]
    search.clear()
    search.send_keys("it's <b>")
    assert shown(reader) == [ODD]
    reader.open(index)
    heads = reader.driver.find_elements(By.CSS_SELECTOR, ".index thead th")
    assert [head.text for head in heads if head.find_elements(By.TAG_NAME, "button")] == [
        "name",
        "status",
        "ssim",
        "psnr",
    ]
    for column, key in (("psnr", lambda name: name), ("name", None)):
        (head,) = (head for head in heads if head.text.startswith(column))
        head.find_element(By.TAG_NAME, "button").click()
        assert head.get_attribute("aria-sort") == "ascending"
        if key is None:
            assert shown(reader) == sorted(everything, key=str.lower)
        else:
            assert shown(reader)[-1] == "unmatched 0.png"  # without a score
            assert "0.png" in shown(reader)[0]  # -3, which is a number and not text
    (status,) = (head for head in heads if head.text.startswith("status"))
    status.find_element(By.TAG_NAME, "button").click()
    assert shown(reader) == everything  # the worst first again
    assert reader.problems() == []


def test_ticks_make_a_command_line(reader, index):
    reader.open(index)
    box = reader.driver.find_element(By.ID, "command")
    assert not box.is_displayed()
    reader.driver.find_element(By.ID, "search").send_keys(".png")
    click(reader, "[data-show][value=failed]")
    click(reader, "#all")
    line = box.get_attribute("value")
    start = ["imsim", "accept", "a b/expected", "actual"]
    assert shlex.split(line)[:4] == start
    assert sorted(shlex.split(line)[4:]) == sorted([*(f"differs {i}.png" for i in range(3)), ODD])
    said = reader.driver.find_element(By.ID, "chosen").text
    assert said == "4 files chosen, to become the new references"
    click(reader, "#none")
    assert box.get_attribute("value") == ""
    picks = reader.driver.find_elements(By.CSS_SELECTOR, "[data-accept]")
    assert all(pick.get_attribute("aria-label").startswith("accept ") for pick in picks)
    (odd,) = (pick for pick in picks if ODD in pick.get_attribute("aria-label"))
    odd.click()
    assert shlex.split(box.get_attribute("value")) == [*start, ODD]
    reader.driver.find_element(By.ID, "copy").click()
    assert reader.problems() == []


@pytest.mark.parametrize("width", [420, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_reader_with_other_senses_can_use_it(width, scheme, reader, index):
    reader.looks(width, scheme)
    reader.open(index)
    click(reader, "#all")
    accessible(reader)
    across = reader.driver.execute_script("return document.documentElement.scrollWidth")
    assert across <= width
    overlaps = reader.driver.execute_script(
        "const boxes = [...document.querySelectorAll('.index tbody tr')].slice(0, 3)"
        ".flatMap((r) => [...r.cells])"
        ".filter((c) => c.textContent || c.querySelector('img, input'))"
        ".map((c) => c.getBoundingClientRect());"
        "return boxes.filter((a, i) => boxes.some((b, j) => i < j && a.left < b.right - 1"
        " && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1)).length"
    )
    assert overlaps == 0
    reader.looks(1280, "light")


def test_a_whole_report_and_what_it_says_to_run(reader, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder_name, image in (("expected", GREY), ("actual", NOISY)):
        for name in ("a.png", f"menu/{ODD}"):
            save(f"{folder_name}/{name}", image)
    assert (
        main(["report", "expected", "actual", "-o", "report", "--fail-under", "ssim=0.9999"]) == 1
    )
    reader.open(tmp_path / "report/index.html")
    links = reader.driver.find_elements(By.CSS_SELECTOR, ".index th a")
    assert sorted(link.text for link in links) == ["a.png", f"menu/{ODD}"]
    pages = [link.get_attribute("href") for link in links]
    click(reader, "#all")
    line = reader.driver.find_element(By.ID, "command").get_attribute("value")
    for page in pages:
        reader.driver.get(page)
        assert "below 0.9999" in reader.driver.find_element(By.CSS_SELECTOR, ".failed").text
        reader.driver.find_element(By.CSS_SELECTOR, "nav a").click()
        assert reader.driver.current_url == (tmp_path / "report/index.html").as_uri()
    capsys.readouterr()
    assert main(shlex.split(line)[1:]) == 0
    assert "2 files copied" in capsys.readouterr().out
    assert (
        main(["report", "expected", "actual", "-o", "report", "--fail-under", "ssim=0.9999"]) == 0
    )
    reader.open(tmp_path / "report/index.html")
    assert "Of 2: 2 are equal." in reader.driver.find_element(By.TAG_NAME, "main").text
    assert np.array_equal(*(np.fromfile(f"{f}/a.png", np.uint8) for f in ("expected", "actual")))
    assert reader.problems() == []
