"""Print the largest deviation from the golden values, by metric.

Run it as `python tests/golden_deviations.py`.

A line gives the number of values, the largest absolute and relative difference in float64 and in
float32, and the value with the largest absolute difference in float64.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict

import numpy as np
from golden_checks import Check, checks, golden_value
from golden_data import PAIRS, Pair


def difference(pair: Pair, check: Check, dtype: type) -> tuple[float, float]:
    """Return the absolute and the relative difference of one value."""
    golden = golden_value(pair, check.name)
    if golden is None:
        raise LookupError(f"{pair.id} has no value {check.name}")
    want = check.wanted(golden)
    got = float(check.call(*(np.asarray(image, dtype=dtype) for image in check.images(pair))))
    if got == want:
        return 0.0, 0.0
    distance = abs(got - want)
    return distance, distance / abs(want) if want else math.inf


def main() -> None:
    """Go through all pairs and values."""
    warnings.simplefilter("error")
    double: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    single: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for pair in PAIRS:
        for check in checks(pair):
            label = check.name.split("@")[0].split("_crop")[0]
            where = f"{pair.id} {check.name}"
            double[label].append((*difference(pair, check, np.float64), where))
            if check.float32 is not None:
                single[label].append(difference(pair, check, np.float32))
    print(f"{'golden value':30}{'n':>5}  float64: abs      rel  float32: abs      rel  worst")
    for label in sorted(double):
        absolute, _, where = max(double[label])
        relative = max(entry[1] for entry in double[label])
        low = [max(column) for column in zip(*single[label], strict=True)] or [math.nan] * 2
        print(
            f"{label:30}{len(double[label]):5}  {absolute:12.1e} {relative:8.1e}"
            f"  {low[0]:12.1e} {low[1]:8.1e}  {where if absolute else ''}"
        )


if __name__ == "__main__":
    main()
