"""Colour maps, HTML pages and the report of a pair."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tracemalloc
import zlib
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

import imsim
from imsim import pages
from imsim.pages import blocks, colour, content, layers

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


def unpacked(text, dtype, shape, like=None):
    """Undo `content.packed` by another way than the page's script."""
    dtype = np.dtype(dtype).newbyteorder("<")
    size = min(dtype.itemsize, 4)
    stride = dtype.itemsize // size
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    planes = planes.reshape(shape[2] * stride, size, *shape[:2])
    words = np.moveaxis(planes, (0, 1), (2, 3)).copy().view(f"<u{size}")[..., 0]
    if like is not None:
        words += np.ascontiguousarray(like.astype(dtype)).view(words.dtype).reshape(words.shape)
    else:
        words = np.cumsum(words, axis=1, dtype=words.dtype)
        words = words.reshape(*shape, stride).cumsum(axis=2, dtype=words.dtype)
    return np.ascontiguousarray(words).reshape(*shape[:2], -1).view(dtype)


def images_of(text):
    """Return both images as the page holds them."""
    data = data_of(text)
    pixels, side = data["pixels"], data["pixels"]["side"]
    shape = (*blocks.shape(data["height"], data["width"], (side, side)), data["channels"])
    reference = unpacked(pixels["reference"], pixels["dtype"], shape)
    return reference, unpacked(pixels["test"], pixels["dtype"], shape, reference)


def maps_of(text):
    data = data_of(text)
    side = data["maps"]["side"]
    shape = (*blocks.shape(data["height"], data["width"], (side, side)), 1)
    return {
        name: unpacked(values, np.float32, shape)[..., 0]
        for name, values in data["maps"]["values"].items()
    }


