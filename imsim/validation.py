"""Checks of input, and their messages: one file, since most of them call others."""

from __future__ import annotations

import math
import numbers
import re
import sys
from collections.abc import Collection, Iterable
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from imsim import errors
from imsim.inputs import MEMORY, as_array, check_real, is_usual, on_common_namespace
from imsim.portable import arrays
from imsim.portable.pair import Pair
from imsim.portable.windows import lengths_of
from imsim.typing import Array, ImageLike

SMALLEST, LARGEST = 1e-100, 1e100
"""Bounds of numbers that are squared."""
_USUAL_RANGES = {"B": 255.0, "?": 1.0}
"""Data ranges that NumPy's dtypes imply, by their characters."""
LOST_DIGITS = 1e-12
"""Share of the span of all pixels that may be rounded off in silence."""
LONGEST_SIDE = 4096
"""Largest side of a window or a block, in pixels, and of a hash, in bits."""
AXES = ("depth", "height", "width")
"""The axes of a volume; those of an image are the last two."""
CHANNEL_HINT = "if one axis holds channels, name it, e.g. channel_axis=-1"
SLICES_HINT = "imsim.by_slice scores the slices of a volume"
MEMORY_HINT = "pass images that fit into memory, e.g. numpy.asarray(a), or a larger memory="


Images: TypeAlias = Pair
"""A pair that is checked, and not yet copied or converted: its images have dtypes of their own."""


def in_canonical_order(
    name: str, array: Array, channel_axis: int | None, xp: ModuleType, ndim: int = 2
) -> Array:
    """View an image as (*batch, channels, height, width); planes of a volume below each other."""
    shape = tuple(array.shape)
    if channel_axis is None and len(shape) == ndim == 2 and 0 not in shape:  # the common case
        return array[None, ...]
    sides = AXES[-ndim:]
    needed = ndim if channel_axis is None else ndim + 1
    if len(shape) < needed:
        axes = ", ".join(sides)
        axes = f"(..., {axes})" if channel_axis is None else f"{axes} and channels"
        raise errors.ShapeError(
            f"{name} has shape {shape}", f"expected at least {needed} axes, {axes}"
        )
    if channel_axis is None:
        array = array[(..., None, *[slice(None)] * ndim)]
    elif -len(shape) <= channel_axis < len(shape):
        order = list(range(len(shape)))
        order.insert(-ndim, order.pop(channel_axis))
        array = xp.permute_dims(array, tuple(order))
    else:
        raise errors.ShapeError(
            f"channel_axis={channel_axis} does not exist in {name} of shape {shape}",
            f"expected {-len(shape)} to {len(shape) - 1}",
        )
    if 0 in shape:
        raise errors.ShapeError(
            f"{name} has shape {shape}, which holds no pixels", "pass a non-empty image"
        )
    return array if ndim == 2 else arrays.stacked(array)


def arithmetic_dtype(x: Array, y: Array, xp: ModuleType) -> Any:
    """Return float32 if both are float32 or narrower floats, else the widest float."""
    return xp.float32 if _is_narrow(x, xp) and _is_narrow(y, xp) else arrays.widest_float(x)


def _at_most_double(x: Array, y: Array) -> tuple[Array, Array]:
    """Convert floats wider than float64; those beyond its range become infinite."""
    if not any(v.dtype.kind == "f" and v.dtype.itemsize > 8 for v in (x, y)):
        return x, y
    with np.errstate(over="ignore"):
        found = x.astype(np.float64), y.astype(np.float64)
    if not errors.is_silent(errors.PrecisionWarning):
        _warn_of_digits((x, y), found)
    return found


def _warn_of_digits(given: tuple[Array, Array], converted: tuple[Array, Array]) -> None:
    """Warn if float64 rounds the differences of the pixels by more than their last digits."""
    kept = [np.isfinite(v) for v in converted]
    wide = np.concatenate([v[k].astype(np.longdouble) for v, k in zip(given, kept, strict=True)])
    narrow = np.concatenate([v[k] for v, k in zip(converted, kept, strict=True)])
    if wide.size and np.abs(wide - narrow).max() > LOST_DIGITS * np.ptp(wide) > 0:
        errors.warn(
            "float64, in which images are scored, holds fewer than 12 digits of the contrast of "
            f"these {max(v.dtype for v in given)}; subtract from both what they have in common",
            errors.PrecisionWarning,
        )


