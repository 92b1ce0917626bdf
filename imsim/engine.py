"""The dispatcher: from checked input, through a kernel or a formula, to a score or a map."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NamedTuple

import numpy as np

from imsim import checking, errors, kernels, tensors
from imsim.derivatives import OF_CHECKS, Gradient
from imsim.finite import computed, positions_reading, subtracted
from imsim.masks import batch_of
from imsim.portable import arrays
from imsim.portable.pair import Local, Scores
from imsim.registry import METRICS, KernelLoader, Metric
from imsim.scenes import attributes, dispatch, maps, names
from imsim.typing import Array, Score, Writable
from imsim.validation import Images, check_choice, check_memory, check_ndim, warn_of_width
from imsim.weights import checked_weights, evened, in_unit

_engine = "auto"
Shared = tuple[Any, ...]
"""The arguments of `imsim.registry.SHARED`, in its order."""


class _Found(NamedTuple):
    """The result of a kernel or a formula, and the checked input."""

    result: Any
    """Scores, several of them, or local values."""
    images: Images
    valid: Array | None
    """The mask, (*batch, 1, height, width)."""
    finite: Array | None
    """True for pixels that are finite or outside the mask, of the same shape; None: all are."""
    remedy: str = "widen the mask"
    """What gives a score to an image of which no position could be scored."""


def set_engine(engine: Literal["auto", "portable", "fast"]) -> None:
    """Choose which engine computes; for tests and debugging.

    Parameters
    ----------
    engine : {"auto", "portable", "fast"}
        ``"portable"`` is the mathematics on the array-API standard, for every array library.
        ``"fast"`` are compiled kernels for NumPy arrays, and an error where there is none.
        ``"auto"``, the default, takes a kernel where there is one.

    Raises
    ------
    OptionError
        If there is no such engine.

    Examples
    --------
    >>> import imsim
    >>> imsim.set_engine("portable")
    >>> imsim.se([[1, 2]], [[1, 4]])
    np.float64(4.0)
    >>> imsim.set_engine("auto")
    """
    global _engine
    check_choice("engine", engine, ("auto", "portable", "fast"))
    _engine = engine


def runs_kernels() -> bool:
    """Whether kernels run where there are any."""
    return _engine != "portable" and kernels.are_enabled()


def check_kernels() -> None:
    """Refuse to go on where no kernel would run."""
    if _engine == "portable":
        raise errors.OptionError(
            "engine='portable' runs no kernels", "call set_engine('auto') before"
        )
    if not kernels.are_enabled():
        raise errors.ImsimError("Numba is told not to compile", "unset NUMBA_DISABLE_JIT")


def score(
    metric: str,
    formula: Callable[..., Scores | tuple[Scores, ...]],
    shared: Shared,
    *,
    weight_power: float = 0,
    kernel: KernelLoader | None = None,
    **options: Any,
) -> Any:
    """Score two images, or batches of images; a formula of several scores gives a list.

    The facts about the metric stand in its record. The options are those of `_evaluate`. A score
    that depends on the unit of the weights is multiplied by that unit to the power `weight_power`.
    `kernel` takes the place of the record's.
    """
    a, b, mask, weights, data_range, channel_axis, ndim, dims, memory = shared
    if arrays.is_compiling() and _is_no_part_of_graphs(metric, a, b, mask, weights):
        own = {"weight_power": weight_power, "kernel": kernel, **options}
        return arrays.outside_graphs(score)(metric, formula, shared, **own)
    check_memory(memory)
    ndim = check_ndim(ndim)
    facts, arguments = METRICS[metric], {"channel_axis": channel_axis, "ndim": ndim, **options}
    scored = functools.partial(_scored, facts, formula, arguments, weight_power, kernel)
    if dispatch.are_bare(a, b, mask, weights) and dims is None:  # the common case
        return scored(a, b, mask, data_range, weights)

    def in_blocks(given: dispatch.Given) -> Score:
        others = data_range, memory, runs_kernels(), _finished
        return dispatch.score_of_scene(facts, given, *others, **arguments)

    again = functools.partial(score, metric, formula, weight_power=weight_power, kernel=kernel)
    has_gradient = facts.gradient is not None and weights is None
    has_gradient = has_gradient and (facts.volumes == "pixels" or not _are_volumes(arguments))
    gradient = functools.partial(Gradient, facts, scored, arguments) if has_gradient else None
    return _called(metric, scored, in_blocks, again, shared, options, gradient=gradient)


def _is_no_part_of_graphs(metric: str, a: Any, b: Any, *others: Any) -> bool:
    """Whether torch.compile, which looks on, cannot trace a call, such as one of NumPy arrays."""
    are_arrays = all(
        v is None or arrays.is_tensor(v) or type(v) is np.ndarray for v in (a, b, *others)
    )
    is_traced = arrays.is_tensor(a) or arrays.is_tensor(b)
    return METRICS[metric].numpy_only or not (is_traced and are_arrays)


def _scored(
    facts: Metric,
    formula: Callable[..., Any],
    arguments: dict[str, Any],
    weight_power: float,
    kernel: KernelLoader | None,
    *given: Any,
    at_once: Callable[..., Any] | None = None,
) -> Any:
    """Return the score of arrays; `at_once` is a kernel to run in place of the one to load."""
    if kernel is None:
        kernel = facts.volume_kernel if _are_volumes(arguments) else facts.kernel
    side = facts.least_side
    found = _evaluate(facts, formula, kernel, side, *given, kernel_instead=at_once, **arguments)
    if type(found.result) is tuple:
        return [_score(facts.name, part, found) for part in found.result]
    return _score(facts.name, _in_unit(found, weight_power), found)


def _are_volumes(arguments: dict[str, Any]) -> bool:
    return bool(arguments["ndim"] == 3)


def score_map(
    metric: str,
    formula: Callable[..., Local],
    shared: Shared,
    *,
    out: Writable | None = None,
    weight_power: float = 0,
    **options: Any,
) -> Array:
    """Compute local values, and lay them out on the grid of the input; see `score`."""
    a, b, mask, weights, data_range, channel_axis, ndim, _, memory = shared
    if arrays.is_compiling() and _is_no_part_of_graphs(metric, a, b, mask, weights):
        own = {"out": out, "weight_power": weight_power, **options}
        return arrays.outside_graphs(score_map)(metric, formula, shared, **own)
    ndim = check_ndim(ndim)
    facts, arguments = METRICS[metric], {"channel_axis": channel_axis, "ndim": ndim, **options}
    mapped = functools.partial(_map, facts, formula, weight_power=weight_power, **arguments)
    if out is not None and names.are_labelled(a, b):
        raise errors.OptionError("out= with arrays of xarray", "leave it out, and store the map")

    def in_blocks(given: dispatch.Given) -> Array:
        others = data_range, memory, out, runs_kernels()
        return dispatch.map_of_scene(facts, mapped, given, *others, **arguments)

    again = functools.partial(score_map, metric, formula, weight_power=weight_power)
    found = _called(metric, mapped, in_blocks, again, shared, options, is_map=True)
    return found if out is None or found is out else maps.written(found, out)


def _map(
    facts: Metric,
    formula: Callable[..., Local],
    *given: Any,
    weight_power: float,
    **arguments: Any,
) -> Array:
    """Return the map of arrays in memory."""
    kernel = facts.volume_map_kernel if _are_volumes(arguments) else facts.map_kernel
    side = facts.map_least_side
    found = _evaluate(facts, formula, kernel, side, *given, by_pixel=True, **arguments)
    images, valid, xp, sides = found.images, found.valid, found.images.xp, found.images.sides
    local: Local = _in_unit(found, weight_power)
    if facts.volumes == "pixels":
        local = local._replace(depth=images.depth)
    values = arrays.where_valid(local.valid, local.values, np.nan)
    if found.finite is not None:
        reading = positions_reading(~found.finite, local, images.depth)
        values = arrays.where_valid(~reading, values, np.nan)
    with _quiet(images):  # values beyond float32 become infinite in its maps
        values = xp.astype(arrays.mean_of_channels(values), images.dtype, copy=False)
    values = arrays.not_above(values, facts.map_bounds[1])
    values = arrays.unstacked(values, local.depth)
    for axis in range(-len(sides), 0):
        values = xp.repeat(values, local.step, axis=axis) if local.step > 1 else values
        margin = local.margin_along(axis)
        missing = sides[axis] - margin - values.shape[axis]
        values = arrays.shifted(
            arrays.pad(values, margin, max(missing, 0), axis, np.nan), 0, sides[axis], axis
        )
    if local.valid is not None:
        _warn_if_empty(facts.name, xp.any(local.valid, axis=(-1, -2, -3)), found.remedy)
    return arrays.copied(values, (*batch_of(images, valid), *sides))


def _called(
    metric: str,
    plain: tensors.Function,
    in_blocks: Callable[[dispatch.Given], Any],
    again: Callable[..., Any],
    shared: Shared,
    options: dict[str, Any],
    *,
    is_map: bool = False,
    gradient: Callable[[], Gradient] | None = None,
) -> Any:
    """Call a function of arrays, `plain`, with NumPy's in place of tensors that kernels can read.

    `in_blocks` takes what is not in memory, and `again` the bare arrays of labelled ones.
    `gradient` makes the `Gradient` of the call, if a kernel computes it.
    """
    a, b, mask, weights, data_range, _, _, dims, memory = shared
    check_memory(memory)
    if names.are_labelled(a, b):
        return _by_names(metric, again, shared, options, is_map)
    names.check_unnamed(dims)
    read = dispatch.read(a, b, mask, weights, memory)
    if isinstance(read, dispatch.Given):
        return in_blocks(read)
    a, b, mask, weights = read
    given = (a, b, mask, data_range) if weights is None else (a, b, mask, data_range, weights)
    if (type(a) is np.ndarray and type(b) is np.ndarray) or _engine == "portable":
        return plain(*given)
    return tensors.call(plain, given, gradient() if gradient and kernels.are_enabled() else None)


def _by_names(
    metric: str, again: Callable[..., Any], shared: Shared, options: dict[str, Any], is_map: bool
) -> Any:
    """Call a function on labelled arrays, whose result is labelled too."""
    a, b, mask, weights, data_range, channel_axis, ndim, dims, memory = shared

    def plain(x: Array, y: Array, *, mask: Any, weights: Any, channel_axis: int | None) -> Any:
        given = x, y, mask, weights, data_range, channel_axis, ndim, None, memory
        return again(given, **options)

    def described(_: str, images: Sequence[Any]) -> tuple[str, dict[str, Any]]:
        own = {key: value for key, value in options.items() if key not in OF_CHECKS}
        shown = {"channel_axis": channel_axis, "ndim": ndim, **own}
        return attributes.described(metric, data_range, shown, images, is_map=is_map)

    labelled = names.Labelled(plain, described, ndim, dims, channel_axis, is_map)
    return names.call(labelled, a, b, mask=mask, weights=weights)


def _evaluate(
    facts: Metric,
    formula: Callable[..., Any],
    load_kernel: KernelLoader | None,
    usual_side: int,
    *given: Any,
    channel_axis: int | None,
    ndim: int = 2,
    by_pixel: bool = False,
    kernel_instead: Callable[..., Any] | None = None,
    needs_data_range: bool | None = None,
    least_side: checking.LeastSide | None = None,
    **options: Any,
) -> _Found:
    """Check the input, then dispatch to the kernel of the metric or to its formula.

    `given` are a, b, mask, data range and, if there are any, weights.
    The record says what the metric needs, unless `needs_data_range` and `least_side` do.
    A map needs to know which pixels are not finite, `by_pixel`; a score, whether any is.
    """
    by_kernel = _engine != "portable"
    images, valid = checking.check_for(
        facts,
        given,
        channel_axis,
        ndim,
        needs_data_range,
        usual_side if least_side is None else least_side,
        by_kernel=by_kernel,
        leaves_check=(lambda: kernels.surveys(load_kernel)) if by_kernel else None,
    )
    is_numpy = images.xp is np
    if facts.of_differences:
        images = subtracted(images)
    else:
        checking.warn_of_rounding(images, valid)
    for key, value in options.items():
        if isinstance(value, np.generic):  # of which a narrow one may overflow
            options[key] = value.item()
    if facts.numpy_only:
        checking.check_on_host(facts.name, images)
    kernel = None
    if by_kernel and is_numpy and load_kernel is not None:
        kernel = kernel_instead or kernels.loaded(load_kernel)
    refusal = None
    if _engine == "fast":
        lacks = f"engine='fast' has no kernel for {facts.name}"
        refusal = f"{lacks} on this input and with these options"
    others = formula, kernel, options, by_pixel, refusal
    with _quiet(images):
        try:
            result, finite = computed(images, valid, *others)
        except kernels.DoubtfulWeights:
            images, valid = checked_weights(images, images.weights, valid, by_kernel=True)
            result, finite = computed(images, valid, *others)
        if images.even_weights is not None and kernel is not None:
            masked, _ = computed(images._replace(weights=None), valid, *others)
            result = evened(result, masked, images.even_weights)
    warn_of_width(images)
    return _Found(result, images, valid, finite, errors.more_pixels(given[2], *given[4:]))


def _finished(metric: str, result: Scores, finite: Array) -> Score:
    """Finish scores that were computed in blocks; `finite` has the shape of the batch."""
    elements = np.zeros((*finite.shape, 1, 1, 1))
    images = Images(np, elements, elements, np.float64, np.nan, False)
    found = None if finite.all() else finite[..., None, None, None]
    return _score(metric, result, _Found(result, images, None, found))


def _in_unit(found: _Found, power: float) -> Any:
    """Return the result in the unit of the weights, if its values depend on it."""
    if power == 0 or isinstance(found.images.weight_unit, float):  # the common case
        return found.result
    with _quiet(found.images):
        return in_unit(found.result, found.images.weight_unit, power)


def _quiet(images: Images) -> AbstractContextManager[Any]:
    """Keep NumPy from warnings of NaN, for which torch.compile knows no switch."""
    return nullcontext() if arrays.is_tensor(images.x) else np.errstate(all="ignore")


def _score(metric: str, result: Scores, found: _Found) -> Score:
    """Average over channels; NaN where no position was scored or a pixel is not finite."""
    xp, batch = found.images.xp, batch_of(found.images, found.valid)
    values, scored = result.values, result.scored
    if not (found.finite is None and _all_scored(scored)):
        is_scored = xp.broadcast_to(scored > 0, values.shape)
        values = arrays.where_valid(is_scored, values, np.nan)
        _warn_if_empty(metric, xp.all(is_scored, axis=-1), found.remedy)
    if values.shape[-1] == 1:
        values = values[..., 0]
    else:
        with _quiet(found.images):
            values = xp.mean(values, axis=-1)
    if found.finite is not None:
        values = arrays.where_valid(xp.all(found.finite, axis=(-3, -2, -1)), values, np.nan)
    values = values if values.shape == batch else arrays.copied(values, batch)
    return values[()] if xp is np else values


def _all_scored(scored: Array) -> bool:
    """Whether all scores, of NumPy arrays, average at least one position."""
    if scored.size == 1:  # for one pair, Python's comparison is faster than NumPy's
        return bool(scored.item() > 0)
    return bool((scored > 0).all())


def _warn_if_empty(metric: str, scored: Array, remedy: str) -> None:
    """Warn if an element of the batch had nothing to score; nothing is awaited for it."""
    if arrays.has_values(scored) and not bool(arrays.array_namespace(scored).all(scored)):
        errors.warn(
            f"{metric}: of some image no position could be scored, which is NaN in the result; "
            f"{remedy}, or leave such images out",
            errors.EmptyMaskWarning,
        )
