"""From what users pass to arrays; what would lose its meaning on the way is refused by name."""

from __future__ import annotations

import base64
import contextlib
import functools
import math
import os
import struct
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj

from imsim.errors import DTypeError, ImsimError, MaskTypeError, ShapeError
from imsim.portable.arrays import array_namespace, device, is_compiling, is_tensor
from imsim.typing import Array, ImageLike

MOST_AXES = 32
"""Most axes of an array; beyond, array libraries differ in what they can do."""
MEMORY = 512 * 10**6
"""Bytes for images that are not in memory, unless told otherwise."""
PLAIN_MODES = ("1", "L", "I", "F", "I;16", "I;16L", "I;16B", "I;16N", "RGB")
"""Modes of PIL images whose pixels are intensities."""

FILLS = ("fill_value", "fillvalue", "nodata")
"""Attributes of arrays, of Zarr, h5py and rasterio, that may mark what is no data."""
LEFT_OUT = {"labels": 0, "mask": False}
"""Value of a pixel to leave out, by the argument: these take no mask."""

_USUAL_NUMBERS = "BHILQbhilqefd"
"""NumPy's characters of integers and floats of at most 8 bytes."""
_BARE = {int, float, bool, np.ndarray}
"""Types that hold bare numbers."""


def as_array(name: str, value: ImageLike) -> Array:
    """Return an array-API array as it is, anything else as a NumPy array."""
    if type(value) is not np.ndarray and not _is_plain_tensor(value):
        _check_size(name, value)
        check_meaning(name, value)
        if isinstance(value, np.ndarray) or not is_array_api_obj(value):
            value = _read(name, value)  # of subclasses, too, the bare array
    try:
        axes = len(value.shape)
    except Exception as error:  # torch's nested tensors are ragged
        raise ShapeError(f"{name} is a {kind(value)} without a shape ({error})") from error
    if axes > MOST_AXES:
        raise ShapeError(f"{name} has {axes} axes", f"expected at most {MOST_AXES}")
    return _with_plain_true(value) if type(value) is np.ndarray else value


def _check_size(name: str, value: Any) -> None:
    """Refuse what is not in memory and would fill it, where no blocks of it are read."""
    if isinstance(value, np.ndarray | list | tuple) or is_array_api_obj(value):
        return
    size = 0
    with contextlib.suppress(Exception):  # of a store that is closed, which is named when read
        size = math.prod(value.shape) * np.dtype(value.dtype).itemsize
    if size > MEMORY:
        raise ImsimError(
            f"{name} is a {kind(value)}, which takes {size / 1e6:,.0f} MB as a whole",
            f"pass numpy.asarray({name}) if that fits into memory, or a part of it",
        )


def _is_plain_tensor(value: Any) -> bool:
    """Whether a tensor of PyTorch says no more than its numbers.

    torch.compile traces such tensors only, and does not know what asks for their meaning.
    """
    if not is_tensor(value) or is_compiling():
        return is_tensor(value)
    is_named = any(getattr(value, "names", None) or ())  # a property that newer releases lack
    says_more = value.is_nested or is_named or hasattr(value, "get_mask") or _is_deleted(value)
    return not says_more and str(value.layout) == "torch.strided"


def _with_plain_true(array: Array) -> Array:
    """Make every True the byte 1.

    It is another byte in arrays from bilevel images of PIL, and in integers viewed as booleans.
    """
    if array.dtype.char != "?" or not array.size:
        return array
    numbers = array.view(np.uint8)
    # One number that stands for all, as in an array that only has the shape of another.
    seen = numbers if any(numbers.strides) else numbers.flat[0]
    return array if seen.max() <= 1 else numbers != 0


def check_meaning(
    name: str, value: Any, depth: int = 0, *, is_stored: bool = False, is_masked: bool = False
) -> None:
    """Refuse a container, or a list of them, that says more than its bare numbers.

    A stored container is not converted to an array for that: it would be read as a whole. Beside a
    mask it may mark what is no data, since the mask says which pixels count.
    """
    if isinstance(value, list | tuple):
        for i, part in enumerate(value if depth < MOST_AXES else ()):
            if type(part) not in _BARE:
                check_meaning(f"{name}[{i}]", part, depth + 1)
        return
    problem = _loss_of_meaning(name, value)
    if problem is None and not is_masked:
        problem = _unmasked_gaps(name, value, is_stored)
    becomes = hasattr(value, "__array__") and not (is_stored or is_array_api_obj(value))
    if problem is None and becomes:
        with contextlib.suppress(Exception):  # to be named where the object is read
            array = np.asanyarray(value)
            if isinstance(array, np.ma.MaskedArray):
                problem = f"a {kind(value)}, which becomes {_loss_of_meaning(name, array)}"
    if problem:
        raise _type_error(name)(f"{name} is {problem}")


