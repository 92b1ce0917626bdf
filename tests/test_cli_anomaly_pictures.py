"""`imsim anomaly score --report --maps` and `report --masks`, on files."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="only reports draw")

from image_files import save
from PIL import Image

from imsim import anomaly
from imsim.anomaly import report
from imsim.cli import main
from imsim.cli.anomaly.labelled import defect_masks, kinds_and_sizes
from imsim.errors import ImsimError

GOOD = np.random.default_rng(0).uniform(0.4, 0.6, (40, 20, 24))
pytestmark = pytest.mark.usefixtures("empty_directory")


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Nobody looks at the figures here."""
    monkeypatch.setattr(report, "DPI", 20)


def trained(folder, *options):
    np.save(folder / "good.npy", GOOD)
    path = str(folder / "m.safetensors")
    call = ["anomaly", "train", str(folder / "good.npy"), "-o", path, "--preprocess", "none"]
    assert main([*call, "--data-range", "1", *options]) == 0
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A detector in a file, whose metric has a map."""
    return trained(tmp_path_factory.mktemp("model"), "--metric", "se")


def run(*arguments):
    return main(["anomaly", *arguments])


def bad(row, column):
    """Return an image with a bright square there."""
    image = GOOD[0].copy()
    image[row : row + 3, column : column + 3] = 1.5
    return image


def page(folder, name="inspection.html"):
    return Path(folder, name).read_text(encoding="utf-8")


def rows(text):
    """Return image, verdict and place of each row of the table."""
    body = text[text.index('class="sortable"') :].split("</tbody>")[0]
    found = re.findall(
        r'<tr><td>\d+</td><th scope="row">(.*?)</th><td>.*?</td><td>(.*?)</td><td>(.*?)</td>', body
    )
    return {image: (verdict, place) for image, verdict, place in found}


class TestScore:
    def test_report_and_maps_beside_the_rows(self, capsys, model):
        save("in/a/1.npy", bad(4, 5)), save("in/b/1.npy", bad(9, 2)), save("in/2.npy", GOOD[1])
        save("in/s.npy", np.stack([GOOD[2], bad(12, 12)]))
        Path("in/3.png").write_bytes(b"damaged")
        call = ["score", model, "in", "--report", "page", "--maps", "maps", "-o", "rows.csv"]
        assert run(*call) == 2
        out = capsys.readouterr().out.splitlines()
        assert out[-2:] == [f"Report: {Path('page/inspection.html')}", "Maps of rejects: 3 in maps"]
        with open("rows.csv", newline="") as file:
            verdicts = {row["image"]: row["verdict"] for row in csv.DictReader(file)}
        text = page("page")
        shown = rows(text)
        assert {image: verdict for image, (verdict, _) in shown.items()} == verdicts
        assert shown["in/a/1.npy"] == ("anomaly", "x 5 to 7, y 4 to 6")
        assert shown["in/b/1.npy"][1] == "x 2 to 4, y 9 to 11"
        assert shown["in/s.npy[1]"][1] == "x 12 to 14, y 12 to 14"
        assert shown["in/3.png"] == ("not inspected", "")
        digest = re.search(r"SHA-256 of the model</th><td>([0-9a-f]{64})<", text)
        assert digest
        assert digest[1] in Path("rows.csv").read_text()
        assert all(f">{word}<" in text for word in (model, "in"))
        found = {path.relative_to("maps").as_posix() for path in Path("maps").rglob("*.*")}
        assert found == {f"{name}.se.png" for name in ("a/1.npy", "b/1.npy", "s.npy[1]")}
        detector = anomaly.AnomalyDetector.load(model)
        local = detector.anomaly_map(bad(9, 2)[None])[0]
        with Image.open("maps/b/1.npy.se.png") as picture:
            np.testing.assert_array_equal(
                np.asarray(picture),
                report.dissimilarity_scale(detector.metric, detector.data_range_).colours_of(local),
            )

    def test_maps_alone_as_numbers_and_of_all(self, capsys, model):
        save("in/1.npy", bad(4, 5)), save("in/2.npy", GOOD[1])
        call = ["score", model, "in", "in/1.npy", "--maps", "maps", "--maps-as", "npy", "--csv"]
        assert run(*call, "--maps-of", "all") == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert len(out.splitlines()) == 4  # rows alone
        assert sorted(os.listdir("maps")) == ["1.npy.se.npy", "2.npy.se.npy"]
        detector = anomaly.AnomalyDetector.load(model)
        for name, image in (("1", bad(4, 5)), ("2", GOOD[1])):
            values = np.load(f"maps/{name}.npy.se.npy", allow_pickle=False)
            assert values.dtype == np.float32
            np.testing.assert_allclose(values, detector.anomaly_map(image[None])[0], rtol=1e-6)

    def test_names_that_are_alike_have_maps_of_their_own(self, model):
        for name in ("x/1.npy", "y/1.npy", "y/z/1.npy"):
            save(name, bad(4, 5))
        save("x/1.tif", bad(4, 5).astype(np.float32))
        np.savez("y/p.npz", **{"../a/1": bad(3, 3), "b": bad(6, 6)})
        assert run("score", model, "x", "y", "./y/p.npz:b", "--maps", "maps") in (0, 2)
        found = {path.relative_to("maps").as_posix() for path in Path("maps").rglob("*.*.png")}
        assert {"x/1.npy.se.png", "x/1.tif.se.png", "y/1.npy.se.png", "y/z/1.npy.se.png"} <= found
        assert all(not name.startswith("..") for name in found)
        assert not list(Path().glob("a/*"))

    def test_resume_says_what_it_cannot_show(self, capsys, model):
        save("in/1.npy", bad(4, 5))
        assert run("score", model, "in", "-o", "rows.json") == 0
        save("in/2.npy", bad(9, 2))
        call = ["score", model, "in", "-o", "rows.json", "--resume", "--report", "page"]
        capsys.readouterr()
        assert run(*call, "--maps", "maps") == 0
        said = "Maps of rejects: 1 in maps; not made for rows of an earlier run: 1"
        assert capsys.readouterr().out.splitlines()[-1] == said
        text = page("page")
        assert rows(text) == {
            "in/1.npy": ("anomaly", ""),
            "in/2.npy": ("anomaly", "x 2 to 4, y 9 to 11"),
        }
        assert "1 reject is not pictured; of 1, only the score of an earlier run is known" in text
        assert "2 are anomalies" in text

    def test_names_with_html_and_raw_counts(self, model):
        name = "<img src=x onerror=alert(1)>.npy"
        save(f"in/{name}", (bad(4, 5) * 1000).astype(np.uint16))
        save("flat.npy", np.full((20, 24), 1000, np.uint16))
        assert run("score", model, "in", "--report", "page", "--flat", "flat.npy") == 0
        text = page("page")
        assert "onerror" in text
        assert "<img src=x" not in text
        assert "--flat</th><td>flat.npy<" in text
        assert [*rows(text).values()] == [("anomaly", "x 5 to 7, y 4 to 6")]

    def test_a_metric_without_a_map(self, capsys, tmp_path):
        model = trained(tmp_path, "--metric", "rmse")
        save("in/1.npy", bad(4, 5))
        capsys.readouterr()
        assert run("score", model, "in", "--maps", "maps") == 2
        assert "the metric of the detector, rmse, has no map" in capsys.readouterr().err
        assert run("score", model, "in", "--report", "page") == 0
        assert "rmse has no map, so that no place is marked" in page("page")

    def test_all_that_cannot_be_inspected(self, capsys, model):
        save("in/1.npy", GOOD[0, :9]), save("in/2.png", np.zeros((20, 24, 3), np.uint8))
        save("in/3.npy", np.full((20, 24), np.nan))
        assert run("score", model, "in", "--report", "page", "--maps", "maps") == 2
        text = page("page")
        assert "0 are anomalies and 3 could not be inspected" in text
        assert [verdict for verdict, _ in rows(text).values()] == ["not inspected"] * 3
        assert "has 3 channels" in text
        assert "Maps of rejects: 0 in maps" in capsys.readouterr().out

    def test_what_is_refused(self, capsys, model, monkeypatch):
        save("in/1.npy", GOOD[0])
        for arguments, words in (
            (["--report", "in/page"], "lies in in, which is read"),
            (["--maps", "in"], "lies in in, which is read"),
            (["--report", "nowhere/page"], "there is no folder"),
            (["--report", "in/1.npy"], "in/1.npy"),
            (["in/1.npy", "--maps", "in"], "in: holds in/1.npy, which is read"),
            (["in/1.npy", "--report", "./in/../in"], "holds in/1.npy, which is read"),
            (["--maps", ""], "--maps: is empty; name a folder"),
            (["--report", ""], "--report: is empty; name a folder"),
            (["--maps-of", "all"], "--maps-of: is of use with --maps DIR only"),
            (["--maps-as", "npy"], "--maps-as: is of use with --maps DIR only"),
        ):
            images = [] if arguments[0].startswith("in/") else ["in"]
            assert run("score", model, *images, *arguments) == 2
            out, err = capsys.readouterr()
            assert words in err
            assert out == ""
        assert os.listdir("in") == ["1.npy"]
        monkeypatch.setattr(os, "access", lambda *_: False)
        assert run("score", model, "in", "--report", "page") == 2
        assert "page: cannot be written: no permission" in capsys.readouterr().err


class TestLabels:
    ROWS = "file,kind,size\nbad.npy[0],stone,1\nbad.npy[1],,2\ngood.npy[0],,\ngood.npy[0],,\n"

    def test_the_mark_that_excel_writes(self):
        Path("labels.csv").write_text(self.ROWS, encoding="utf-8-sig")
        names = ["good.npy[0]", "bad.npy[0]", "bad.npy[1]"]
        kinds, sizes = kinds_and_sizes("labels.csv", names, np.array([0, 1, 1], bool))
        assert kinds == ["", "stone", ""]
        np.testing.assert_array_equal(sizes, [np.nan, 1, 2])

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (ROWS + "./bad.npy[0],glass,1\n", r"has \./bad.npy\[0\] twice, of different kinds"),
            (ROWS + "bad.npy[0],stone,3\n", "twice"),
            (ROWS.replace(",", ";"), "separated by commas"),
        ],
    )
    def test_what_is_refused(self, text, words):
        Path("labels.csv").write_text(text)
        with pytest.raises(ImsimError, match=f"labels.csv: .*{words}"):
            kinds_and_sizes("labels.csv", ["bad.npy[0]"], np.array([True]))


class TestMasks:
    @pytest.fixture
    def judged(self):
        """Good images, bad ones in folders, and the masks of these."""
        save("good.npy", GOOD[:8])
        for name, (row, column) in {"a/1": (4, 5), "b/1": (9, 2), "2": (12, 12)}.items():
            save(f"bad/{name}.npy", bad(row, column))
            mask = np.zeros((20, 24), np.uint8)
            mask[row : row + 3, column : column + 3] = 255
            save(f"masks/{name}.png", mask)

    def report(self, model, *arguments):
        return run("report", model, "good.npy", "bad", "-o", "page", *arguments)

    def test_numbers_in_text_and_page(self, capsys, model, judged):
        Path("masks/2.png").rename("masks/2_mask.png")
        assert self.report(model, "--masks", "masks") == 0
        out = capsys.readouterr().out
        assert re.search(r"pixels: AUROC 1\.000, 95% interval .* 100\.0% of the anom", out)
        assert "3 regions: overlap (PRO) " in out
        text = page("page", "report.html")
        assert "(pixel AUROC 1.000 (" in text
        assert "Of 3 bad regions, on average" in text
        assert "of the bad ones and rejects" in text

    def test_a_stack_for_a_stack(self):
        masks = np.zeros((3, 20, 24), bool)
        masks[0, 4:7, 5:8] = masks[2, 9:12, 2:5] = True
        save("masks.npy", masks)
        save("bad.npy", np.zeros((3, 20, 24)))
        names = ["bad.npy[0]", "bad.npy[2]"]  # one could not be used
        found = defect_masks("masks.npy", "bad.npy", names, (20, 24))
        np.testing.assert_array_equal(found, masks[[0, 2]])
        for count in (1, 2, 4):
            save("other.npy", np.tile(masks, (2, 1, 1))[:count])
            words = rf"other\.npy: the number of masks is {count}, .* in bad\.npy 3"
            with pytest.raises(ImsimError, match=words):
                defect_masks("other.npy", "bad.npy", names[::-1], (20, 24))

    def test_masks_that_are_left_over_are_said(self, capsys, model, judged):
        save("masks/3.png", np.ones((20, 24), np.uint8))
        save("masks/2_mask.png", np.ones((20, 24), np.uint8))
        assert self.report(model, "--masks", "masks") == 0
        words = "note: masks of none of the bad images: 2, e.g. masks/2_mask.png"
        assert words in capsys.readouterr().err

    def test_the_report_does_not_lie_among_the_masks(self, capsys, model, judged):
        assert run("report", model, "good.npy", "bad", "--masks", "masks", "-o", "masks/page") == 2
        assert "masks/page: lies in masks, which is read" in capsys.readouterr().err

    def test_an_empty_name_is_not_left_out(self, capsys, model, judged):
        assert self.report(model, "--masks", "") == 2
        assert "is no folder, but bad is one" in capsys.readouterr().err
        assert self.report(model, "--labels", "") == 2

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda: Path("masks/2.png").unlink(), "masks: has no mask of bad/2.npy; expected 2"),
            (lambda: save("masks/2.png", np.zeros((9, 24), np.uint8)), "the mask is 24 x 9 pixels"),
            (lambda: save("masks/2.png", np.zeros((20, 24), np.uint8)), "2.png: marks no pixel"),
            (
                lambda: save("masks/2.png", np.arange(480, dtype=np.uint16).reshape(20, 24)),
                "and one other value",
            ),
            (lambda: Path("masks/2.png").write_bytes(b"damaged"), "masks/2.png"),
            (lambda: save("masks/2.tif", np.ones((20, 24), np.uint8)), "more than one mask"),
        ],
    )
    def test_masks_that_do_not_fit(self, capsys, model, judged, change, words):
        change()
        assert self.report(model, "--masks", "masks") == 2
        assert words in capsys.readouterr().err

    def test_a_file_for_a_folder_or_nothing(self, capsys, model, judged):
        for path in ("masks/2.png", "nowhere"):
            assert self.report(model, "--masks", path) == 2
            assert f"{path}: is no folder, but bad is one" in capsys.readouterr().err

    def test_a_metric_without_a_map(self, capsys, tmp_path, judged):
        model = trained(tmp_path, "--metric", "rmse")
        assert self.report(model, "--masks", "masks") == 2
        assert "rmse has no map of grey images" in capsys.readouterr().err