def _is_narrow(array: Array, xp: ModuleType) -> bool:
    if xp is np:
        return bool(array.dtype.kind == "f" and array.dtype.itemsize <= 4)
    return bool(xp.isdtype(array.dtype, "real floating") and xp.finfo(array.dtype).bits <= 32)


def usual_data_range(dtypes: Collection[Any], xp: ModuleType = np) -> float | None:
    """Return the data range that the dtypes imply; None if they imply none."""
    if xp is np:  # to compare dtypes by their characters is faster
        kinds = {dtype.char for dtype in dtypes}
        return _USUAL_RANGES.get(kinds.pop()) if len(kinds) == 1 else None
    first = None
    for dtype in dtypes:
        if first is not None and dtype != first:
            return None
        first = dtype
    return 255.0 if first == xp.uint8 else 1.0 if first == xp.bool else None


def capacity(kind: np.dtype[Any]) -> float:
    """Return the largest difference of two pixels of a type."""
    if kind.kind == "f":
        return math.inf
    return float(2 ** bits_of(kind) - 1)


def bits_of(kind: np.dtype[Any]) -> int:
    """Return the bits of a pixel of a type."""
    return 1 if kind.kind == "b" else 8 * kind.itemsize


def check_capacity(data_range: float | None, kind: np.dtype[Any]) -> None:
    """Refuse a data range that pixels of a type do not span: by it, all images are alike."""
    if data_range is not None and data_range > capacity(kind):
        raise errors.DataRangeError(
            f"data_range={data_range:g} is beyond what {kind} pixels hold",
            f"pass at most {capacity(kind):.0f}",
        )


def check_data_range(
    value: Any, dtypes: Collection[Any], needed_by: str | None, xp: ModuleType
) -> float | Array:
    """Return the data range; its default comes from the dtypes, never from pixel values."""
    if value is None:
        usual = usual_data_range(dtypes, xp)
        if usual is not None or needed_by is None:
            return math.nan if usual is None else usual
        kinds = " and ".join(sorted({str(dtype) for dtype in dtypes}))
        raise errors.DataRangeError(
            f"{needed_by} depends on data_range, which has no default for {kinds}: pass "
            "the largest possible minus the smallest possible value, "
            "e.g. data_range=4095 for a 12-bit detector, data_range=1 for floats in [0, 1]"
        )
    axes = None if type(value) is float else getattr(value, "ndim", None)
    is_span = getattr(getattr(value, "dtype", None), "kind", None) == "m"
    # Dask's Delayed has attributes that compare as nothing.
    if isinstance(value, np.ma.MaskedArray) and axes == 0 and value.mask:
        value = np.ma.masked  # refused below: the number behind the mask is none
    elif isinstance(axes, int) and axes == 0 and not is_span:
        if not arrays.is_of_numpy(value):
            value = as_array("data_range", value)
            check_real("data_range", value)
        if not arrays.has_values(value):
            return _traced_data_range(value, xp)
        given, value = (
            value,
            value.item() if hasattr(value, "item") else arrays.to_host(value).item(),
        )
        if arrays.array_namespace(given) is xp and arrays.asks_for_gradient(given):
            check_data_range(value, dtypes, needed_by, xp)
            return _traced_data_range(given, xp)
    if _is_number(value):
        if SMALLEST <= value <= LARGEST:
            return float(value)
        if 0 < value < math.inf:
            raise errors.DataRangeError(
                f"data_range={value!r}",
                f"expected {SMALLEST:g} to {LARGEST:g}, beyond which its "
                "square is lost: rescale the images and the range",
            )
    raise errors.DataRangeError(
        f"data_range={value!r}", "expected one positive finite number, an int or a float"
    )


