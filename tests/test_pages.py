"""Colour maps, HTML pages and the report of a pair."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from headless import rendered
from PIL import Image

import imsim
from imsim import pages
from imsim.pages import layers, pair

NASTY = '<script>alert("1")</script> & \'</title>.png'


@pytest.fixture(scope="module")
def images():
    """Return a reference, a test image with a defect at one pixel and noise, and a mask."""
    rng = np.random.default_rng(3)
    reference = rng.integers(40, 200, (48, 40), dtype=np.uint8)
    test = reference.copy()
    test[30:] += rng.integers(0, 9, test[30:].shape, dtype=np.uint8)
    test[11, 7] = 255
    mask = np.ones(reference.shape, dtype=bool)
    mask[:, 32:] = False
    return reference, test, mask


@pytest.fixture(scope="module")
def report(images):
    reference, test, mask = images
    return pages.pair_report(reference, test, mask=mask, names=("good.png", NASTY))


class Elements(HTMLParser):
    """Collects every element with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def all(self, name):
        return [attributes for tag, attributes in self.found if tag == name]


def data_of(text):
    (content,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
    return json.loads(content)


def array_of(layer, shape):
    kind = np.dtype(layer["dtype"]).newbyteorder("<")
    return np.frombuffer(base64.b64decode(layer["values"]), kind).reshape(shape)


class TestColours:
    def test_ends_beyond_and_nan(self):
        values = [[0.0, 1.0, -9.0, 9.0, np.inf, -np.inf, np.nan]]
        first, last, *others = pages.colour_map(values, 0, 1)[0].tolist()
        assert (first, last) == ([68, 1, 84], [253, 231, 37])
        assert others == [first, last, last, first, [150, 150, 150]]

    def test_a_map_can_run_backwards(self):
        values = np.linspace(0, 1, 64)[None]
        assert (pages.colour_map(values, 1, 0) == pages.colour_map(1 - values, 0, 1)).all()

    def test_lightness_rises_with_the_value(self):
        colours = pages.colour_map(np.linspace(0, 1, 256)[None], 0, 1)[0]
        luma = colours @ np.array([0.2126, 0.7152, 0.0722])
        assert (np.diff(luma) > -0.5).all()  # half a level: the channels are whole numbers
        assert luma[-1] - luma[0] > 180

    def test_the_scale_does_not_follow_the_picture(self):
        one, two = np.full((2, 2), 0.3), np.array([[0.3, 5.0], [-2.0, 0.1]])
        assert (pages.colour_map(one, 0, 1)[0, 0] == pages.colour_map(two, 0, 1)[0, 0]).all()

    def test_root_scale_reads_back(self):
        scale = pages.Scale(-4.0, 4.0, root=True)
        assert [scale.value_at(p) for p in (0, 0.25, 0.5, 0.75, 1)] == [-4, -1, 0, 1, 4]

    @pytest.mark.parametrize("metric", [m for m in imsim.METRICS.values() if m.map_function])
    def test_dark_is_alike_in_every_map(self, metric, images):
        reference, test, _ = images
        colour = [np.stack([image, image, 255 - image]) for image in (reference, test)]
        scale = pages.map_scale(metric.name, 255)
        alike = metric.map_function(colour[0], colour[0], channel_axis=0)
        scored = ~np.isnan(alike)
        assert np.allclose(alike[scored], scale.low, atol=1e-7)  # rounding of windows' moments
        local = metric.map_function(*colour, channel_axis=0)
        ends = sorted((scale.low, scale.high))
        if not scale.root:  # squares of several channels are added, and go beyond
            assert np.nanmin(local) >= ends[0] - 1e-9
            assert np.nanmax(local) <= ends[1] + 1e-9
        assert scale.colours_of(local)[scored].mean() > scale.colours_of(alike)[scored].mean()

    def test_png_holds_the_pixels(self):
        pixels = pages.colour_map(np.random.default_rng(0).uniform(size=(5, 7)), 0, 1)
        assert (np.asarray(Image.open(io.BytesIO(pages.png(pixels)))) == pixels).all()

    @pytest.mark.parametrize(
        ("call", "error", "words"),
        [
            (lambda: pages.colour_map(np.zeros((2, 3, 4)), 0, 1), imsim.ShapeError, "(2, 3, 4)"),
            (lambda: pages.colour_map([[1.0]], 2, 2), imsim.OptionError, "two different"),
            (lambda: pages.colour_map([[1.0]], 0, np.inf), imsim.OptionError, "finite"),
            (lambda: pages.map_scale("psnr", 255), imsim.OptionError, "a metric with a map"),
            (lambda: pages.png(np.zeros((2, 2))), imsim.ImsimError, "float64"),
        ],
    )
    def test_bad_input(self, call, error, words):
        with pytest.raises(error, match=re.escape(words)):
            call()


class TestPage:
    def test_text_is_escaped_everywhere(self):
        text = pages.page(NASTY, pages.tag("p", NASTY, title=NASTY), NASTY)
        assert "<script" not in text
        assert text.count("&lt;script&gt;") == 4

    def test_policy_allows_its_own_script_and_style_only(self, report):
        elements = Elements(report)
        (policy,) = (m["content"] for m in elements.all("meta") if "http-equiv" in m)
        assert policy.startswith("default-src 'none'; img-src data:;")
        for element, name in (("script", "pair.js"), ("style", "page.css")):
            digest = hashlib.sha256(pages.asset(name).encode()).digest()
            assert f"{element}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy

    def test_nothing_comes_from_elsewhere(self, report):
        elements = Elements(report)
        names = {name for name, _ in elements.found}
        assert not names & {"link", "iframe", "object", "base", "form"}
        sources = [a[key] for _, a in elements.found for key in ("src", "href") if key in a]
        assert all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
        assert "url(" not in pages.asset("page.css")
        assert not [a for _, a in elements.found if any(key.startswith("on") for key in a)]
        assert not [a for _, a in elements.found if "style" in a]  # the policy would refuse it

    def test_every_metric_has_a_meaning(self):
        assert pages.MEANINGS.keys() == imsim.METRICS.keys()
        assert all(text[-1] in ".?" for text in pages.MEANINGS.values())


class TestPairReport:
    def test_says_what_it_must(self, report, images):
        reference, test, mask = images
        for metric in imsim.METRICS.values():
            assert metric.title in report
        for name, score in imsim.compare(reference, test, mask=mask).items():
            if np.isfinite(score):
                assert f"{score:.6g}".replace("-", "−") in report, name
        assert "The mask uses 1536 of 1920 pixels (80.0%)" in report
        assert f"by at most {255 - int(reference[11, 7])}." in report
        assert "Striped pixels are masked" in report
        assert "Scores of the pixels that the mask uses" in report
        assert "Scores of all pixels" in pages.pair_report(reference, test)
        assert report.count("square-root scale") == 3  # difference, imed, se
        assert "Not available for these images: the map of sam." in report

    def test_embeds_the_true_numbers(self, report, images):
        reference, test, mask = images
        data = data_of(report)
        shape = (data["rows"], data["columns"])
        first, second, *maps = data["layers"]
        assert (array_of(first, shape) == reference).all()
        assert (array_of(second, shape) == test).all()
        bits = np.frombuffer(base64.b64decode(data["mask"]), np.uint8)
        assert (np.unpackbits(bits, bitorder="little")[: mask.size] == mask.ravel()).all()
        assert [layer["name"] for layer in maps] == [
            m.name for m in imsim.METRICS.values() if m.map_function and m.name != "sam"
        ]
        for layer in maps:
            local = imsim.METRICS[layer["name"]].map_function(reference, test, mask=mask)
            np.testing.assert_array_equal(array_of(layer, shape), local.astype(np.float32))

    def test_links_to_the_largest_difference(self, report):
        links = [a["href"] for a in Elements(report).all("a")]
        assert links[0] == "#7,11"  # column, row

    def test_masked_pixels_change_nothing_but_their_own_values(self, images):
        reference, test, mask = images
        other = test.copy()
        other[~mask] = 0
        one, two = (pages.pair_report(reference, t, mask=mask) for t in (test, other))
        table = re.compile(r"<tbody>.*</tbody>")
        assert table.findall(one) == table.findall(two)

    def test_large_images_are_thinned_out_and_say_so(self, images, monkeypatch):
        reference, test, _ = images
        monkeypatch.setattr(layers, "NUMBER_PIXELS", 500)
        monkeypatch.setattr(layers, "PICTURE_PIXELS", 1000)
        text = pages.pair_report(reference, test)
        data = data_of(text)
        assert (data["step"], data["rows"], data["columns"]) == (2, 24, 20)
        assert (array_of(data["layers"][1], (24, 20)) == test[::2, ::2]).all()
        assert "Values are those of one pixel in 2 in both directions" in text
        assert "Pictures are those of one pixel in 2" in text

    def test_colour_and_other_numbers_of_channels(self, images):
        reference, test, _ = images
        a, b = (np.stack([x, x // 2, 255 - x, x], axis=-1) for x in (reference, test))
        text = pages.pair_report(a[..., :3], b[..., :3], channel_axis=-1)
        data = data_of(text)
        assert (array_of(data["layers"][0], (48, 40, 3)) == a[..., :3]).all()
        assert "picture-sam" in text
        assert "the mean of the 4 channels" in pages.pair_report(a, b, channel_axis=-1)

    @pytest.mark.parametrize("level", [0, 128, 255])
    def test_masked_pixels_are_striped_whatever_their_brightness(self, level):
        flat = np.full((48, 40), level, np.uint8)
        of_pair = layers.Pair(flat[..., None], flat[..., None], np.tri(48, 40, dtype=bool), None)
        shown = layers.image_layer(of_pair, "test", "", flat[..., None]).pixels
        kept, masked = shown[of_pair.mask], shown[~of_pair.mask]
        assert (kept == level).all()
        assert int(masked.max()) - int(masked.min()) > 100

    def test_wide_types_keep_their_values(self, images):
        deep = images[0].astype(np.uint16) * 257
        text = pages.pair_report(deep, deep + 1, data_range=65535)
        data = data_of(text)
        assert data["layers"][1]["dtype"] == "uint16"
        for label in ("0 alike", "1.07e9", "different 4.29e9", "65535"):
            assert f"<span>{label}</span>" in text  # short enough to stand next to each other
        fine = images[0] / 300 - 0.3
        text = pages.pair_report(fine, fine, data_range=1)
        assert (array_of(data_of(text)["layers"][0], fine.shape) == fine).all()
        assert "The images are equal at every pixel" in text
        assert ">−0.5<" in text  # the scale of signed values is symmetric

    def test_nan_and_an_empty_mask(self, images):
        fine = images[0] / 255
        hurt = fine.copy()
        hurt[3, 3] = np.nan
        assert "<td>NaN</td>" in pages.pair_report(fine, hurt, data_range=1)
        nothing = np.zeros(fine.shape, dtype=bool)
        with pytest.warns(imsim.EmptyMaskWarning):
            assert "(0.0%)" in pages.pair_report(fine, fine, mask=nothing, data_range=1)

    @pytest.mark.parametrize(
        ("shape", "dtype", "options", "error", "words"),
        [
            ((2, 16, 16), "uint8", {}, imsim.ShapeError, "pass one image of a batch"),
            ((16, 16), "float64", {}, imsim.DataRangeError, "data_range, e.g. 4095"),
            ((16, 16), "uint8", {"mask": np.ones((4, 4), bool)}, imsim.MaskError, "(4, 4)"),
            ((16, 16), "uint8", {"data_range": -1}, imsim.DataRangeError, "positive"),
        ],
    )
    def test_bad_input(self, shape, dtype, options, error, words):
        image = np.zeros(shape, dtype)
        with pytest.raises(error, match=re.escape(words)):
            pages.pair_report(image, image, **options)

    def test_works_in_a_browser(self, images, tmp_path, monkeypatch):
        """The address points to a spot; then hands move over the page."""
        script = pages.asset("pair.js") + HANDS
        monkeypatch.setattr(pair, "asset", lambda name: script)
        reference, test, mask = images
        path = tmp_path / "report.html"
        text = pages.pair_report(reference, test, mask=mask, names=("good.png", NASTY))
        path.write_text(text, encoding="utf-8")
        dom, console = rendered(path, tmp_path / "profile", "#7,11")
        assert console == []
        assert 'data-ready="yes"' in dom
        (found,) = re.findall(r'data-log="(.*?)"', dom)
        steps = json.loads(html.unescape(found))
        tops = [step.pop("top") for step in steps]
        assert max(tops) - min(tops) < 1  # no value, nor none, moves the pictures
        del steps[-2:]  # where the values were taken away, and made long
        linked, held, hovered, right, down, zoomed, masked, worst = steps
        before, after = int(reference[11, 7]), 255
        assert linked["place"] == "7, 11 (held)"
        assert linked["reference"] == str(before)
        assert linked["test"] == str(after)
        assert linked["difference"] == f"+{after - before}"
        assert float(linked["se"]) == (after - before) ** 2
        local = imsim.ssim_map(reference, test, mask=mask)[11, 7]
        assert float(linked["ssim"]) == pytest.approx(local, rel=1e-4)  # five digits are shown
        assert held == linked  # moving on does not let go of a held spot
        assert hovered["place"] == "20, 36"
        assert hovered["reference"] == str(reference[36, 20])
        assert hovered["test"] == str(test[36, 20])
        assert right["place"] == "21, 36"
        assert down["place"] == "21, 46"
        assert zoomed["place"] == "21, 46"
        assert zoomed["zoomed"] == "true"
        assert masked["place"] == "36, 5 (masked)"
        assert masked["ssim"] == "masked"
        assert worst["place"] == "7, 11 (held)"


HANDS = """
(() => {
  const log = [];
  const frame = document.querySelector(".frame");
  const note = () => {
    const entry = { zoomed: String(document.documentElement.classList.contains("zoomed")) };
    entry.top = [...document.querySelectorAll(".frame")].pop().getBoundingClientRect().top;
    for (const e of document.querySelectorAll("dd")) entry[e.dataset.value] = e.textContent;
    log.push(entry);
  };
  const move = (x, y) => {
    const box = frame.getBoundingClientRect();
    const clientX = box.left + ((x + 0.5) / 40) * box.width;
    const clientY = box.top + ((y + 0.5) / 48) * box.height;
    frame.dispatchEvent(new PointerEvent("pointermove", { clientX, clientY, bubbles: true }));
  };
  const key = (key, shiftKey = false) =>
    frame.dispatchEvent(new KeyboardEvent("keydown", { key, shiftKey, bubbles: true }));
  note();
  move(20, 36); note();
  key("Escape"); move(20, 36); note();
  key("ArrowRight"); note();
  key("ArrowDown", true); note();
  key("+"); note();
  key("0"); move(36, 5); note();
  document.querySelector("a").click();
  setTimeout(() => {
    note();
    for (const text of ["", "123.456789012345"]) {
      for (const e of document.querySelectorAll("[data-value]")) e.textContent = text;
      note();
    }
    document.documentElement.dataset.log = JSON.stringify(log);
  }, 50);
})();
"""