def _read(name: str, value: Any) -> Array:
    """Convert lists, PIL images and whatever else says how it becomes an array."""
    try:
        found = np.asarray(value)
        if found.ndim or found.dtype.kind not in "OSU" or isinstance(value, np.ndarray):
            return found
    except MemoryError:
        raise
    except ValueError as error:
        raise ShapeError(
            f"{name} is not a rectangular array ({error})", "every row must have the same length"
        ) from error
    except TypeError as error:
        raise _type_error(name)(
            f"{name} is a {kind(value)}, which is no array ({error})", "pass an array of numbers"
        ) from error
    except Exception as error:  # a truncated file that PIL reads only now, for one
        raise ImsimError(
            f"{name} cannot be read: {kind(value)} raises {type(error).__name__} ({error})"
        ) from error
    is_path = isinstance(value, str | bytes | os.PathLike)
    remedy = f"numpy.asarray(PIL.Image.open({name}))" if is_path else "an array of numbers"
    remedy += " > 0" if is_path and _is_of_mask(name) else ""
    raise _type_error(name)(f"{name} is a {kind(value)}, which is no array", f"pass {remedy}")


def _is_of_mask(name: str) -> bool:
    return name.partition("[")[0] == "mask"


def _type_error(name: str) -> type[DTypeError]:
    """Return the error of what is no array of numbers; a mask's is a `MaskError`, too."""
    return MaskTypeError if _is_of_mask(name) else DTypeError


def kind(value: Any) -> str:
    """Name the type of a value, and where it comes from."""
    own = type(value)
    module = own.__module__.split(".")[0]
    return own.__name__ if module == "builtins" else f"{module}.{own.__name__}"


def _loss_of_meaning(name: str, value: Any) -> str | None:
    """Say what about a container its bare numbers would lose, and the remedy; None if nothing."""
    has = functools.partial(_attribute, value)
    what = f"a {kind(value)}"
    if has("no_such_attribute") is not None:  # Dask's Delayed has whatever it is asked for
        return f"{what}, which has no pixels before it is computed; pass {name}.compute()"
    if callable(has("keys")) and has("shape") is None:
        return f"{what}, which holds arrays by name; pass one of them, {name}['name']"
    if isinstance(value, np.ma.MaskedArray):
        left_out = f"{name}.data, and mask=~numpy.ma.getmaskarray({name}), all() of its channels"
        if name in LEFT_OUT:
            left_out = f"{name}.filled({LEFT_OUT[name]})"
        return f"a numpy.ma.MaskedArray, whose mask means 'leave out'; pass {left_out}"
    if has("mode") is not None and has("getbands") is not None:
        return _loss_of_colour(name, value)
    if callable(has("get_mask")):  # its data have no values outside that mask
        return f"{what} with a mask of its own; pass {name}.get_data(), and mask={name}.get_mask()"
    layout = str(has("layout"))
    if layout == "torch.jagged":
        return f"{what}, nested of others, which may differ in size; pass one of {name}.unbind()"
    is_sparse = has("todense") is not None or layout.startswith("torch.sparse")
    if is_sparse or (layout.startswith("torch.") and layout != "torch.strided"):
        remedy = "to_dense" if has("to_dense") is not None else "todense"
        laid_out = "a sparse array" if is_sparse else f"laid out as {layout}"
        return f"{what}, {laid_out}; pass {name}.{remedy}()"
    if _is_deleted(value):
        return f"{what} whose memory is freed, as that of a donated argument is; pass a copy"
    if isinstance(has("dims"), tuple):
        # Of the type: a lazy array would compute its values.
        bare = f"its {name}.values" if hasattr(type(value), "values") else "its bare numbers"
        return (
            f"{what}, whose axes have names, {listed(value.dims)}, and need not be in order; "
            f"transpose it to (..., height, width) and pass {bare}"
        )
    names = has("names")
    if isinstance(names, tuple) and any(isinstance(axis, str) for axis in names):
        return f"{what}, whose axes have names, {listed(names)}; pass {name}.rename(None)"
    if has("columns") is not None and has("dtypes") is not None:
        return f"{what}, whose rows and columns have labels; pass {name}.to_numpy()"
    if not (has("mask") is None or callable(value.mask)):
        return f"{what} with a mask of its own; pass its bare numbers, and mask=, True = use"
    for attribute in ("unit", "units"):
        unit = has(attribute)
        if unit is not None and not callable(unit):
            parts = [f"{name}.{p}" for p in ("value", "magnitude") if has(p) is not None]
            return (
                f"{what} in units of {str(unit) or 'one'}, which would be lost; convert both to "
                f"one unit and pass bare numbers, {[*parts, f'numpy.asarray({name})'][0]}"
            )
    return None


