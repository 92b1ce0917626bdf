"""Frames: from raw counts to transmission and absorbance, and the item in them."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

import imsim
from imsim.anomaly import stacks
from imsim.anomaly.stacks import Booleans, Floats
from imsim.kernels import xray as passes

SMALLEST = 1e-4
"""Transmission below which a pixel counts as opaque: noise and scatter exceed it."""
_MOST_DEAD = 0.05
"""Largest share of dead pixels for which flat and dark field can belong together."""
KINDS = ("transmission", "counts", "absorbance")
"""Meanings of pixel values."""
BORDER = 3
"""Width in pixels of the strip along the frame that shows the open beam."""
_ITERATIONS = 12
"""Iterations of the search for the threshold; it converges in fewer."""
_CONTRAST = 5.0
"""Smallest contrast of an item, in standard deviations of the background."""
_SMALLEST_ITEM = 0.004
"""Smallest item, as a share of the frame; smaller ones are dirt."""
LARGEST_ITEM = 0.75
"""Largest item, as a share of the frame; a larger one leaves too little open beam."""
_UNEVEN = 0.25
"""Largest difference between parts of an even open beam, in contrasts of the item."""
_SECOND_ITEM = 0.1
"""Smallest second item, as a share of the largest one; smaller ones are crumbs."""
VARIED = "shows something whose brightness varies like that of a photograph"


class UnlikelyItemWarning(UserWarning):
    """Good images that are to be peeled do not look like X-ray images of single items."""


class UnusableImageWarning(UserWarning):
    """Some images show no item that could be peeled; they have empty masks."""


def correct(counts: Any, flat: Any, dark: Any = None) -> Floats:
    r"""Turn raw counts into transmission by the flat and the dark field.

    .. math:: T = \frac{\text{counts} - \text{dark}}{\text{flat} - \text{dark}}

    A pixel without response, whose flat field does not exceed its dark field, takes the value of
    the nearest pixel that has one.

    Parameters
    ----------
    counts : array_like, shape (..., height, width)
        Raw images.
    flat, dark : array_like, shape (height, width)
        Images of the open beam, and without beam; by default 0.

    Returns
    -------
    float32 array, shape (..., height, width)
        About 1 in the open beam. Noise may bring it below 0 or above 1; nothing is clipped.

    Raises
    ------
    ImsimError
        If the fields do not fit the images, there are NaN or infinities, or more than 5 % of the
        pixels have no response.

    Examples
    --------
    >>> from imsim.anomaly import xray
    >>> xray.correct([[110, 60]], flat=[[210, 210]], dark=[[10, 10]])
    array([[0.5 , 0.25]], dtype=float32)
    """
    raw, bright = stacks.as_real("counts", counts), stacks.as_real("flat", flat)
    black = np.zeros(bright.shape) if dark is None else stacks.as_real("dark", dark)
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
        rows, columns = stacks.nearest(dead)
        transmission = transmission[..., rows, columns]
    return transmission


def absorbance(transmission: Any) -> Floats:
    r"""Turn transmission into absorbance by the law of Beer and Lambert.

    .. math:: A = -\ln \max(T, 10^{-4})

    For a narrow spectrum it is the attenuation coefficient times the thickness, and so adds up
    along the ray.

    Parameters
    ----------
    transmission : array_like, shape (..., height, width)
        1 in the open beam.

    Returns
    -------
    float32 array, shape (..., height, width)
        0 in the open beam, larger the more is absorbed, at most 9.21.

    Raises
    ------
    ImsimError
        If there are NaN or infinities.

    Examples
    --------
    >>> from imsim.anomaly import xray
    >>> xray.absorbance([[1.0, 0.5, 0.0, -0.1]]).round(3)
    array([[-0.   ,  0.693,  9.21 ,  9.21 ]], dtype=float32)
    """
    values = stacks.as_real("transmission", transmission)
    check_finite("transmission", values)
    return logarithm(values.astype(np.float32))


def logarithm(transmission: Floats) -> Floats:
    """Return the absorbance of checked transmission."""
    return -np.log(np.maximum(transmission, np.float32(SMALLEST)))


def check_finite(name: str, array: NDArray[Any]) -> None:
    """Refuse NaN and infinity, naming the first image that has them."""
    finite = np.isfinite(array)
    if not finite.all():
        index = np.argwhere(~finite)[0]
        where = f"[{', '.join(map(str, index[:-2]))}]" if array.ndim > 2 else ""
        raise imsim.ImsimError(f"{name}{where} {stacks.NOT_FINITE}")


def segment(absorbance: Any) -> Booleans:
    """Find the single item of each frame, which does not touch the border of the frame.

    Its pixels absorb clearly more than the background, which the border of the frame gives. Ridler
    and Calvard's threshold lies half-way between background and item. Pixels above half of it
    belong to the item, since the rim is thin. Holes are filled: a void belongs to the item. The
    image is averaged over 3x3 pixels first, so that the mask of a sharp edge reaches one pixel
    beyond it. Pieces below a tenth of the largest are crumbs, which are left out.

    Parameters
    ----------
    absorbance : array_like, shape (n, height, width)
        The item brighter than the background, see `imsim.anomaly.xray.absorbance`.

    Returns
    -------
    bool array, shape (n, height, width)
        True = item.

    Raises
    ------
    ImsimError
        If images are below 8x8 pixels, or a frame has no usable item: the message names the first
        one and says why.

    References
    ----------
    Ridler and Calvard 1978, Picture thresholding using an iterative selection method, IEEE
    Transactions on Systems, Man and Cybernetics 8(8), 630-632, doi:10.1109/TSMC.1978.4310039.

    Examples
    --------
    >>> import numpy as np
    >>> from imsim.anomaly import xray
    >>> frame = np.zeros((1, 32, 32))
    >>> frame[0, 10:20, 8:24] = 1
    >>> mask = xray.segment(frame)[0]
    >>> bool(mask[10:20, 8:24].all()), bool(mask[:8].any())
    (True, False)
    """
    with np.errstate(over="ignore"):  # numbers beyond float32 are reported below
        frames = stacks.as_stack("absorbance", absorbance).astype(np.float32)
    masks, problems = find_items(frames, single=True)
    if problems:
        index, reason = next(iter(problems.items()))
        raise imsim.ImsimError(f"absorbance[{index}] {reason}")
    return masks


def border(frames: NDArray[Any], width: int = BORDER) -> NDArray[Any]:
    """Return the pixels along the frame, shape (n, pixels)."""
    rest = frames[:, width:-width]
    parts = (frames[:, :width], frames[:, -width:], rest[..., :width], rest[..., -width:])
    return np.concatenate([part.reshape(len(frames), -1) for part in parts], axis=1)


def levels_of(frames: NDArray[Any]) -> NDArray[np.float64]:
    """Return the level of the background of each image."""
    return np.median(border(frames).astype(np.float64), axis=1)


def find_kind(frames: NDArray[Any]) -> str:
    """Tell from good images whether pixels are transmission, counts or absorbance."""
    finite = np.asarray(np.isfinite(frames).all(axis=(1, 2)))
    usable = frames[finite].astype(np.float64)
    if not len(usable):
        raise imsim.ImsimError("every image holds NaN or infinity: pass finite images")
    background = levels_of(usable)
    low, high = np.quantile(usable.reshape(len(usable), -1), (0.05, 0.95), axis=1)
    darker = float(np.median(background - low))
    brighter = float(np.median(high - background))
    if not max(darker, brighter) > 2 * min(darker, brighter):
        raise imsim.OptionError(
            "it is unclear whether items are darker or brighter than their background: pass "
            f"kind, one of {KINDS}, and images with background around the items; or, for images "
            "of other things than X-rayed items, take no peel: preprocess=None of a detector, "
            "--preprocess none of the command"
        )
    if brighter > darker:
        return "absorbance"
    is_float = frames.dtype.kind == "f"
    return "transmission" if is_float and 0.5 < np.median(background) < 2 else "counts"


def find_items(frames: Floats, *, single: bool = False) -> tuple[Booleans, dict[int, str]]:
    """Return masks of the items, and the reasons why frames have none, by index.

    A `single` one must be alone, and must not touch the frame.
    """
    height, width = frames.shape[1:]
    if min(height, width) < 2 * BORDER + 2:
        raise imsim.ShapeError(f"images are {height}x{width} pixels; expected at least 8x8")
    finite = np.asarray(np.isfinite(frames).all(axis=(1, 2)))
    smooth = passes.mean_of_neighbours(np.where(finite[:, None, None], frames, 0))
    around = border(smooth)
    level = np.median(around, axis=1)
    noise = stacks.ROBUST * np.median(np.abs(around - level[:, None]), axis=1)
    smooth -= level[:, None, None]
    threshold = halfway(smooth)
    contrast = 2 * threshold  # the background is at 0

    problems: dict[int, str] = {}
    above = np.zeros(frames.shape, np.bool_)
    for i, frame in enumerate(smooth):
        if not finite[i]:
            problems[i] = stacks.NOT_FINITE
        elif not contrast[i] > _CONTRAST * noise[i]:
            problems[i] = "shows no item that stands out from the background: is the frame empty?"
        else:
            np.greater(frame, threshold[i] / 2, out=above[i])
    smallest = max(_SMALLEST_ITEM * height * width, 1)
    masks, numbers = passes.items(above, smallest, _SECOND_ITEM, not single)
    for i, number in enumerate(numbers.tolist()):
        if i in problems:
            continue
        if number == 0:
            problems[i] = "shows specks only, no item: is the frame empty?"
        elif single and number > 1:
            problems[i] = f"shows {number} items: separate the items"
        elif single and _touches_frame(masks[i]):
            masks[i] = False
            problems[i] = "shows an item that touches the frame: take a larger frame"
    return masks, problems


def find_doubts(absorbed: Floats, items: Booleans) -> dict[int, str]:
    """Return the reasons to doubt that finite frames show a single item, by index."""
    frames, n = np.where(items, np.float32(np.nan), absorbed), len(absorbed)
    # The medians of half a side each, without the item, measure the open beam there.
    ends = (slice(None, BORDER), slice(-BORDER, None))
    sides = [frames[:, end] for end in ends] + [frames[:, :, end].swapaxes(1, 2) for end in ends]
    eighths = [half.reshape(n, -1) for side in sides for half in np.array_split(side, 2, axis=2)]
    doubts: dict[int, str] = {}
    for i, (frame, item) in enumerate(zip(absorbed, items, strict=True)):
        if not np.isfinite(frame).all():
            continue
        if not item.any():
            doubts[i] = "shows no item"
            continue
        beam = [np.median(part[i][free]) for part in eighths if (free := ~np.isnan(part[i])).any()]
        if _touches_frame(item) or not beam:
            doubts[i] = "shows something that touches the frame"
        elif item.mean() > LARGEST_ITEM:
            doubts[i] = f"shows something that fills {item.mean():.0%} of the frame"
        elif np.ptp(beam) > _UNEVEN * (np.median(frame[item]) - np.median(beam)):
            doubts[i] = "has no even background around what it shows"
    return doubts


def _touches_frame(item: Booleans) -> bool:
    return any(edge.any() for edge in (item[0], item[-1], item[:, 0], item[:, -1]))


def halfway(smooth: Floats) -> Any:
    """Return the threshold half-way between the means of the pixels below and above it."""
    return passes.halfway(smooth, _ITERATIONS)


def eroded(masks: Booleans, width: int) -> Booleans:
    """Return the pixels at least `width` pixels inside the masks: erosion by an octagon."""
    rows, columns = masks.shape[1:]
    for step in range(width):
        around = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
        # A cross and a square in turn: diagonals and axes are equally wide, within a few per cent.
        masks = masks.copy()
        for y, x in product(range(3), repeat=2):
            if step % 2 or 1 in (y, x):
                masks &= around[:, y : y + rows, x : x + columns]
    return masks
