"""What `imsim compare` says on standard error, and its exit status."""

from __future__ import annotations

from imsim._images import OTHER_EXTENSIONS
from imsim.cli.jobs import Shared
from imsim.cli.limits import beyond
from imsim.cli.pairing import Failure, Pairing
from imsim.cli.scoring import Result
from imsim.cli.summary import Notes, Summary, Tally, by_reason
from imsim.cli.terminal import say


class Report:
    """Takes the results one by one, says what is wrong with them, and counts."""

    def __init__(self, metrics: list[str], limits: dict[str, float], required: set[str]) -> None:
        self.summary = Summary(metrics)
        self.limits, self.required = limits, required
        self.notes, self.skips = Notes(), Tally()
        self.failures: list[Failure] = []
        self.unmatched: list[Failure] = []
        self.images_aside: list[str] = []
        """Of the files that are left aside, those that are images by their endings."""
        self.beyond = self.odd = 0
        self._said: set[tuple[str, str]] = set()

    def start(self, found: Pairing, shared: list[Shared]) -> None:
        """Say what is wrong with the choice of files."""
        for failure in found.unmatched:
            say(f"note: {failure.message}")
        self.unmatched = list(found.unmatched)
        self.images_aside = [
            path for path in found.left_aside if path.lower().endswith(OTHER_EXTENSIONS)
        ]
        if found.left_aside:
            number, example = len(found.left_aside), (self.images_aside or found.left_aside)[0]
            say(f"note: files of other kinds left aside: {number}, e.g. {example}")
        for file in shared:
            for note in file.notes:
                self._said.add((file.file.path, note))
                say(f"note: {file.file.path}: {note}")
        if found.odd:
            number = len(found.odd)
            say(f"note: no files but pipes or devices, left aside: {number}, e.g. {found.odd[0]}")
        self.odd = len(found.odd)
        for failure in found.failed:
            self.fail(failure)

    def fail(self, failure: Failure) -> None:
        """Count and name what cannot be scored."""
        self.failures.append(failure)
        say(f"error: {failure.message}")

    def add(self, result: Result) -> None:
        """Take a result."""
        self.summary.add(result)
        for name, note in result.notes:
            if (name, note) not in self._said:
                self.notes.add(note, name)
        required = {m: reason for m, reason in result.skipped.items() if m in self.required}
        for names, reason in by_reason(required):
            verb = "were" if "," in names else "was"
            self.skips.add(f"{names} {verb} skipped: {reason}", result.test)
        if not result.scores:
            self.skips.add("every metric was skipped", result.test)
        failed = beyond(result.scores, self.limits)
        if failed:
            self.beyond += 1
            say(f"fails: {result.test}: {', '.join(failed)}")

    def end(self) -> int:
        """Say how often things went wrong, and return the exit status."""
        self.notes.end()
        for message, (name, count) in self.skips.items():
            more = f" (and {count - 1} more)" if count > 1 else ""
            say(f"error: {name}: {message}{more}")
        failures, unmatched = len(self.failures), len(self.unmatched)
        total = self.summary.pairs + failures
        if failures and total > 1:
            say(f"error: {failures} of {total} could not be scored; they are named above")
        if self.beyond and total > 1:
            say(f"{self.beyond} of {self.summary.pairs} pairs fail")
        if self.limits and unmatched:
            files = "1 file has" if unmatched == 1 else f"{unmatched} files have"
            counted = "counts" if unmatched == 1 else "count"
            say(f"{files} no partner, and {counted} as failed")
        if self.limits and self.odd:
            say("error: what was left aside as a pipe or device was not compared")
        if self.limits and self.images_aside:
            count = len(self.images_aside)
            say(
                f"error: images of formats that are not read were not compared: {count}, e.g. "
                f"{self.images_aside[0]}; save them as PNG, or move them elsewhere"
            )
        if failures or self.skips or (self.limits and (self.odd or self.images_aside)):
            return 2
        return 1 if self.limits and (self.beyond or unmatched) else 0
