"""Peak signal-to-noise ratio (PSNR)."""

from __future__ import annotations

from typing import Literal

from imsim import engine
from imsim.kernels import loaders
from imsim.portable.differences import decibels, mean_squared_error
from imsim.portable.pair import Pair, Scores
from imsim.registry import Crop, Kernel, metric
from imsim.scenes.moments import SquaredErrors
from imsim.typing import Dims, ImageLike, MaskLike, Memory, Score


def peak_signal_to_noise_ratio(pair: Pair) -> Scores:
    """10 log10(L^2 / MSE)."""
    mse, n, unit = mean_squared_error(pair)
    ratio = decibels(pair.data_range, mse, pair.xp)
    return Scores(ratio - 20 * pair.xp.log10(unit), n)


@metric(
    title="Peak signal-to-noise ratio",
    higher_is_better=True,
    best=float("inf"),
    bounds=(float("-inf"), float("inf")),
    needs_data_range=True,
    unit="dB",
    references=("Elementary; cf. Huynh-Thu and Ghanbari 2008, doi:10.1049/el:20080522",),
    sees="The mean squared error against the full range, in decibels. Blind to where and how "
    "the images differ.",
    of_differences=True,
    volumes="pixels",
    kernel=Kernel(loaders.pixel_sums, "psnr"),
    gradient=Kernel(loaders.pixel_gradients, "psnr"),
    crop=Crop(halo=0, gathers=True),
    pieces=lambda whole: SquaredErrors(whole, "decibels"),
)
def psnr(
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
    r"""Peak signal-to-noise ratio, in decibels.

    .. math:: \mathrm{PSNR}(x, y) = 10 \log_{10} \frac{L^2}{\mathrm{MSE}(x, y)}

    with the data range L, and the mean squared error over the scored pixels and channels of
    one image. Identical images score +inf.

    Parameters
    ----------
    a, b, mask, weights, data_range, channel_axis, ndim, dims, memory
        As for every metric, see ``help(imsim)``; the score pools over channels.

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
    Huynh-Thu, Q., Ghanbari, M.: Scope of validity of PSNR in image/video quality assessment.
    Electronics Letters 44(13), 800-801 (2008). doi:10.1049/el:20080522

    Examples
    --------
    >>> import imsim
    >>> print(round(imsim.psnr([[0.0, 1.0]], [[0.0, 0.9]], data_range=1), 3))
    23.01
    """
    return engine.score(
        "psnr",
        peak_signal_to_noise_ratio,
        (a, b, mask, weights, data_range, channel_axis, ndim, dims, memory),
    )
