"""Checks of input, and their messages."""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection, Iterable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from imsim.errors import DataRangeError, OptionError, ShapeError
from imsim.inputs import on_common_namespace
from imsim.portable.arrays import (
    array_namespace,
    asks_for_gradient,
    broadcast,
    has_values,
    to_widest_float,
    where_valid,
    widest_float,
)
from imsim.typing import Array, ImageLike

SMALLEST, LARGEST = 1e-100, 1e100
"""Bounds of numbers that are squared."""
LONGEST_SIDE = 4096
"""Largest side of a window, a block or a hash."""
CHANNEL_HINT = "if one axis holds channels, name it, e.g. channel_axis=-1"


class Images(NamedTuple):
    """Two checked images, not yet copied or converted."""

    xp: ModuleType
    """The array namespace of both."""
    x: Array
    """Reference, shape (*batch, channels, height, width), in its own dtype."""
    y: Array
    """Test image, likewise."""
    dtype: Any
    """Arithmetic of the metrics: float32 or float64."""
    data_range: float | Array
    """Largest possible minus smallest possible value, a number, or an array without axes whose
    value is not known yet; NaN if unknown and not needed."""
    has_channels: bool
    """Whether the user named a channel axis."""

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The broadcast shape of the batch axes of the two images."""
        return broadcast(self.x.shape[:-3], self.y.shape[:-3])

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.x.shape[-2:]
        return height, width


def in_canonical_order(name: str, array: Array, channel_axis: int | None, xp: ModuleType) -> Array:
    """View an image as (*batch, channels, height, width)."""
    needed = 2 if channel_axis is None else 3
    shape = tuple(array.shape)
    if len(shape) < needed:
        axes = "(..., height, width)" if channel_axis is None else "height, width and channels"
        raise ShapeError(f"{name} has shape {shape}", f"expected at least {needed} axes, {axes}")
    if channel_axis is None:
        array = array[..., None, :, :]
    elif -len(shape) <= channel_axis < len(shape):
        order = list(range(len(shape)))
        order.insert(-2, order.pop(channel_axis))
        array = xp.permute_dims(array, tuple(order))
    else:
        raise ShapeError(
            f"channel_axis={channel_axis} does not exist in {name} of shape {shape}",
            f"expected {-len(shape)} to {len(shape) - 1}",
        )
    if 0 in shape:
        raise ShapeError(
            f"{name} has shape {shape}, which holds no pixels", "pass a non-empty image"
        )
    return array


def arithmetic_dtype(x: Array, y: Array, xp: ModuleType) -> Any:
    """Return float32 if both are float32 or narrower floats, else the widest float."""
    return xp.float32 if _is_narrow(x, xp) and _is_narrow(y, xp) else widest_float(x)


def _at_most_double(array: Array) -> Array:
    """Convert floats wider than float64; those beyond its range become infinite."""
    if array.dtype.kind != "f" or array.dtype.itemsize <= 8:
        return array
    with np.errstate(over="ignore"):
        return array.astype(np.float64)


def _is_narrow(array: Array, xp: ModuleType) -> bool:
    if xp is np:
        return bool(array.dtype.kind == "f" and array.dtype.itemsize <= 4)
    return bool(xp.isdtype(array.dtype, "real floating") and xp.finfo(array.dtype).bits <= 32)


def usual_data_range(dtypes: Collection[Any], xp: ModuleType = np) -> float | None:
    """Return the data range that the dtypes imply; None if they imply none."""
    first = None
    for dtype in dtypes:
        if first is not None and dtype != first:
            return None
        first = dtype
    return 255.0 if first == xp.uint8 else 1.0 if first == xp.bool else None


def check_data_range(
    value: Any, dtypes: Collection[Any], needed_by: str | None, xp: ModuleType
) -> float | Array:
    """Return the data range; its default comes from the dtypes, never from pixel values."""
    if value is None:
        usual = usual_data_range(dtypes, xp)
        if usual is not None or needed_by is None:
            return math.nan if usual is None else usual
        kinds = " and ".join(sorted({str(dtype) for dtype in dtypes}))
        raise DataRangeError(
            f"{needed_by} depends on data_range, which has no default for {kinds}: pass "
            "the largest possible minus the smallest possible value, "
            "e.g. data_range=4095 for a 12-bit detector, data_range=1 for floats in [0, 1]"
        )
    if type(value) is not float and getattr(value, "ndim", None) == 0:
        if not has_values(value) or (array_namespace(value) is xp and asks_for_gradient(value)):
            return _traced_data_range(value, xp)
        value = value.item()
    number: Any = value
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        if SMALLEST <= number <= LARGEST:
            return float(number)
        if 0 < number < math.inf:
            raise DataRangeError(
                f"data_range={value!r}",
                f"expected {SMALLEST:g} to {LARGEST:g}, beyond which its "
                "square is lost: rescale the images and the range",
            )
    raise DataRangeError(f"data_range={value!r}", "expected one positive finite number")


def _traced_data_range(value: Array, xp: ModuleType) -> Array:
    """Return a data range whose value is not known yet; where it is not allowed, it becomes NaN."""
    if array_namespace(value) is not xp:
        raise DataRangeError(
            "data_range is an array that has no value yet, of another library than the images",
            "pass a Python number, or images of its library",
        )
    value = to_widest_float(value)
    kind = xp.finfo(value.dtype)
    least, most = max(SMALLEST, float(kind.smallest_normal)), min(LARGEST, float(kind.max))
    return where_valid((value >= least) & (value <= most), value, math.nan)


def check_images(
    a: ImageLike,
    b: ImageLike,
    *,
    data_range: float | None,
    channel_axis: int | None,
    needed_by: str | None = None,
) -> Images:
    """Check two images and view them in canonical order."""
    if channel_axis is not None:
        check_integer("channel_axis", channel_axis)
    xp, (x, y) = on_common_namespace(a=a, b=b)
    if xp is np and max(x.dtype.itemsize, y.dtype.itemsize) > 8:
        x, y = _at_most_double(x), _at_most_double(y)
    if channel_axis is not None and channel_axis >= 0 and len(x.shape) != len(y.shape):
        raise ShapeError(
            f"channel_axis={channel_axis} names different axes of a {tuple(x.shape)} and "
            f"b {tuple(y.shape)}",
            "count it from the end, as a negative number",
        )
    images = Images(
        xp=xp,
        x=in_canonical_order("a", x, channel_axis, xp),
        y=in_canonical_order("b", y, channel_axis, xp),
        dtype=arithmetic_dtype(x, y, xp),
        data_range=check_data_range(data_range, (x.dtype, y.dtype), needed_by, xp),
        has_channels=channel_axis is not None,
    )
    if images.x.shape == images.y.shape:
        return images
    problem = None
    if images.x.shape[-3:] != images.y.shape[-3:]:
        problem = "height, width and channels must agree: crop or resample one"
    else:
        try:
            broadcast(images.x.shape[:-3], images.y.shape[:-3])
        except ValueError:
            problem = "their batch axes do not broadcast: make them equal, or 1"
    if problem:
        given = f"a has shape {tuple(x.shape)}, b has shape {tuple(y.shape)}"
        raise ShapeError(given, problem)
    return images


def element(array: Array, batch: tuple[int, ...], index: tuple[int, ...]) -> Array:
    """Return the image, or the mask, (channels, height, width), at a place in a batch of NumPy."""
    return np.asarray(np.broadcast_to(array, (*batch, *array.shape[-3:]))[index])


def check_frame(metric: str, frame: tuple[int, int], side: int, longer_side: int) -> None:
    """Refuse images that have fewer pixels on each side, or on the longer one, than needed."""
    height, width = frame
    if height < side or width < side or (height < longer_side and width < longer_side):
        needed = f"at least {side}x{max(side, longer_side)}"
        raise ShapeError(
            f"a and b are {height}x{width} pixels, {metric} needs {needed}: "
            "pass larger images or a smaller window",
            CHANNEL_HINT,
        )


def check_choice(name: str, value: Any, allowed: Collection[str | None]) -> None:
    """Refuse a value that is not among `allowed`."""
    if not (value is None or isinstance(value, str)) or value not in allowed:
        choices = ", ".join(map(repr, allowed))
        raise OptionError(f"{name}={value!r}", f"expected one of {choices}")


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
        raise OptionError(f"{name}={given!r}", f"expected a list of names, of {choices}")
    names = list(given)
    for one in names:
        if not isinstance(one, str) or one not in known:
            raise OptionError(f"{name} holds {one!r}", f"expected names of {choices}")
    return list(dict.fromkeys(names))


def check_flag(name: str, value: Any) -> None:
    """Refuse a value other than True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise OptionError(f"{name}={value!r}", "expected True or False")


