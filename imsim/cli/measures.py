"""The metrics and counts that a run is asked for, their options, and when a pair fails."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

import imsim
from imsim.cli.ignoring import Ignored
from imsim.cli.options import DataRanges, max_shift_of, pixel_value
from imsim.cli.outputs import NOTED
from imsim.cli.reading import Spacing
from imsim.differing import COUNTS, measure
from imsim.errors import ImsimError, OptionError, silent
from imsim.pages.colour import MapScale
from imsim.registry import METRICS
from imsim.tables import number
from imsim.validation import check_number

PLAIN = [name for name, count in COUNTS.items() if not count.anti_aliasing]
BY_RULE = [name for name, count in COUNTS.items() if count.anti_aliasing]
ALL = "all"
"""Stands for every metric, but for no count."""
_PYTHON = {"True": True, "False": False}
"""What JSON writes otherwise."""


def parse_metrics(text: str | None, limits: Iterable[str], counts: Iterable[str] = ()) -> list[str]:
    """Return what to run: what is named in `text`, or all metrics; what has a limit; `counts`."""
    names = [ALL] if text is None else [name.strip() for name in text.split(",")]
    found: list[str] = []
    for name in names:
        if name == ALL:
            found += METRICS
            continue
        _check(name, "--metrics")
        found.append(name)
    return list(dict.fromkeys([*found, *counts, *limits]))


def named_ones(text: str | None) -> set[str]:
    """Return the names in `text`, all of which must be scored; those of `ALL` need not be."""
    return {name.strip() for name in (ALL if text is None else text).split(",")} - {ALL}


def parse_options(texts: Iterable[str], metrics: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Read ``metric.option=value`` of each option; values are those of JSON, or words."""
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        metric, point, key = name.strip().partition(".")
        option = f"--option {text}"
        if not (equals and point):
            raise OptionError(f"{option}: expected metric.option=value, e.g. ssim.downsample=true")
        if metric in COUNTS:
            remedy = "use --tolerance and --anti-aliasing"
            raise OptionError(f"{option}: {metric} is a count, which takes no --option; {remedy}")
        if metric not in METRICS or metric not in metrics:
            ran = ", ".join(one for one in metrics if one in METRICS)
            remedy = f"expected one of {ran}" if ran else "leave it out, or name it in --metrics"
            raise OptionError(f"{option}: {metric} is not run; {remedy}")
        known = [one for one in METRICS[metric].options if one != "spacing"]
        if key not in known:
            has = f"its options are {', '.join(known)}" if known else "it has none"
            raise OptionError(f"{option}: {metric} has no option {key!r}; {has}")
        if key in found.setdefault(metric, {}):
            raise OptionError(f"{option}: {name.strip()} is given already; give one value")
        try:
            found[metric][key] = json.loads(value, parse_constant=float)
        except (ValueError, RecursionError):
            found[metric][key] = _PYTHON.get(value, value)
    for metric, options in found.items():
        _check_values(metric, options)
    return found


def _check_values(metric: str, options: Mapping[str, Any]) -> None:
    """Let the metric refuse values before any image is read."""
    image = np.zeros((256, 256, 3), np.uint8)
    try:
        with silent(*NOTED):
            METRICS[metric].function(image, image, channel_axis=-1, **options)
    except OptionError as error:
        given = ", ".join(f"{metric}.{key}={json.dumps(value)}" for key, value in options.items())
        raise OptionError(f"--option {given}: {error}") from error
    except ImsimError:
        return  # of other images it may be scored


def parse_limits(under: Iterable[str], over: Iterable[str] = ()) -> dict[str, float]:
    """Read ``metric=score`` of each option; --fail-over is for what is better if lower."""
    limits: dict[str, float] = {}
    given = [("--fail-under", text) for text in under] + [("--fail-over", text) for text in over]
    for flag, text in given:
        name, equals, value = text.partition("=")
        option = f"{flag} {text}"
        try:
            limit = float(value)
        except ValueError:
            limit = math.nan
        if math.isinf(limit) and "inf" not in value.lower():
            raise OptionError(f"{option}: is beyond every number; write inf if that is meant")
        if not equals or math.isnan(limit):
            example = "fsim=0.95" if flag == "--fail-under" else "rmse=2"
            raise OptionError(f"{option}: expected a metric and a number, e.g. {example}")
        name = name.strip()
        _check(name, option)
        if flag == "--fail-over" and measure(name).higher_is_better:
            raise OptionError(
                f"{option}: {name} is better if higher; --fail-under {name}={value} fails below it"
            )
        low, high = measure(name).bounds
        if not low <= limit <= high:
            raise OptionError(f"{option}: {name} is never outside {low:.4g} to {high:.4g}")
        if name in limits:
            raise OptionError(
                f"{option}: {name} has a limit already, {limits[name]:.15g}; give one"
            )
        limits[name] = limit
    return limits


def rule(name: str, limit: float) -> str:
    """Say what passes: ``ssim >= 0.9``."""
    return f"{name} {'>=' if measure(name).higher_is_better else '<='} {limit:.15g}"


