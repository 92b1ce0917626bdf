"""The report of one pair of images: pictures, maps and scores in one HTML page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from imsim import COUNTS, METRICS, Comparison, DataRangeWarning, MaskError, compare
from imsim.errors import silent
from imsim.finite import broken_pixels, nan_scores, value_ends
from imsim.pages.arguments import check_said, checked_boxes
from imsim.pages.colour import MAP_SCALES, MapScale, Scale
from imsim.pages.content import THIN, Content, answer, content_of, kinds, notes_on
from imsim.pages.layers import (
    Canvas,
    ImagePair,
    Layer,
    difference_layer,
    image_layer,
    map_layers,
    pixels_of,
)
from imsim.pages.page import (
    Html,
    asset,
    fragment,
    number,
    page,
    picture,
    share,
    short,
    table,
    tag,
)
from imsim.tensors import as_numpy
from imsim.typing import Array, ImageLike, MaskLike
from imsim.validation import check_choice, check_flag, check_names


@np.errstate(over="ignore", invalid="ignore")  # of values that no scale reaches
def pair_report(
    reference: ImageLike,
    test: ImageLike,
    *,
    mask: MaskLike | None = None,
    data_range: float | None = None,
    channel_axis: int | None = None,
    metrics: Iterable[str] | None = None,
    scores: Comparison | None = None,
    names: tuple[str, str] = ("reference", "test"),
    reasons: Sequence[str] = (),
    notes: Sequence[str] = (),
    map_scale: MapScale = "fixed",
    boxes: Sequence[Sequence[int]] = (),
    home: str | None = None,
    is_moved: bool = False,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Show where two images differ, and by how much, on one self-contained HTML page.

    One picture, large, wipes or flickers between both images, or shows their difference. Below,
    both images, their difference and every map stand side by side, zoomed together. Pointing at a
    pixel shows its position and the values of all pictures there; below, every score with what it
    means. The address keeps the place, for a link. The scales of the difference and the maps
    follow from the data range and the bounds of the metric. That of the images is the data range
    where they lie within it from 0 on, else what they span.

    Images of different sizes are aligned at the top left. What only one has is marked; the scores
    are those of the part that both have.

    Parameters
    ----------
    reference, test : array_like, shape (height, width), or with a channel axis
        One image each.
    mask : array_like of bool, shape (height, width), optional
        True = use, of the size of the reference. Pixels outside influence no score; the pictures
        show them hatched.
    data_range : float, optional
        Largest possible minus smallest possible value. By default 255 for uint8 and 1 for bool;
        every other dtype needs it.
    channel_axis : int, optional
        The axis that holds channels; three are shown as red, green and blue, other numbers of
        channels by their mean.
    metrics : iterable of str, optional
        The metrics to show; by default all of them.
    scores : imsim.comparison.Comparison, optional
        Those of `imsim.compare` with the same arguments, if they are known already. There may be
        counts of `imsim.COUNTS` among them.
    names : tuple of str
        What to call the images, such as the names of their files; any text is safe.
    reasons : sequence of str
        Why the pair fails, said first.
    notes : sequence of str
        What the reader must know of the images, such as what was done to them on the way here.
    map_scale : {"fixed", "auto"}
        "auto" ends the scale of each map at its worst value, for small differences; such maps
        do not compare with others, and the page says so.
    boxes : sequence of sequences of int
        Places to link to, such as those of connected parts that differ: x, y, width, height.
    home : str, optional
        The address of the page that this one belongs to.
    is_moved : bool
        Whether the test image was moved onto the reference, so that its size is not its own.
    options : mapping of mapping, optional
        Options of metrics, by the names of these, as for `imsim.compare`.

    Returns
    -------
    str
        HTML, to be saved as UTF-8. It needs no network, and takes at most 8 MB. Pixels and the
        float32 values of maps are embedded as they are where there is room. Else they are those
        of blocks, and the page says which: images show the mean of a block, the difference and
        the maps its worst value; the readout gives the true values of the pixel that differs most.
        The scores are always those of all pixels.

    Raises
    ------
    ShapeError
        If the images are batches, or have different channels.
    DTypeError, MaskError, DataRangeError
        If an image is not made of real numbers, the mask is not boolean or does not fit,
        `data_range` is missing or not positive.
    OptionError
        If `map_scale` is none of these, or another argument cannot be shown, such as one text in
        place of a list of `reasons`.

    Warns
    -----
    EmptyMaskWarning
        If the mask leaves a metric nothing to score.

    Examples
    --------
    >>> import numpy as np
    >>> from imsim.pages import pair_report
    >>> reference = np.zeros((16, 16), dtype=np.uint8)
    >>> html = pair_report(reference, reference + np.eye(16, dtype=np.uint8))
    >>> html.startswith("<!doctype html>"), "Structural similarity" in html
    (True, True)
    """
    check_choice("map_scale", map_scale, MAP_SCALES)
    check_said(names, reasons, notes, home, scores)
    check_flag("is_moved", is_moved)
    places = checked_boxes(boxes)
    wanted = check_names("metrics", metrics, METRICS)
    common = as_numpy("reference", reference), as_numpy("test", test)
    a = pixels_of("reference", common[0], channel_axis)
    b = pixels_of("test", common[1], channel_axis)
    shared: dict[str, Any] = {"mask": mask, "data_range": data_range, "channel_axis": channel_axis}
    (height, width), size = a.shape[:2], b.shape[:2]
    if (height, width) != size:
        part = Canvas((height, width), size).common
        common = a[part], b[part]
        shared |= {"mask": _cut(mask, a, part), "channel_axis": -1}
    with silent(DataRangeWarning):  # the page says that
        if scores is None:
            scores = compare(*common, wanted, **shared, options=options)
        else:
            compare(*common, [], **shared)  # which refuses what is wrong
    pair = ImagePair(a, b, mask, data_range)
    layers = [
        image_layer(pair, "reference", names[0]),
        image_layer(pair, "test", names[1]),
        difference_layer(pair),
        *map_layers(pair, *common, shared, wanted, map_scale, options),
    ]
    content = content_of(pair, layers)
    title = f"{names[1]} against {names[0]}"
    figures = [
        _figure(pair, layer, overview, content.details.get(layer.name))
        for layer, overview in zip(layers, content.overviews, strict=True)
    ]
    flat = pair.width > THIN * pair.height
    masked = not pair.mask.all()
    parts = "pixels" if pair.canvas.one_size else "pixels that both images have"
    told: list[Html] = []
    if (scores.keys() | scores.skipped.keys()) & METRICS.keys():
        marked = masked and mask is not None
        told = [tag("h2", "Scores"), score_table(scores, masked=marked, parts=parts)]
    return page(
        title,
        *heading(title, reasons, home),
        *_summary(pair, is_moved=is_moved),
        *_counted(scores, places),
        _why_nan(pair, scores),
        tag("ul", *(tag("li", note) for note in notes), class_="notes") if notes else "",
        _readout(pair, layers, content),
        # `stage.js` puts the pictures of the page into it. It flickers far below three flashes a
        # second, which can hurt.
        fragment("stage.html", width=pair.width, height=pair.height),
        tag("h2", "All pictures"),
        tag("div", *figures, class_="pictures flat" if flat else "pictures"),
        *told,
        tag("h2", "How to read the pictures"),
        *(tag("p", note, class_="note") for note in notes_on(pair, layers, content, wanted)),
        tag("script", Html(content.data), type="application/json", id="data"),
        script="".join(map(asset, ("packed.js", "drawn.js", "stage.js", "pair.js"))),
    )


