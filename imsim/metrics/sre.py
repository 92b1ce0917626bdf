"""Signal to reconstruction error ratio (SRE)."""

from __future__ import annotations

from typing import Literal

from imsim import engine
from imsim.kernels import loaders
from imsim.portable.arrays import count, mean, to_widest_float, where_valid
from imsim.portable.differences import reconstruction_decibels, squared_difference
from imsim.portable.pair import Pair, Scores
from imsim.portable.units import PER_CHANNEL, exact_mean, scaling_unit
from imsim.registry import Crop, Kernel, metric
from imsim.scenes.moments import Reconstruction
from imsim.typing import Dims, ImageLike, MaskLike, Memory, Score


def signal_to_reconstruction_error(pair: Pair) -> Scores:
    """10 log10(mean(x)^2 / MSE), per channel."""
    squares, unit = squared_difference(pair, PER_CHANNEL)
    mse = mean(squares, pair.mask, pair.weights)
    x = to_widest_float(pair.x)
    unit_x = scaling_unit(x)
    ratio = reconstruction_decibels(exact_mean(x / unit_x, pair.mask, pair.weights), mse, pair.xp)
    units = 20 * (pair.xp.log10(unit_x[..., 0, 0]) - pair.xp.log10(unit))
    return Scores(ratio + where_valid(mse > 0, units, 0.0), count(squares, pair.mask, pair.weights))


@metric(
    title="Signal to reconstruction error ratio",
    higher_is_better=True,
    best=float("inf"),
    bounds=(float("-inf"), float("inf")),
    symmetric=False,
    unit="dB",
    references=("Lanaras et al. 2018, doi:10.1016/j.isprsjprs.2018.09.018",),
    sees="The error against the mean brightness of the reference, in decibels.",
    volumes="pixels",
    kernel=Kernel(loaders.pixel_sums, "sre"),
    gradient=Kernel(loaders.pixel_gradients, "sre"),
    crop=Crop(halo=0, gathers=True),
    pieces=Reconstruction,
)
def sre(
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
) -> Score:
    r"""Signal to reconstruction error ratio, in decibels.

    .. math:: \mathrm{SRE}(x, y) = 10 \log_{10} \frac{\mu_x^2}{\mathrm{MSE}(x, y)}

    with the mean :math:`\mu_x` of the reference `a`: the peak of the PSNR gives way to the
    mean brightness. Identical images score +inf, also when both are black; a reference of
    mean 0 with any other image scores -inf. The mean over channels is NaN if one channel scores
    +inf and another one -inf. The metric is not symmetric.

    Parameters
    ----------
    a, b, mask, weights, data_range, channel_axis, ndim, dims, memory
        As for every metric, see ``help(imsim)``; `a` is the reference.

    Returns
    -------
    float64 or array of float64
        Decibels. One per pair of images.

    Raises
    ------
    ImsimError
        One of the errors in ``help(imsim)``.

    References
    ----------
    Lanaras, C., Bioucas-Dias, J., Galliani, S., Baltsavias, E., Schindler, K.:
    Super-resolution of Sentinel-2 images: Learning a globally applicable deep neural network.
    ISPRS Journal of Photogrammetry and Remote Sensing 146, 305-319 (2018).
    doi:10.1016/j.isprsjprs.2018.09.018

    Examples
    --------
    >>> import imsim
    >>> print(imsim.sre([[10.0, 10.0]], [[11.0, 9.0]]))
    20.0
    """
    return engine.score(
        "sre",
        signal_to_reconstruction_error,
        (a, b, mask, weights, data_range, channel_axis, ndim, dims, memory),
    )
