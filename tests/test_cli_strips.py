"""`imsim anomaly score` and `watch` with models of items: reports, maps, --resume and --strips."""

from __future__ import annotations

import csv
import html
import os
import re
from pathlib import Path

import numpy as np
import pytest
from command import by_kind
from image_files import save
from test_cli_anomaly_items import frame, good
from watching import between_looks

from imsim.anomaly import AnomalyDetector, DriftAlarm, InspectionRecord, ItemDetector
from imsim.cli import main

pytestmark = pytest.mark.usefixtures("empty_directory")

CENTRES = [(20 + 30 * k, 20 + 25 * (k % 3)) for k in range(6)]
TOUCHING = [(20, 20), (30, 43), (20, 70)]


def run(*arguments):
    return main(["anomaly", *arguments])


def belt(seed=7):
    """A belt of six cups, the third of which has a light patch."""
    image = frame(seed, *CENTRES, shape=(210, 90))
    image[78:83, 68:73] = 250
    return image


def bad():
    """A good cup, a bad one, one that is cut, and debris."""
    image = frame(51, (30, 30), (60, 60), (30, 118), shape=(90, 120))
    image[60:66, 60:66] = 250
    image[10:15, 60:65] = 140
    return image


def lay(folder, image, height):
    """Save strips of an image."""
    Path(folder).mkdir(exist_ok=True)
    for number, top in enumerate(range(0, len(image), height)):
        save(f"{folder}/{number:03}.png", image[top : top + height])


