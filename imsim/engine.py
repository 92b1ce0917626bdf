"""The only dispatcher: from checked input, through a metric's formula, to a score or a map."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_numpy_array, is_numpy_namespace

from imsim.errors import DTypeError, EmptyMaskWarning
from imsim.masks import check_mask
from imsim.portable.arrays import keep, pad
from imsim.portable.pair import Local, Pair, Scores
from imsim.typing import Array, ImageLike, MaskLike, Score
from imsim.validation import Images, check_images


def score(
    metric: str,
    formula: Callable[..., Scores],
    a: ImageLike,
    b: ImageLike,
    *,
    mask: MaskLike | None,
    data_range: float | None,
    channel_axis: int | None,
    needs_data_range: bool = False,
    numpy_only: bool = False,
    **options: Any,
) -> Score:
    """Score two images, or batches of images, by a formula."""
    pair, batch = prepare(
        metric,
        a,
        b,
        mask=mask,
        data_range=data_range,
        channel_axis=channel_axis,
        needs_data_range=needs_data_range,
        numpy_only=numpy_only,
    )
    xp = pair.xp
    with np.errstate(all="ignore"):
        values, scored = formula(pair, **options)
        values = xp.broadcast_to(values, (*batch, values.shape[-1]))
        some = xp.broadcast_to(scored > 0, values.shape)
        values = xp.mean(keep(some, values, np.nan), axis=-1)
        values = keep(xp.broadcast_to(_all_finite(pair), batch), values, np.nan)
    _warn_if_empty(metric, xp.all(some, axis=-1))
    return values[()] if is_numpy_namespace(xp) else values


def score_map(
    metric: str,
    formula: Callable[..., Local],
    a: ImageLike,
    b: ImageLike,
    *,
    mask: MaskLike | None,
    data_range: float | None,
    channel_axis: int | None,
    needs_data_range: bool = False,
    **options: Any,
) -> Array:
    """Compute a formula's local values and lay them out on the grid of the input."""
    pair, batch = prepare(
        metric,
        a,
        b,
        mask=mask,
        data_range=data_range,
        channel_axis=channel_axis,
        needs_data_range=needs_data_range,
    )
    xp = pair.xp
    frame = pair.x.shape[-2:]
    with np.errstate(all="ignore"):
        local = formula(pair, **options)
        values = keep(local.valid, local.values, np.nan)
        scored = None if local.valid is None else xp.any(local.valid, axis=(-1, -2, -3))
        values = xp.astype(xp.mean(values, axis=-3), pair.x.dtype, copy=False)
    for axis in (-2, -1):
        values = xp.repeat(values, local.step, axis=axis) if local.step > 1 else values
        missing = frame[axis] - local.margin - values.shape[axis]
        values = pad(values, local.margin, max(missing, 0), axis, np.nan)
        values = values[..., : frame[0], :] if axis == -2 else values[..., : frame[1]]
    if scored is not None:
        _warn_if_empty(metric, scored)
    return xp.asarray(xp.broadcast_to(values, (*batch, *frame)), copy=True)


def prepare(
    metric: str,
    a: ImageLike,
    b: ImageLike,
    *,
    mask: MaskLike | None,
    data_range: float | None,
    channel_axis: int | None,
    needs_data_range: bool = False,
    numpy_only: bool = False,
) -> tuple[Pair, tuple[int, ...]]:
    """Check the input; convert it to floats, with zeros outside the mask."""
    images = check_images(
        a,
        b,
        data_range=data_range,
        channel_axis=channel_axis,
        metric=metric,
        needs_data_range=needs_data_range,
    )
    if numpy_only and not is_numpy_array(images.x):
        raise DTypeError(f"{metric} takes NumPy arrays only; convert a and b with numpy.asarray")
    valid = check_mask(mask, images)
    pair = Pair(
        xp=images.xp,
        x=keep(valid, _as_float(images.x, images)),
        y=keep(valid, _as_float(images.y, images)),
        mask=valid,
        data_range=images.data_range,
        has_channels=images.has_channels,
    )
    mask_batch = () if valid is None else valid.shape[:-3]
    return pair, np.broadcast_shapes(images.batch_shape, mask_batch)


def _as_float(image: Array, images: Images) -> Array:
    """Convert to the arithmetic; NumPy arrays to C order, on which the order of sums depends."""
    if is_numpy_array(image):
        return np.ascontiguousarray(image, dtype=images.dtype)
    return images.xp.astype(image, images.dtype, copy=False)


def _all_finite(pair: Pair) -> Array:
    """Whether both images are finite wherever the mask allows."""
    xp = pair.xp
    x, y = (xp.all(xp.isfinite(v), axis=(-3, -2, -1)) for v in (pair.x, pair.y))
    return x & y


def _warn_if_empty(metric: str, scored: Array) -> None:
    """Warn when some element of the batch had nothing to score; tracers cannot tell."""
    try:
        complete = bool(array_namespace(scored).all(scored))
    except TypeError:  # an array that is only traced has no values yet
        return
    if not complete:
        warnings.warn(
            f"{metric}: nothing inside the mask could be scored, the score is NaN; "
            "widen the mask, or leave such images out",
            EmptyMaskWarning,
            stacklevel=4,
        )