def _traced_data_range(value: Array, xp: ModuleType) -> Array:
    """Return a data range whose value is not known yet; where it is not allowed, it becomes NaN."""
    if arrays.array_namespace(value) is not xp:
        raise errors.DataRangeError(
            "data_range is an array that has no value yet, of another library than the images",
            "pass a Python number, or images of its library",
        )
    value = arrays.to_widest_float(value)
    kind = xp.finfo(value.dtype)
    least, most = max(SMALLEST, float(kind.smallest_normal)), min(LARGEST, float(kind.max))
    return arrays.where_valid((value >= least) & (value <= most), value, math.nan)


def _check_device(data_range: float | Array, image: Array) -> None:
    """Refuse a data range on another device; the libraries bring a number of the host to any."""
    if isinstance(data_range, float):
        return
    own, other = (arrays.device(v) for v in (data_range, image))
    if None not in (own, other) and own != other and "cpu" not in str(own).lower():
        raise errors.DataRangeError(
            f"data_range is on {own}, the images on {other}", "pass a number"
        )


def check_channel_axis(channel_axis: Any) -> None:
    """Refuse a channel axis that is neither None nor an integer."""
    if isinstance(channel_axis, str):
        raise errors.OptionError(
            f"channel_axis={channel_axis!r}",
            "expected an integer: the axes of arrays of xarray alone have names",
        )
    if channel_axis is not None:
        check_integer("channel_axis", channel_axis)


def check_images(
    a: ImageLike,
    b: ImageLike,
    *,
    data_range: float | None,
    channel_axis: int | None,
    needed_by: str | None = None,
    ndim: int = 2,
) -> Images:
    """Check two images, or volumes, and view them in canonical order."""
    ndim = check_ndim(ndim)
    if is_usual(a) and is_usual(b):
        xp, x, y = np, a, b
        if channel_axis is None and a.ndim == ndim == 2 and a.shape == b.shape and a.size:
            known = check_data_range(data_range, (a.dtype, b.dtype), needed_by, np)
            return Images(np, a[None], b[None], arithmetic_dtype(a, b, np), known, False)
    else:
        xp, (x, y) = on_common_namespace(a=a, b=b)
        if xp is np:
            x, y = _at_most_double(x, y)
        elif arrays.is_tensor(x) and xp.uint64 in (x.dtype, y.dtype):
            raise errors.DTypeError(
                f"{'ba'[x.dtype == xp.uint64]} has dtype torch.uint64, which PyTorch barely knows",
                "convert it, e.g. to torch.int64 or torch.float64",
            )
        elif arrays.is_tensor(x):  # nor does it with floats of 8 bits
            x, y = (v.float() if v.is_floating_point() and v.itemsize == 1 else v for v in (x, y))
    check_channel_axis(channel_axis)
    if channel_axis is not None and channel_axis >= 0 and len(x.shape) != len(y.shape):
        raise errors.ShapeError(
            f"channel_axis={channel_axis} names different axes of a {tuple(x.shape)} and "
            f"b {tuple(y.shape)}",
            "count it from the end, as a negative number",
        )
    images = Images(
        xp,
        in_canonical_order("a", x, channel_axis, xp, ndim),
        in_canonical_order("b", y, channel_axis, xp, ndim),
        arithmetic_dtype(x, y, xp),
        check_data_range(data_range, (x.dtype, y.dtype), needed_by, xp),
        has_channels=channel_axis is not None,
        depth=None if ndim == 2 else _depth(x, channel_axis),
    )
    _check_device(images.data_range, x)
    if arrays.is_of_jax(x) and not all(isinstance(n, int) for n in images.x.shape[-3:]):
        raise errors.ShapeError(
            f"a has shape {tuple(x.shape)}, with symbols for more than axes of the batch",
            "export it for images of one size",
        )
    same_depth = ndim == 2 or images.depth == _depth(y, channel_axis)
    if images.x.shape == images.y.shape and same_depth:
        return images
    problem = None
    if images.x.shape[-3:] != images.y.shape[-3:] or not same_depth:
        problem = f"{', '.join(AXES[-ndim:])} and channels must agree: crop or resample one"
    else:
        try:
            arrays.broadcast(images.x.shape[:-3], images.y.shape[:-3])
        except ValueError:
            problem = "their batch axes do not broadcast: make them equal, or 1"
    if problem:
        given = f"a has shape {tuple(x.shape)}, b has shape {tuple(y.shape)}"
        raise errors.ShapeError(given, problem)
    return images


