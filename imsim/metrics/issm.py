"""Information theoretic-based statistic similarity measure (ISSM)."""

from __future__ import annotations

import functools
from typing import Any, Literal, NamedTuple

import numpy as np

from imsim import engine
from imsim.metrics.ssim import DEFAULTS as SSIM
from imsim.portable.arrays import count
from imsim.portable.coarse import eroded
from imsim.portable.edges import bins, edge_correlation, edge_maps, pair_counts, shannon_entropy
from imsim.portable.pair import Pair, Scores, average
from imsim.portable.structural_similarity import structural_similarity
from imsim.registry import ON_HOST, metric
from imsim.typing import Array, Dims, ImageLike, MaskLike, Memory, Score
from imsim.validation import check_number

A, B, C = 0.3, 0.5, 0.7
E = 0.01
LARGEST_SIGMA = 1000.0
"""Largest sigma, in pixels: it smooths over a whole image."""


class ISSMComponents(NamedTuple):
    """The parts of ISSM; each is a float64 scalar, or an array of the batch shape."""

    entropy: Array
    """Shannon entropy of the joint histogram, in bits."""
    edge_correlation: Array
    """Correlation of the two Canny edge maps, from -1 to 1."""
    ssim: Array
    """Structural similarity."""


def combine(parts: ISSMComponents) -> Array:
    """(R H (A + B) + e) / (A R H + B H + C S + e)."""
    h, r, s = parts
    return (r * h * (A + B) + E) / (A * r * h + B * h + C * s + E)


def joint_entropy(pair: Pair) -> Array:
    """Entropy of the normalised joint histogram of bins of L / 256, in both images."""
    x, y = (bins(v, pair.data_range) for v in (pair.x, pair.y))
    shape = np.broadcast_shapes(x.shape, y.shape, () if pair.mask is None else pair.mask.shape)
    x, y = np.broadcast_to(x, shape), np.broadcast_to(y, shape)
    inside = np.broadcast_to(True if pair.mask is None else pair.mask, shape)
    entropy = np.empty(shape[:-2])
    for index in np.ndindex(entropy.shape):
        here = inside[index]
        entropy[index] = shannon_entropy(pair_counts(x[index][here], y[index][here]))
    return entropy


def components(pair: Pair, canny: dict[str, float]) -> tuple[ISSMComponents, Array]:
    """The components per channel, and the least of the numbers of positions that they average."""
    structural, windows, *_ = average(structural_similarity(pair, **SSIM))
    x, y = (edge_maps(v, pair.mask, pair.data_range, canny) for v in (pair.x, pair.y))
    valid = eroded(pair.mask)
    r = edge_correlation(x, y, valid)
    parts = ISSMComponents(joint_entropy(pair), r, structural)
    return parts, np.minimum(windows, count(x, valid))


def component_scores(pair: Pair, canny: dict[str, float]) -> tuple[Scores, ...]:
    """Each component as a score of its own."""
    parts, scored = components(pair, canny)
    return tuple(Scores(part, scored) for part in parts)


def information_similarity(pair: Pair, canny: dict[str, float]) -> Scores:
    """ISSM per channel."""
    parts, scored = components(pair, canny)
    return Scores(combine(parts), scored)


def canny_options(sigma: float, low_threshold: float, high_threshold: float) -> dict[str, float]:
    """Check the options of the edge detector."""
    low = check_number("low_threshold", low_threshold)
    return {
        "sigma": check_number("sigma", sigma, most=LARGEST_SIGMA),
        "low_threshold": low,
        "high_threshold": check_number("high_threshold", high_threshold, low),
    }


def _components_kernel() -> Any:
    from imsim.kernels.issm import issm_components  # slow to import, as Numba is

    return functools.partial(issm_components, ssim_options=SSIM)


def _kernel() -> Any:
    components_of = _components_kernel()

    def issm(*args: Any, **options: Any) -> Scores:
        parts = components_of(*args, **options)
        values = combine(ISSMComponents(*(part.values for part in parts)))
        return Scores(values, parts[0].scored, left=parts[0].left)

    return issm


