"""`--fail-under`: limits that scores must keep."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from imsim.errors import OptionError
from imsim.registry import METRICS


def parse_metrics(text: str | None, limits: Iterable[str]) -> list[str]:
    """Return the metrics to run: those named in `text`, or all; and those with a limit."""
    names = list(METRICS) if text is None else [name.strip() for name in text.split(",")]
    for name in names:
        _check(name, "--metrics")
    return list(dict.fromkeys([*names, *limits]))


def parse_limits(texts: Iterable[str]) -> dict[str, float]:
    """Read ``metric=score`` of each option."""
    limits: dict[str, float] = {}
    for text in texts:
        name, equals, number = text.partition("=")
        option = f"--fail-under {text}"
        try:
            limit = float(number)
        except ValueError:
            limit = math.nan
        if not equals or math.isnan(limit):
            raise OptionError(f"{option}: expected a metric and a number, e.g. fsim=0.95")
        name = name.strip()
        _check(name, option)
        low, high = METRICS[name].bounds
        if not low <= limit <= high:
            raise OptionError(f"{option}: {name} is never outside {low:.4g} to {high:.4g}")
        if name in limits:
            raise OptionError(f"{option}: {name} has a limit already, {limits[name]:g}; give one")
        limits[name] = limit
    return limits


def beyond(scores: Mapping[str, float], limits: Mapping[str, float]) -> list[str]:
    """Say which scores are beyond their limits; NaN is."""
    said = []
    for name, limit in limits.items():
        if name not in scores:
            continue  # counted as skipped
        score = scores[name]
        higher = METRICS[name].higher_is_better
        if not (score >= limit if higher else score <= limit):
            side = "below" if higher else "above"
            said.append(
                f"{name} is NaN"
                if math.isnan(score)
                else f"{name} is {score:.6g}, {side} {limit:g}"
            )
    return said


def _check(name: str, option: str) -> None:
    if name not in METRICS:
        raise OptionError(f"{option}: there is no metric {name!r}; expected {', '.join(METRICS)}")
