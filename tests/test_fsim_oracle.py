"""FSIM, whole and masked, against a literal transcription with plain loops over filters.

It shares no code with imsim. The unmasked case is held to the authors' values elsewhere; this
module is about what a mask does: means over the pixels inside, the other cells filled from the
nearest windows with valid ones, the noise median over valid cells, pooling over eroded cells.
"""

from __future__ import annotations

import numpy as np
import pytest
from sampling import blob_mask, textured_pair
from scipy.ndimage import minimum_filter
from scipy.signal import convolve2d

import imsim


def grid(n: int) -> np.ndarray:
    half = (n - 1) // 2 if n % 2 else n // 2
    return np.arange(-half, n - half) / (n - 1 if n % 2 else n)


def phase_congruency(image: np.ndarray, valid: np.ndarray) -> np.ndarray:
    rows, cols = image.shape
    fx, fy = np.meshgrid(grid(cols), grid(rows))
    radius, theta = np.fft.ifftshift(np.hypot(fx, fy)), np.fft.ifftshift(np.arctan2(-fy, fx))
    lowpass = 1 / (1 + (radius / 0.45) ** 30)
    radius[0, 0] = 1
    transform = np.fft.fft2(image)
    energy_all, amplitude_all = np.zeros((2, rows, cols))
    for o in range(4):
        angle = o * np.pi / 4
        away = np.abs(np.angle(np.exp(1j * (theta - angle))))
        spread = np.exp(-(away**2) / (2 * (np.pi / 4 / 1.2) ** 2))
        responses, kernels = [], []
        for s in range(4):
            centre = 1 / (6 * 2**s)
            radial = np.exp(-(np.log(radius / centre) ** 2) / (2 * np.log(0.55) ** 2)) * lowpass
            radial[0, 0] = 0
            responses.append(np.fft.ifft2(transform * radial * spread))
            kernels.append(np.real(np.fft.ifft2(radial * spread)) * np.sqrt(rows * cols))
            if s == 0:
                power_of_filter = ((radial * spread) ** 2).sum()
        even, odd = np.real(sum(responses)), np.imag(sum(responses))
        length = np.hypot(even, odd) + 1e-4
        even, odd = even / length, odd / length
        energy = sum(
            r.real * even + r.imag * odd - np.abs(r.real * odd - r.imag * even) for r in responses
        )
        noise = np.median(np.abs(responses[0][valid]) ** 2) / -np.log(0.5) / power_of_filter
        squares = sum((k**2).sum() for k in kernels)
        products = sum((kernels[i] * kernels[j]).sum() for i in range(4) for j in range(i + 1, 4))
        tau = np.sqrt((2 * noise * squares + 4 * noise * products) / 2)
        threshold = tau * np.sqrt(np.pi / 2) + 2 * np.sqrt((2 - np.pi / 2) * tau**2)
        energy_all += np.maximum(energy - threshold / 1.7, 0)
        amplitude_all += sum(np.abs(r) for r in responses)
    return energy_all / amplitude_all


def coarse(image: np.ndarray, mask: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Means over the pixels of each cell inside the mask, darkened by zeros beyond the frame."""

    def sums(values: np.ndarray) -> np.ndarray:
        # MATLAB's 'same' starts at sample factor // 2 of the full convolution.
        every = convolve2d(values, np.ones((factor, factor)), mode="full")[
            factor // 2 :, factor // 2 :
        ]
        return every[: image.shape[0] : factor, : image.shape[1] : factor]

    inside, total = np.round(sums(mask.astype(float))), np.round(sums(np.ones(mask.shape)))
    valid = inside >= 0.5 * total
    mean = sums(np.where(mask, image, 0)) / np.maximum(inside, 1) * total / factor**2
    return fill(mean, valid), valid


def fill(cells: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Mean of the valid cells within 1, 2, 4, 8 ... of an invalid one, where there are any."""
    filled = cells.copy()
    for row, col in np.argwhere(~valid):
        reach = 1
        while True:
            near = np.s_[
                max(row - reach, 0) : row + reach + 1, max(col - reach, 0) : col + reach + 1
            ]
            if valid[near].any():
                filled[row, col] = cells[near][valid[near]].mean()
                break
            reach *= 2
    return filled


def gradient(image: np.ndarray) -> np.ndarray:
    scharr = np.array([[3, 0, -3], [10, 0, -10], [3, 0, -3]]) / 16
    return np.hypot(
        convolve2d(image, scharr, mode="same"), convolve2d(image, scharr.T, mode="same")
    )


def fsim(x: np.ndarray, y: np.ndarray, mask: np.ndarray, factor: int) -> float:
    (u, valid), (v, _) = coarse(x, mask, factor), coarse(y, mask, factor)
    p, q = phase_congruency(u, valid), phase_congruency(v, valid)
    g, h = gradient(u), gradient(v)
    similarity = (2 * p * q + 0.85) / (p**2 + q**2 + 0.85)
    similarity *= (2 * g * h + 160) / (g**2 + h**2 + 160)
    weight = np.maximum(p, q)
    scored = minimum_filter(valid, size=3, mode="constant", cval=True)
    return float((similarity * weight)[scored].sum() / weight[scored].sum())


@pytest.mark.parametrize("kind", ["whole", "blob", "disc"])
@pytest.mark.parametrize("shape", [(40, 44), (41, 45), (33, 64)])
def test_masked_fsim(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> None:
    x, y = textured_pair(rng, *shape)
    rows, cols = np.indices(shape)
    mask = {
        "whole": np.ones(shape, dtype=bool),
        "blob": blob_mask(rng, *shape, 0.8),
        "disc": (rows - 20) ** 2 + (cols - 21) ** 2 < 15**2,
    }[kind]
    got = imsim.fsim(x, y, mask=mask, data_range=255)
    # Two routes through the FFT: the tolerance of the authors' values.
    assert abs(got - fsim(x, y, mask, 1)) <= 1e-12


@pytest.mark.parametrize(
    ("shape", "factor", "coverage"),
    [
        ((384, 391), 2, 0.7),
        # Factors of 3 without a mask are among the authors' values.
        *(
            pytest.param(*case, marks=pytest.mark.thorough)
            for case in (((384, 391), 2, 1.0), ((641, 640), 3, 1.0), ((641, 640), 3, 0.7))
        ),
    ],
)
def test_masked_fsim_on_a_coarse_grid(
    shape: tuple[int, int], factor: int, coverage: float, rng: np.random.Generator
) -> None:
    x, y = textured_pair(rng, *shape)
    mask = rng.random(shape) < coverage
    mask[: shape[0] // 3] = coverage == 1
    got = imsim.fsim(x, y, mask=mask, data_range=255)
    assert abs(got - fsim(x, y, mask, factor)) <= 1e-12
