"""The home of input checks and of their messages."""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj, is_numpy_array

from imsim.errors import DataRangeError, DTypeError, OptionError, ShapeError
from imsim.portable.arrays import widest_float
from imsim.typing import Array, ImageLike

CHANNEL_HINT = "if one axis holds channels, name it, e.g. channel_axis=-1"


@dataclass(frozen=True, slots=True)
class Images:
    """Two checked images, not yet copied or converted."""

    xp: ModuleType
    """The array namespace of both."""
    x: Array
    """Reference, shape (*batch, channels, height, width), in its own dtype."""
    y: Array
    """Test image, likewise."""
    dtype: Any
    """Arithmetic of the metrics: float32 or float64."""
    data_range: float
    """Largest possible minus smallest possible value; NaN where not known and not needed."""
    has_channels: bool
    """Whether the user named a channel axis."""

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The broadcast shape of the batch axes of the two images."""
        return np.broadcast_shapes(self.x.shape[:-3], self.y.shape[:-3])

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.x.shape[-2:]
        return height, width


def as_array(name: str, value: ImageLike) -> Array:
    """Return an array-API array as it is, anything else as a NumPy array."""
    if isinstance(value, np.ma.MaskedArray):
        raise DTypeError(
            f"{name} is a numpy.ma.MaskedArray, whose mask means 'leave out'; "
            f"pass {name}.data, and mask=~numpy.ma.getmaskarray({name})"
        )
    if getattr(value, "mode", None) in ("P", "PA"):
        raise DTypeError(
            f"{name} is a palette image, whose pixels are indices and not intensities; "
            f"pass {name}.convert('L') or {name}.convert('RGB')"
        )
    if is_array_api_obj(value):
        return value
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ShapeError(
            f"{name} is not a rectangular array ({error}); every row must have the same length"
        ) from error


def on_common_namespace(**values: Any) -> tuple[ModuleType, list[Array]]:
    """Bring all to the one array namespace that is not NumPy's, if there is one."""
    arrays = {name: as_array(name, value) for name, value in values.items()}
    foreign = [v for v in arrays.values() if not is_numpy_array(v)]
    if not foreign:
        return array_namespace(next(iter(arrays.values()))), list(arrays.values())
    try:
        xp = array_namespace(*foreign)
    except TypeError as error:
        raise DTypeError(
            f"{' and '.join(arrays)} come from different array libraries; "
            "convert them to the same one"
        ) from error
    where = device(foreign[0])
    return xp, [xp.asarray(v, device=where) if is_numpy_array(v) else v for v in arrays.values()]


def check_real(name: str, array: Array, xp: ModuleType) -> None:
    """Refuse what is not a real number: complex, object, string, time, records."""
    if is_numpy_array(array):
        known = array.dtype.kind in "buif"
    else:
        known = xp.isdtype(array.dtype, ("bool", "integral", "real floating"))
    if not known:
        raise DTypeError(
            f"{name} has dtype {array.dtype}; expected booleans, integers or real floats: "
            "convert it, or take the part you want to compare (.real, abs())"
        )


def canonical(name: str, array: Array, channel_axis: int | None, xp: ModuleType) -> Array:
    """View an image as (*batch, channels, height, width)."""
    needed = 2 if channel_axis is None else 3
    shape = tuple(array.shape)
    if len(shape) < needed:
        axes = "(..., height, width)" if channel_axis is None else "height, width and channels"
        raise ShapeError(f"{name} has shape {shape}; expected at least {needed} axes, {axes}")
    if channel_axis is None:
        array = array[..., None, :, :]
    elif -len(shape) <= channel_axis < len(shape):
        array = xp.moveaxis(array, channel_axis, -3)
    else:
        raise ShapeError(
            f"channel_axis={channel_axis} does not exist in {name} of shape {shape}; "
            f"expected {-len(shape)} to {len(shape) - 1}"
        )
    if 0 in array.shape[-3:]:
        raise ShapeError(f"{name} has shape {shape}, which holds no pixels; pass a non-empty image")
    return array


def arithmetic(x: Array, y: Array, xp: ModuleType) -> Any:
    """float32 if both are float32 or narrower floats, else the widest float there is."""
    narrow = all(
        xp.isdtype(v.dtype, "real floating") and xp.finfo(v.dtype).bits <= 32 for v in (x, y)
    )
    return xp.float32 if narrow else widest_float(xp)


