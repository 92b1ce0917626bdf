"""The report of one pair of images: pictures, maps and scores in one HTML page."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from imsim import METRICS, compare
from imsim.pages.layers import (
    Layer,
    Pair,
    difference_layer,
    embedded,
    image_layer,
    map_layers,
    pixels_of,
)
from imsim.pages.meanings import MEANINGS
from imsim.pages.page import Html, asset, page, picture, table, tag
from imsim.typing import ImageLike, MaskLike


def pair_report(
    reference: ImageLike,
    test: ImageLike,
    *,
    mask: MaskLike | None = None,
    data_range: float | None = None,
    channel_axis: int | None = None,
    names: tuple[str, str] = ("reference", "test"),
) -> str:
    """Show where two images differ, and by how much, on one self-contained HTML page.

    Both images, their difference and every map stand side by side, on scales that do not depend
    on the pixels. Pointing at a pixel shows its position and the values of all pictures there;
    below, every score with what it means.

    Parameters
    ----------
    reference, test : array_like, shape (height, width), or with a channel axis
        One image each.
    mask : array_like of bool, shape (height, width), optional
        True = use. Pixels outside influence no score; the pictures show them hatched.
    data_range : float, optional
        Largest possible minus smallest possible value. By default 255 for uint8 and 1 for bool;
        every other dtype needs it.
    channel_axis : int, optional
        The axis that holds channels; three are shown as red, green and blue, other numbers of
        channels by their mean.
    names : tuple of str
        What to call the images, such as the names of their files; any text is safe.

    Returns
    -------
    str
        HTML, to be saved as UTF-8. It needs no network. The pixel values are embedded in their
        own type, those of the maps as float32; images of more than 2**19 pixels are thinned out
        to every k-th pixel, and the page says so. The scores are always those of all pixels.

    Raises
    ------
    ShapeError
        If the images are batches or do not fit together.
    DTypeError, MaskError, DataRangeError
        If an image is not made of real numbers, the mask is not boolean or does not fit,
        `data_range` is missing or not positive.

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
    options: dict[str, Any] = {
        "mask": mask,
        "data_range": data_range,
        "channel_axis": channel_axis,
    }
    scores = compare(reference, test, **options)
    pair = Pair(
        pixels_of("reference", reference, channel_axis),
        pixels_of("test", test, channel_axis),
        mask,
        data_range,
    )
    layers = [
        image_layer(pair, "reference", names[0], pair.reference),
        image_layer(pair, "test", names[1], pair.test),
        difference_layer(pair),
        *map_layers(pair, reference, test, options),
    ]
    return page(
        f"{names[1]} against {names[0]}",
        tag("h1", f"{names[1]} against {names[0]}"),
        *_summary(pair),
        _readout(pair, layers),
        tag("div", *(_figure(pair, layer) for layer in layers), class_="pictures"),
        tag("h2", "Scores"),
        _score_table(scores, masked=not pair.mask.all()),
        tag("h2", "How to read the pictures"),
        *_notes(pair, layers),
        tag("script", Html(embedded(pair, layers)), type="application/json", id="data"),
        script=asset("pair.js"),
    )


def _figure(pair: Pair, layer: Layer) -> Html:
    small = "frame small" if max(pair.width, pair.height) <= 256 else "frame"
    keys = "arrow keys move the spot, Enter holds it, plus and minus zoom"
    frame = tag(
        "div",
        picture(layer.pixels, layer.title, draggable="false"),
        tag("span", class_="spot"),
        class_=small,
        tabindex=0,
        role="group",
        aria_label=f"{layer.title}; {keys}",
    )
    steps = np.array([[layer.scale.value_at(place) for place in np.linspace(0, 1, 256)]])
    labels = [_short(layer.scale.value_at(place)) for place in (0, 0.5, 1)]
    if layer.ends is not None:
        labels[0] += f" {layer.ends[0]}"
        labels[2] = f"{layer.ends[1]} {labels[2]}"
    below: list[object] = [tag("span", "square-root scale")] if layer.scale.root else []
    if layer.worst is not None:
        row, column = layer.worst
        below.append(tag("a", "largest difference", href=f"#{column},{row}"))
    return tag(
        "figure",
        tag("h3", tag("span", layer.title), tag("span", class_="value", data_value=layer.name)),
        frame,
        tag(
            "figcaption",
            tag(
                "div",
                picture(layer.scale.colours_of(steps), "colour scale"),
                tag("div", *(tag("span", label) for label in labels)),
                class_="bar",
            ),
            tag("div", *below, class_="below"),
        ),
        id=f"picture-{layer.name}",
    )


