"""Items on the belt: path lengths through potatoes, chocolate bars and their defects."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from imsim.anomaly.simulate.physics import FIELD, Floats, Foreign
from imsim.caches import kept

MODES = 96  # cosines of the texture along each axis: the finest has a period of 2.3 mm
SEGMENTS = (5, 3)  # of a bar, along and across
Points = npt.NDArray[np.float64]


@kept
def grid(size: int) -> tuple[Floats, Floats]:
    """Return the positions of the pixels' centres in mm, y as a column and x as a row."""
    axis: Floats = (((np.arange(size) + 0.5) / size - 0.5) * FIELD).astype(np.float32)
    return axis[:, None], axis[None, :]


def texture(size: int, generator: np.random.Generator, coarsest: float, steepness: float) -> Floats:
    """Random field of unit variance: cosines that fall as 1 / frequency^steepness from a period on.

    The series is the same at every image size.
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
    """Path length through a potato in mm of flesh of mean density."""
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
    for _ in range(2):  # the halves above and below the plane are independent
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
    return (thickness * inner + lumps * inside_rim).astype(np.float32)


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
    """Path length through a chocolate bar in mm of chocolate without nuts and bubbles."""
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
    """Round pieces at random places in a bar; each lowers the density by 6 to 12 %."""
    count = generator.integers(*numbers, endpoint=True)
    y = centre[0] + generator.uniform(-half[1], half[1], count)
    x = centre[1] + generator.uniform(-half[0], half[0], count)
    radius, height = generator.uniform(*radii, count), generator.uniform(0.06, 0.12, count)
    return bumps(size, y, x, radius, height)


def _chord(radius: Points | float, distance: Points) -> Points:
    """Path length through a cylinder or sphere at a distance from its axis or centre."""
    return 2 * np.sqrt(np.maximum(radius**2 - distance**2, 0))


def _lobes(
    generator: np.random.Generator, orders: list[int], spread: float, angle: Points
) -> Points:
    """Outline in polar coordinates: 1 and harmonics with amplitudes of about spread / order."""
    amplitudes = generator.normal(0, spread, len(orders)) / np.array(orders)
    phases = generator.uniform(0, 2 * np.pi, len(orders))
    radii: Points = 1 + np.cos(np.multiply.outer(angle, orders) + phases) @ amplitudes
    return radii


# Path lengths in mm at positions (along, across) in mm relative to the body's own axes.


def _needle(scale: float, generator: np.random.Generator, along: Points, across: Points) -> Points:
    tilt = np.cos(generator.uniform(0, np.deg2rad(45)))
    length, radius = 22.0 * scale * tilt, 0.4 * scale
    return np.where(np.abs(along) < length / 2, _chord(radius, across) / tilt, 0)


def _ball(scale: float, generator: np.random.Generator, along: Points, across: Points) -> Points:
    return _chord(0.9 * scale, np.hypot(along, across))


def _shaving(scale: float, generator: np.random.Generator, along: Points, across: Points) -> Points:
    """A curled ribbon: an arc whose path length swings as it twists."""
    bend = 4.0 * scale * generator.uniform(0.8, 1.3)
    opening = generator.uniform(1.0, 2.4)
    twist, phase = generator.uniform(2, 5), generator.uniform(0, 2 * np.pi)
    angle = np.arctan2(across, along)
    off = np.abs(np.hypot(along, across) - bend)
    ribbon = (off < 0.9 * scale / 2) & (np.abs(angle) < opening)
    return np.where(ribbon, 0.4 * scale * (1 + 0.6 * np.cos(twist * angle + phase)), 0)


def _stone(scale: float, generator: np.random.Generator, along: Points, across: Points) -> Points:
    radius, flatness = 3.0 * scale, generator.uniform(0.6, 0.9)
    outline = _lobes(generator, [2, 3, 4, 5, 6], 0.35, np.arctan2(across, along))
    relative = np.hypot(along, across) / (radius * np.clip(outline, 0.4, 1.7))
    return flatness * radius * _chord(1.0, np.minimum(relative, 1)) ** 0.7


def _plate(
    scale: float,
    generator: np.random.Generator,
    along: Points,
    across: Points,
    *,
    corners: tuple[int, int],
    radius: float,
    thickness: float,
) -> Points:
    """Flat piece with straight edges, with bevels: a shard."""
    number = generator.integers(*corners, endpoint=True)
    angles = (np.arange(number) + generator.uniform(-0.3, 0.3, number)) * 2 * np.pi / number
    offsets = radius * scale * generator.uniform(0.55, 1.0, number)
    inset = np.full(np.broadcast(along, across).shape, np.inf)
    for angle, offset in zip(angles, offsets, strict=True):
        np.minimum(inset, offset - along * np.cos(angle) - across * np.sin(angle), out=inset)
    # A triangle's far corners are cut off: no splinter leaves the box.
    inset = np.minimum(inset, 1.5 * radius * scale - np.hypot(along, across))
    path: Points = np.clip(2 * inset, 0, thickness * scale)
    return path


def _bone(scale: float, generator: np.random.Generator, along: Points, across: Points) -> Points:
    """A splinter of a long bone: a shell around a light core, thicker at one end."""
    length, radius = 13.0 * scale, 2.2 * scale
    taper = generator.uniform(-0.5, 0.5)
    core = generator.uniform(0.3, 0.6)
    ends = np.sqrt(np.maximum(1 - (2 * along / length) ** 4, 0))
    local = radius * (1 + taper * along / length) * ends
    return _chord(local, across) - _chord(core * local, across)


def _hollow(scale: float, generator: np.random.Generator, along: Points, across: Points) -> Points:
    """A cavity with a few arms around the centre."""
    radius, height = 8.0 * scale, 18.0 * scale
    outline = _lobes(generator, [2, 3, 4, 5], 0.9, np.arctan2(across, along))
    reach = radius * np.clip(outline, 0.25, 1.5)
    return height * np.sqrt(np.maximum(1 - (np.hypot(along, across) / reach) ** 2, 0))


def _gap(scale: float, generator: np.random.Generator, along: Points, across: Points) -> Points:
    """A crack: a thin bent lens of air seen from its edge."""
    length, width, depth = 24.0 * scale, 2.0 * scale, 16.0 * scale
    bend = generator.uniform(-0.02, 0.02) / scale
    opening = np.maximum(1 - (2 * along / length) ** 2, 0)
    off = (across - bend * along**2) * (2 / width)
    return depth * np.sqrt(np.maximum(opening**2 - off**2, 0))


class Kind(NamedTuple):
    """A kind of defect: its material, its path lengths, and two lengths in mm at full size."""

    material: str
    path: Callable[[float, np.random.Generator, Points, Points], Points]
    reach: float  # greatest distance of a part of it from its centre
    finest: float  # smallest extent, which the subpixels have to resolve


DEFECTS = {
    "needle": Kind("steel", _needle, 11.2, 0.8),
    "ball": Kind("steel", _ball, 1.2, 1.8),
    "shaving": Kind("steel", _shaving, 5.8, 0.9),
    "stone": Kind("stone", _stone, 5.5, 3.0),
    "glass": Kind("glass", partial(_plate, corners=(3, 5), radius=4.0, thickness=4.0), 6.0, 2.0),
    "bone": Kind("bone", _bone, 7.0, 2.0),
    "pvc": Kind("pvc", partial(_plate, corners=(4, 4), radius=5.0, thickness=5.0), 7.5, 3.0),
    "hollow_heart": Kind("air", _hollow, 12.0, 4.0),
    "gap": Kind("air", _gap, 12.5, 2.0),
}


def place(
    kind: str, scale: float, thickness: Floats, generator: np.random.Generator
) -> tuple[Foreign, npt.NDArray[np.bool_]]:
    """Put a defect into an item; return it with its mask: every pixel that it touches."""
    size = thickness.shape[0]
    pixel = FIELD / size
    defect = DEFECTS[kind]
    depth = ndimage.distance_transform_edt(np.pad(thickness > 0, 1))[1:-1, 1:-1] * pixel
    deepest = depth.max()
    # Where it would fit in at full size, or as near to the middle as can be: at every scale there.
    needed = 0.8 * deepest if kind == "hollow_heart" else min(defect.reach + 2, 0.95 * deepest)
    candidates = np.argwhere(depth >= needed)
    row, column = candidates[int(generator.random() * len(candidates))]
    # Within its pixel, too, it lies anywhere.
    centre = np.array([row, column]) + generator.random(2)
    turn = generator.uniform(0, 2 * np.pi)
    half = int(np.ceil(defect.reach * scale / pixel)) + 1
    box = (
        slice(max(row - half, 0), min(row + half + 1, size)),
        slice(max(column - half, 0), min(column + half + 1, size)),
    )
    times = max(2, int(np.ceil(4 * pixel / (defect.finest * scale))))
    y, x = (
        ((np.arange(s.start * times, s.stop * times) + 0.5) / times - c) * pixel
        for s, c in zip(box, centre, strict=True)
    )
    along = x[None, :] * np.cos(turn) + y[:, None] * np.sin(turn)
    across = y[:, None] * np.cos(turn) - x[None, :] * np.sin(turn)
    path: Floats = defect.path(scale, generator, along, across).astype(np.float32)
    mask = np.zeros((size, size), bool)
    rows, columns = (s.stop - s.start for s in box)
    mask[box] = path.reshape(rows, times, columns, times).max(axis=(1, 3)) > 0
    return Foreign(defect.material, box, path), mask