def check_data_range(
    value: Any, dtypes: Collection[Any], metric: str, *, needed: bool, xp: ModuleType
) -> float:
    """Return the data range; by default 255 for uint8 and 1 for bool, never from pixel values."""
    if value is None:
        if all(dtype == xp.uint8 for dtype in dtypes):
            return 255.0
        if all(dtype == xp.bool for dtype in dtypes):
            return 1.0
        if not needed:
            return math.nan
        kinds = " and ".join(sorted({str(dtype) for dtype in dtypes}))
        raise DataRangeError(
            f"{metric} depends on data_range, which has no default for {kinds}: pass data_range = "
            "largest possible minus smallest possible value (4095 for a 12-bit detector, "
            "1 for floats in [0, 1])"
        )
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        number = float(value)
        if 0 < number < math.inf:
            return number
    raise DataRangeError(f"data_range={value!r}; expected one positive finite number")


def check_images(
    a: ImageLike,
    b: ImageLike,
    *,
    data_range: float | None,
    channel_axis: int | None,
    metric: str,
    needs_data_range: bool,
) -> Images:
    """Check two images and view them in canonical order."""
    if channel_axis is not None:
        check_integer("channel_axis", channel_axis)
    xp, (x, y) = on_common_namespace(a=a, b=b)
    for name, array in (("a", x), ("b", y)):
        check_real(name, array, xp)
    if channel_axis is not None and channel_axis >= 0 and len(x.shape) != len(y.shape):
        raise ShapeError(
            f"channel_axis={channel_axis} names different axes of a {tuple(x.shape)} and "
            f"b {tuple(y.shape)}; count it from the end, as a negative number"
        )
    given = f"a has shape {tuple(x.shape)}, b has shape {tuple(y.shape)}"
    dtypes = (x.dtype, y.dtype)
    x, y = (canonical(name, v, channel_axis, xp) for name, v in (("a", x), ("b", y)))
    if x.shape[-3:] != y.shape[-3:]:
        raise ShapeError(f"{given}; height, width and channels must agree: crop or resample one")
    try:
        np.broadcast_shapes(x.shape[:-3], y.shape[:-3])
    except ValueError as error:
        raise ShapeError(f"{given}; their batch axes do not broadcast") from error
    return Images(
        xp=xp,
        x=x,
        y=y,
        dtype=arithmetic(x, y, xp),
        data_range=check_data_range(data_range, dtypes, metric, needed=needs_data_range, xp=xp),
        has_channels=channel_axis is not None,
    )


def check_size(metric: str, image: Array, least: int) -> None:
    """Refuse an image on which a window of `least` pixels a side does not fit."""
    height, width = image.shape[-2:]
    if min(height, width) < least:
        raise ShapeError(
            f"a and b are {height}x{width} pixels, {metric} needs at least {least}x{least}: "
            f"pass larger images or a smaller window; {CHANNEL_HINT}"
        )


def check_choice(name: str, value: Any, allowed: Collection[Any]) -> None:
    """Refuse a value that is not among `allowed`."""
    if isinstance(value, list | dict | set) or value not in allowed:
        choices = ", ".join(map(repr, allowed))
        raise OptionError(f"{name}={value!r}; expected one of {choices}")


def check_integer(name: str, value: Any, least: int | None = None) -> None:
    """Refuse what is not an integer, or smaller than `least`."""
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_integer or (least is not None and value < least):
        bound = "" if least is None else f" of at least {least}"
        raise OptionError(f"{name}={value!r}; expected an integer{bound}")


def check_number(name: str, value: Any, least: float, *, open_interval: bool = False) -> None:
    """Refuse what is not a finite real number of at least, or of more than, `least`."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not least <= value < math.inf or (open_interval and value == least):
        bound = "more than" if open_interval else "at least"
        raise OptionError(f"{name}={value!r}; expected a finite number of {bound} {least:g}")


def check_fraction(name: str, value: Any) -> None:
    """Refuse what is not a number from 0 to 1."""
    check_number(name, value, 0.0)
    if value > 1:
        raise OptionError(f"{name}={value!r}; expected a number from 0 to 1")
