"""The formula of SSIM, and of UIQ, which has no constants."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

from imsim.portable.arrays import (
    array_namespace,
    is_one_plane,
    to_widest_float,
    unstacked,
    valid_in_both,
    where_valid,
)
from imsim.portable.coarse import automatic_factor, block_mean, cell_weights
from imsim.portable.correlation import convolved_similarity, is_convolved
from imsim.portable.moments import (
    is_dark,
    is_flat,
    local_covariance,
    local_moments,
    mean_of_opposites,
)
from imsim.portable.pair import Local, Pair, Scores, average, in_slabs, laid_out
from imsim.portable.units import (
    LEAST_SQUARE,
    LEAST_UNIT,
    SQUARES,
    always_ordinary,
    are_tiny,
    in_unit,
    in_units,
    scaling_unit,
    takes_one_pass,
    unless_infinite,
)
from imsim.portable.windows import (
    Fraction,
    Window,
    replicated,
    representable,
    support_of,
    unbiasing,
    zero_rules,
)
from imsim.typing import Array

WITHOUT_CONSTANTS: dict[str, Any] = {
    "K1": 0.0,
    "K2": 0.0,
    "sample_covariance": False,
    "downsample": False,
    "min_coverage": 0.0,
    "border": "valid",
}
"""The options by which it is UIQ."""


class Options(NamedTuple):
    """Those of `imsim.ssim`, checked."""

    window: Window
    K1: float
    K2: float
    sample_covariance: bool
    downsample: bool
    min_coverage: float
    border: str


def structural_similarity(pair: Pair, **options: Any) -> Local:
    """(2 mu_x mu_y + C1)(2 cov + C2) / ((mu_x^2 + mu_y^2 + C1)(var_x + var_y + C2))."""
    formula = functools.partial(_structural_similarity, options=Options(**options))
    return in_slabs(formula, pair, options["window"].lengths[0] // 2)


def _structural_similarity(pair: Pair, options: Options) -> Local:
    window, K1, K2, sample_covariance, downsample, min_coverage, border = options
    xp, depth = pair.xp, pair.depth
    if is_one_plane(depth, border, sample_covariance):
        window, depth = window.of_planes, None
    factor = automatic_factor(*pair.x.shape[-2:]) if downsample else 1
    # Means of blocks and windows far from 0 need more digits than float32 has.
    (x, mask), (y, _) = (
        block_mean(to_widest_float(v), pair.mask, factor, border="symmetric", weights=pair.weights)
        for v in (pair.x, pair.y)
    )
    weights = pair.weights
    if weights is not None and pair.mask is not None:
        weights = where_valid(mask, cell_weights(weights, pair.mask, factor, border="symmetric"))
    x, y = unstacked(x, depth), unstacked(y, depth)
    mask, weights = (unstacked(v, depth) for v in (mask, weights))
    if border == "replicate":
        x, y = replicated(x, window), replicated(y, window)
        mask, weights = (None if v is None else replicated(v, window) for v in (mask, weights))
    exact = representable(window, float(xp.finfo(x.dtype).eps))
    support = support_of(mask, exact, x, min_coverage, weights)
    scored = support.scored
    if sample_covariance:
        scored = valid_in_both(scored, None if mask is None else support.pixels > 1)

    in_one_pass = takes_one_pass(x)
    # About one number for the whole image, pixels of float64 far from it would lose digits.
    in_few_operations = is_convolved(x) and always_ordinary(pair.x, x) and K1 != 0 and K2 != 0

    def constants(unit: Any) -> list[Any]:
        # In the least unit, the data range may be infinite, and 0 times it no number.
        found = [(K * (pair.data_range / unit)) ** 2 if K else 0.0 for K in (K1, K2)]
        if in_one_pass and not isinstance(unit, float):  # where they may underflow
            least = float(xp.finfo(x.dtype).smallest_normal)
            found = [
                xp.clip(c, min=least) if K else c for c, K in zip(found, (K1, K2), strict=True)
            ]
        return found

    def values(unit: Any, _: Any, *, leaves_lost: bool = False) -> Array:
        if in_few_operations:
            unbiased = unbiasing(support, window) if sample_covariance else 1.0
            p, q = in_unit(x, unit), in_unit(y, unit)
            inside = mask, support.weight, weights
            return convolved_similarity(p, q, exact.sides, *inside, constants(unit), unbiased)
        p, q = (local_moments(in_unit(v, unit), window, support) for v in (x, y))
        covariance = local_covariance(p, q, window, support)
        variances = p.variance + q.variance
        if sample_covariance:
            unbiased = unbiasing(support, window)
            covariance, variances = covariance * unbiased, variances * unbiased

        c1, c2 = constants(unit)
        mu_x, mu_y = (mean_of_opposites(v, window, support, c1) for v in (p, q))
        if K1 == 0 and not in_one_pass:  # its squares may underflow, and the unit does not matter
            own = scaling_unit(mu_x, mu_y, axis=())
            mu_x, mu_y = mu_x / own, mu_y / own
        elif unit is least_unit:  # in which the constant would be infinite
            mu_x, mu_y, c1 = mu_x * unit, mu_y * unit, constants(1.0)[0]
        luminance = Fraction(2 * mu_x * mu_y + c1, mu_x * mu_x + mu_y * mu_y + c1)
        structure = Fraction(2 * covariance + c2, variances + c2)
        if K1 == 0 or K2 == 0 or not (in_one_pass or isinstance(unit, float)):
            flat = _where_zero(c2, is_flat(p) & is_flat(q))
            dark = _where_zero(c1, is_dark(p, window) & is_dark(q, window))
            found = zero_rules(luminance, structure, flat, dark)
        else:
            found = luminance.top / luminance.bottom * (structure.top / structure.bottom)
        if leaves_lost:
            found = where_valid(structure.bottom > LEAST_SQUARE, found, math.nan)
        return unless_infinite(found, luminance.bottom, structure.bottom)

    # Squares may underflow in some windows, beside others of ordinary pixels.
    has_tiny = K2 == 0 and not (in_one_pass or always_ordinary(pair.x, x)) and are_tiny(x, y)
    least_unit = LEAST_UNIT * xp.ones_like(x[..., :1, :1]) if has_tiny else None
    if always_ordinary(pair.x, x):
        found = values(1.0, 1.0)
    else:
        unit = scaling_unit(x, y, axis=window.axes, root=SQUARES)
        if K1 != 0 or K2 != 0:  # small pixels vanish beside a constant, and need no unit
            unit = xp.maximum(unit, xp.ones_like(unit))
        found = in_units(values, unit, unit)
    if has_tiny:
        sound = in_units(functools.partial(values, leaves_lost=True), unit, unit)
        least = values(least_unit, None)
        found = xp.where(xp.isfinite(sound), sound, xp.where(xp.isfinite(least), least, found))
    found = xp.clip(found, -1.0, 1.0)
    is_padded = border == "replicate"
    positions = support.positions
    if positions is not None:
        positions = where_valid(scored, positions)
    local = laid_out(
        found, scored, window.lengths, step=factor, is_padded=is_padded, weights=positions
    )
    return local if depth == pair.depth else local.as_volume()


def _where_zero(constant: Any, flags: Array) -> Array:
    """Return the flags where a constant, a number or an array, is 0."""
    if isinstance(constant, float):  # torch.jit.trace knows no `and` of an array and a number
        return flags if constant == 0 else array_namespace(flags).zeros_like(flags)
    return flags & (constant == 0)


def mean_structural_similarity(pair: Pair, **options: Any) -> Scores:
    """Mean over all window positions."""
    return average(structural_similarity(pair, **options))