def check_integer(name: str, value: Any, least: int | None = None, most: int | None = None) -> None:
    """Refuse a value that is no integer, or is outside `least` to `most`."""
    is_plain = type(value) is int  # the common case, faster than a test of abstract classes
    is_integer = is_plain or (isinstance(value, numbers.Integral) and not isinstance(value, bool))
    if not is_integer or (least is not None and value < least):
        bound = "" if least is None else f" of at least {least}"
        raise OptionError(f"{name}={value!r}", f"expected an integer{bound}")
    if most is not None and value > most:
        raise OptionError(f"{name}={value!r}", f"expected at most {most}")


def check_side(name: str, value: Any) -> None:
    """Refuse a number of pixels or cells a side that is below 2 or above `LONGEST_SIDE`."""
    check_integer(name, value, 2, LONGEST_SIDE)


def check_number(name: str, value: Any, least: float = 0.0, most: float = LARGEST) -> float:
    """Return a real number as a float; refuse other values, and numbers outside the bounds."""
    if type(value) is float and least <= value <= most:  # the common case
        return value
    if isinstance(value, np.generic):  # the bounds would overflow in a narrow dtype
        value = value.item()
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not least <= value <= most:
        raise OptionError(f"{name}={value!r}", f"expected a number from {least:g} to {most:g}")
    return float(value)


def check_between(name: str, value: Any, low: float = 0.0, high: float = 1.0) -> None:
    """Refuse a value that is no number strictly between `low` and `high`."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not low < value < high:
        raise OptionError(f"{name}={value!r}", f"expected a number between {low:g} and {high:g}")