def _unmasked_gaps(name: str, value: Any, is_stored: bool) -> str | None:
    """Say which value of a container marks what is no data, and the remedy; None if there is none.

    Only `is_stored` arrays are taken with a mask: of others, the bare numbers are needed, too.
    """
    marks = [(key, _attribute(value, key)) for key in FILLS]
    known = [(key, fill) for key, fill in marks if not _is_zero(fill)]
    for attribute, fill in [*known, *_marks(_attribute(value, "attrs"))]:
        if fill is None or callable(fill) or (attribute in FILLS[:2] and _is_default(fill)):
            continue
        bare = f"{name}.data" if _attribute(value, "data") is not None else f"{name}[...]"
        numbers = "" if is_stored else f"its bare numbers, e.g. {bare}, and "
        return (
            f"a {kind(value)} whose {attribute}, {fill}, marks what is no data; pass {numbers}"
            "mask= of the pixels that are"
        )
    return None


def _attribute(value: Any, attribute: str) -> Any:
    """Return an attribute that is there and says something, else None."""
    try:
        return getattr(value, attribute, None)
    except Exception:  # a property that needs what this object lacks
        return None


def _marks(attributes: Any) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of an array of Zarr or HDF5 that mark what is no data, but for NaN."""
    for key in ("_FillValue", "missing_value", "nodata"):
        try:
            given = None if attributes is None else attributes.get(key)
            if isinstance(given, str) and len(given) == 12:  # as xarray writes floats into Zarr
                given = struct.unpack("<d", base64.b64decode(given, validate=True))[0]
            is_nan = bool(np.isnan(np.asarray(given, np.float64)).all())
        except Exception:  # no mapping, a store that is closed, or a text
            continue
        if not is_nan:
            yield key, given


def _is_deleted(value: Any) -> bool:
    """Whether the memory of an array of JAX, or of a tensor of the host, is gone."""
    try:
        if is_tensor(value):
            is_empty = value.is_cpu and value.numel() > 0 and value.untyped_storage().nbytes() == 0
            return bool(is_empty and not value._is_zerotensor())
        return value.is_deleted() is True
    except Exception:  # no such method, or the array is only traced
        return False


def _loss_of_colour(name: str, image: Any) -> str | None:
    """Say why the pixels of a PIL image are no intensities."""
    mode, plain = image.mode, name
    has_alpha = mode in ("RGBA", "LA", "RGBa", "La")
    is_transparent = has_alpha or getattr(image, "has_transparency_data", False)
    if is_transparent and not has_alpha:  # which a conversion to RGB would take along
        plain = f"{name}.convert('RGBA')"
    elif mode == "La":  # which Pillow converts to LA only
        plain = f"{name}.convert('LA')"
    rgb = f"{plain}.convert('RGB')"
    if name == "mask" and (is_transparent or mode not in PLAIN_MODES):
        what = "transparency" if is_transparent else "colours"
        return (
            f"a PIL image with {what} (mode {mode}), and a mask says yes or no; pass "
            f"numpy.asarray({rgb}.convert('L')) > 0, or another level"
        )
    if mode in ("P", "PA"):
        return (
            "a palette image, whose pixels are indices and not intensities; "
            f"pass {plain}.convert('L') or {rgb}"
        )
    if is_transparent:
        return (
            f"a PIL image with transparency (mode {mode}), and alpha is no colour; lay it on a "
            f"background, e.g. with PIL.Image.alpha_composite, or drop alpha: pass {rgb}"
        )
    if mode not in PLAIN_MODES:
        return f"a PIL image of mode {mode}, whose channels are no intensities; pass {rgb}"
    return None


def listed(names: Any) -> str:
    """Write names in brackets."""
    return "(" + ", ".join(map(str, names)) + ")"


def _is_default(fill: Any) -> bool:
    """Whether a fill value stands for what a store does not hold, and marks no pixel by itself."""
    return isinstance(fill, bool | np.bool_ | str | bytes | np.void) or (
        isinstance(fill, float | np.floating) and bool(fill != fill)
    )


def _is_zero(value: Any) -> bool:
    """Whether a fill value is the default of stores such as Zarr."""
    try:
        return bool(value == 0)
    except Exception:
        return False


def is_usual(value: Any) -> bool:
    """Whether a value is what most are, which the checks here would let pass as it is."""
    return (
        type(value) is np.ndarray and value.dtype.char in _USUAL_NUMBERS and value.ndim <= MOST_AXES
    )


def on_common_namespace(**values: Any) -> tuple[ModuleType, list[Array]]:
    """Check arrays, and convert NumPy's to the library of the others, if there are any."""
    arrays = {name: as_array(name, value) for name, value in values.items()}
    for name, array in arrays.items():
        check_real(name, array)
    foreign = {name: v for name, v in arrays.items() if not isinstance(v, np.ndarray)}
    if not foreign:
        return np, list(arrays.values())
    both = " and ".join(arrays)
    try:
        xp = array_namespace(*foreign.values())
    except TypeError as error:
        raise DTypeError(
            f"{both} come from different array libraries", "convert them to the same one"
        ) from error
    # A traced array of JAX has no device yet.
    where = [place for place in map(device, foreign.values()) if place is not None] or [None]
    if any(one != where[0] for one in where):
        raise DTypeError(f"{both} are on different devices, {listed(where)}", "move one")
    return xp, [
        to_namespace(name, v, xp, where[0]) if isinstance(v, np.ndarray) else v
        for name, v in arrays.items()
    ]


