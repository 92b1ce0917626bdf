"""Gram matrices of two vectors, by which SAM finds the angle between whole images."""

from __future__ import annotations

import numpy as np

from imsim.kernels.common.jit import exact_part, part

N_GRAM = 4
"""Numbers of a Gram matrix: sums of x^2, y^2 and x y, and the square of the sine of the angle.

The square is the part of y^2 that a fit by x leaves. From the sums alone, cancellation would lose
the sine of a small angle. Where x or y is 0 throughout, the square is 1.
"""


@exact_part  # a compiler that may reorder squares a square, which may leave float64
def fit(x, y, weights, xx, yy, xy, gram):  # type: ignore[no-untyped-def]
    """Fit the shorter vector by the longer one, and square the residual."""
    gram[0], gram[1], gram[2], gram[3] = xx, yy, xy, 1.0
    if xx == 0 or yy == 0:
        return
    by_x = xx > yy
    if xx == yy:  # swapped vectors give the same fit
        by_x = True
        for i in range(x.size):
            if x[i] != y[i]:
                by_x = x[i] > y[i]
                break
    p, q = (x, y) if by_x else (y, x)
    pp, qq = (xx, yy) if by_x else (yy, xx)
    ee, pe = _unexplained(p, q, weights, xy / pp)
    gram[3] = max(ee - pe * (pe / pp), 0.0) / qq


@part
def _unexplained(p, q, weights, slope):  # type: ignore[no-untyped-def]
    """Sum the squares of q - slope p, and its products with p, which correct the slope."""
    ee, pe = 0.0, 0.0
    for i in range(p.size):
        u = np.float64(p[i])
        e = np.float64(q[i]) - slope * u
        if weights is None:
            ee += e * e
            pe += u * e
        else:
            weight = np.float64(weights[i])
            ee += weight * (e * e)
            pe += weight * (u * e)
    return ee, pe


@exact_part
def merge_gram(total, part):  # type: ignore[no-untyped-def]
    """Add the Gram matrix of further pixels; for multiples of one vector without an error."""
    by_y = total[1] > total[0] or (total[1] == total[0] and part[1] > part[0])
    a, b = (1, 0) if by_y else (0, 1)
    aa, bb = total[a] + part[a], total[b] + part[b]
    rest = 1.0 if bb == 0 else (total[3] * total[b] + part[3] * part[b]) / bb
    if total[a] != 0 and part[a] != 0 and bb != 0:
        turn = total[2] / total[a] - part[2] / part[a]
        short, long = min(total[a], part[a]), max(total[a], part[a])
        # For parts or images of unlike magnitudes, other products would leave float64.
        rest += (turn * (short / (1 + short / long))) * (turn / bb)
    total[a], total[b] = aa, bb
    total[2] += part[2]
    total[3] = rest
