"""Labelled arrays: from xarray's dimensions to axes in order, and from the result back to names.

Nothing here imports xarray unless an array of it came in.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from imsim import errors
from imsim.inputs import as_array, check_meaning, kind, listed, to_numpy
from imsim.portable.arrays import is_tensor
from imsim.scenes.attributes import check_places, grid_mapping_name, unit_of, without_data
from imsim.scenes.sources import is_stored
from imsim.typing import Array, ImageLike, MaskLike
from imsim.validation import check_channel_axis, check_ndim

Function = Callable[..., Any]
"""``function(a, b, mask=, weights=, channel_axis=)`` of arrays whose axes are in order; returns an
array, or several as a list, or by name as a dict."""
Describe = Callable[[str, Sequence[Any]], tuple[str, dict[str, Any]]]
"""``describe(key, images)`` returns the name and the attributes of a labelled result, from its key,
which is empty for the only one, and the two labelled images."""


class Labelled(NamedTuple):
    """A call on labelled arrays, apart from the arrays."""

    function: Function
    describe: Describe
    ndim: int
    dims: Sequence[Hashable] | None
    channel_axis: Hashable | None
    """The name of a dimension, or the place of an axis."""
    is_map: bool = False


class Axes(NamedTuple):
    """The dimensions of a call by their part."""

    batch: tuple[Hashable, ...]
    channel: tuple[Hashable, ...]
    """One, or none."""
    image: tuple[Hashable, ...]


def are_labelled(*values: Any) -> bool:
    """Whether any value is a DataArray or a Dataset of xarray."""
    xarray = sys.modules.get("xarray")
    return xarray is not None and any(
        isinstance(value, xarray.DataArray | xarray.Dataset) for value in values
    )


def check_unnamed(dims: Any) -> None:
    """Refuse names of axes for arrays that have none."""
    if dims is not None:
        raise errors.OptionError(
            f"dims={dims!r}, but neither a nor b is an array of xarray",
            "leave it out: the axes of bare arrays go by their order",
        )


def check_dims(dims: Any, ndim: int) -> tuple[Hashable, ...] | None:
    """Return the names of the image axes; refuse what are not so many different names."""
    if dims is None:
        return None
    usual = ("z", "y", "x")[-ndim:]
    remedy = f"expected the {ndim} names of the image axes, e.g. dims={usual} for ndim={ndim}"
    if isinstance(dims, str) or not isinstance(dims, Sequence):
        raise errors.OptionError(f"dims={dims!r}", remedy)
    try:
        is_right = len(dims) == len(set(dims)) == ndim
    except TypeError:  # a list is no name
        is_right = False
    if not is_right:
        raise errors.OptionError(f"dims={tuple(dims)!r}", remedy)
    return tuple(dims)


def call(labelled: Labelled, a: ImageLike, b: ImageLike, **others: MaskLike | None) -> Any:
    """Call a function of arrays on labelled ones, with mask and weights; label the result, too."""
    import xarray

    ndim = check_ndim(labelled.ndim)
    labelled = labelled._replace(ndim=ndim, dims=check_dims(labelled.dims, ndim))
    for name, value in others.items():
        if isinstance(value, xarray.Dataset):
            raise errors.MaskError(f"{name} is a Dataset", f"pass one variable, {name}['name']")
    if isinstance(a, xarray.Dataset) or isinstance(b, xarray.Dataset):
        return _of_datasets(labelled, a, b, others)
    return _of_arrays(labelled, a, b, others)


# Datasets


def _of_datasets(labelled: Labelled, a: Any, b: Any, others: Mapping[str, Any]) -> Any:
    """Call the function on each variable; the result has a variable for each."""
    import xarray

    for key, value, other in (("a", a, "b"), ("b", b, "a")):
        if not isinstance(value, xarray.Dataset):
            raise errors.OptionError(
                f"{other} is a Dataset and {key} is none",
                f"pass one variable of it, {other}['name']",
            )
    of_a, of_b = _variables(a), _variables(b)
    for key, only in (("a", of_a.keys() - of_b.keys()), ("b", of_b.keys() - of_a.keys())):
        if only:
            quoted = sorted(map(repr, only))
            raise errors.ShapeError(
                f"of the data variables, only {key} has {', '.join(quoted)}",
                f"drop them, {key}.drop_vars([{', '.join(quoted)}])",
            )
    if not of_a:
        raise errors.ShapeError("a and b are Datasets without a data variable", "pass images")
    found: dict[Hashable, Any] = {}
    for name in of_a:
        try:
            found[name] = _of_arrays(labelled, of_a[name], of_b[name], others)
        except errors.ImsimError as error:
            raise type(error)(f"variable {name!r}: {error.message}", error.remedy) from error
    first = next(iter(found.values()))
    if isinstance(first, list):
        parts = range(len(first))
        return [xarray.Dataset({name: found[name][k] for name in found}) for k in parts]
    return _stacked(found) if isinstance(first, xarray.Dataset) else xarray.Dataset(found)


def _variables(dataset: Any) -> dict[Hashable, Any]:
    """Return the data variables, without those that say where the others lie on the earth."""
    mappings = {str(grid_mapping_name(array)) for array in dataset.data_vars.values()}
    return {
        key: array
        for key, array in dataset.data_vars.items()
        if array.dims or not (str(key) in mappings or "grid_mapping_name" in array.attrs)
    }


def _stacked(found: Mapping[Hashable, Any]) -> Any:
    """Join Datasets of scores along a new dimension, "variable"."""
    import xarray

    dims = {name: tuple(scores.sizes) for name, scores in found.items()}
    if len(set(dims.values())) > 1 or "variable" in next(iter(dims.values())):
        raise errors.ShapeError(
            f"the batch dimensions of the variables differ, {dims}, or are named 'variable'",
            "compare the variables one by one, a['name'] with b['name']",
        )
    joined = xarray.concat(
        list(found.values()),
        dim="variable",
        data_vars="all",
        coords="minimal",
        compat="override",
        join="exact",
        combine_attrs="override",
    )
    attributes = {key: text for scores in found.values() for key, text in scores.attrs.items()}
    return joined.assign_coords(variable=list(found)).assign_attrs(attributes)


# DataArrays


def _of_arrays(labelled: Labelled, a: Any, b: Any, others: Mapping[str, Any]) -> Any:
    import xarray

    named = {k: v for k, v in {"a": a, "b": b}.items() if isinstance(v, xarray.DataArray)}
    for key, value in {**named, **others}.items():
        if isinstance(value, xarray.DataArray):
            _check_each_once(key, value.dims)
    channel = _channel(labelled.channel_axis, named)
    axes = Axes((), channel, _image_axes(labelled, named, channel))
    given: dict[str, Any] = {}
    for key, value in {"a": a, "b": b, **others}.items():
        if value is None and key not in ("a", "b"):
            continue
        if not isinstance(value, xarray.DataArray):
            left_out = () if key in ("a", "b") else channel  # masks and weights have no channels
            orders = [tuple(d for d in v.dims if d not in left_out) for v in named.values()]
            orders.append(tuple(d for d in channel + axes.image if d not in left_out))
            value = _read(key, value, named, orders)
        if not isinstance(value.dtype, np.dtype):
            raise errors.DTypeError(
                f"{key} is a DataArray of {kind(value.data)}, whose dtype is no NumPy dtype",
                f"pass {key}.copy(data=numpy.asarray({key}.data))",
            )
        if key not in ("a", "b"):
            _check_lies_on_images(key, value, axes)
        given[key] = value
    unit_of(given["a"], given["b"])
    check_places(given, axes.image)
    every = dict.fromkeys(itertools.chain.from_iterable(v.dims for v in given.values()))
    axes = axes._replace(batch=tuple(d for d in every if d not in axes.channel + axes.image))
    bare = {key: _ordered(key, array, axes) for key, array in given.items()}
    inside = bare.get("mask")
    for key in ("a", "b"):
        inside = _with_data(key, given[key], bare[key], inside, axes)
    with errors.silent(errors.ChannelAxisWarning):  # the names leave no doubt
        found = labelled.function(
            bare["a"],
            bare["b"],
            mask=inside,
            weights=bare.get("weights"),
            channel_axis=-1 - len(axes.image) if channel else None,
        )
    return _named(found, labelled, given, axes)


def _check_each_once(key: str, dims: tuple[Hashable, ...]) -> None:
    """Refuse two axes of one name, which xarray cannot tell apart."""
    if len(set(dims)) < len(dims):
        raise errors.ShapeError(
            f"{key} has the dimensions {listed(dims)}, of which two have one name",
            f"name them anew, e.g. xarray.DataArray({key}.data, dims=('y', 'x'))",
        )


def _channel(channel_axis: Any, named: Mapping[str, Any]) -> tuple[Hashable, ...]:
    """Return the name of the dimension of channels, or nothing."""
    if channel_axis is None:
        return ()
    names = {}
    for key, array in named.items():
        names[key] = channel_axis
        if not isinstance(channel_axis, str):
            check_channel_axis(channel_axis)
            if not -array.ndim <= channel_axis < array.ndim:
                raise errors.ShapeError(
                    f"channel_axis={channel_axis} does not exist in {key}, {listed(array.dims)}",
                    f"name it, e.g. channel_axis={array.dims[0]!r}" if array.ndim else None,
                )
            names[key] = array.dims[channel_axis]
        elif channel_axis not in array.dims:
            raise errors.ShapeError(
                f"channel_axis={channel_axis!r} is no dimension of {key}, {listed(array.dims)}",
                "both images need it",
            )
    if len(set(names.values())) > 1:
        raise errors.ShapeError(
            f"channel_axis={channel_axis} is {names['a']!r} in a and {names['b']!r} in b",
            f"name it, e.g. channel_axis={names['a']!r}",
        )
    return (next(iter(names.values())),)


def _image_axes(
    labelled: Labelled, named: Mapping[str, Any], channel: tuple[Hashable, ...]
) -> tuple[Hashable, ...]:
    """Return the names of the image axes: those given, or those of an array without others."""
    ndim = labelled.ndim
    image = None if labelled.dims is None else tuple(labelled.dims)
    for array in named.values() if image is None else ():
        own = tuple(dim for dim in array.dims if dim not in channel)
        if len(own) == ndim:
            image = own
            break
    if image is None:
        key, array = next(iter(named.items()))
        usual = tuple(d for d in array.dims if d not in channel)[-ndim:]
        usual = usual if len(usual) == ndim else ("z", "y", "x")[-ndim:]
        raise errors.ShapeError(
            f"{key} has the dimensions {listed(array.dims)}, and nothing says which {ndim} are "
            "those of the images",
            f"name them, e.g. dims={usual!r}"
            + ("" if channel or array.ndim <= ndim else ", and that of channels as channel_axis"),
        )
    if set(image) & set(channel):
        raise errors.OptionError(
            f"channel_axis={channel[0]!r} is one of the image axes, {listed(image)}",
            "name another dimension as channel_axis, or other ones as dims",
        )
    for key, array in named.items():
        missing = [dim for dim in image if dim not in array.dims]
        if missing:
            raise errors.ShapeError(
                f"{key} has the dimensions {listed(array.dims)}, and none is named {missing[0]!r}",
                f"name those of both images as dims, or rename, {key}.rename({{'old': 'new'}})",
            )
    return image


def _read(
    key: str, value: Any, named: Mapping[str, Any], orders: Sequence[tuple[Hashable, ...]]
) -> Any:
    """Name the axes of a bare array, if its shape allows one reading only."""
    import xarray

    if is_stored(value):
        raise errors.ShapeError(
            f"{key} is a {kind(value)}, whose axes have no names",
            f"name them, e.g. xarray.DataArray(dask.array.from_array({key}), dims={orders[0]!r})",
        )
    array = as_array(key, value)
    array = to_numpy(key, array) if is_tensor(array) else array
    sizes = {dim: n for other in named.values() for dim, n in other.sizes.items()}
    shape = tuple(array.shape)
    fitting = [dims for dims in dict.fromkeys(orders) if shape == tuple(sizes[d] for d in dims)]
    if len(fitting) == 1:
        return xarray.DataArray(array, dims=fitting[0])
    other_key, other = next(iter(named.items()))
    problem = "fits several orders" if fitting else "fits no order"
    raise errors.ShapeError(
        f"{key} is an array of shape {shape} without names, {other_key} has the dimensions "
        f"{listed(other.dims)} of shape {tuple(other.shape)}: the shape {problem} of these",
        f"name its axes, e.g. xarray.DataArray({key}, dims={orders[0]!r})",
    )


def _check_lies_on_images(key: str, array: Any, axes: Axes) -> None:
    """Refuse a mask, or weights, without an image axis or with one of channels."""
    error = errors.MaskError if key == "mask" else errors.WeightsError
    missing = [dim for dim in axes.image if dim not in array.dims]
    if missing:
        raise error(
            f"{key} has the dimensions {listed(array.dims)}, and none is named {missing[0]!r}",
            f"it needs the axes of the images, {listed(axes.image)}",
        )
    if set(axes.channel) & set(array.dims):
        raise error(
            f"{key} has the dimension {axes.channel[0]!r} of the channels",
            f"one for all channels, e.g. {key}.all({axes.channel[0]!r})",
        )


def _ordered(key: str, array: Any, axes: Axes) -> Array:
    """Return the bare array, (*batch, channels, *image), with an axis of 1 for a missing one."""
    wanted = tuple(d for part in axes for d in part if d in array.dims or d in axes.batch)
    bare = array.transpose(*(dim for dim in wanted if dim in array.dims)).data
    check_meaning(f"{key}.data", bare)
    return bare[tuple(slice(None) if dim in array.dims else None for dim in wanted)]


def _with_data(key: str, array: Any, pixels: Array, mask: Array | None, axes: Axes) -> Array | None:
    """Take the pixels without data out of a mask; a pixel lacks data if some channel does."""
    lacking = without_data(key, array.attrs, array.encoding, pixels)
    if lacking is None:
        return mask
    if axes.channel:
        lacking = lacking.any(axis=-1 - len(axes.image))
    if isinstance(lacking, np.ndarray) and not lacking.any():
        return mask
    if mask is None:
        return ~lacking
    if mask.dtype.kind not in "biu":
        return mask  # which is refused where masks are checked
    return mask & ~lacking if mask.dtype.kind == "b" else mask * ~lacking


def _named(found: Any, labelled: Labelled, given: Mapping[str, Any], axes: Axes) -> Any:
    """Label the result, with the coordinates on its dimensions."""
    import xarray

    dims = axes.batch + (axes.image if labelled.is_map else ())
    coordinates = _coordinates(given, dims)
    # A map has its dimensions in the order of the reference.
    own = [dim for dim in given["a"].dims if dim in dims]
    order = [dim for dim in dims if dim not in own] + own

    def one(key: str, values: Array) -> Any:
        name, attributes = labelled.describe(key, (given["a"], given["b"]))
        array = xarray.DataArray(values, coordinates, dims, name, attributes)
        if not labelled.is_map:
            return array
        if "grid_mapping" in given["a"].encoding:
            array.encoding["grid_mapping"] = given["a"].encoding["grid_mapping"]
        return array.transpose(*order)

    if isinstance(found, list):
        return [one("", values) for values in found]
    if isinstance(found, Mapping):
        for name in found.keys() & {*coordinates, *dims}:
            raise errors.ShapeError(
                f"{name!r} is a metric, and a dimension or a coordinate of an image",
                f"rename that, a.rename({{{name!r}: 'other'}}), b likewise",
            )
        skipped = getattr(found, "skipped", {})
        attributes = {f"skipped_{name}": reason for name, reason in skipped.items()}
        return xarray.Dataset({k: one(k, v) for k, v in found.items()}, attrs=attributes)
    return one("", found)


def _coordinates(given: Mapping[str, Any], dims: tuple[Hashable, ...]) -> Any:
    """Merge the coordinates that lie on some dimensions; of what differs, there is no one value."""
    merged: Any = None
    for key, array in given.items():
        others = [
            name
            for name, coordinate in array.coords.items()
            if not set(coordinate.dims) <= set(dims)
            or (key not in ("a", "b") and name not in array.dims)
        ]
        own = array.drop_vars(others).coords
        if merged is None:
            merged = own.to_dataset()
            continue
        for name in own.keys() & merged.coords.keys():
            if own[name].chunks is None and merged[name].chunks is None:
                continue
            # Lazy ones are the same if they are the same task: nothing is computed for them.
            if getattr(own[name].data, "name", None) != getattr(merged[name].data, "name", None):
                merged = merged.drop_vars(name)
            own = own.to_dataset().drop_vars(name).coords
        merged = merged.coords.merge(own)
    return merged.coords
