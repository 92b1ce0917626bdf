"""Path lengths through potatoes and chocolate bars."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import fft

from imsim.anomaly.simulate.physics import FIELD, Floats
from imsim.caches import kept

MODES = 96  # cosines of the texture along each axis: the finest has a period of 2.3 mm
SEGMENTS = (5, 3)  # of a bar, along and across


@kept
def grid(size: int) -> tuple[Floats, Floats]:
    """Return the positions of the pixels' centres in mm, y as a column and x as a row."""
    axis: Floats = (((np.arange(size) + 0.5) / size - 0.5) * FIELD).astype(np.float32)
    return axis[:, None], axis[None, :]


def texture(size: int, generator: np.random.Generator, coarsest: float, steepness: float) -> Floats:
    """Random field of unit variance: cosines whose amplitudes fall as 1 / frequency^steepness.

    The series is the same at every image size; `coarsest`, in mm, is where the fall begins.
    """
    frequency = np.arange(MODES) / (2 * FIELD)
    squared = frequency[:, None] ** 2 + frequency[None, :] ** 2
    amplitude = (squared + coarsest**-2.0) ** (-steepness / 2)
    amplitude[0, 0] = 0.0
    amplitude *= size / np.sqrt((amplitude**2).sum())
    series = np.zeros((max(size, MODES), max(size, MODES)), np.float32)
    series[:MODES, :MODES] = amplitude * generator.standard_normal((MODES, MODES))
    field: Floats = fft.idctn(series[:size, :size], norm="ortho")
    return field


def bumps(
    size: int, y: npt.ArrayLike, x: npt.ArrayLike, radius: npt.ArrayLike, height: npt.ArrayLike
) -> Floats:
    """Sum of round Gaussian bumps; positions and standard deviations in mm."""
    rows, columns = grid(size)
    twice = 2 * np.asarray(radius) ** 2
    down = np.exp(-((rows - np.asarray(y)) ** 2) / twice) * np.asarray(height)
    along = np.exp(-((columns.T - np.asarray(x)) ** 2) / twice)
    total: Floats = np.einsum("ik,jk->ij", down, along).astype(np.float32)
    return total


def potato(size: int, shape: np.random.Generator, inside: np.random.Generator) -> Floats:
    """Path length through a potato in mm of flesh of mean density.

    The outline is an ellipse with harmonics; the halves above and below its plane are independent:
    each has its own height, roundness, summit, lumps and eyes. Inside are density texture and
    denser or lighter lumps.
    """
    half_length = shape.uniform(28.0, 42.0)
    half_width = half_length * shape.uniform(0.62, 0.88)
    turn = shape.uniform(0, 2 * np.pi)
    orders = np.arange(2, 9)
    amplitudes = shape.normal(0, 0.07, orders.size) / (orders - 0.5)
    phases = shape.uniform(0, 2 * np.pi, orders.size)
    room = max(0.0, FIELD / 2 - 4.0 - 1.15 * half_length)
    centre = shape.uniform(-1, 1, 2) * min(room, 9.0)

    y, x = grid(size)
    y, x = y - np.float32(centre[0]), x - np.float32(centre[1])
    angle = np.arctan2(y, x) - np.float32(turn)
    angles = np.linspace(-3 * np.pi, np.pi, 2049)
    outline = 1 / np.hypot(np.cos(angles) / half_length, np.sin(angles) / half_width)
    outline *= 1 + np.cos(np.multiply.outer(angles, orders) + phases) @ amplitudes
    relative = np.hypot(y, x) / np.interp(angle, angles, outline).astype(np.float32)
    relative = np.minimum(relative, np.float32(1))

    thickness = np.zeros((size, size), np.float32)
    for _ in range(2):
        height = half_width * shape.uniform(0.7, 1.0)
        power = np.float32(shape.uniform(1.9, 2.7))
        # The summit lies off the centre: the rings of equal height are shifted, not the outline.
        shift, towards = shape.uniform(0, 0.25), shape.uniform(0, 2 * np.pi)
        ring = relative * (1 + shift * (1 - relative) * np.cos(angle - towards))
        half = height * np.maximum(1 - ring**power, 0) ** (1 / power)
        half *= 1 + _scattered(size, shape, centre, half_length, 6, (6.0, 14.0), 0.05)
        half -= np.abs(_scattered(size, shape, centre, half_length, 7, (1.0, 2.2), 0.3))
        thickness += np.maximum(half, 0)

    inner = 1 + 0.012 * texture(size, inside, 12.0, 1.6)
    lumps = _scattered(size, inside, centre, half_length, 8, (1.5, 6.0), 0.4)
    inside_rim = np.minimum(thickness / 15, 1)  # lumps lie inside, not in the thin rim
    path: Floats = (thickness * inner + lumps * inside_rim).astype(np.float32)
    return path


