"""What Jupyter shows of results, and results as dicts, CSV and data frames."""

from __future__ import annotations

import base64
import copy
import csv
import io
import pickle
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sampling import textured_pair

import imsim
from imsim.pages import MapPicture, Scale, map_scale


class _Cells(HTMLParser):
    """Reads the rows of all tables, and refuses elements that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("td", "th"):
            self.rows[-1][-1] += data.strip()


HOSTILE = "<script>alert('&')</script>"


def _comparison(rng: np.random.Generator, batch: tuple[int, ...] = ()) -> imsim.Comparison:
    a, b = textured_pair(rng, 20, 24, batch=batch)
    return imsim.compare(a, b, ["se", "ssim", "sre"])


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_a_comparison_shows_the_cells_of_its_text(batch, rng):
    result = _comparison(rng, batch)
    shown = _Cells(result._repr_html_()).rows
    text = str(result).splitlines()
    assert [" ".join(row).split() for row in shown[:3]] == [line.split() for line in text[:3]]
    assert shown[-1] == ["ssim", result.skipped["ssim"]]


def test_nothing_in_a_table_is_html():
    error = imsim.OptionError(HOSTILE)
    for kind in (imsim.Comparison, imsim.LazyComparison):
        html = kind({}, {"ssim": error})._repr_html_()
        assert "<script" not in html
        assert _Cells(html).rows[-1] == ["ssim", HOSTILE]


def test_tables_name_no_colours(rng):
    """So that they are readable whatever the theme of the notebook."""
    html = _comparison(rng)._repr_html_() + MapPicture(np.eye(4), "ssim")._repr_html_()
    assert re.findall(r"(?:color|background)\s*:", html) == []


def test_what_is_lazy_is_shown_without_being_computed(rng):
    array = pytest.importorskip("dask.array")
    computed = []

    def score(block: np.ndarray) -> np.ndarray:
        computed.append(block.shape)
        return block

    lazy = array.from_array(np.arange(3.0)).map_blocks(score, dtype=float, meta=np.empty(0))
    result = imsim.LazyComparison({"se": lazy}, {})
    assert _Cells(result._repr_html_()).rows[1] == ["se", "lazy, of shape (3,)"]
    assert "lazy" in str(result)
    assert computed == []
    assert result.to_dict()["se"].tolist() == [0, 1, 2]
    assert computed != []


def test_regions_show_the_cells_of_their_text():
    labels = np.kron([[1, 0], [0, 7]], np.ones((12, 12), int))
    labels[0, 20] = 3
    a = np.arange(576.0).reshape(24, 24)
    with pytest.warns(imsim.EmptyMaskWarning):
        found = imsim.regions(a, a + 1, labels, ["uiq", "se", "psnr"])
    html = found._repr_html_()
    rows = _Cells(html).rows
    heads, *lines = str(found).splitlines()
    assert [" ".join(row).split() for row in rows[:4]] == [x.split() for x in [heads, *lines[:3]]]
    assert rows[-1] == ["psnr", found.skipped["psnr"]]
    assert "uiq       NaN for label 3" in html


# Numbers


def test_a_dict_holds_plain_numbers_or_arrays(rng):
    one, many = _comparison(rng).to_dict(), _comparison(rng, (2, 3)).to_dict()
    assert {type(score) for score in one.values()} == {float}
    assert {score.shape for score in many.values()} == {(2, 3)}
    assert list(one) == list(many) == ["se", "sre"]


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_csv_reads_back_exactly(batch, rng, tmp_path):
    result = _comparison(rng, batch)
    text = result.to_csv()
    assert text is not None
    rows = list(csv.DictReader(io.StringIO(text)))
    index = {(): [], (3,): ["image"], (2, 3): ["axis_0", "axis_1"]}[batch]
    assert list(rows[0]) == [*index, "se", "sre"]
    for row, place in zip(rows, np.ndindex(batch), strict=True):
        assert [int(row[axis]) for axis in index] == list(place)
        assert all(float(row[name]) == score[place] for name, score in result.items())
    assert result.to_csv(tmp_path / "scores.csv") is None
    assert (tmp_path / "scores.csv").read_text(encoding="utf-8") == text


def test_a_file_that_cannot_be_written_is_named(rng, tmp_path):
    with pytest.raises(imsim.ImsimError, match=r"missing.*cannot be written"):
        _comparison(rng).to_csv(tmp_path / "missing" / "scores.csv")


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_a_data_frame_has_a_row_per_image(batch, rng):
    pytest.importorskip("pandas")
    result = _comparison(rng, batch)
    frame = result.to_dataframe()
    assert frame.columns.to_list() == ["se", "sre"]
    for name, score in result.items():
        np.testing.assert_array_equal(frame[name].to_numpy().reshape(batch), score)
    if len(batch) == 2:
        assert frame.loc[(1, 2), "se"] == result["se"][1, 2]
    assert frame.index.names == {0: [None], 1: ["image"], 2: ["axis_0", "axis_1"]}[len(batch)]
    assert frame.attrs["skipped"] == result.skipped


def test_a_data_frame_of_regions(rng):
    pytest.importorskip("pandas")
    a, b = textured_pair(rng, 20, 24)
    found = imsim.regions(a, b, np.eye(20, 24, dtype=int) + 1, ["se"])
    frame = found.to_dataframe()
    assert frame.columns.to_list() == list(found)
    np.testing.assert_array_equal(frame["se"], found["se"])
    rows = list(csv.DictReader(io.StringIO(found.to_csv() or "")))
    assert [float(row["se"]) for row in rows] == found["se"].tolist()


def test_without_pandas_the_error_says_what_to_do(rng, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(imsim.ImsimError, match=r"needs pandas.*pip install pandas.*to_csv"):
        _comparison(rng).to_dataframe()


# Maps


def _pictures(html: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/png;base64,([^"]*)"', html)
    return [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")) for png in found
    ]


@pytest.mark.parametrize("metric", [m for m in imsim.METRICS.values() if m.map_function])
def test_a_map_is_shown_on_the_scale_of_its_metric(metric, rng):
    a, b = textured_pair(rng, 20, 24, colour=True)
    values = metric.map_function(a, b, data_range=255, channel_axis=-1)
    assert type(values) is np.ndarray  # maps stay what they are
    shown = MapPicture(values, metric.name, data_range=255)
    pixels, bar = _pictures(shown._repr_html_())
    scale = map_scale(metric.name, 255)
    assert (pixels == scale.colours_of(values)).all()
    assert bar[0, 0].tolist() == scale.colours_of([[scale.low]])[0, 0].tolist()
    assert metric.map_title in repr(shown)
    assert ("not scored" in shown._repr_html_()) is bool(np.isnan(values).any())


def test_a_scale_of_ones_own_is_told():
    values = np.array([[1.0, 0.95], [0.5, np.nan]])
    html = MapPicture(values, "ssim", scale=Scale(1.0, 0.9))._repr_html_()
    assert "different 0.9" in html
    assert "1 values lie beyond the scale" in html
    assert "0.9 different" in MapPicture(values, "ssim", scale=Scale(0.9, 1.0))._repr_html_()


def test_a_large_map_shows_the_worst_of_each_block():
    values = np.ones((900, 900))
    values[700, 701] = -1
    html = MapPicture(values, "ssim")._repr_html_()
    pixels, _ = _pictures(html)
    assert max(pixels.shape) < 900
    assert (pixels == [253, 231, 37]).all(axis=-1).sum() == 1
    assert re.search(r"Each block of \d × \d pixels shows its worst value", html)


@pytest.mark.parametrize(
    ("values", "metric", "error", "words"),
    [
        (np.zeros((2, 3, 4)), "ssim", imsim.ShapeError, "one map"),
        (np.zeros((0, 4)), "ssim", imsim.ShapeError, "one map"),
        (np.zeros((3, 4)), "psnr", imsim.OptionError, "a metric with a map"),
        (np.zeros((3, 4)), "se", imsim.DataRangeError, "data_range=255"),
        (np.zeros((3, 4), complex), "ssim", imsim.DTypeError, "values has dtype complex"),
        (np.zeros((3, 4), object), "ssim", imsim.DTypeError, "values has dtype object"),
    ],
)
def test_what_is_no_map(values, metric, error, words):
    with pytest.raises(error, match=words):
        MapPicture(values, metric)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        *(({"data_range": wrong}, imsim.DataRangeError) for wrong in (0, -1, np.nan, "255", 1e200)),
        *(
            ({"scale": wrong}, imsim.OptionError)
            for wrong in ("auto", (1, 0), Scale(1, 1), Scale(np.nan, 1), Scale(0, 1, False, "jet"))
        ),
        ({"scale": Scale("0", "1")}, imsim.OptionError),
    ],
)
def test_what_is_no_scale(options, error):
    with pytest.raises(error):
        MapPicture(np.zeros((3, 4)), "se", **options)


def test_maps_of_any_container_and_by_pickle(rng: np.random.Generator) -> None:
    values = rng.random((12, 9))
    want = MapPicture(np.where(values < 0.3, np.nan, values), "ssim")
    hidden = np.ma.array(values, mask=values < 0.3)
    assert MapPicture(hidden, "ssim")._repr_html_() == want._repr_html_()
    assert pickle.loads(pickle.dumps(want))._repr_html_() == want._repr_html_()
    assert repr(copy.deepcopy(want)) == repr(want)
    xarray = pytest.importorskip("xarray", reason="an optional array library")
    shown = MapPicture(xarray.DataArray(values), "ssim")
    assert shown._repr_html_() == MapPicture(values.tolist(), "ssim")._repr_html_()


def test_a_notebook_shows_what_the_page_promises(tmp_path: Path, rng: np.random.Generator) -> None:
    """In a browser: the bar below the map is as wide, and no text is cut."""
    from headless import browser

    a, b = textured_pair(rng, 20, 24)
    shown = MapPicture(imsim.ssim_map(a, b, data_range=255), "ssim")
    page = tmp_path / "cell.html"
    page.write_text(
        f"<!doctype html><html data-ready=1><meta charset=utf-8>{shown._repr_html_()}", "utf-8"
    )
    with browser(600, 500) as opened:
        opened.open(page)
        widths = opened.driver.execute_script(
            "return [...document.querySelectorAll('.imsim-map img')].map((e) => e.clientWidth)"
        )
        overflow = opened.driver.execute_script(
            "return document.documentElement.scrollWidth > window.innerWidth"
        )
    assert len(widths) == 2
    assert widths[0] == widths[1] >= 240
    assert overflow is False
