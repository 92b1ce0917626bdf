"""regions(): the table, labels and images of any form, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from label_images import CROPPED, assert_rows, label_image, pair, regions
from sampling import FRAME, textured_pair

import imsim

# The table


def test_labels_pixels_and_boxes(rng: np.random.Generator) -> None:
    from skimage.measure import regionprops_table

    labels = np.abs(label_image("boxes", rng, *FRAME))
    found = imsim.regions(*pair(rng), labels, ["se"])
    want = regionprops_table(labels, properties=("label", "num_pixels", "bbox"))
    columns = ["label", "pixels", "bbox-0", "bbox-1", "bbox-2", "bbox-3"]
    assert list(found) == [*columns, "se"]
    for column, name in zip(columns, want, strict=True):
        np.testing.assert_array_equal(found[column], want[name])


def test_a_dict_of_columns(rng: np.random.Generator) -> None:
    found = imsim.regions(*pair(rng), np.eye(*FRAME, dtype=int) + 1, ["rmse", "se"])
    columns = found.to_dict()
    assert type(columns) is dict
    assert columns.keys() == set(found)
    assert {len(column) for column in columns.values()} == {2}


def test_it_prints_as_a_table() -> None:
    a = np.arange(144.0).reshape(12, 12)
    b = a.copy()
    b[0, 0] = np.nan
    labels = np.zeros((12, 12), int)
    labels[0, :2], labels[6:, 3:], labels[5, 5] = 3, 8, 12
    found = imsim.regions(a, b, labels, ["gmsd", "rmse"])
    assert str(found).splitlines()[-1] == f"gmsd      skipped: {found.skipped['gmsd']}"
    with pytest.warns(imsim.EmptyMaskWarning):
        found = imsim.regions(a, b, labels, ["rmse", "gmsd"], data_range=255)
    lines = str(found).splitlines()
    assert [line.split() for line in lines[:2]] == [
        ["label", "pixels", "box", "rmse", "gmsd"],
        ["3", "2", "0:1,", "0:2", "nan", "nan"],
    ]
    assert lines[4] == "rmse      NaN for label 3: NaN or infinite pixels inside"
    assert lines[6].startswith("gmsd      NaN for label 12: no position could be scored")
    reasons = {why: of.tolist() for why, of in found.missing["gmsd"].items()}
    assert list(reasons.values()) == [[3], [12]]
    assert "3 labels" in repr(found)


def test_a_long_table_is_cut(rng: np.random.Generator) -> None:
    labels = np.arange(FRAME[0] * FRAME[1]).reshape(FRAME)
    found = imsim.regions(*pair(rng), labels, ["se"])
    lines = str(found).splitlines()
    assert len(lines) == 1 + 20 + 1 + 1
    assert lines[11].split() == ["..."] * 4
    assert lines[-1] == f"{labels.size - 1} labels"
    assert len(found["se"]) == labels.size - 1


def test_what_cannot_be_scored_is_said_once(rng: np.random.Generator) -> None:
    a, b = pair(rng)
    labels = np.zeros(FRAME, int)
    labels[::6, ::6] = np.arange(1, 1 + labels[::6, ::6].size).reshape(labels[::6, ::6].shape)
    with pytest.warns(imsim.EmptyMaskWarning) as said:
        found = imsim.regions(a, b, labels, ["gmsd", "rmse"])
    assert len(said) == 1
    assert "gmsd for labels 1, 2, 3, 4, 5 and" in str(said[0].message)
    assert np.isnan(found["gmsd"]).all()
    assert np.isfinite(found["rmse"]).all()
    ((why, of),) = found.missing["gmsd"].items()
    assert "too few pixels" in why
    np.testing.assert_array_equal(of, found.labels)


def test_metrics_that_cannot_run_are_named(rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *FRAME)
    found = imsim.regions(a, b, np.ones(FRAME, int))
    needing = {m.name for m in imsim.METRICS.values() if m.needs_data_range}
    assert set(found.skipped) == needing
    assert set(found.scores) == set(imsim.METRICS) - needing
    a, b = a[:9, :10], b[:9, :10]
    small = imsim.regions(a, b, np.ones(a.shape, int), ["ssim", "se"], data_range=255)
    want = imsim.compare(a, b, ["ssim"], data_range=255).skipped
    assert small.skipped == want


def test_a_score_that_is_undefined() -> None:
    """SRE of two channels, where one scores infinity and the other one minus infinity."""
    a, b = np.zeros((2, 12, 12, 2))
    b[..., 1] = 1
    found = imsim.regions(a, b, np.ones((12, 12), int), ["sre"], channel_axis=-1)
    assert np.isnan(found["sre"]).all()
    assert list(found.missing["sre"]) == ["undefined for these pixels"]


def test_no_region_at_all(rng: np.random.Generator) -> None:
    with pytest.warns(imsim.EmptyMaskWarning, match="labels holds no region"):
        found = imsim.regions(*pair(rng), np.zeros(FRAME, int))
    assert {len(column) for column in found.to_dict().values()} == {0}
    assert set(imsim.METRICS) <= set(found)
    assert str(found).split()[:3] == ["label", "pixels", "box"]


def test_values_beyond_the_range_of_some_region(rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *FRAME)
    labels = np.zeros(FRAME, int)
    labels[4:20, 4:20] = 3
    with pytest.warns(imsim.DataRangeWarning, match="data_range=1"):
        imsim.regions(a, b, labels, ["psnr"], data_range=1)
    a[0, 0] = 1e6  # the background
    imsim.regions(a, b, labels, ["psnr"], data_range=255)


# Labels of any form


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", ">i2", "u2", "i4", ">u4", "i8", "u8", "<i8"])
def test_labels_of_any_integers(rng: np.random.Generator, kind: str) -> None:
    a, b = pair(rng)
    plain = label_image("boxes", rng, *FRAME)
    for labels in (
        plain.astype(kind),
        np.asfortranarray(plain.astype(kind)),
        np.repeat(plain.astype(kind), 2, axis=1)[:, ::2],
        np.flip(np.flip(plain, 0).astype(kind), 0),
    ):
        labels.setflags(write=False)
        found = regions(a, b, labels, ["se", "ssim"])
        assert found.labels.dtype == np.dtype(kind).newbyteorder("=")
        assert_rows(found, a, b, plain)


@pytest.mark.parametrize(
    "values",
    [
        np.array([0, 2**40, -(2**40), 5]),
        np.array([0, 2**64 - 1, 2**63, 1], np.uint64),
        np.array([0, 127, -128, -1], np.int8),
        np.array([0, 2**63 - 1, -(2**63), -(2**63) + 1]),
        np.array([7, 9, 100, 8]),
        np.array([0, 65_000, 66_000, 300]),
        np.array([-30_000, 40_000, 0, 1]),
        np.array([65_535, 65_536, 0, 3], np.uint32),
        np.array([0, -3, -2, -1]),
    ],
)
def test_labels_of_any_values(rng: np.random.Generator, values: np.ndarray) -> None:
    """Only 0 is background."""
    a, b = pair(rng)
    labels = values[rng.integers(0, 4, (4, 4)).repeat(8, axis=0).repeat(8, axis=1)]
    labels = labels[: FRAME[0], : FRAME[1]]
    labels = np.pad(labels, [(0, n - m) for n, m in zip(FRAME, labels.shape, strict=True)])
    labels = labels.astype(values.dtype)
    found = imsim.regions(a, b, labels, ["se"])
    np.testing.assert_array_equal(found.labels, np.setdiff1d(labels, [0]))
    assert found.labels.dtype == values.dtype
    assert_rows(found, a, b, labels)


def test_lists_and_pictures(rng: np.random.Generator) -> None:
    from PIL import Image

    a, b = pair(rng)
    labels = label_image("boxes", rng, *FRAME)
    want = imsim.regions(a, b, labels, ["se"])
    palette = Image.fromarray(labels.astype(np.uint8))
    palette.putpalette(list(range(255, -1, -1)) * 3)
    assert palette.mode == "P"
    forms = (labels.tolist(), Image.fromarray(labels.astype(np.int32)), palette)
    for form in forms:
        found = imsim.regions(a, b, form, ["se"])
        np.testing.assert_array_equal(found.labels, want.labels)
        np.testing.assert_array_equal(found["se"], want["se"])


@pytest.mark.usefixtures("kernels")
def test_images_of_any_layout(rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *FRAME, colour=True)
    labels = label_image("cells", rng, *FRAME)
    options = {"data_range": 255}
    want = regions(a, b, labels, CROPPED, channel_axis=-1, **options)
    first = np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0)
    for pair_, axis in ((first, 0), ((np.asfortranarray(a), b[::-1][::-1]), 2)):
        found = regions(*pair_, labels, CROPPED, channel_axis=axis, **options)
        for name in CROPPED:
            np.testing.assert_array_equal(found[name], want[name])


@pytest.mark.parametrize("dtype", ["bool", "int64", "float16", ">f4", "uint32"])
def test_images_of_other_dtypes(rng: np.random.Generator, dtype: str) -> None:
    a, b = (v.astype(dtype) if dtype != "bool" else v > 120 for v in textured_pair(rng, *FRAME))
    labels = label_image("cells", rng, *FRAME)
    options = {"data_range": 1 if dtype == "bool" else 255}
    # Of bytes with so small a range, SSIM is a kernel of its own, of seconds.
    found = regions(a, b, labels, [n for n in CROPPED if n != "ssim" or dtype != "bool"], **options)
    if dtype in {"float16", ">f4"}:  # whose arithmetic is that of float32
        a, b = (v.astype(np.float32) for v in (a, b))
    assert_rows(found, a, b, labels, **options)


def test_nothing_is_modified(rng: np.random.Generator) -> None:
    given_ = (*pair(rng), label_image("boxes", rng, *FRAME).astype(np.int32))
    kept = [v.copy() for v in given_]
    regions(*given_)
    for v, copy in zip(given_, kept, strict=True):
        np.testing.assert_array_equal(v, copy)
        assert v.flags.writeable


# What is refused


BAD_LABELS: list[tuple[Any, type[Exception], str]] = [
    (np.ones(FRAME), imsim.DTypeError, "labels has dtype float64; expected integers"),
    (np.ones(FRAME, bool), imsim.DTypeError, "bool.*astype.*skimage.measure.label"),
    (np.ones(FRAME, complex), imsim.DTypeError, "complex"),
    (np.ones((5, 6), int), imsim.ShapeError, r"labels has shape \(5, 6\)"),
    (np.ones((1, *FRAME), int), imsim.ShapeError, "labels has shape"),
    (np.ones((*FRAME, 1), int), imsim.ShapeError, "labels has shape"),
    (np.ones((FRAME[0], FRAME[1] + 1), int), imsim.ShapeError, "labels has shape"),
    (np.ma.masked_array(np.ones(FRAME, int)), imsim.DTypeError, r"labels.filled\(0\)$"),
    (None, imsim.ImsimError, "labels"),
    ("cells.png", imsim.ImsimError, "labels"),
    (3, imsim.ShapeError, "labels"),
]


@pytest.mark.parametrize(("labels", "kind", "message"), BAD_LABELS)
def test_labels_that_are_none(
    rng: np.random.Generator, labels: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        imsim.regions(*pair(rng), labels)


def test_batches_are_refused(rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *FRAME, batch=(2,))
    labels = np.ones(FRAME, int)
    for images in ((a, b), (a[0], b), (a, b[0]), (a[:1], b[:1])):
        with pytest.raises(imsim.ShapeError, match=r"one pair.*ndim=3.*channel_axis=-1"):
            imsim.regions(*images, labels)


@pytest.mark.parametrize("ndim", [1, 4, 2.0, True, None, "2"])
def test_other_numbers_of_axes_are_refused(rng: np.random.Generator, ndim: Any) -> None:
    with pytest.raises(imsim.OptionError, match="ndim="):
        imsim.regions(*pair(rng), np.ones(FRAME, int), ndim=ndim)


def test_what_other_functions_refuse(rng: np.random.Generator) -> None:
    a, b = pair(rng)
    labels = np.ones(FRAME, int)
    with pytest.raises(imsim.OptionError, match="metrics"):
        imsim.regions(a, b, labels, "ssim")
    with pytest.raises(imsim.OptionError, match="'sim'"):
        imsim.regions(a, b, labels, ["sim"])
    with pytest.raises(imsim.ShapeError, match="a has shape"):
        imsim.regions(a, b[:-1], labels)
    with pytest.raises(imsim.DataRangeError):
        imsim.regions(a, b, labels, data_range=-1)


def test_arrays_of_other_libraries_are_refused(rng: np.random.Generator) -> None:
    xp = pytest.importorskip("array_api_strict")
    a, b = (xp.asarray(v) for v in pair(rng))
    labels = np.ones(FRAME, int)
    with pytest.raises(imsim.DTypeError, match=r"regions takes NumPy arrays.*numpy.asarray"):
        imsim.regions(a, b, labels)
    with pytest.raises(imsim.DTypeError, match="labels is no NumPy array"):
        imsim.regions(*pair(rng), xp.asarray(labels))
