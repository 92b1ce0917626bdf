"""The page on two volumes: what it says, what it draws, and how large it is."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

import imsim
from imsim import pages
from imsim.pages import volume, voxels

RNG = np.random.default_rng(8)
A = RNG.integers(90, 110, (12, 15, 18)).astype(np.uint8)
B = A.copy()
B[4:6, 8, 9:11] = 250
AWAY = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], float)
"""Depth to the head, height to the front, width to the right: all are drawn from their ends."""


@pytest.fixture(scope="module")
def report():
    return pages.volume_report(A, B, names=("a.nii", "<b>.nii"), notes=["of the way here"])


def data_of(html):
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html)
    return json.loads(text)


def test_says_what_it_must(report):
    local = imsim.ssim_map(A, B, ndim=3)
    place = np.unravel_index(np.nanargmin(local), local.shape)
    where = ", ".join(f"{axis} {at}" for axis, at in zip(volume.AXES, place, strict=True))
    assert f"The cuts meet where SSIM is least: {where}." in report
    assert f"There the reference is {A[place]} and the test {B[place]}" in report
    assert "The volumes differ at 4 of 3240 voxels (0.1%), by at most " in report
    assert "18 × 15 × 12 voxels, uint8, grey, data range 255." in report
    assert "&lt;b&gt;.nii against a.nii" in report
    assert "<b>" not in report
    assert "<li>of the way here</li>" in report
    assert "Scores of all voxels" in report
    assert "is defined for images only" in report
    assert report.count("<img") == 3 * 4 + 3 + 3  # cuts, strips and scales
    assert data_of(report)["place"] == list(map(int, place))


def test_the_cuts_go_through_the_worst_place(report):
    place = data_of(report)["place"]
    pictures = re.findall(r'<img src="data:image/png;base64,([^"]*)" alt="a.nii, ', report)
    for axis, content in enumerate(pictures):
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("L"))
        assert np.array_equal(shown, A.take(place[axis], axis))
    assert len(pictures) == 3


def test_needs_no_network(report):
    assert "http://" not in report
    assert "https://" not in report
    assert "style=" not in report
    assert not re.findall(r"\son\w+=", report)


def test_indices_are_those_of_the_file_wherever_it_is_drawn_from():
    plain = data_of(pages.volume_report(A, B))
    turned = pages.volume_report(A, B, directions=AWAY)
    data = data_of(turned)
    assert data["flips"] == [True, True, True]
    assert data["place"] == [n - 1 - at for n, at in zip(A.shape, plain["place"], strict=True)]
    depth, height, width = plain["place"]
    assert f"depth {depth}, height {height}, width {width}" in turned
    for letter in "HAR":
        assert f">{letter}</span>" in turned


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ((2, 1, 0), ["axial", "coronal", "sagittal"]),
        ((0, 1, 2), ["sagittal", "coronal", "axial"]),
        ((1, 2, 0), ["coronal", "axial", "sagittal"]),
        ((0, 0, 1), ["across the depth", "across the height", "across the width"]),
    ],
)
def test_planes_have_the_names_of_their_directions(order, names):
    assert [cut.name for cut in volume._cuts(list(order))] == names


def test_equal_volumes_and_empty_masks():
    html = pages.volume_report(A, A)
    assert "The volumes are equal at every voxel." in html
    assert "The cuts meet in the middle: depth 6, height 7, width 9." in html
    mask = np.zeros(A.shape, bool)
    with pytest.warns(imsim.EmptyMaskWarning):
        html = pages.volume_report(A, B, mask=mask)
    assert "no voxel was compared" in html


def test_the_difference_tells_the_place_where_ssim_cannot_run():
    html = pages.volume_report(A[:5], B[:5])
    width = 9 + int(A[4, 8, 10] < A[4, 8, 9])
    assert f"meet where the difference is largest: depth 4, height 8, width {width}." in html
    assert "SSIM has no map of these volumes" in html
    assert data_of(html)["layers"].keys() == {"reference", "test", "difference"}


def test_what_is_masked_is_no_worst_place():
    mask = np.ones(A.shape, bool)
    mask[4:6, 8] = False
    test = B.astype(np.float64)
    test[7, 7, 7] = A[7, 7, 7] + 5
    html = pages.volume_report(A[:10].astype(np.float64), test[:10], mask=mask[:10], data_range=255)
    assert "is largest: depth 7, height 7, width 7." in html
    assert "differ at 1 of" in html
    assert data_of(html)["mask"] is not None


def test_nan_and_infinity():
    a, b = A.astype(float), B.astype(float)
    b[3, 2, 1] = np.nan
    html = pages.volume_report(a, b, data_range=255)
    assert "At 1 of them a value is NaN or infinite." in html
    assert "NaN: " in html


def test_wrong_input_is_refused():
    with pytest.raises(imsim.ShapeError, match="a report shows one pair of volumes"):
        pages.volume_report(A[0], B[0], scores=imsim.compare(A, B, ["se"], ndim=3))
    with pytest.raises(imsim.DataRangeError, match="largest possible minus the smallest"):
        pages.volume_report(A.astype(float), B.astype(float))


@pytest.mark.parametrize("step", [(1, 1, 1), (2, 1, 3), (5, 4, 7), (12, 15, 18)])
def test_blocks_by_brute_force(step):
    mask = RNG.random(A.shape) < 0.4
    mask[:4, :4, :7] = False
    local = np.where(RNG.random(A.shape) < 0.2, np.nan, RNG.random(A.shape))
    reference, test = (image[..., None] for image in (A, B))
    pair = voxels.VolumePair(reference, test, mask, None, local, np.diag([-1.0, 1.0, -1.0]))
    assert np.array_equal(pair.mask, mask[:, ::-1])
    found = voxels.small(pair, step)
    signed = pair.test[..., 0].astype(float) - pair.reference[..., 0]
    shape = found.used.shape
    assert shape == tuple(-(-n // s) for n, s in zip(A.shape, step, strict=True))
    for at in np.ndindex(shape):
        block = tuple(slice(i * s, (i + 1) * s) for i, s in zip(at, step, strict=True))
        used = pair.mask[block]
        assert found.used[at] == used.any()
        values = pair.reference[block][..., 0]
        want = values[used].mean() if used.any() else values.mean()
        if step != (1, 1, 1):
            assert found.reference[at][0] == pytest.approx(want)
        inside = np.where(used, signed[block], 0).ravel()
        assert abs(found.difference[at]) == np.abs(inside).max()
        assert found.difference[at] in inside
        known = pair.local[block]
        assert np.isnan(found.local[at]) == np.isnan(known).all()
        if not np.isnan(known).all():
            assert found.local[at] == np.nanmin(known)


def test_a_page_keeps_its_size_and_says_how(monkeypatch):
    monkeypatch.setattr(voxels, "CUT_BYTES", 6000)
    monkeypatch.setattr(voxels, "COPY_BYTES", 6000)
    shape = (16, 40, 44)
    a, b = (RNG.integers(0, 256, shape).astype(float) for _ in range(2))
    html = pages.volume_report(a, b, data_range=255, spacing=(2, 1, 1))
    depth, height, width = data_of(html)["step"]
    assert height == width > depth
    assert f"show blocks of {width} × {height} × {depth} voxels" in html
    assert re.search(r"The cuts through the worst place show blocks of \d+ × \d+ voxels", html)
    assert len(data_of(html)["layers"]["reference"]["values"]) < 6000
    assert len(html) < 60_000