def _scattered(
    size: int,
    generator: np.random.Generator,
    centre: npt.NDArray[np.float64],
    reach: float,
    count: int,
    radii: tuple[float, float],
    height: float,
) -> Floats:
    """Bumps up and down at random places within `reach` of the centre."""
    y, x = centre[:, None] + generator.uniform(-0.8 * reach, 0.8 * reach, (2, count))
    radius = generator.uniform(*radii, count)
    return bumps(size, y, x, radius, generator.normal(0, height, count))


def bar(size: int, shape: np.random.Generator, inside: np.random.Generator) -> Floats:
    """Path length through a chocolate bar in mm of chocolate without nuts and bubbles.

    The mould is always the same: segments with bevels and an embossed ring each. Fill height, tilt
    of the poured surface, placement, nuts, bubbles and density texture vary.
    """
    turn = np.deg2rad(shape.normal(0, 2.0))
    centre = shape.uniform(-3, 3, 2)
    fill = shape.normal(5.5, 0.35)
    tilt = shape.normal(0, 0.008, 2)
    half = np.array([42.0, 24.0]) * shape.normal(1, 0.008)

    y, x = grid(size)
    y, x = y - np.float32(centre[0]), x - np.float32(centre[1])
    along = x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn))
    across = y * np.float32(np.cos(turn)) - x * np.float32(np.sin(turn))
    inset = np.minimum(half[0] - np.abs(along), half[1] - np.abs(across))
    base = fill * np.clip(inset / 1.5, 0, 1)
    base += np.where(inset > 0, tilt[0] * along + tilt[1] * across, 0)

    pitch = 2 * half / SEGMENTS
    local = [
        np.abs((position + extent) % step - step / 2)
        for position, extent, step in zip((along, across), half, pitch, strict=True)
    ]
    groove = np.minimum(pitch[0] / 2 - local[0], pitch[1] / 2 - local[1])
    top = 5.0 * np.clip((groove - 0.4) / 2.6, 0, 1)
    ring = np.abs(np.hypot(*local) - 3.6)
    top -= 0.8 * np.clip(1.6 - ring, 0, 1)
    thickness = np.maximum(base + np.where(inset > 0, top * np.clip(inset / 1.5, 0, 1), 0), 0)

    nuts = _pieces(size, inside, centre, half, (3, 9), (1.8, 3.2))
    bubbles = _pieces(size, inside, centre, half, (5, 20), (0.5, 1.2))
    # Nuts are lighter than chocolate; where several would overlap, there is room for one.
    inner = 1 + 0.008 * texture(size, inside, 8.0, 1.4) - np.minimum(nuts + bubbles, 0.2)
    path: Floats = (thickness * inner).astype(np.float32)
    return path


def _pieces(
    size: int,
    generator: np.random.Generator,
    centre: npt.NDArray[np.float64],
    half: npt.NDArray[np.float64],
    numbers: tuple[int, int],
    radii: tuple[float, float],
) -> Floats:
    """Round pieces at random places in a bar, of which each lowers the density by 6 to 12 %."""
    count = generator.integers(*numbers, endpoint=True)
    y = centre[0] + generator.uniform(-half[1], half[1], count)
    x = centre[1] + generator.uniform(-half[0], half[0], count)
    radius, height = generator.uniform(*radii, count), generator.uniform(0.06, 0.12, count)
    return bumps(size, y, x, radius, height)
