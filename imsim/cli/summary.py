"""What a run over many pairs comes to: statistics, and what went wrong how often."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from imsim.cli.scoring import Result
from imsim.cli.terminal import say, shortened
from imsim.registry import METRICS

_NUMBER = re.compile(r"[0-9.]+(e[-+]?[0-9]+)?")
"""Notes that differ in numbers only are notes of one kind."""


class _Statistics:
    """Mean, least, largest and worst of the scores of one metric, without keeping them."""

    def __init__(self) -> None:
        self.count = self.missing = 0
        self.total = 0.0
        self.low, self.high = math.inf, -math.inf
        self.lowest = self.highest = ""

    def add(self, score: float, name: str) -> None:
        if math.isnan(score):
            self.missing += 1
            return
        self.count += 1
        self.total += score
        # The first one is taken whatever its score, infinite ones too.
        if score < self.low or not self.lowest:
            self.low, self.lowest = score, name
        if score > self.high or not self.highest:
            self.high, self.highest = score, name


class Summary:
    """Takes the results one by one and holds what the whole run comes to.

    Parameters
    ----------
    metrics : iterable of str
        The metrics that are run.
    """

    def __init__(self, metrics: Iterable[str]) -> None:
        self.pairs = 0
        self._statistics = {name: _Statistics() for name in metrics}
        self._skipped: dict[tuple[str, str], int] = {}
        """Metrics and the reason for skipping them, and of how many pairs."""

    def add(self, result: Result) -> None:
        """Take a result."""
        self.pairs += 1
        for name, score in result.scores.items():
            self._statistics[name].add(score, result.name)
        for skip in by_reason(result.skipped):
            self._skipped[skip] = self._skipped.get(skip, 0) + 1

    def table(self, width: int) -> str:
        """Return a line per metric, at most `width` wide but for the reasons for skipping."""
        lines = [f"{'metric':8}{'mean':>14}{'min':>14}{'max':>14}  unit  worst"]
        for name, found in self._statistics.items():
            if not found.count and not found.missing:
                continue
            facts = METRICS[name]
            mean = found.total / found.count if found.count else math.nan
            low, high = (found.low, found.high) if found.count else (math.nan, math.nan)
            worst = found.lowest if facts.higher_is_better else found.highest
            if low == high:
                worst = "all are equal" if found.count > 1 else worst
            after = f"  ({found.missing} NaN)" if found.missing else ""
            numbers = "".join(f"  {value:>12.6g}" for value in (mean, low, high))
            start = f"{name:8}{numbers}  {facts.unit:4}  "
            lines.append(start + shortened(worst, max(width - len(start + after), 9)) + after)
        for (names, reason), count in self._skipped.items():
            share = "" if count == self.pairs else f" for {count} of {self.pairs} pairs"
            lines.append(f"skipped{share}: {names}: {reason}")
        return "\n".join(lines)


def by_reason(skipped: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return each reason once, after the metrics that were skipped for it."""
    names: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        names.setdefault(reason, []).append(name)
    return [(", ".join(those), reason) for reason, those in names.items()]


class Tally(dict[str, tuple[str, int]]):
    """From a message to the first image it is about, and the number of images."""

    def add(self, message: str, name: str) -> int:
        """Count a message, and return how often it has come."""
        first, count = self.get(message, (name, 0))
        self[message] = first, count + 1
        return count + 1


class Notes:
    """Says notes on images; of one that comes often, only the number after the first few."""

    NAMED = 3

    def __init__(self) -> None:
        self._tally = Tally()
        self._kinds: dict[str, set[str]] = {}

    def add(self, note: str, name: str) -> None:
        """Take a note on an image, and say it of the first few."""
        kind = _NUMBER.sub("0", note)
        if self._tally.get(kind, ("", 0))[0] == name:
            return  # on a file that takes part in many pairs
        if self._tally.add(kind, name) <= self.NAMED:
            say(f"note: {name}: {note}")
        elif len(texts := self._kinds.setdefault(kind, set())) < 2:
            texts.add(note)

    def end(self) -> None:
        """Say of how many more images each note holds."""
        for kind, texts in self._kinds.items():
            more = self._tally[kind][1] - self.NAMED
            like = "" if len(texts) == 1 else "likewise, such as: "
            say(f"note: {more} more images: {like}{min(texts)}")
