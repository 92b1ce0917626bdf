"""FSIM in extended precision, by the definition of the Fourier transform: slow, for tiny frames."""

from __future__ import annotations

import numpy as np

REAL = np.longdouble
PI = REAL("3.14159265358979323846264338327950288")


def fsim(x: np.ndarray, y: np.ndarray, data_range: float) -> tuple[float, np.ndarray]:
    """Score and map of two images whose shorter side is below 384 pixels."""
    scale = REAL(255) / REAL(data_range)
    (p, g), (q, h) = (
        (congruency(v), gradient(v)) for v in (scale * v.astype(REAL) for v in (x, y))
    )
    local = (2 * p * q + REAL("0.85")) / (p * p + q * q + REAL("0.85"))
    local *= (2 * g * h + 160) / (g * g + h * h + 160)
    weight = np.maximum(p, q)
    total = weight.sum()
    score = (local * weight).sum() / total if total > 0 else REAL(1)
    return float(score), local.astype(np.float64)


def gradient(image: np.ndarray) -> np.ndarray:
    v = np.pad(image, 1)
    gx, gy = (
        3 * (w[:-2, 2:] - w[:-2, :-2])
        + 10 * (w[1:-1, 2:] - w[1:-1, :-2])
        + 3 * (w[2:, 2:] - w[2:, :-2])
        for w in (v, v.T)
    )
    return np.sqrt(gx * gx + gy.T * gy.T) / 16


def waves(n: int, sign: int) -> np.ndarray:
    """Matrix of the transform of n samples; the angle is reduced exactly, as whole numbers."""
    angle = 2 * PI * (np.outer(np.arange(n), np.arange(n)) % n).astype(REAL) / n
    return np.cos(angle) + sign * 1j * np.sin(angle)


def frequencies(n: int) -> np.ndarray:
    grid = np.arange(-(n // 2), n - n // 2).astype(REAL) / (n - 1 if n % 2 else n)
    return np.roll(grid, -(n // 2))


def congruency(image: np.ndarray) -> np.ndarray:
    rows, columns = image.shape
    fy, fx = np.meshgrid(frequencies(rows), frequencies(columns), indexing="ij")
    radius, theta = np.sqrt(fx * fx + fy * fy), np.arctan2(-fy, fx)
    lowpass = 1 / (1 + (radius / REAL("0.45")) ** 30)
    radius[0, 0] = 1
    down, across = waves(rows, 1) / rows, waves(columns, 1) / columns
    spectrum = waves(rows, -1) @ (image - image.min()) @ waves(columns, -1)
    energy_all, amplitude_all = np.zeros((2, rows, columns), dtype=REAL)
    for o in range(4):
        turned = theta - o * PI / 4
        away = np.abs(np.arctan2(np.sin(turned), np.cos(turned)))
        spread = np.exp(-(away**2) / (2 * (PI / 4 / REAL("1.2")) ** 2))
        responses, evens = [], []
        for s in range(4):
            centre = REAL(1) / (6 * 2**s)
            width = np.log(REAL("0.55"))
            radial = np.exp(-(np.log(radius / centre) ** 2) / (2 * width**2)) * lowpass
            radial[0, 0] = 0
            part = radial * spread
            responses.append(down @ (spectrum * part) @ across)
            mirrored = np.roll(part[::-1, ::-1], (1, 1), (0, 1))
            evens.append((part + mirrored) / 2)
            if s == 0:
                finest = (part**2).sum()
        even, odd = sum(responses).real, sum(responses).imag
        length = np.sqrt(even * even + odd * odd) + REAL("0.0001")
        even, odd = even / length, odd / length
        energy = sum(
            r.real * even + r.imag * odd - np.abs(r.real * odd - r.imag * even) for r in responses
        )
        powers = np.sort(np.abs(responses[0]).ravel() ** 2)
        middle = (powers[(powers.size - 1) // 2] + powers[powers.size // 2]) / 2
        noise = middle / -np.log(REAL("0.5")) / finest
        squares = sum((e**2).sum() for e in evens)
        products = sum((evens[i] * evens[j]).sum() for i in range(4) for j in range(i + 1, 4))
        tau = np.sqrt(noise * (squares + 2 * products))
        threshold = tau * (np.sqrt(PI / 2) + 2 * np.sqrt(2 - PI / 2)) / REAL("1.7")
        energy_all += np.maximum(energy - threshold, 0)
        amplitude_all += sum(np.abs(r) for r in responses)
    some = amplitude_all > 0
    return np.where(some, energy_all / np.where(some, amplitude_all, 1), 0)