def issm_components(
    a: ImageLike,
    b: ImageLike,
    *,
    mask: MaskLike | None = None,
    weights: MaskLike | None = None,
    data_range: float | None = None,
    channel_axis: int | str | None = None,
    ndim: Literal[2, 3] = 2,
    dims: Dims = None,
    memory: Memory = None,
    sigma: float = 1.0,
    low_threshold: float = 0.1,
    high_threshold: float = 0.2,
) -> ISSMComponents:
    """Return the parts that `issm` combines: joint entropy, edge correlation and SSIM.

    Parameters
    ----------
    a, b, mask, weights, data_range, channel_axis, ndim, dims, memory
        As for every metric, see ``help(imsim)``; the parts of the channels are averaged.
    sigma, low_threshold, high_threshold : float
        As for `issm`.

    Returns
    -------
    ISSMComponents
        Named tuple of ``entropy`` (bits), ``edge_correlation`` and ``ssim``.

    Raises
    ------
    ImsimError
        One of the errors in ``help(imsim)``.

    Examples
    --------
    >>> import numpy as np, imsim
    >>> x = np.kron(np.eye(2), np.full((8, 8), 200)).astype(np.uint8)
    >>> [round(float(part), 6) for part in imsim.issm_components(x, x)]
    [1.0, 1.0, 1.0]
    """
    parts = engine.score(
        "issm",
        component_scores,
        (a, b, mask, weights, data_range, channel_axis, ndim, dims, memory),
        kernel=_components_kernel,
        canny=canny_options(sigma, low_threshold, high_threshold),
    )
    return ISSMComponents(*parts)


@metric(
    no_weights="edges that are traced from pixel to pixel have no weighted form",
    title="Information theoretic-based statistic similarity",
    higher_is_better=True,
    best=float("nan"),
    bounds=(float("-inf"), float("inf")),
    needs_data_range=True,
    references=("Aljanabi et al. 2019, doi:10.1080/22797254.2019.1628617",),
    experimental=True,
    capabilities=ON_HOST,
    sees="Mixes shared information, edges and structure. Experimental: identical images do not "
    "score 1, and noise can raise it.",
    least_side=SSIM["window"].size,
    kernel=_kernel,
    no_pieces="its edges are traced across the whole image",
)
def issm(
    a: ImageLike,
    b: ImageLike,
    *,
    mask: MaskLike | None = None,
    weights: MaskLike | None = None,
    data_range: float | None = None,
    channel_axis: int | str | None = None,
    ndim: Literal[2, 3] = 2,
    dims: Dims = None,
    memory: Memory = None,
    sigma: float = 1.0,
    low_threshold: float = 0.1,
    high_threshold: float = 0.2,
) -> Score:
    r"""Information theoretic-based statistic similarity measure. **Experimental**.

    .. math::
        \mathrm{ISSM} = \frac{R H (A + B) + e}{A R H + B H + C S + e}

    with A = 0.3, B = 0.5, C = 0.7, e = 0.01, the Shannon entropy H of the joint histogram
    (normalised; 256 bins from 0 to L, L included, and bins of the same width below 0 and above L,
    so that a shift by whole bins changes nothing), the correlation R of the Canny edge maps of
    the images divided by L, and their structural similarity S.

    The formula follows second-hand sources; the text of the paper could not be consulted, and
    the score may change. It is *not* 1 for identical images, but depends on their content,
    and noise can raise it: do not take it for a normalised similarity. If neither image has
    an edge, R is 1; if only one has, R is 0. `issm_components` returns H, R and S.

    Parameters
    ----------
    a, b, mask, weights, data_range, channel_axis, ndim, dims, memory
        As for every metric, see ``help(imsim)``.
    sigma : float
        Standard deviation of the Gaussian that smooths before Canny's gradients, in pixels.
    low_threshold, high_threshold : float
        Thresholds of Canny's hysteresis, for gradients of images divided by `data_range`.

    Returns
    -------
    float64 or array of float64
        One per pair of images.

    Raises
    ------
    ImsimError
        One of the errors in ``help(imsim)``.

    References
    ----------
    Aljanabi, M. A., Hussain, Z. M., Shnain, N. A. A., Lu, S. F.: Design of a hybrid measure for
    image similarity: a statistical, algebraic, and information-theoretic approach. European
    Journal of Remote Sensing 52(sup4), 2-15 (2019). doi:10.1080/22797254.2019.1628617

    Examples
    --------
    >>> import numpy as np, imsim
    >>> x = np.kron(np.eye(2), np.full((8, 8), 200)).astype(np.uint8)
    >>> print(round(imsim.issm(x, x), 6))
    0.536424
    """
    return engine.score(
        "issm",
        information_similarity,
        (a, b, mask, weights, data_range, channel_axis, ndim, dims, memory),
        canny=canny_options(sigma, low_threshold, high_threshold),
    )
