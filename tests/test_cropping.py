"""Where crops lie, along any number of axes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import regionprops
from strategies import SEEDS

from imsim.kernels.regions.crops import crops_of, masks_of
from imsim.region_scores import batches, crops_around, in_three_axes, survey
from imsim.registry import Crop


def labels_of(seed: int, axes: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = np.zeros(rng.integers(1, 40 if axes == 2 else 20, axes), np.int32)
    for label in range(1, int(rng.integers(2, 15))):
        begin = rng.integers(0, labels.shape)
        end = begin + rng.integers(1, 12, axes)
        labels[tuple(map(slice, begin, end))] = label
    return labels


@given(SEEDS, st.sampled_from((2, 3)))
def test_labels_pixels_and_boxes(seed: int, axes: int) -> None:
    labels = labels_of(seed, axes)
    found, want = survey(labels), regionprops(labels)
    np.testing.assert_array_equal(found.labels, [one.label for one in want])
    np.testing.assert_array_equal(found.pixels, [one.num_pixels for one in want])
    boxes = [np.reshape(one.bbox, (2, axes)).T for one in want]
    np.testing.assert_array_equal(found.boxes, np.reshape(boxes, (-1, axes, 2)))


@given(
    seed=SEEDS,
    axes=st.sampled_from((2, 3)),
    halo=st.integers(0, 6),
    step=st.sampled_from((1, 2, 4)),
    least=st.sampled_from((1, 3, 11)),
)
def test_crops_hold_their_regions(seed: int, axes: int, halo: int, step: int, least: int) -> None:
    labels = labels_of(seed, axes)
    frame, found = np.array(labels.shape), survey(labels)
    crops = crops_around(found.boxes, labels.shape, Crop(halo, step))
    seen: list[int] = []
    for batch in batches(crops, labels.shape, step, least):
        sides = np.array(batch.shape[3 - axes :])
        assert math.prod(batch.shape) == sides.prod()
        begin = batch.starts[:, 3 - axes :]
        end = begin + sides
        assert (begin >= 0).all()
        assert (end <= frame).all()
        assert (begin % step == 0).all()
        assert (sides >= np.minimum(frame, least)).all()
        boxes = found.boxes[batch.rows]
        assert (begin <= np.maximum(boxes[..., 0] - halo, 0)).all()
        assert (end >= np.minimum(boxes[..., 1] + halo, frame)).all()
        seen += batch.rows.tolist()
    assert sorted(seen) == list(range(len(found.labels)))


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("dtype", ["bool", "uint8", ">u2", "float32", "int64", "float64"])
def test_copies_of_crops(axes: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    labels = labels_of(5, axes)
    image = rng.uniform(0, 200, (2, *labels.shape)).astype(dtype)
    codes, pixels = in_three_axes(labels), in_three_axes(image, channels=True)
    found = survey(labels)
    crops = crops_around(found.boxes, labels.shape, Crop(2))
    for batch in batches(crops, labels.shape, 1, 1):
        masks = masks_of(codes, found.wanted[batch.rows], batch.starts, batch.shape)
        copies = crops_of(pixels, masks, batch.starts)
        assert copies.dtype == image.dtype
        for k, row in enumerate(batch.rows):
            part = tuple(map(slice, batch.starts[k], batch.starts[k] + batch.shape))
            inside = codes[part] == found.labels[row]
            np.testing.assert_array_equal(masks[k], inside)
            np.testing.assert_array_equal(copies[k], np.where(inside, pixels[:, *part], 0))