def element(array: Array, batch: tuple[int, ...], index: tuple[int, ...]) -> Array:
    """Return the image, or the mask, (channels, height, width), at a place in a batch."""
    return np.asarray(np.broadcast_to(array, (*batch, *array.shape[-3:]))[index])


def _depth(array: Array, channel_axis: int | None) -> int:
    """Length of the first of the three axes of volumes."""
    axes = list(array.shape)
    if channel_axis is not None:
        del axes[channel_axis]
    return int(axes[-3])


def check_frame(
    metric: str, sides: tuple[int, ...], least: tuple[int, ...] | int, longer_side: int
) -> None:
    """Refuse images that have fewer pixels on each side, or on the longest one, than needed."""
    if not isinstance(least, tuple):
        if min(sides) >= least and max(sides) >= longer_side:  # the common case
            return
        least = (least,) * len(sides)
    short = any(side < some for side, some in zip(sides, least, strict=True))
    if short or max(sides) < longer_side:
        needed = "x".join(map(str, least))
        needed += f", and {longer_side} along its longest side" if longer_side > max(least) else ""
        given = "x".join(map(str, sides))
        raise errors.ShapeError(
            f"the images are {given} pixels, {metric} needs at least {needed}",
            f"pass larger images or a smaller window; {CHANNEL_HINT}",
        )


def warn_of_width(images: Images) -> None:
    """Warn of a batch whose width looks like channels; `compare` does so once for all metrics."""
    is_batch = images.x.ndim + images.y.ndim > 6
    if images.has_channels or images.depth is not None or not is_batch:
        return
    height, width = images.frame
    if width in (3, 4) and height > width:
        errors.warn(
            f"the last axis, of {width}, was taken for the width of images in a batch; "
            "if it holds channels, name it: channel_axis=-1",
            errors.ChannelAxisWarning,
        )


def check_ndim(ndim: Any) -> int:
    """Return the number of axes of an image or of a volume; refuse other numbers."""
    if type(ndim) is not int or ndim not in (2, 3):
        check_integer("ndim", ndim)
        if ndim not in (2, 3):
            raise errors.OptionError(f"ndim={ndim!r}", "expected 2, for images, or 3, for volumes")
    return int(ndim)


def check_spacing(spacing: Any, ndim: int) -> tuple[float, ...] | None:
    """Return the distances of pixels along each axis; refuse all but `ndim` positive numbers."""
    if spacing is None:
        return None
    axes = ", ".join(f"d{axis}" for axis in "zyx"[-ndim:])
    remedy = f"expected {ndim} positive numbers, ({axes}), for ndim={ndim}"
    try:
        numbers_given = tuple(spacing)
    except TypeError as error:
        raise errors.OptionError(f"spacing={spacing!r}", remedy) from error
    if len(numbers_given) != ndim:
        raise errors.OptionError(f"spacing={spacing!r}", remedy)
    return tuple(check_number("spacing", one, SMALLEST, LARGEST) for one in numbers_given)


def check_window_size(
    name: str, value: Any, spacing: tuple[float, ...] | None, ndim: int
) -> tuple[int, ...]:
    """Return the pixels along each axis of a window, whose size is in the unit of the spacing."""
    if spacing is None:
        check_side(name, value)
        return (int(value),) * ndim
    size = check_number(name, value, SMALLEST, LARGEST)
    lengths = lengths_of(size, spacing) if size <= LONGEST_SIDE * min(spacing) else (0,)
    if max(lengths) < 2:
        raise errors.OptionError(
            f"{name}={value!r} with spacing={spacing}",
            f"expected 2 to {LONGEST_SIDE} pixels along the axis of the smallest spacing",
        )
    return lengths