def to_namespace(name: str, array: Array, xp: ModuleType, where: Any) -> Array:
    """Convert a copy of a NumPy array of any layout and byte order.

    PyTorch would share its memory, and not notice what changes it before a backward pass.
    """
    plain = np.array(array, array.dtype.newbyteorder("="), order="C")
    try:
        with np.errstate(over="ignore"):  # told below
            found = xp.asarray(plain, device=where)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DTypeError(
            f"{name} has dtype {array.dtype}, which {xp.__name__} does not take: convert it"
        ) from error
    _check_same_size(name, plain, found, xp)
    return found


def _check_same_size(name: str, array: Array, found: Array, xp: ModuleType) -> None:
    """Refuse numbers that do not fit: JAX holds 32 bits, unless it is asked for 64."""
    if str(found.dtype) == str(array.dtype) or array.dtype.kind not in "iuf" or array.size == 0:
        return
    largest = (xp.finfo if array.dtype.kind == "f" else xp.iinfo)(found.dtype)
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    low, high = (finite.min(), finite.max()) if finite.size else (0, 0)
    if low < largest.min or high > largest.max:
        raise DTypeError(
            f"{name} has dtype {array.dtype} and pixels from {low} to {high}, "
            f"beyond the {found.dtype} of {xp.__name__}",
            "convert it to floats of that size, or let JAX use 64 bits (jax_enable_x64)",
        )


def to_numpy(name: str, array: Array) -> Array:
    """Convert an array of another library that lies in the memory of the host."""
    try:
        return np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _type_error(name)(
            f"{name} is a {kind(array)}, unlike the images, and does not convert ({error})",
            "convert it to the library of the images",
        ) from error


def is_of_numpy_itself(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype is no addition to NumPy's, such as the 8-bit floats that come with JAX."""
    return dtype.isbuiltin != 2


def check_real(name: str, array: Array) -> None:
    """Refuse what is not a real number: complex, object, string, time, records."""
    if isinstance(array, np.ndarray):
        known = array.dtype.kind in "buif" and is_of_numpy_itself(array.dtype)
    else:
        kinds = ("bool", "integral", "real floating")
        try:
            known = array_namespace(array).isdtype(array.dtype, kinds)
            known = known and not str(array.dtype).endswith("_x2")  # two numbers in one
        except TypeError:  # JAX's keys of random numbers
            known = False
    if not known:
        is_complex = "complex" in str(array.dtype)
        part = ", or take the part you want to compare (.real, abs())" if is_complex else ""
        raise _type_error(name)(
            f"{name} has dtype {array.dtype}",
            f"expected booleans, integers or real floats: convert it{part}",
        )