def heading(title: str, reasons: Sequence[str], home: str | None) -> list[Html]:
    """Begin a page: the way back, what it is of, and why that fails."""
    back = tag("nav", tag("a", "All pairs", href=home), aria_label="Report")
    failures = [tag("p", reason, class_="answer failed") for reason in reasons]
    return [*([back] if home else []), tag("h1", title), *failures]


def _counted(scores: Mapping[str, Any], boxes: Sequence[Sequence[int]]) -> list[Html]:
    """Say what was counted, with a link to the middle of each box."""
    said = [
        f"{COUNTS[name].title}: {number(float(scores[name]))}" for name in COUNTS if name in scores
    ]
    parts = [tag("p", ". ".join(said) + ".", class_="note")] if said else []
    if boxes:
        links = [
            tag("li", tag("a", f"{w} × {h} at {x}, {y}", href=f"#{x + w // 2},{y + h // 2}"))
            for x, y, w, h in boxes
        ]
        parts.append(tag("ul", *links, class_="boxes", aria_label="Parts that differ"))
    return parts


def _figure(pair: ImagePair, layer: Layer, overview: bytes, detail: bytes | None) -> Html:
    kind = "frame small" if max(pair.width, pair.height) <= 256 else "frame"
    kind += " tall" if pair.height > THIN * pair.width else ""
    pictures = [picture(overview, layer.title, draggable="false")]
    if detail:
        pictures.append(picture(detail, "", draggable="false", class_="detail"))
    words = kind_of_scale(layer.scale, layer.ends_here)
    below = [tag("span", words)] if words else []
    if layer.worst is not None:
        row, column = layer.worst
        below.append(tag("a", "largest difference", href=f"#{column},{row}"))
    return fragment(
        "figure.html",
        name=layer.name,
        title=layer.title,
        kind=kind,
        pictures=pictures,
        bar=colour_bar(layer.scale, layer.ends),
        below=below,
    )


def kind_of_scale(scale: Scale, ends_here: bool) -> str:
    """Name what is unusual about the scale of a picture."""
    words = ["own"] * ends_here + ["square-root"] * scale.root
    return " ".join([*words, "scale"]) if words else ""