def check_choice(name: str, value: Any, allowed: Collection[str | None]) -> None:
    """Refuse a value that is not among `allowed`."""
    if not (value is None or isinstance(value, str)) or value not in allowed:
        choices = ", ".join(map(repr, allowed))
        raise errors.OptionError(f"{name}={value!r}", f"expected one of {choices}")


def check_names(
    name: str,
    given: Iterable[str] | None,
    known: Collection[str],
    default: Collection[str] | None = None,
) -> list[str]:
    """Return the names, each once; for None the default, or else all. Refuse unknown names."""
    if given is None:
        return list(known if default is None else default)
    choices = ", ".join(map(repr, known))
    if isinstance(given, str) or not isinstance(given, Iterable) or getattr(given, "ndim", 1) == 0:
        raise errors.OptionError(f"{name}={given!r}", f"expected a list of names, of {choices}")
    names, plain = list(given), {one: one for one in known}  # no NumPy strings in results
    for one in names:
        if not isinstance(one, str) or one not in plain:
            raise errors.OptionError(f"{name} holds {one!r}", f"expected names of {choices}")
    return list(dict.fromkeys(plain[one] for one in names))


def check_flag(name: str, value: Any) -> None:
    """Refuse a value other than True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise errors.OptionError(f"{name}={value!r}", "expected True or False")


def _is_number(value: Any, kind: type = numbers.Real) -> bool:
    """Whether a value is one: booleans and, in NumPy, spans of time pass for integers."""
    return isinstance(value, kind) and not isinstance(value, bool | np.timedelta64)


def check_integer(name: str, value: Any, least: int | None = None, most: int | None = None) -> None:
    """Refuse a value that is no integer, or is outside `least` to `most`."""
    is_integer = type(value) is int or _is_number(value, numbers.Integral)  # the first is faster
    if not is_integer or (least is not None and value < least):
        bound = "" if least is None else f" of at least {least}"
        raise errors.OptionError(f"{name}={value!r}", f"expected an integer{bound}")
    if most is not None and value > most:
        raise errors.OptionError(f"{name}={value!r}", f"expected at most {most}")


def check_side(name: str, value: Any) -> None:
    """Refuse a number of pixels or cells a side that is below 2 or above `LONGEST_SIDE`."""
    check_integer(name, value, 2, LONGEST_SIDE)


def check_number(name: str, value: Any, least: float = 0.0, most: float = LARGEST) -> float:
    """Return a real number as a float; refuse other values, and numbers outside the bounds."""
    if type(value) is float and least <= value <= most:  # the common case
        return value
    is_number = _is_number(value)
    if isinstance(value, np.generic):  # the bounds would overflow in a narrow dtype
        value = value.item()
    holds = not isinstance(value, int) or abs(value) <= sys.float_info.max
    if is_number and holds and least <= value <= most:
        return float(value)
    raise errors.OptionError(f"{name}={value!r}", f"expected a number from {least:g} to {most:g}")


def check_between(name: str, value: Any) -> None:
    """Refuse a value that is no number strictly between 0 and 1."""
    if not _is_number(value) or not 0 < value < 1:
        raise errors.OptionError(f"{name}={value!r}", "expected a number between 0 and 1")


LEAST_MEMORY = 10**5
"""Fewer bytes hold no block."""
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def check_memory(value: Any) -> int:
    """Return bytes, given as a number or as a text such as "512 MB"."""
    if value is None:
        return MEMORY
    found: Any = value
    if isinstance(value, str):
        parts = re.fullmatch(r"\s*(\d{1,30}(?:\.\d+)?)\s*([A-Za-z]*)\s*", value)
        unit = None if parts is None else _UNITS.get(parts[2].upper())
        found = None if parts is None or unit is None else int(float(parts[1]) * unit)
    if not _is_number(found, numbers.Integral) or found < LEAST_MEMORY:
        raise errors.OptionError(
            f"memory={value!r}",
            f"expected at least {LEAST_MEMORY} bytes, as an integer or a text such as '512 MB'",
        )
    return int(found)