class TestPage:
    def test_text_is_escaped_everywhere(self):
        text = pages.page(NASTY, pages.tag("p", NASTY, title=NASTY), NASTY)
        assert "<script" not in text
        assert text.count("&lt;script&gt;") == 4

    def test_policy_allows_its_own_script_and_style_only(self, report):
        elements = Elements(report)
        (policy,) = (m["content"] for m in elements.all("meta") if "http-equiv" in m)
        assert policy.startswith("default-src 'none'; img-src data: blob:;")
        script = "".join(map(pages.asset, ("packed.js", "drawn.js", "stage.js", "pair.js")))
        for element, text in (("script", script), ("style", pages.asset("page.css"))):
            digest = hashlib.sha256(text.encode()).digest()
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
        assert all(metric.sees[-1:] in {".", "?"} for metric in imsim.METRICS.values())


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
        first, second = images_of(report)
        assert (first[..., 0] == reference).all()
        assert (second[..., 0] == test).all()
        bits = zlib.decompress(base64.b64decode(data_of(report)["pixels"]["mask"]))
        bits = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
        assert (bits[: mask.size] == mask.ravel()).all()
        maps = maps_of(report)
        assert list(maps) == [
            m.name for m in imsim.METRICS.values() if m.map_function and m.name != "sam"
        ]
        for name, values in maps.items():
            local = imsim.METRICS[name].map_function(reference, test, mask=mask)
            np.testing.assert_array_equal(values, local.astype(np.float32))

    def test_links_to_the_largest_difference(self, report):
        links = [a["href"] for a in Elements(report).all("a") if "id" not in a]
        assert links[0] == "#7,11"  # column, row

    def test_masked_pixels_change_nothing_but_their_own_values(self, images):
        reference, test, mask = images
        other = test.copy()
        other[~mask] = 0
        one, two = (pages.pair_report(reference, t, mask=mask) for t in (test, other))
        table = re.compile(r"<tbody>.*</tbody>")
        assert table.findall(one) == table.findall(two)

    def test_pages_too_large_keep_the_pixels_that_differ_most(self, images, monkeypatch):
        reference, test, _ = images
        whole = maps_of(pages.pair_report(reference, test))
        monkeypatch.setattr(content, "MOST_PIXELS", 500)
        monkeypatch.setattr(content, "FRAME_BYTES", 0)
        monkeypatch.setattr(content, "MAP_BYTES", 8_000)
        monkeypatch.setattr(content, "MOST_BYTES", 90_000)
        text = pages.pair_report(reference, test)
        data = data_of(text)
        side = data["pixels"]["side"]
        assert side > 1
        first, second = images_of(text)
        shape = first.shape[:2]
        place = unpacked(data["pixels"]["place"], np.uint32, (*shape, 1))[..., 0].astype(int)
        rows, columns = (i * side for i in np.indices(shape))
        rows, columns = rows + place // side, columns + place % side
        assert (first[..., 0] == reference[rows, columns]).all()
        assert (second[..., 0] == test[rows, columns]).all()
        assert abs(second[11 // side, 7 // side].astype(int) - first[11 // side, 7 // side]) == (
            255 - int(reference[11, 7])
        )
        assert f"one pixel of each {side} × {side}" in text
        side = data["maps"]["side"]
        assert f"block of {side} × {side} pixels, with four digits" in text
        for name, values in maps_of(text).items():
            far = imsim.METRICS[name].map_dissimilarity(whole[name])
            worst = whole[name][blocks.worst(far, (side, side))]
            np.testing.assert_allclose(values, worst, rtol=2.0**-12)  # half of the last bit kept

    def test_colour_and_other_numbers_of_channels(self, images):
        reference, test, _ = images
        a, b = (np.stack([x, x // 2, 255 - x, x], axis=-1) for x in (reference, test))
        text = pages.pair_report(a[..., :3], b[..., :3], channel_axis=-1)
        assert (images_of(text)[0] == a[..., :3]).all()
        assert "picture-sam" in text
        assert "the mean of the 4 channels" in pages.pair_report(a, b, channel_axis=-1)

    @pytest.mark.parametrize("level", [0, 128, 255])
    def test_masked_pixels_are_striped_whatever_their_brightness(self, level):
        flat = np.full((48, 40), level, np.uint8)
        of_pair = layers.ImagePair(
            flat[..., None], flat[..., None], np.tri(48, 40, dtype=bool), None
        )
        shown = layers.image_layer(of_pair, "test").draw((1, 1))
        kept, masked = shown[of_pair.mask], shown[~of_pair.mask]
        assert (kept == level).all()
        assert int(masked.max()) - int(masked.min()) > 100

    def test_wide_types_keep_their_values(self, images):
        deep = images[0].astype(np.uint16) * 257
        text = pages.pair_report(deep, deep + 1, data_range=65535)
        assert data_of(text)["pixels"]["dtype"] == "uint16"
        for label in ("0 alike", "1.07e9", "different 4.29e9", "65535"):
            assert f"<span>{label}</span>" in text  # short enough to stand next to each other
        fine = images[0] / 300 - 0.3
        text = pages.pair_report(fine, fine, data_range=1)
        assert (images_of(text)[0][..., 0] == fine).all()
        assert "The images are equal at every pixel" in text
        assert "largest difference" not in text

    def test_nan_and_infinity_are_drawn_and_counted(self, images):
        fine = images[0] / 255
        hurt = fine.copy()
        hurt[3, 3], hurt[4, 4] = np.nan, np.inf
        text = pages.pair_report(fine, hurt, data_range=1)
        assert "<td>NaN</td>" in text
        assert "Of the test, 2 pixels are NaN or infinite, shown in magenta." in text
        assert "differ at 2 of 1920 pixels" in text
        assert 'href="#3,3"' in text
        of_pair = layers.ImagePair(fine[..., None], hurt[..., None], None, 1)
        for layer in (
            layers.image_layer(of_pair, "test"),
            layers.difference_layer(of_pair),
        ):
            for step in ((1, 1), (7, 9)):  # one such pixel marks its block
                magenta = (layer.draw(step) == colour.BROKEN).all(axis=-1)
                assert set(zip(*np.nonzero(magenta), strict=True)) == {
                    (3 // step[0], 3 // step[1]),
                    (4 // step[0], 4 // step[1]),
                }

    def test_equal_infinities_hide_no_other_channel(self):
        reference = np.full((6, 6, 3), 0.25)
        reference[:, :, 0] = np.inf
        test = reference.copy()
        test[2, 3, 1] = 0.75
        of_pair = layers.ImagePair(reference, test, None, 1)
        shown = layers.difference_layer(of_pair).draw((1, 1))
        assert not (shown == colour.BROKEN).all(axis=-1).any()
        usual = layers.ImagePair(reference[..., 1:], test[..., 1:], None, 1)
        np.testing.assert_array_equal(shown, layers.difference_layer(usual).draw((1, 1)))

    def test_masks_that_leave_nothing_or_little(self, images):
        reference, test, _ = images
        nothing = np.zeros(reference.shape, dtype=bool)
        with pytest.warns(imsim.EmptyMaskWarning):
            text = pages.pair_report(reference, test, mask=nothing)
        assert "There is nothing inside the mask" in text
        assert "0 of 1920 pixels (0%)" in text
        assert "equal" not in text[text.index("<body>") : text.index('<div class="readout">')]
        assert "largest difference" not in text
        few = nothing.copy()
        few[:20, 20:] = True
        text = pages.pair_report(reference, test, mask=few)
        assert "The images are equal at every pixel that the mask uses." in text
        assert "equal at every pixel." in pages.pair_report(test, test)

    def test_notes_and_names_stand_on_the_page(self, images):
        names = ("caf\udcc3\udca9.png", "\x1b[1m\n\udcff.png")
        notes = ["a.png: composited on white", "<b>: no data masked"]
        text = pages.pair_report(*images[:2], names=names, notes=notes)
        text.encode("utf-8")
        assert "<h1>\\x1b[1m\\n\\xff.png against café.png</h1>" in text
        assert "<li>a.png: composited on white</li><li>&lt;b&gt;: no data masked</li>" in text

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

    @pytest.mark.parametrize(
        ("dtype", "values", "data_range"),
        [("f2", (6e4, 0), 65535), ("f8", (1e300, 9), 65535), ("f8", (np.inf, -np.inf), 255)],
    )
    @pytest.mark.parametrize("draw", [pages.pair_report, pages.volume_report])
    def test_numbers_that_no_scale_reaches_are_drawn_without_a_warning(
        self, draw, dtype, values, data_range
    ):
        a = np.zeros((1, 9, 9, 2)[draw is pages.pair_report :], dtype)
        a[:] = values
        draw(a, a[..., ::-1], channel_axis=-1, data_range=data_range)

    def test_an_empty_mask_and_a_short_data_range(self):
        a = np.zeros((8, 9), np.uint8)
        with pytest.warns(imsim.EmptyMaskWarning):
            html = pages.pair_report(a, a, mask=a > 0, metrics=["se"], data_range=1)
        assert "the range of 8 bits" in html


class TestSizes:
    """What is true at every size, without a browser."""

    @pytest.mark.parametrize("shape", [(1, 1), (7, 5), (30, 23)])
    @pytest.mark.parametrize("step", [(1, 1), (2, 3), (8, 4), (40, 40)])
    @pytest.mark.parametrize("at_once", [2**20, 16])
    def test_blocks(self, shape, step, at_once, rng, monkeypatch):
        monkeypatch.setattr(blocks, "_AT_ONCE", at_once)
        far = rng.normal(size=shape)
        far[rng.random(shape) < 0.3] = np.nan
        image = rng.normal(size=(*shape, 2))
        mask = rng.random(shape) < 0.4
        row, column = blocks.worst(far, step)
        mean, inside = blocks.mean(image, mask, step), blocks.inside(mask, step)
        assert row.shape == blocks.shape(*shape, step)
        for i, j in np.ndindex(row.shape):
            here = tuple(slice(k * s, (k + 1) * s) for k, s in zip((i, j), step, strict=True))
            known = far[here][~np.isnan(far[here])]
            worst = known.max() if known.size else np.nan
            np.testing.assert_equal(far[row[i, j], column[i, j]], worst)
            used = mask[here] if mask[here].any() else np.ones_like(mask[here])
            np.testing.assert_allclose(mean[i, j], image[here][used].mean(axis=0))
            assert inside[i, j] == mask[here].any()

    @pytest.mark.parametrize("dtype", ["uint8", "float32"])
    def test_bands_of_rows_make_the_same_page(self, dtype, rng, monkeypatch):
        a, b = (rng.uniform(0, 255, (150, 200, 3)).astype(dtype) for _ in range(2))
        a[7, :40] = b[7, :40]
        if dtype == "float32":
            a[3, 4], b[20, 30], a[50:60] = np.nan, np.inf, 900
        options = {"data_range": 255, "channel_axis": -1, "metrics": ["se"]}
        options["mask"] = rng.random(a.shape[:2]) < 0.9
        whole = pages.pair_report(a, b, **options)
        monkeypatch.setattr(blocks, "_AT_ONCE", 3000)
        assert pages.pair_report(a, b, **options) == whole

    def test_a_picture_takes_little_more_than_its_image(self):
        """The numbers on the way take 100 bytes a pixel, those of a band at a time few."""
        image = np.zeros((3000, 1000, 3), np.uint8)
        pair = layers.ImagePair(image, image, None, None)
        layer = layers.image_layer(pair, "test")
        tracemalloc.start()
        try:
            layer.draw((1, 1))
            assert tracemalloc.get_traced_memory()[1] < 40 * 3000 * 1000
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize(
        "dtype", ["bool", "uint8", "int16", "uint32", "int64", "float16", "float32", "float64"]
    )
    @pytest.mark.parametrize("shape", [(1, 1, 1), (5, 4, 3)])
    def test_packed_numbers_come_back(self, dtype, shape, rng):
        a, b = rng.integers(0, 2**63, (2, *shape), dtype=np.uint64)
        a, b = (
            x.astype(dtype) if dtype[0] != "f" else rng.normal(size=shape).astype(dtype)
            for x in (a, b)
        )
        a, b = content.plain(a, b), content.plain(b, a)
        found = unpacked(content.packed(a), a.dtype, shape)
        assert (found == a).all()
        assert (unpacked(content.packed(b, a), b.dtype, shape, a) == b).all()

    def test_a_line_one_pixel_wide_is_in_every_picture(self):
        reference = np.full((216, 384, 3), 200, np.uint8)
        test = reference.copy()
        test[40:180, 201] = (255, 0, 0)
        options = {"mask": None, "data_range": None, "channel_axis": -1}
        of_pair = layers.ImagePair(reference, test, None, None)
        maps = layers.map_layers(of_pair, reference, test, options)
        assert {"se", "imed", "sam", "ssim"} <= {layer.name for layer in maps}
        for layer in (layers.difference_layer(of_pair), *maps):
            if layer.worst is None:
                continue  # grey of the same brightness is all that it sees
            shown = layer.draw((4, 4)).astype(int)
            contrast = np.abs(shown[12:43] - shown[0, 0]).max(axis=-1)
            assert (contrast[:, 50] > 60).all(), layer.name

    @pytest.mark.parametrize(
        ("pixels", "data_range", "low", "high", "what"),
        [
            (np.uint8([3, 9]), None, 0, 255, "the data range"),
            (np.uint8([3, 200]), 100, 0, 255, "8 bits"),
            (np.uint16([3, 4000]), 4095, 0, 4095, "the data range"),
            (np.uint16([3, 5000]), 4095, 3, 5000, "the smallest"),
            (np.int16([-1024, 0, 3071]), 4095, -1024, 3071, "the smallest"),
            (np.float32([-0.1, np.nan, np.inf, 1.2]), 1, -0.1, 1.2, "the smallest"),
            (np.float32([-9999, -9999, -9999, 0.1, 0.2, 0.3, 0.4]), 1, 0, 1, "the data range"),
            (np.float32([9e9, 9e9, -0.1, 0.2, 0.3]), 1, -0.1, 0.3, "that holds most"),
            (np.float32([-2, -2]), 1, -2, -1, "the smallest"),
            (np.float32([np.nan, np.nan]), 1, 0, 1, "the data range"),
        ],
    )
    def test_images_are_scaled_to_what_they_hold(self, pixels, data_range, low, high, what):
        image = pixels.reshape(1, -1, 1)
        of_pair = layers.ImagePair(image, image, None, data_range)
        assert of_pair.scale[:2] == pytest.approx((low, high))
        assert what in of_pair.scaled_to

    def test_what_lies_beyond_the_scale_is_said(self):
        test = np.full((16, 16), 0.25)
        test[:4], test[4:7] = -9999, np.linspace(0, 1, 48).reshape(3, 16)
        text = pages.pair_report(np.full((16, 16), 0.5), test, data_range=1)
        assert "Both images are shown from 0 to 1: the data range." in text
        assert "Of the test, 64 values lie below this scale (25.0%) and are black." in text
        assert "64 differences are larger than the data range" in text
        assert "64 values of se lie beyond the end of their scale." in text
        assert "The pixels span 10000, which is more." in text
        assert "Of the reference" not in text

    def test_full_hd_takes_at_most_8_mb(self):
        rng = np.random.default_rng(0)
        a, b = rng.integers(0, 256, (2, 1080, 1920, 3), dtype=np.uint8)  # nothing to compress
        of_pair = layers.ImagePair(a, b, None, None)
        local = rng.random((1080, 1920))
        noise = layers.map_layer(of_pair, "se", local, pages.Scale(0, 1))
        found = content.content_of(
            of_pair,
            [
                layers.image_layer(of_pair, "reference"),
                layers.image_layer(of_pair, "test"),
                layers.difference_layer(of_pair),
                *(replace(noise, name=f"{i}") for i in range(9)),
            ],
        )
        pictures = [*found.overviews, *found.details.values()]
        size = len(found.data) + sum(content.text_size(len(picture)) for picture in pictures)
        assert size + content.FRAME_BYTES <= 8_000_000
        assert found.pixel_side <= 3


@pytest.mark.parametrize("dtype", ["uint64", "int64", "float32", "float64", "float16"])
def test_a_range_that_is_lost_next_to_the_pixels(dtype):
    """A scale has a length even where the data range is less than the step of the type."""
    ends = np.finfo(dtype) if np.dtype(dtype).kind == "f" else np.iinfo(dtype)
    top = np.array(ends.max, dtype)
    image = np.full((6, 6), top)
    other = np.where(np.eye(6, dtype=bool), top // 2, image).astype(dtype)
    for pair in ((image, image), (image, other), (other, image)):
        assert "<h1>" in pages.pair_report(*pair, data_range=1.0, metrics=[])