def _readout(pair: Pair, layers: list[Layer]) -> Html:
    entries = [("x, y", "place"), *((layer.name, layer.name) for layer in layers)]
    # Fixed places, so that no value, however long, moves the pictures under the pointer.
    pixel = "longer" if pair.channels > 1 or pair.reference.dtype.itemsize > 2 else None
    room = {"place": "long", "reference": pixel, "test": pixel, "difference": pixel}
    values = [
        tag("div", tag("dt", label), tag("dd", "–", data_value=value), class_=room.get(value))
        for label, value in entries
    ]
    buttons = [
        tag("button", sign, type="button", data_zoom=action, aria_label=words)
        for sign, action, words in (
            ("+", "in", "zoom in at the spot"),
            ("−", "out", "zoom out"),
            ("whole", "whole", "show the whole pictures"),
        )
    ]
    hint = "Point at a pixel, or tap it; a click holds the spot. Arrow keys move it, + and − zoom."
    line = tag("p", tag("span", *buttons, class_="controls"), tag("span", hint, class_="note hint"))
    return tag("div", line, tag("dl", *values, aria_live="polite"), class_="readout")


def _summary(pair: Pair) -> list[Html]:
    used = int(pair.mask.sum())
    differ = int(np.count_nonzero((pair.difference != 0).any(axis=-1) & pair.mask))
    kind = pair.reference.dtype.name
    if pair.test.dtype != pair.reference.dtype:
        kind += f" and {pair.test.dtype.name}"
    channels = "grey" if pair.channels == 1 else f"{pair.channels} channels"
    facts = f"{pair.width} × {pair.height} pixels, {kind}, {channels}, data range " + (
        f"{pair.data_range:g}. "
    )
    if used < pair.mask.size:
        facts += f"The mask uses {used} of {pair.mask.size} pixels ({used / pair.mask.size:.1%}). "
    if pair.number_step > 1:
        facts += f"Values are shown for one pixel in {pair.number_step} in both directions."
    if not differ:
        answer = "The images are equal at every pixel" + (" that the mask uses." if used else ".")
    else:
        with np.errstate(invalid="ignore"):
            largest = np.nanmax(np.abs(pair.difference[pair.mask]), initial=0.0)
        answer = (
            f"The images differ at {differ} of {used} pixels ({differ / used:.1%}), "
            f"by at most {largest:.6g}."
        )
    return [tag("p", answer, class_="answer"), tag("p", facts, class_="note")]


def _score_table(scores: Any, *, masked: bool) -> Html:
    rows: list[list[object]] = []
    for name, metric in METRICS.items():
        title = metric.title + (" (experimental)" if metric.experimental else "")
        about = [tag("span", title), tag("span", MEANINGS[name], class_="note")]
        score: object = "skipped"
        if name in scores:
            unit = f" {metric.unit}" if metric.unit not in ("", "I", "I^2") else ""
            score = _number(float(scores[name])) + unit
        else:
            about.append(tag("span", scores.skipped[name], class_="note"))
        better = "higher" if metric.higher_is_better else "lower"
        best = "depends" if math.isnan(metric.best) else _number(metric.best)
        cell = Html("".join(about))
        rows.append([name, score, better, best, _interval(metric.bounds), cell])
    head: list[object] = ["metric", "score", "better", "best", "range", "what it sees"]
    caption = "Scores of the pixels that the mask uses" if masked else "Scores of all pixels"
    return tag("div", table(head, rows, caption), class_="scores")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return f"{value:.6g}".replace("inf", "∞").replace("-", "−")


def _short(value: float) -> str:
    """Write a number for the end of a scale, where there is little room."""
    digits = 5 if abs(value) < 1e5 else 3
    mantissa, e, exponent = f"{value:.{digits}g}".replace("-", "−").partition("e+")
    return f"{mantissa}e{int(exponent)}" if e else mantissa


def _interval(bounds: tuple[float, float]) -> str:
    low, high = (f"{value:.4g}".replace("inf", "∞").replace("-", "−") for value in bounds)
    return f"{low} to {high}"


def _notes(pair: Pair, layers: list[Layer]) -> list[Html]:
    low, high = pair.scale.low, pair.scale.high
    notes = [
        "Every scale is fixed by the data range and the bounds of the metric, not by the pixels, "
        "so that reports compare. The colours of the difference, se and imed follow the square "
        "root, which shows small errors too. Grey in a map: not scored.",
        "A map has the scores of the window, block or pixel at each place. The one of gmsd is the "
        "gradient similarity, whose standard deviation is the score; the one of zncc takes "
        "windows of 9 x 9 pixels.",
    ]
    outside = sum(
        int(np.count_nonzero((image < low) | (image > high)))
        for image in (pair.reference, pair.test)
    )
    if outside:
        notes.append(f"{outside} values lie beyond the scale of {low:g} to {high:g} of the images.")
    if not pair.mask.all():
        notes.append("Striped pixels are masked: they influence no score.")
    if pair.channels not in (1, 3):
        notes.append(f"The pictures show the mean of the {pair.channels} channels.")
    if pair.channels > 1:
        notes.append("The difference shows the channel that differs most.")
    for step, what in ((pair.picture_step, "Pictures"), (pair.number_step, "Values")):
        if step > 1:
            notes.append(
                f"{what} are those of one pixel in {step} in both directions, to keep the page "
                "small; the scores take all pixels."
            )
    missing = [name for name, metric in METRICS.items() if metric.map_function]
    missing = [name for name in missing if name not in {layer.name for layer in layers}]
    if missing:
        notes.append(f"Not available for these images: the map of {', '.join(missing)}.")
    return [tag("p", note, class_="note") for note in notes]
