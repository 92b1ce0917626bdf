"""The report of one pair of volumes: three cuts through the worst place, and the scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from imsim import Comparison, DataRangeWarning, compare
from imsim.errors import silent
from imsim.finite import nan_scores
from imsim.pages.arguments import check_said, checked_directions
from imsim.pages.colour import MAP_SCALES, MapScale, Scale
from imsim.pages.content import SCALES, answer, channel_notes, kinds
from imsim.pages.layers import local_map, pixels_of
from imsim.pages.page import Html, asset, fragment, number, page, picture, share, tag
from imsim.pages.pair import colour_bar, heading, kind_of_scale, score_table
from imsim.pages.voxels import MAP, Cuts, Place, VolumePair, cuts_of, scales_of
from imsim.tensors import as_numpy
from imsim.typing import ImageLike, MaskLike
from imsim.validation import AXES, check_choice

_PLANES = ("sagittal", "coronal", "axial")
"""Across x, y and z of a patient."""
_SIDES = (("R", "right"), ("A", "front"), ("H", "head"))
"""In which x, y and z end, and which are drawn first, whatever the file has first."""
_TITLES = {"difference": "difference (test - reference)", MAP: f"{MAP}: structural similarity"}


class Cut(NamedTuple):
    """A plane across an axis of a volume, and how it is drawn."""

    axis: int
    name: str
    rows: int
    """The axis that runs from the top to the bottom."""
    columns: int
    """The axis that runs from the left to the right."""


@np.errstate(over="ignore", invalid="ignore")  # of values that no scale reaches
def volume_report(
    reference: ImageLike,
    test: ImageLike,
    *,
    mask: MaskLike | None = None,
    data_range: float | None = None,
    channel_axis: int | None = None,
    spacing: tuple[float, ...] | None = None,
    directions: ImageLike | None = None,
    scores: Comparison | None = None,
    names: tuple[str, str] = ("reference", "test"),
    reasons: Sequence[str] = (),
    notes: Sequence[str] = (),
    map_scale: MapScale = "fixed",
    home: str | None = None,
) -> str:
    """Show where two volumes differ on one self-contained HTML page.

    Three cuts through the place that differs most, by the map of SSIM or else by the difference,
    stand side by side for both volumes, their difference and that map. A slider for each axis
    moves the cuts, through a copy of the volumes that is small enough for the page.

    Parameters
    ----------
    reference, test : array_like, shape (depth, height, width), or with a channel axis
        One volume each.
    mask : array_like of bool, shape (depth, height, width), optional
        True = use.
    data_range : float, optional
        As for `pair_report`.
    channel_axis : int, optional
        The axis that holds channels; three are shown as red, green and blue, other numbers of
        channels by their mean.
    spacing : tuple of float, optional
        Distance of voxels along depth, height and width, of which the cuts have their proportions.
    directions : array_like, shape (3, 3), optional
        For depth, height and width, the unit vector along which the index grows; x goes to the
        right of the patient, y to the front, z to the head. Cuts are then drawn with the head and
        the front above, and the right on the left.
    scores : imsim.comparison.Comparison, optional
        Those of `imsim.compare` with the same arguments, if they are known already.
    names : tuple of str
        What to call the volumes.
    reasons : sequence of str
        Why the pair fails, said first.
    notes : sequence of str
        What the reader must know of the volumes.
    map_scale : {"fixed", "auto"}
        As for `pair_report`.
    home : str, optional
        The address of the page that this one belongs to.

    Returns
    -------
    str
        HTML, to be saved as UTF-8. It needs no network, and takes at most 8 MB. Where the volumes
        are larger, the copy holds blocks of voxels, and the page says which.

    Raises
    ------
    ShapeError
        If the volumes are batches or do not fit together.
    DTypeError, MaskError, DataRangeError, OptionError
        As for `pair_report`.

    Examples
    --------
    >>> import numpy as np
    >>> from imsim.pages import volume_report
    >>> reference = np.zeros((12, 16, 16), dtype=np.uint8)
    >>> html = volume_report(reference, reference + np.eye(16, dtype=np.uint8))
    >>> html.startswith("<!doctype html>"), "axial" in html
    (True, True)
    """
    check_choice("map_scale", map_scale, MAP_SCALES)
    check_said(names, reasons, notes, home, scores)
    options: dict[str, Any] = {
        "mask": mask,
        "data_range": data_range,
        "channel_axis": channel_axis,
        "ndim": 3,
        "spacing": spacing,
    }
    a, b = as_numpy("reference", reference), as_numpy("test", test)
    shown = (pixels_of("reference", a, channel_axis, 3), pixels_of("test", b, channel_axis, 3))
    with silent(DataRangeWarning):  # the page says that
        if scores is None:
            scores = compare(a, b, **options)
        else:
            compare(a, b, [], **options)  # which refuses what is wrong
    pair = VolumePair(
        *shown,
        mask,
        data_range,
        local_map(MAP, a, b, options),
        checked_directions(directions),
        map_scale,
    )
    place: Place = (
        pair.worst.place if pair.worst else tuple(side // 2 for side in pair.sides)  # type: ignore[assignment]
    )
    lengths = spacing or (1.0, 1.0, 1.0)
    planes = _cuts(pair.world)
    facts = {
        "flips": list(pair.flips),
        "lengths": list(lengths),
        "cuts": [[cut.axis, cut.rows, cut.columns] for cut in planes],
    }
    cuts = cuts_of(pair, place, lengths, facts)
    title = f"{names[1]} against {names[0]}"
    titles = {"reference": names[0], "test": names[1], "difference": "difference", MAP: MAP}
    return page(
        title,
        *heading(title, reasons, home),
        *_summary(pair, spacing),
        _why_nan(pair, scores),
        tag("ul", *(tag("li", note) for note in notes), class_="notes") if notes else "",
        _worst(pair, place),
        *(_section(pair, cut, place, cuts, titles) for cut in planes),
        tag("h2", "Colours"),
        _legend(pair),
        tag("h2", "Scores"),
        score_table(scores, masked=not pair.mask.all(), parts="voxels"),
        tag("h2", "How to read the pictures"),
        *(tag("p", note, class_="note") for note in _notes_on(pair, cuts)),
        tag("script", Html(cuts.data), type="application/json", id="data"),
        script=asset("packed.js") + asset("volume.js"),
    )


def _cuts(world: list[int] | None) -> list[Cut]:
    """Name the three cuts, and lay them out."""
    names = ["axial", "coronal", "sagittal"]
    if world is not None:
        oblique = len(set(world)) < 3
        names = [
            f"across the {axis}" if oblique else _PLANES[w]
            for axis, w in zip(AXES, world, strict=True)
        ]
    return [
        Cut(axis, names[axis], *(other for other in range(3) if other != axis)) for axis in range(3)
    ]


def _summary(pair: VolumePair, spacing: tuple[float, ...] | None) -> list[Html]:
    found, total = pair.survey, int(np.prod(pair.sides))
    masked = found.used < total
    said = answer("volumes", "voxel", *found[:4], masked=masked)
    sides = " × ".join(map(str, reversed(pair.sides)))
    kind = kinds(pair.reference, pair.test, pair.channels, pair.data_range)
    facts = f"{sides} voxels, {kind}"
    if spacing is not None:
        lengths = " × ".join(f"{length:g}" for length in reversed(spacing))
        facts += f"Spacing {lengths}, in which ssim, zncc and imed measure their windows. "
    if found.ends is not None and found.ends[1] - found.ends[0] > pair.data_range * (1 + 1e-6):
        facts += f"The voxels span {number(found.ends[1] - found.ends[0])}, which is more. "
    if masked:
        facts += f"The mask uses {found.used} of {total} voxels ({share(found.used, total)})."
    return [tag("p", said, class_="answer"), tag("p", facts, class_="note")]


def _why_nan(pair: VolumePair, scores: Comparison) -> Html:
    names = nan_scores(scores, pair.mask)
    if not names:
        return Html()
    why = (
        "voxels that count are NaN or infinite; a mask leaves them out"
        if pair.survey.unknown
        else "nothing is left for these metrics to score, or voxels are NaN or infinite in both"
    )
    return tag("p", f"NaN: {', '.join(names)}, since {why}.", class_="answer")


def _index(place: Place, pair: VolumePair) -> Place:
    """Return where a place that is drawn lies in the file."""
    depth, height, width = (
        side - 1 - at if flip else at
        for at, side, flip in zip(place, pair.sides, pair.flips, strict=True)
    )
    return depth, height, width


def _worst(pair: VolumePair, place: Place) -> Html:
    at = _index(place, pair)
    where = ", ".join(f"{axis} {index}" for axis, index in zip(AXES, at, strict=True))
    if pair.worst is None:
        said = f"The cuts meet in the middle: {where}."
    else:
        what = "SSIM is least" if pair.worst.by == MAP else "the difference is largest"
        a, b = (
            ", ".join(number(float(v)) for v in image[place])
            for image in (pair.reference, pair.test)
        )
        said = f"The cuts meet where {what}: {where}. There the reference is {a} and the test {b}"
        local = float(pair.local[place]) if pair.local is not None else np.nan
        said += f", and SSIM {number(local, 4)}." if np.isfinite(local) else "."
    back = tag("button", "back to that place", type="button", id="back")
    spot = tag("span", "", id="at", aria_live="polite")
    return tag("div", tag("p", said), tag("p", back, " ", spot), class_="worst")


def _section(pair: VolumePair, cut: Cut, place: Place, cuts: Cuts, titles: dict[str, str]) -> Html:
    axis, side = AXES[cut.axis], pair.sides[cut.axis]
    index = _index(place, pair)[cut.axis]
    strip: object = ""
    if pair.worst is not None and side > 1:
        # The map's own scale, or that of errors; both are dark where all is alike.
        scale = Scale(0.0, 2.0) if pair.worst.by == MAP else Scale(0.0, pair.data_range, root=True)
        colours = scale.colours_of(pair.worst.profiles[cut.axis][None])
        strip = picture(colours, f"the worst place of each plane along the {axis}", class_="strip")
    figures = [
        _figure(pair, cut, name, titles[name], png) for name, png in cuts.pictures[cut.axis].items()
    ]
    return fragment(
        "cut.html",
        name=cut.name,
        axis=cut.axis,
        along=axis,
        index=index,
        last=side - 1,
        place=place[cut.axis],
        strip=strip,
        figures=figures,
    )


def _figure(pair: VolumePair, cut: Cut, name: str, title: str, png: bytes) -> Html:
    letters = []
    if pair.world is not None:
        for axis, class_ in ((cut.rows, "edge top"), (cut.columns, "edge left")):
            letter, word = _SIDES[pair.world[axis]]
            letters.append(tag("span", letter, class_=class_, title=word))
    return fragment(
        "cut_figure.html",
        id=f"{cut.name.replace(' ', '-')}-{name}",
        title=title,
        layer=name,
        axis=cut.axis,
        name=cut.name,
        picture=picture(png, f"{title}, {cut.name}", draggable="false"),
        letters=letters,
    )


def _legend(pair: VolumePair) -> Html:
    figures = []
    for name, (scale, ends) in scales_of(pair).items():
        if name == "test":
            continue
        title = "both volumes" if name == "reference" else _TITLES[name]
        said = kind_of_scale(scale, name == MAP and pair.ends_here)
        below = tag("div", said, class_="below note") if said else ""
        figures.append(tag("figure", tag("h3", title), colour_bar(scale, ends), below))
    return tag("div", *figures, class_="pictures legend")


def _notes_on(pair: VolumePair, cuts: Cuts) -> list[str]:
    """Say how the pictures are to be read, and what they cannot show."""
    low, high = number(pair.scale.low), number(pair.scale.high)
    notes = [
        "A slider moves its cut. A tap on a picture, or the arrow keys on it, moves the other two "
        "there. The strip above a slider has the worst place of each plane: bright is different.",
        f"Both volumes are shown from {low} to {high}: {pair.scaled_to}. "
        f"{SCALES[pair.ends_here]} Grey in the map: not scored. Magenta: NaN or infinite.",
    ]
    if pair.world is None:
        notes.append(
            "Nothing tells how the volumes lie: axial is across the depth, coronal across the "
            "height, sagittal across the width, and the first plane, row and column come first."
        )
    else:
        notes.append(
            "Letters name the sides of the patient: H head, A front, R right. Indices are those of "
            "the file, which may run the other way."
        )
    if pair.local is None:
        notes.append(
            "SSIM has no map of these volumes, so that the difference tells the worst place."
        )
    if not pair.mask.all():
        notes.append("Striped voxels are masked: they influence no score.")
    notes += channel_notes(pair.channels)
    if cuts.side > 1:
        notes.append(
            f"The cuts through the worst place show blocks of {cuts.side} × {cuts.side} voxels."
        )
    if max(cuts.step) > 1:
        depth, height, width = cuts.step
        notes.append(
            f"To keep the page small, all other cuts show blocks of {width} × {height} × {depth} "
            "voxels: the volumes by their mean, the difference and the map by their worst value."
        )
    return notes
