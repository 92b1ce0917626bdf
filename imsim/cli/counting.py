"""Pixels that differ, counted for a row: numbers, and the boxes of the parts that they form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import imsim
from imsim._images import Picture
from imsim.cli.options import bits_of, capacity
from imsim.differing import COUNTS, counted, places, with_more
from imsim.finite import value_ends
from imsim.typing import Array

UNCOUNTED = "is not counted block by block; raise --memory above the size of an image"


def tolerance_notes(
    tolerance: float, reference: Picture, test: Picture, used: Array | None
) -> list[tuple[str, str]]:
    """Say whether no two pixels can differ by more than the tolerance, as in another unit."""
    kind = test.pixels.dtype
    said = ""
    if kind.kind != "f" and tolerance >= (most := capacity(kind)):
        said = f"as wide as {bits_of(kind)}-bit pixels can differ ({most:.0f})"
    elif kind.kind == "f" and tolerance:
        inside = used if used is None else used[..., None]
        low, high = value_ends(reference.samples, test.samples, inside)
        if 0 < high - low <= tolerance:
            said = f"as wide as all pixels, which are {low:.6g} to {high:.6g}"
    if not said:
        return []
    text = f"--tolerance {tolerance:g} is {said}, so that none counts; is it in another unit?"
    return [(test.path, text)]


def count(
    names: Sequence[str],
    pair: tuple[Any, Any],
    options: Mapping[str, Any],
    tolerance: float,
    only_one: Array | None,
) -> tuple[dict[str, float], tuple[tuple[int, ...], ...]]:
    """Return counts by their names, and the boxes of the largest parts that differ.

    Boxes are of the parts without the rule of anti-aliasing, if any count without it is named.
    `only_one` is where one image alone has pixels, which always differ.
    """
    kept = {name: options[name] for name in ("mask", "channel_axis", "ndim")}
    rules = {COUNTS[name].anti_aliasing for name in names}
    found = {
        rule: imsim.differing_pixels(*pair, **kept, tolerance=tolerance, anti_aliasing=rule)
        for rule in sorted(rules)
    }
    if only_one is not None:
        more = only_one if options["mask"] is None else only_one & options["mask"]
        found = {rule: with_more(one, more) for rule, one in found.items()}
    return counted(found, names), places(next(iter(found.values())))
