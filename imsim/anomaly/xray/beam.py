"""From raw counts to transmission, and from transmission to absorbance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import imsim
from imsim.anomaly.inputs import NOT_FINITE, as_real, nearest
from imsim.validation import check_between

SMALLEST = 1e-4
"""Transmission below which a pixel counts as opaque: less than noise and scatter let through."""
_MOST_DEAD = 0.05
"""Share of dead pixels beyond which flat and dark field cannot belong together."""


def correct(counts: Any, flat: Any, dark: Any = None) -> NDArray[np.float32]:
    r"""Turn raw counts into transmission by the flat and the dark field.

    .. math:: T = \frac{\text{counts} - \text{dark}}{\text{flat} - \text{dark}}

    A pixel without response, whose flat field does not exceed its dark field, takes the value of
    the nearest pixel that has one.

    Parameters
    ----------
    counts : array_like, shape (..., height, width)
        Raw images; any real dtype.
    flat : array_like, shape (height, width)
        Image of the open beam.
    dark : array_like, shape (height, width), optional
        Image without beam; 0 by default.

    Returns
    -------
    float32 array, shape (..., height, width)
        About 1 in the open beam. Noise may bring it below 0 or above 1; nothing is clipped.

    Raises
    ------
    ShapeError
        If the fields are not of the images' height and width.
    DTypeError
        If one of the three is not made of real numbers.
    ImsimError
        If there are NaN or infinities, or more than 5 % of the pixels have no response.

    Examples
    --------
    >>> from imsim.anomaly import xray
    >>> xray.correct([[110, 60]], flat=[[210, 210]], dark=[[10, 10]])
    array([[0.5 , 0.25]], dtype=float32)
    """
    raw, bright = as_real("counts", counts), as_real("flat", flat)
    black = np.zeros(bright.shape) if dark is None else as_real("dark", dark)
    for name, field in (("flat", bright), ("dark", black)):
        if raw.ndim < 2 or field.shape != raw.shape[-2:]:
            raise imsim.ShapeError(
                f"{name} has shape {field.shape}, counts {raw.shape}; "
                "expected (height, width) and (..., height, width)"
            )
        check_finite(name, field)
    check_finite("counts", raw)
    black = black.astype(np.float64)
    response = bright - black
    dead = response <= 0
    if dead.mean() > _MOST_DEAD:
        raise imsim.ImsimError(
            f"flat is not above dark in {dead.mean():.0%} of the pixels: "
            "were the two fields swapped, or taken with other settings?"
        )
    transmission = ((raw - black) / np.where(dead, 1, response)).astype(np.float32)
    if dead.any():
        rows, columns = nearest(dead)
        transmission = transmission[..., rows, columns]
    return transmission


def absorbance(transmission: Any, *, smallest: float = SMALLEST) -> NDArray[np.float32]:
    r"""Turn transmission into absorbance by the law of Beer and Lambert.

    .. math:: A = -\ln \max(T, T_{\min})

    For a narrow spectrum it is the attenuation coefficient times the thickness, and so adds up
    along the ray.

    Parameters
    ----------
    transmission : array_like, shape (..., height, width)
        1 in the open beam; any real dtype.
    smallest : float, optional
        :math:`T_{\min}`: smaller values, zero and below among them, count as this one.

    Returns
    -------
    float32 array, shape (..., height, width)
        0 in the open beam, larger the more is absorbed, at most :math:`-\ln T_{\min}`.

    Raises
    ------
    DTypeError
        If the transmission is not made of real numbers.
    OptionError
        If `smallest` is not between 0 and 1.
    ImsimError
        If there are NaN or infinities.

    Examples
    --------
    >>> from imsim.anomaly import xray
    >>> xray.absorbance([[1.0, 0.5, 0.0, -0.1]], smallest=0.001).round(3)
    array([[-0.   ,  0.693,  6.908,  6.908]], dtype=float32)
    """
    check_between("smallest", smallest)
    values = as_real("transmission", transmission)
    check_finite("transmission", values)
    return logarithm(values.astype(np.float32), smallest)


def logarithm(transmission: NDArray[np.float32], smallest: float) -> NDArray[np.float32]:
    """Absorbance of what has been checked."""
    result: NDArray[np.float32] = -np.log(np.maximum(transmission, np.float32(smallest)))
    return result


def check_finite(name: str, array: NDArray[Any]) -> None:
    """Refuse NaN and infinity, naming the first image that has them."""
    finite = np.isfinite(array)
    if not finite.all():
        index = np.argwhere(~finite)[0]
        where = f"[{', '.join(map(str, index[:-2]))}]" if array.ndim > 2 else ""
        raise imsim.ImsimError(f"{name}{where} {NOT_FINITE}")