class Verdict(NamedTuple):
    """Whether a score is within its limit."""

    name: str
    limit: float
    score: float
    passed: bool

    @property
    def rule(self) -> str:
        """What passes."""
        return rule(self.name, self.limit)

    @property
    def said(self) -> str:
        """What is said of a score that does not."""
        if math.isnan(self.score):
            return f"{self.name} is NaN"
        side = "below" if measure(self.name).higher_is_better else "above"
        score, limit = number(self.score), number(self.limit)
        if score == limit:  # they differ in a later digit
            score, limit = f"{self.score:.17g}", f"{self.limit:.15g}"
        return f"{self.name} is {score}, {side} {limit}"


def verdicts(scores: Mapping[str, float], limits: Mapping[str, float]) -> list[Verdict]:
    """Judge the scores that have limits; NaN never passes, and what was skipped is not judged."""
    found = []
    for name, limit in limits.items():
        if name in scores:
            score = scores[name]
            passed = score >= limit if measure(name).higher_is_better else score <= limit
            found.append(Verdict(name, limit, score, passed))
    return found


def _check(name: str, option: str) -> None:
    if name not in METRICS and name not in COUNTS:
        counts = f"; or of the counts {', '.join(COUNTS)}" if option != "--metrics" else ""
        counts = counts or f"; the counts {', '.join(COUNTS)}; or {ALL}"
        raise OptionError(
            f"{option}: there is no metric {name!r}; expected {', '.join(METRICS)}{counts}"
        )


def add_judging(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the options; `default` says which metrics are meant without --metrics."""
    add = parser.add_argument
    add(
        "--metrics",
        metavar="a,b",
        help=f"names from `imsim list`, or of counts, separated by commas; {default}. "
        f"`{ALL}` stands for every metric",
    )
    add(
        "--tolerance",
        metavar="D",
        type=pixel_value,
        help=f"count {', '.join(PLAIN)}: a pixel differs by more than D in some channel; 0 if "
        "these are named and no D is given",
    )
    add(
        "--anti-aliasing",
        action="store_true",
        help=f"count {', '.join(BY_RULE)}: a pixel counts only if its value, of either image, is "
        "nowhere in the other one within one pixel, to within the tolerance",
    )
    add(
        "--option",
        metavar="m.o=x",
        action="append",
        default=[],
        help="option o of metric m, as in Python: ssim.downsample=true, zncc.window_size=9; can be "
        "repeated",
    )
    several: dict[str, Any] = {"metavar": "m=x", "action": "append", "default": []}
    add(
        "--fail-under",
        **several,
        help="end with status 1 if a score of metric m is worse than x (above it where lower is "
        "better: gmsd=0.1), or a file has no partner; can be repeated",
    )
    add(
        "--fail-over",
        **several,
        help="the same for metrics and counts that are better if lower: rmse=2, pixels=0",
    )


class Settings(NamedTuple):
    """What is the same for every pair."""

    metrics: list[str]
    """With the counts among them."""
    limits: dict[str, float]
    required: set[str]
    """The metrics and counts that no pair may lack."""
    named: bool
    """Whether the metrics were asked for by name; else all of them run."""
    data_ranges: DataRanges
    ignored: Ignored
    volume: bool
    spacing: Spacing | None
    """Of volumes, instead of what their files say."""
    tolerance: float
    """Of a pixel that counts as equal."""
    options: Mapping[str, Mapping[str, Any]]
    """Of the metrics, by their names."""
    max_shift: int | None
    """By which a test image is moved at most, along each axis; None: not at all."""
    map_scale: MapScale
    workers: int | None
    maps: str | None = None
    map_format: str = "png"
    memory: int | None = None
    ignore_georeference: bool = False
    on_size_mismatch: str = "fail"


def settings_of(arguments: argparse.Namespace, default: str | None = None) -> Settings:
    """Return what the arguments say; `default` names the metrics that are meant without any."""
    given = vars(arguments)
    if arguments.tolerance is not None:
        check_number("--tolerance", arguments.tolerance)
    limits = parse_limits(arguments.fail_under, arguments.fail_over)
    counts = [*(PLAIN if arguments.tolerance is not None else ())]
    counts += BY_RULE if arguments.anti_aliasing else []
    named = named_ones(arguments.metrics)
    asked = default if arguments.metrics is None else arguments.metrics
    metrics = parse_metrics(asked, limits, counts)
    workers = arguments.workers
    if workers is None and given.get("scheduler") is None:
        workers = imsim.get_workers()  # asked for here: in a thread of many, it is one
    read = {
        "metrics": metrics,
        "limits": limits,
        "required": {*limits, *counts, *named},
        "named": bool(named),
        "data_ranges": DataRanges(arguments.data_range),
        "ignored": Ignored.of(arguments),
        "tolerance": arguments.tolerance or 0.0,
        "options": parse_options(arguments.option, metrics),
        "max_shift": max_shift_of(arguments),
        "workers": workers,
    }
    # Not every command has every option.
    return Settings(**{name: given[name] for name in Settings._fields if name in given} | read)
