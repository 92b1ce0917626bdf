"""The index of a report on two folders: a row for each pair, the worst first, in small pictures."""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np

from imsim import COUNTS, METRICS, OptionError
from imsim.pages.arguments import check_mapping, check_text, check_texts
from imsim.pages.layers import ImagePair, difference_layer, image_layer
from imsim.pages.page import Html, asset, fragment, number, page, quoted, table, tag
from imsim.typing import Array
from imsim.validation import check_choice, check_names

SMALL_SIDE = 80
"""Longest side in pixels."""
SMALL_BYTES = 1150
"""Most bytes of a picture: 1500 of them and the text of 500 rows take less than 3 MB."""
_QUALITIES = (75, 50, 25, 5)


@dataclass(frozen=True)
class Thumbnail:
    """A small picture of so many pixels, as the content of a file."""

    content: bytes
    width: int
    height: int


def thumbnails(pair: ImagePair) -> dict[str, Thumbnail]:
    """Draw both images and their difference in small, or the reference alone if they are equal."""
    layers = [image_layer(pair, "reference")]
    if not pair.canvas.one_size or (pair.differ & pair.mask).any():
        layers += [image_layer(pair, "test"), difference_layer(pair)]
    side = math.ceil(max(pair.height, pair.width) / SMALL_SIDE)
    step = min(side, pair.height), min(side, pair.width)
    # A faint dot is all that some differences have, and losses take it.
    return {
        layer.name: compact(layer.draw(step), exact=layer.name == "difference") for layer in layers
    }


def compact(pixels: Array, *, exact: bool = False) -> Thumbnail:
    """Encode colours in at most `SMALL_BYTES`, smaller if need be; exactly if they fit so."""
    from PIL import Image, features

    kind = "WEBP" if features.check("webp") else "JPEG"
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if exact and kind == "WEBP":
        content = io.BytesIO()
        image.save(content, format=kind, lossless=True)
        if content.tell() <= SMALL_BYTES:
            return Thumbnail(content.getvalue(), image.width, image.height)
    factor = 1
    while True:
        for quality in _QUALITIES:
            content = io.BytesIO()
            image.reduce(factor).save(content, format=kind, quality=quality)
            if content.tell() <= SMALL_BYTES or max(image.size) // factor < 8:
                return Thumbnail(content.getvalue(), image.width, image.height)
        factor *= 2


Status = Literal["could not be scored", "failed", "unmatched", "differs", "equal"]
STATUSES: tuple[Status, ...] = get_args(Status)
"""The worst first."""
_VERBS: dict[Status, tuple[str, str]] = {
    "could not be scored": ("could not be scored", "could not be scored"),
    "failed": ("failed", "failed"),
    "unmatched": ("has no partner", "have no partner"),
    "differs": ("differs", "differ"),
    "equal": ("is equal", "are equal"),
}
"""What is said of one pair, and of several."""
_SHOWN = ("reference", "test", "difference")


@dataclass(frozen=True)
class Entry:
    """What the index says of one pair of images, or of a file without partner."""

    name: str
    status: Status
    scores: Mapping[str, float] = field(default_factory=dict)
    """Scores of metrics, and counts."""
    reasons: Sequence[str] = ()
    """Why the status is what it is."""
    notes: Sequence[str] = ()
    thumbnails: Mapping[str, Thumbnail] = field(default_factory=dict)
    """Those that there are of "reference", "test" and "difference"."""
    page: str | None = None
    """The address of the page of this pair, as seen from the index."""
    accept: str | None = None
    """The name that `imsim accept` takes, if there is something to accept."""

    def __post_init__(self) -> None:
        """Refuse what no row can show."""
        check_choice("status", self.status, STATUSES)
        for name in ("scores", "thumbnails"):
            check_mapping(name, getattr(self, name))
        for name, score in self.scores.items():
            if not isinstance(score, Real):
                raise OptionError(f"scores[{name!r}]={score!r}", "expected a number")
        for name in ("reasons", "notes"):
            check_texts(name, getattr(self, name))
        check_text("name", self.name)
        for name in ("page", "accept"):
            if getattr(self, name) is not None:
                check_text(name, getattr(self, name))