def colour_bar(scale: Scale, ends: tuple[str, str] | None) -> Html:
    """Show the colours of a scale with its numbers, and the meaning of its ends."""
    steps = np.array([[scale.value_at(place) for place in np.linspace(0, 1, 256)]])
    labels = [short(scale.value_at(place)) for place in (0, 0.5, 1)]
    if ends is not None:
        labels[0] += f" {ends[0]}"
        labels[2] = f"{ends[1]} {labels[2]}"
    return tag(
        "div",
        picture(scale.colours_of(steps), "colour scale"),
        tag("div", *(tag("span", label) for label in labels)),
        class_="bar",
    )


def _readout(pair: ImagePair, layers: list[Layer], content: Content) -> Html:
    entries = [("x, y", "place")]
    if content.pixel_side > 1:
        entries.append(("which differs most in", "pixels"))
    entries += [(layer.name, layer.name) for layer in layers]
    if content.map_side > 1 and len(layers) > 3:
        entries.append(("maps: the worst of", "maps"))
    # Values have places of fixed width: a long one must not move the pictures under the pointer.
    pixel = "longer" if pair.channels > 1 or pair.reference.dtype.itemsize > 2 else None
    room = {"place": "long", "reference": pixel, "test": pixel, "difference": pixel}
    room |= {"pixels": "longer", "maps": "longer"}
    values = [
        tag("div", tag("dt", label), tag("dd", "–", data_value=value), class_=room.get(value))
        for label, value in entries
    ]
    return fragment("readout.html", values=values)


def _summary(pair: ImagePair, *, is_moved: bool) -> list[Html]:
    used = int(pair.mask.sum())
    size = int(pair.mask[pair.canvas.common].size)
    differ = int(np.count_nonzero(pair.differ & pair.mask))
    kind = kinds(pair.reference, pair.test, pair.channels, pair.data_range)
    facts = f"{pair.width} × {pair.height} pixels, {kind}"
    low, high = value_ends(pair.reference, pair.test, pair.mask[..., None])
    span = high - low
    if span > pair.data_range * (1 + 1e-6):  # more than the rounding of floats
        facts += f"The pixels span {number(span)}, which is more. "
    masked = used < size
    if masked:
        facts += f"The mask uses {used} of {size} pixels ({share(used, size)})."
    unknown, largest = 0, 0.0
    if differ:
        broken = broken_pixels(pair.reference, pair.test)
        largest = float(pair.distance[pair.mask & ~broken].max(initial=0.0))
        unknown = int(np.count_nonzero(broken & pair.differ & pair.mask))
    words = answer("images", "pixel", used, differ, unknown, largest, masked=masked)
    said = [tag("p", words, class_="answer"), tag("p", facts, class_="note")]
    if not pair.canvas.one_size:
        rows, columns = (part.stop for part in pair.canvas.common)
        words = f"both have the same {columns} × {rows} pixels; these are compared."
        if is_moved:  # the reason of the pair has the sizes
            words = f"Moved onto each other, {words}"
        else:
            words = f"The sizes differ: {pair.canvas.said}. Aligned at the top left, {words}"
        said.insert(0, tag("p", words, class_="answer"))
    return said


def _cut(mask: MaskLike | None, reference: Array, part: tuple[slice, slice]) -> Array | None:
    """Return the part of a mask that both images have."""
    if mask is None:
        return None
    if np.shape(mask) != reference.shape[:2]:
        raise MaskError(
            f"mask has shape {np.shape(mask)}",
            f"expected that of the reference, {reference.shape[:2]}",
        )
    return np.asarray(mask)[part]


def _why_nan(pair: ImagePair, scores: Comparison) -> Html:
    """Say which scores are NaN, and why; the summary tells of an empty mask."""
    names = nan_scores(scores, pair.mask)
    if not names:
        return Html()
    broken = int(np.count_nonzero(broken_pixels(pair.reference, pair.test) & pair.mask))
    why = (
        f"{broken} of the pixels that count are NaN or infinite; a mask leaves them out"
        if broken
        else "nothing is left for these metrics to score"
    )
    return tag("p", f"NaN: {', '.join(names)}, since {why}.", class_="answer")


def score_table(scores: Any, *, masked: bool, parts: str = "pixels") -> Html:
    """Show each score with what it means; `parts` are what images are made of."""
    rows: list[list[object]] = []
    for name in (name for name in METRICS if name in scores or name in scores.skipped):
        metric = METRICS[name]
        title = metric.title + (" (experimental)" if metric.experimental else "")
        about = [tag("span", title), tag("span", metric.sees, class_="note")]
        score: object = "skipped"
        if name in scores:
            unit = f" {metric.unit}" if metric.unit not in ("", "I", "I^2") else ""
            score = number(float(scores[name])) + unit
        else:
            about.append(tag("span", scores.skipped[name], class_="note"))
        better = "higher" if metric.higher_is_better else "lower"
        best = "depends" if math.isnan(metric.best) else number(metric.best)
        interval = " to ".join(number(bound, 4) for bound in metric.bounds)
        rows.append([name, score, better, best, interval, about])
    head: list[object] = ["metric", "score", "better", "best", "range", "what it sees"]
    caption = f"Scores of the {parts} that the mask uses" if masked else f"Scores of all {parts}"
    return tag("div", table(head, rows, caption), class_="scores")
