"""Similarity hash (SH)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from imsim import engine
from imsim.caches import kept
from imsim.portable.arrays import count, minimum, peak_to_peak, total
from imsim.portable.hashes import SIGNATURES, TIE, Bits, area_means, grid_shape, overlaps
from imsim.portable.pair import Pair, Scores
from imsim.registry import ON_HOST, metric
from imsim.scenes.local import Census, Signatures
from imsim.typing import Array, Dims, ImageLike, MaskLike, Memory, Score
from imsim.validation import check_choice, check_side

area_weights = kept(overlaps)


def cell_means(image: Array, mask: Array | None, rows: int, columns: int) -> tuple[Array, Bits]:
    """Mean of the pixels of each cell inside the mask, and which cells have pixels."""
    height, width = image.shape
    down, across = area_weights(rows, height), area_weights(columns, width)
    covered = None if mask is None else down @ mask.astype(np.float64) @ across.T
    return area_means(down @ image @ across.T, covered, (height / rows) * (width / columns))


def signatures(images: Array, mask: Array | None, hash: str, hash_size: int) -> tuple[Bits, Bits]:
    """Signature of each image, and which of its bits exist inside the mask."""
    images = images.astype(np.float64)
    # Less its minimum, a constant image is exactly 0, and an offset has no effect.
    images = images - minimum(images, mask)[..., None, None]
    ties = TIE * peak_to_peak(images, mask)
    inside = None if mask is None else np.broadcast_to(mask, images.shape)
    bits = np.zeros((*images.shape[:-2], hash_size, hash_size), dtype=bool)
    valid = np.zeros_like(bits)
    for index in np.ndindex(images.shape[:-2]):
        here = None if inside is None else inside[index]
        image = images[index] if here is None else np.where(here, images[index], 0.0)
        cells, has_pixels = cell_means(image, here, *grid_shape(hash, hash_size))
        bits[index], valid[index] = SIGNATURES[hash](cells, has_pixels, ties[index])
    return bits, valid


def census_distance(pair: Pair) -> tuple[Array, Array]:
    """Differing and all bits of the codes 'is this neighbour brighter than the pixel?'."""
    height, width = pair.x.shape[-2:]

    def neighbour(v: Array, dy: int, dx: int) -> Array:
        return v[..., 1 + dy : height - 1 + dy, 1 + dx : width - 1 + dx]

    differing, bits = np.zeros(1), np.zeros(1)
    for dy, dx in ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)):
        x, y = (neighbour(v, dy, dx) > neighbour(v, 0, 0) for v in (pair.x, pair.y))
        valid = (
            pair.mask
            if pair.mask is None
            else (neighbour(pair.mask, dy, dx) & neighbour(pair.mask, 0, 0))
        )
        differing = differing + total((x ^ y).astype(np.float64), valid)
        bits = bits + count(x, valid)
    return differing, bits


def hash_distance(pair: Pair, hash: str, hash_size: int) -> Scores:
    """Part of the bits in which the signatures differ, of those that exist in both."""
    if hash == "census":
        differing, bits = census_distance(pair)
        return Scores(differing / bits, bits)
    x, valid_x = signatures(pair.x, pair.mask, hash, hash_size)
    y, valid_y = signatures(pair.y, pair.mask, hash, hash_size)
    valid = valid_x & valid_y
    bits = total(valid.astype(np.float64))
    return Scores(total(((x ^ y) & valid).astype(np.float64)) / bits, bits)


def _kernel() -> Any:
    from imsim.kernels.sh import sh  # slow to import, as Numba is

    return sh


def _pieces(whole: Any, hash: str, hash_size: int) -> Any:
    if hash == "census":
        options = {"hash": hash, "hash_size": hash_size}
        return Census(whole, hash_distance, _kernel, (3, 3), options)
    return Signatures(whole, hash, hash_size)


@metric(
    no_weights="a signature is a few bits, which are equal or not",
    title="Similarity hash",
    higher_is_better=False,
    best=0.0,
    bounds=(0.0, 1.0),
    references=("No defining paper; census: Zabih and Woodfill 1994, doi:10.1007/BFb0028345",),
    capabilities=ON_HOST,
    sees="In what part of a short fingerprint do the images differ? Finds copies; blind to "
    "small defects.",
    kernel=_kernel,
    pieces=_pieces,
)
def sh(
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
    hash: Literal["wavelet", "perceptual", "difference", "average", "census"] = "wavelet",
    hash_size: int = 8,
) -> Score:
    r"""Similarity hash: the part of the bits in which two binary signatures differ.

    "SH" has no defining paper; this is a reading of it. The score is the Hamming distance of
    two signatures, divided by their length,

    .. math:: \mathrm{SH}(x, y) = \tfrac{1}{n} \sum_{i=1}^{n} h_i(x) \oplus h_i(y)

    from 0 (same signature) to 1, in steps of 1 / n. The signatures compare mean values of
    cells, exact to the fraction of a pixel, or neighbouring pixels:

    - ``"wavelet"``: coarsest Haar coefficients above their median;
    - ``"perceptual"``: lowest frequencies of the cosine transform above their median;
    - ``"difference"``: cells brighter than the cell to their left;
    - ``"average"``: cells brighter than the mean cell;
    - ``"census"``: for every pixel, which of its 8 neighbours are brighter than itself.

    With a mask, cell means take the pixels inside. In the last three signatures, a bit counts if
    all that it compares has pixels inside. In the first two, empty cells take the mean of
    the others.

    Parameters
    ----------
    a, b, mask, weights, data_range, channel_axis, ndim, dims, memory
        As for every metric, see ``help(imsim)``.
    hash : {"wavelet", "perceptual", "difference", "average", "census"}
        Kind of signature.
    hash_size : int
        Bits per side of the signature, which has ``hash_size**2`` bits; at least 2. Census
        codes do not use it.

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
    Zabih, R., Woodfill, J.: Non-parametric local transforms for computing visual correspondence.
    ECCV 1994, 151-158 (census). doi:10.1007/BFb0028345

    Examples
    --------
    >>> import numpy as np, imsim
    >>> ramp = np.arange(64.0).reshape(8, 8)
    >>> print(imsim.sh(ramp, ramp + 3), imsim.sh(ramp, -ramp))
    0.0 1.0
    """
    check_choice("hash", hash, (*SIGNATURES, "census"))
    check_side("hash_size", hash_size)
    return engine.score(
        "sh",
        hash_distance,
        (a, b, mask, weights, data_range, channel_axis, ndim, dims, memory),
        least_side=3 if hash == "census" else 1,  # the neighbours of a pixel
        hash=hash,
        hash_size=hash_size,
    )