def folder_report(
    entries: Iterable[Entry],
    *,
    folders: tuple[str, str],
    metrics: Sequence[str] = (),
    facts: Mapping[str, str] | None = None,
) -> str:
    """Write the index of a report on two folders.

    Parameters
    ----------
    entries : iterable of Entry
        The pairs.
    folders : tuple of str
        The folder of references and that of test images, as a shell is to find them.
    metrics : sequence of str
        The columns of scores: metrics, and counts of `imsim.COUNTS`. Pairs of one status are in
        the order of the first one.
    facts : mapping of str, optional
        How the report was made, by name.

    Returns
    -------
    str
        HTML, to be saved as UTF-8.

    Raises
    ------
    OptionError
        If one of the entries is no `Entry`, `folders` are not two texts, `facts` no mapping, or
        `metrics` not names of metrics and counts.

    Examples
    --------
    >>> from imsim.pages import Entry, folder_report
    >>> entries = [Entry("a.png", "equal", {"ssim": 1.0}), Entry("b.png", "failed", {"ssim": 0.2})]
    >>> html = folder_report(entries, folders=("expected", "actual"), metrics=["ssim"])
    >>> html.index("b.png") < html.index("a.png")
    True
    """
    check_texts("folders", folders, 2)
    metrics = check_names("metrics", metrics, [*METRICS, *COUNTS])
    check_mapping("facts", {} if facts is None else facts)
    ordered = sorted(_checked_entries(entries), key=lambda entry: _rank(entry, metrics))
    title = f"{folders[1]} against {folders[0]}"
    heads = ["reference, test, difference", "name", "status", *metrics]
    titles = [tag("th", head, scope="col", data_plain=not i) for i, head in enumerate(heads)]
    rows = [_row(entry, i, metrics) for i, entry in enumerate(ordered)]
    accept = fragment("accept.html", folders=" ".join(map(_path, folders)))
    body = fragment(
        "folder.html",
        title=title,
        answer=_answer(ordered),
        boxes=_boxes(ordered),
        titles=titles,
        rows=rows,
        accept=accept if any(entry.accept for entry in ordered) else "",
        facts=table(["option", "value"], [[name, value] for name, value in (facts or {}).items()]),
    )
    return page(title, body, script=asset("sort.js") + asset("folder.js"))


def _checked_entries(entries: Any) -> list[Entry]:
    """Return the entries as a list."""
    if not isinstance(entries, Iterable):
        raise OptionError(f"entries={entries!r}", "expected a list, of imsim.pages.Entry each")
    found = list(entries)
    for one in found:
        if not isinstance(one, Entry):
            raise OptionError(f"entries holds {one!r}", "expected each as imsim.pages.Entry")
    return found


def _rank(entry: Entry, metrics: Sequence[str]) -> tuple[int, float, str]:
    """Order by status, then by how little alike the images are; NaN is worse than any number."""
    far = math.inf
    if metrics and metrics[0] in entry.scores:
        score = entry.scores[metrics[0]]
        far = float(METRICS[metrics[0]].dissimilarity(score)) if metrics[0] in METRICS else score
        far = math.inf if math.isnan(far) else far
    return STATUSES.index(entry.status), -far, entry.name


def _answer(entries: Sequence[Entry]) -> str:
    """Say how many pairs have which status."""
    counts = Counter(entry.status for entry in entries)
    said = [f"{counts[s]} {verbs[counts[s] > 1]}" for s, verbs in _VERBS.items() if counts[s]]
    return f"Of {len(entries)}: {', '.join(said)}." if said else "There is nothing to compare."


def _boxes(entries: Sequence[Entry]) -> list[Html]:
    """Show what there is to choose from; each status that occurs has a box."""
    counts = Counter(entry.status for entry in entries)
    boxes = []
    for status in filter(counts.get, STATUSES):
        box = tag("input", type="checkbox", checked=True, value=status, data_show=True)
        boxes.append(tag("label", box, f" {status} ({counts[status]})"))
    return boxes


def _row(entry: Entry, rank: int, metrics: Sequence[str]) -> Html:
    pick: object = ""
    if entry.accept is not None:
        value = _path(entry.accept)
        pick = tag("input", type="checkbox", data_accept=value, aria_label=f"accept {entry.name}")
    name = tag("a", entry.name, href=entry.page) if entry.page else tag("span", entry.name)
    said = [tag("span", text, class_="why") for text in entry.reasons]
    said += [tag("span", text, class_="note") for text in entry.notes]
    scores = []
    for metric in metrics:
        score = entry.scores.get(metric)
        key = "" if score is None or math.isnan(score) else repr(float(score))
        shown = "" if score is None else number(score)
        scores.append(tag("td", shown, data_key=key, data_label=metric, class_="number"))
    return fragment(
        "row.html",
        status=entry.status,
        word=entry.status.split()[0],
        pick=pick,
        pictures=_pictures(entry),
        name=name,
        said=said,
        rank=rank,
        scores=scores,
    )


def _path(name: str) -> str:
    """Quote a path, which must not be taken for an option."""
    return quoted(f"./{name}" if name.startswith("-") else name)


def _pictures(entry: Entry) -> Html:
    """Show the small pictures, to which the name beside them is the text."""
    inside = []
    for name in _SHOWN:
        small = entry.thumbnails.get(name)
        if small is None:
            continue
        kind = "webp" if small.content[8:12] == b"WEBP" else "jpeg"
        source = f"data:image/{kind};base64," + base64.b64encode(small.content).decode("ascii")
        size = {"width": small.width, "height": small.height}
        inside.append(tag("img", src=source, alt="", title=name, **size, class_=name))
    if entry.page is None:
        return tag("span", *inside)
    return tag("a", *inside, href=entry.page, tabindex=-1, aria_hidden="true")