def rows_of(name):
    with open(name, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def items():
    plain = {"preprocess": None, "metric": "se", "pose": None, "random_state": 0}
    detector = AnomalyDetector(**plain, false_alarm_rate=0.01)
    layouts = CENTRES, [(y + 50 * k, x) for k in range(4) for y, x in TOUCHING]
    frames = [frame(seed, *layouts[seed % 2], shape=(210, 90)) for seed in range(30)]
    return ItemDetector(detector).fit(np.stack(frames))


@pytest.fixture(scope="module")
def model(items, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    items.save(path)
    return str(path)


@pytest.fixture
def looks(monkeypatch):
    return between_looks(monkeypatch)


class TestPictures:
    @pytest.fixture
    def images(self):
        save("in/a.png", good(50))
        save("in/bad.png", bad())
        save("in/empty.png", frame(52))
        Path("in/half.png").write_bytes(Path("in/a.png").read_bytes()[:200])

    def test_the_page_has_each_item_with_its_place(self, model, images, monkeypatch):
        pytest.importorskip("matplotlib", reason="reports draw")
        assert run("score", model, "in", "-o", "rows.csv", "--report", "page") == 2
        text = Path("page/inspection.html").read_text()
        plain = " ".join(html.unescape(re.sub("<[^>]+>", " ", text)).split())
        assert "Of 7 items, 2 are anomalies and 1 could not be inspected: 3 rejected" in plain
        assert "2 images without an item, or unreadable: not inspected" in plain
        body = text[text.index('class="sortable"') :].split("</tbody>")[0]
        found = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in body.split("<tr>")[2:]]
        rows = rows_of("rows.csv")
        assert [row[1:2] + row[3:4] for row in found] == [
            [row["image"], row["verdict"]] for row in rows
        ]
        for row, shown in zip(rows, found, strict=True):
            if row["x"]:
                x, y = int(row["x"]), int(row["y"])
                x_end, y_end = x + int(row["width"]) - 1, y + int(row["height"]) - 1
                assert shown[4] == f"x {x} to {x_end}, y {y} to {y_end}"
            else:
                assert shown[4] == ""
        figures = re.findall(r"<figure><h3>.*?</figure>", text, re.DOTALL)
        assert [figure.count("<img") for figure in figures] == [1, 3]  # debris, and a bad item
        assert rows[0]["model_sha256"] in text

    def test_a_frame_has_one_map(self, capsys, model, items, images):
        assert run("score", model, "in", "--maps", "maps", "--maps-as", "npy") == 2
        assert [path.name for path in Path("maps").iterdir()] == ["bad.png.se.npy"]
        values = np.load("maps/bad.png.se.npy")
        assert values.shape == (90, 120)
        assert values.dtype == np.float32
        inside = np.zeros(values.shape, bool)
        for item in items.inspect_frame(bad()):
            if item.kind == "item":
                box = slice(item.y, item.y + item.height), slice(item.x, item.x + item.width)
                inside[box] = True
        np.testing.assert_array_equal(np.isnan(values), ~inside)
        row, column = np.unravel_index(np.nanargmax(values), values.shape)
        assert 60 <= row < 66
        assert 60 <= column < 66
        every = ["--maps", "every", "--maps-of", "all"]
        assert run("score", model, "in", *every) == 2
        names = {path.name for path in Path("every").iterdir()}
        assert names == {"a.png.se.png", "bad.png.se.png"}

    def test_debris_alone(self, model):
        image = frame(3)
        image[20:25, 40:45] = 140
        save("in/crumb.png", image)
        assert run("score", model, "in", "--report", "page", "--maps", "maps") == 0
        text = Path("page/inspection.html").read_text()
        assert "smaller than any item" in re.findall(r"<figcaption>(.*?)</figcaption>", text)[0]

    def test_a_record_of_items(self, items):
        assert InspectionRecord(items).noun == "item"
        assert InspectionRecord(items).detector is items.detector_


class TestResume:
    @pytest.mark.parametrize("form", ["csv", "jsonl"])
    @pytest.mark.parametrize("kept", range(1, 9))
    def test_wherever_it_was_interrupted(self, capsys, model, form, kept):
        for name, image in (("a", good(50)), ("b", bad()), ("c", frame(52))):
            save(f"in/{name}.png", image)
        assert run("score", model, "in", "-o", f"whole.{form}") == 2
        lines = Path(f"whole.{form}").read_text().splitlines(keepends=True)
        assert len(lines) == 9
        Path(f"part.{form}").write_text("".join([*lines[:kept], lines[kept][:20]]))
        assert run("score", model, "in", "-o", f"part.{form}", "--resume") == 2
        assert Path(f"part.{form}").read_text() == "".join(lines)
        assert run("score", model, "in", "-o", f"part.{form}", "--resume") == 2
        assert Path(f"part.{form}").read_text() == "".join(lines)

    def test_items_of_a_changed_image(self, capsys, model):
        save("in/a.png", good(50))
        assert run("score", model, "in", "-o", "rows.csv") == 0
        save("in/a.png", bad())
        assert run("score", model, "in", "-o", "rows.csv", "--resume") == 2
        assert "the row of in/a.png is now another" in capsys.readouterr().err

    def test_watch(self, capsys, model, looks):
        looks += [lambda: save("in/a.png", good(50)), lambda: save("in/b.png", bad())]
        looks += [None] * 2
        assert run("watch", model, "in", "-o", "rows.csv") == 130
        lines = Path("rows.csv").read_text().splitlines(keepends=True)
        Path("rows.csv").write_text("".join(lines[:-2]))
        looks += [None] * 3
        assert run("watch", model, "in", "-o", "rows.csv", "--resume", "--existing") == 130
        again = [line.split(",", 1)[1] for line in Path("rows.csv").read_text().splitlines(True)]
        assert again == [line.split(",", 1)[1] for line in lines]


class TestWatch:
    def test_rows_are_those_of_score_with_a_time(self, capsys, model, looks):
        looks += [lambda: save("in/a.png", good(50)), lambda: save("in/b.png", bad())]
        looks += [lambda: save("in/c.png", frame(52)), None, None]
        assert run("watch", model, "in", "--json", "--stop-after", "3") == 2
        found = by_kind(capsys.readouterr().out)
        assert run("score", model, "in", "--json") == 2
        scored = by_kind(capsys.readouterr().out)
        assert found["run"] == scored["run"]
        assert len(found["item"]) == 8
        for row, other in zip(found["item"], scored["item"], strict=True):
            assert list(row)[:2] == ["kind", "time"]
            del row["time"]
            assert row == other

    def test_csv(self, capsys, model, looks):
        looks += [lambda: save("in/a.png", good(50)), None]
        assert run("watch", model, "in", "--stop-after", "1", "-o", "rows.csv") == 0
        assert [*rows_of("rows.csv")[0]][:5] == ["time", "image", "number", "object", "x"]
        assert "A row per item: rows.csv" in capsys.readouterr().out

    def test_drift_of_the_items(self, capsys, model, looks):
        for seed in range(30):
            image = frame(seed, (20, 20), (30, 42 + seed % 3), (20, 70)).astype(float) * 0.9
            save(f"in/{seed:02}.png", image.astype(np.uint8))
        looks += [None]
        assert run("watch", model, "in", "--json", "--existing", "--stop-after", "30") == 0
        out, err = capsys.readouterr()
        drifts = by_kind(out)["drift"]
        assert "level" in [row["name"] for row in drifts]
        assert all(row["since"].startswith("in/") for row in drifts)
        assert "drift: " in err

    def test_what_is_not_inspected_is_drift(self, capsys, model, looks):
        for seed in range(40):
            save(f"in/{seed:02}.png", frame(seed, (20, 20), (20, 88)))
        looks += [None]
        assert run("watch", model, "in", "--json", "--existing", "--stop-after", "40") == 2
        names = [row["name"] for row in by_kind(capsys.readouterr().out)["drift"]]
        assert names[0] == "not inspected"


def test_items_that_good_frames_cut_are_usual(tmp_path):
    """As many of them later are no drift."""
    frames = np.stack([frame(seed, (20, 20), (20, 88)) for seed in range(40)])
    detector = AnomalyDetector(preprocess=None, metric="se", pose=None, random_state=0)
    items = ItemDetector(detector).fit(frames)
    assert items.missed_ == 40
    items.save(tmp_path / "m.safetensors")
    assert ItemDetector.load(tmp_path / "m.safetensors").missed_ == 40
    alarm = DriftAlarm(items)
    for _ in range(100):
        alarm.miss()
        alarm.update(items.finder_.cut(frames[0])[0].crop[None], (np.zeros(1), {}))
    assert "not inspected" not in [drift.name for drift in alarm.drifts()]


class TestStrips:
    @pytest.mark.parametrize("height", [1, 7, 64, 210])
    def test_items_are_those_of_the_whole(self, capsys, model, items, height):
        lay("in", belt(), height)
        assert run("score", model, "in", "--strips", "--csv", "-o", "rows.csv") == 0
        rows = rows_of("rows.csv")
        assert {row["image"] for row in rows} == {"in/000.png"}
        assert [row["number"] for row in rows] == [*map(str, range(6))]
        whole = items.inspect_frame(belt())
        for row, item in zip(rows, whole, strict=True):
            assert float(row["anomaly_score"]) == item.anomaly_score
            assert (int(row["x"]), int(row["y"])) == (item.x, item.y)
        assert rows[2]["verdict"] == "anomaly"

    def test_a_stack_is_strips(self, capsys, model):
        save("in/s.npy", belt().reshape(30, 7, 90))
        assert run("score", model, "in", "--strips", "-o", "rows.csv") == 0
        assert [row["image"] for row in rows_of("rows.csv")] == ["in/s.npy[0]"] * 6

    @pytest.mark.parametrize("odd", ["damaged", "narrow", "deep"])
    def test_an_odd_strip_ends_the_image(self, capsys, model, odd):
        """It lies in the second cup, which both images show a part of."""
        lay("in", belt(), 10)
        if odd == "damaged":
            data = Path("in/005.png").read_bytes()
            Path("in/005.png").write_bytes(data[:120])
        else:
            strip = belt()[50:60]
            save("in/005.png", strip[:, :80] if odd == "narrow" else strip.astype(np.uint16))
        assert run("score", model, "in", "--strips", "-o", "rows.csv") == 2
        rows = [(r["image"], r["object"], r["y"], r["verdict"]) for r in rows_of("rows.csv")]
        assert rows == [
            ("in/000.png", "item", "9", "good"),
            ("in/000.png", "cut", "39", "not inspected"),
            ("in/005.png", "", "", "not inspected"),
            ("in/006.png", "cut", "0", "not inspected"),
            ("in/006.png", "item", "9", "anomaly"),
            *[("in/006.png", "item", str(9 + 30 * k), "good") for k in (1, 2, 3)],
        ]
        said = capsys.readouterr().err
        assert "in/005.png: " in said
        assert ("80 pixels, those before 90; the image ends before it" in said) == (odd == "narrow")
        assert "LineScan" not in said

    def test_an_odd_first_strip_and_an_empty_belt(self, capsys, model):
        lay("in", frame(3), 10)
        save("in/000.png", np.zeros((10, 90), np.uint16))
        assert run("score", model, "in", "--strips", "-o", "rows.csv", "--report", "page") == 2
        rows = rows_of("rows.csv")
        assert [row["image"] for row in rows] == ["in/000.png", "in/001.png"]
        assert "uint16" in rows[0]["reason"]
        assert "shows no item" in rows[1]["reason"]

    def test_report(self, model):
        lay("in", belt(), 7)
        assert run("score", model, "in", "--strips", "--report", "page") == 0
        text = Path("page/inspection.html").read_text()
        assert "Of 6 items, 1 is an anomaly" in text
        (figure,) = re.findall(r"<figure><h3>.*?</figure>", text, re.DOTALL)
        assert figure.count("<img") == 2
        assert re.search("x (58|59) to ", figure)

    def test_watch(self, capsys, model, looks):
        strips = np.split(belt(), 30)
        names = [f"in/{number:03}.png" for number in range(30)]

        def put(k):
            return lambda: save(names[k], strips[k])

        looks += [put(k) for k in range(30)] + [None]
        assert run("watch", model, "in", "--strips", "-o", "rows.jsonl") == 130
        watched = by_kind(Path("rows.jsonl").read_text())["item"]
        assert len({row["time"] for row in watched}) > 3  # as they come
        assert [row["y"] for row in watched] == [y - 11 for y, _ in CENTRES]

    def test_the_end_by_number_ends_the_image(self, capsys, model, looks):
        lay("in", belt(), 10)
        looks += [None]
        stop = ["--existing", "--stop-after", "5"]
        assert run("watch", model, "in", "--strips", "--json", *stop) == 2
        found = by_kind(capsys.readouterr().out)["item"]
        assert [row["object"] for row in found] == ["item", "cut"]

    def test_the_order_of_numbers_is_not_guessed(self, capsys, model):
        image = belt()
        names = [f"belt/{k}.png" for k in range(11)]
        Path("belt").mkdir()
        for name, part in zip(names, np.array_split(image, 11), strict=True):
            save(name, part)
        assert run("score", model, "belt", "--strips", "--csv") == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert "belt/10.png would come before belt/2.png" in said.err
        assert run("score", model, *names, "--strips", "-o", "s.csv") == 0
        lay("padded", image, 70)
        assert run("score", model, "padded", "--strips", "-o", "p.csv") == 0
        assert [(r["x"], r["y"]) for r in rows_of("s.csv")] == [
            (r["x"], r["y"]) for r in rows_of("p.csv")
        ]

    @pytest.mark.parametrize(
        "names",
        [
            ["s.png", "s1.png", "s2.png"],
            ["s-a.png", "s0.png", "s1.png"],
            ["s/0.png", "s0/0.png", "s1/0.png"],
        ],
    )
    def test_names_without_a_number_have_the_order_of_text(self, capsys, model, names):
        for name, part in zip(names, np.array_split(belt(), 3), strict=True):
            save(f"belt/{name}", part)
        assert run("score", model, "belt", "--strips", "--csv") == 0
        assert len(capsys.readouterr().out.splitlines()) == 7

    def test_the_order_in_each_of_several_folders(self, capsys, model):
        for folder in "ab":
            lay(folder, belt(), 20)
            for number in range(11):
                Path(f"{folder}/{number:03}.png").rename(f"{folder}/{number}.png")
        assert run("score", model, "b", "a", "--strips", "--csv") == 2
        assert "b/10.png would come before b/2.png" in capsys.readouterr().err

    def test_strips_as_old_are_watched_in_the_order_of_numbers(self, capsys, model, looks):
        Path("in").mkdir(exist_ok=True)
        for number, top in enumerate(range(0, 210, 19)):
            save(f"in/{number}.png", belt()[top : top + 19])
            os.utime(f"in/{number}.png", (1e9, 1e9))
        looks += [None]
        options = ["--strips", "--existing", "--stop-after", "12"]
        assert run("watch", model, "in", *options, "-o", "w.csv") == 0
        lay("padded", belt(), 19)
        assert run("score", model, "padded", "--strips", "-o", "s.csv") == 0
        assert [r["y"] for r in rows_of("w.csv")] == [r["y"] for r in rows_of("s.csv")]

    def test_what_is_refused(self, capsys, model):
        lay("in", belt(), 64)
        for options in (
            ["--resume", "-o", "rows.csv"],
            ["--maps", "maps"],
            ["--scheduler", "tcp://127.0.0.1:1"],
        ):
            assert run("score", model, "in", "--strips", *options) == 2
            assert options[0] in capsys.readouterr().err
        frames = np.stack([good(seed) for seed in range(30)])
        AnomalyDetector(preprocess=None, metric="se").fit(frames).save("whole.safetensors")
        for command in ("score", "watch"):
            assert run(command, "whole.safetensors", "in", "--strips") == 2
            assert "is a model of whole images" in capsys.readouterr().err
