"""Self-contained HTML pages: one file that needs no network; numbers and names as their text."""

from __future__ import annotations

import base64
import hashlib
import html
import math
import os
import shlex
import unicodedata
from functools import cache
from importlib import resources
from string import Template

from imsim.pages.colour import png
from imsim.typing import Array

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./ ")
"""Bytes of a name that ``printf`` takes as they are."""


def readable(text: str) -> str:
    """Escape characters that cannot be seen, or cannot be saved as UTF-8.

    Python keeps bytes that the encoding of the file system cannot decode as surrogates; these are
    read as UTF-8 where possible.
    """
    if text.isprintable():
        return text
    try:
        content = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # surrogates that stand for no byte
        content = text.encode("utf-8", "backslashreplace")
    return "".join(
        c.encode("unicode_escape").decode("ascii") if _unseen(c) else c
        for c in content.decode("utf-8", "backslashreplace")
    )


def _unseen(character: str) -> bool:
    """Tell whether a character controls the text, such as its direction or its lines."""
    category = unicodedata.category(character)
    return category[0] == "C" or category in ("Zl", "Zp")


def quoted(word: str) -> str:
    """Quote a word of a command line, which may be any name of a file, as a POSIX shell reads it.

    What cannot be seen, also bytes that Python keeps as surrogates, is spelled by ``printf``.
    """
    if word.isprintable():
        return shlex.quote(word)
    try:
        content = os.fsencode(word)
    except UnicodeEncodeError:  # no name on this system
        content = word.encode("utf-8", "backslashreplace")
    spelled = "".join(chr(byte) if byte in _PLAIN else f"\\0{byte:03o}" for byte in content)
    return f"\"$(printf %b '{spelled}')\""


def share(part: int, whole: int) -> str:
    """Write a share in per cent; 0% means none, and 100% means all.

    >>> share(1, 2_000_000), share(119_974, 120_000), share(1, 3), share(7, 7)
    ('<0.1%', '>99.9%', '33.3%', '100%')
    """
    if part == whole or not part:
        return "100%" if part else "0%"
    if part / whole < 0.001:
        return "<0.1%"
    return ">99.9%" if part / whole > 0.999 else f"{part / whole:.1%}"


def number(value: float, digits: int = 6) -> str:
    """Write a number with so many significant digits."""
    if math.isnan(value):
        return "NaN"
    return f"{value:.{digits}g}".replace("inf", "∞").replace("-", "−")


def short(value: float) -> str:
    """Write a number for the end of a scale, where there is little room."""
    mantissa, e, exponent = number(value, 5 if abs(value) < 1e5 else 3).partition("e+")
    return f"{mantissa}e{int(exponent)}" if e else mantissa


GENERATOR = "imsim"
"""What a page says of who wrote it."""
_WITHOUT_END = {"br", "img", "input", "meta"}


class Html(str):
    """Text that is HTML already; any other text is escaped on its way into a page."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """Write an element; whatever is not `Html` among its children becomes text, escaped.

    A list stands for its items. Of attributes, True writes the bare name; False and None leave the
    attribute out. A trailing underscore of a name is dropped, others become hyphens.

    >>> print(tag("p", "1 < 2", tag("br"), class_="note"))
    <p class="note">1 &lt; 2<br></p>
    """
    start = name
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        start += " " + key.rstrip("_").replace("_", "-")
        start += "" if value is True else f'="{_escaped(value)}"'
    content = "".join(_inside(child) for child in children)
    return Html(f"<{start}>" if name in _WITHOUT_END else f"<{start}>{content}</{name}>")


def picture(pixels: Array | bytes, alt: str, **attributes: object) -> Html:
    """Write a picture that is part of the page: pixels as for `png`, or content of a PNG file."""
    content = pixels if isinstance(pixels, bytes) else png(pixels)
    source = "data:image/png;base64," + base64.b64encode(content).decode("ascii")
    return tag("img", src=source, alt=alt, **attributes)


def table(head: list[object], rows: list[list[object]], caption: str = "") -> Html:
    """Write a table that scrolls on its own; the first cell of each row is its heading."""
    titles = [tag("th", title, scope="col") for title in head]
    lines = [
        tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:]))
        for row in rows
    ]
    inside = tag(
        "table",
        tag("caption", caption) if caption else "",
        tag("thead", tag("tr", *titles)),
        tag("tbody", *lines),
    )
    return tag("div", inside, class_="wide", tabindex=0, role="region", aria_label=caption or None)


@cache
def asset(name: str) -> str:
    """Return the text of a file that lies beside this one."""
    return resources.files("imsim.pages").joinpath(name).read_text(encoding="utf-8")


def fragment(name: str, /, **values: object) -> Html:
    """Write a piece of a page, a file beside this one, in which a name behind $ stands for a value.

    Indentation and ends of lines are left out; whatever is not `Html` becomes text, escaped.
    """
    pieces = (line.strip() for line in asset(name).splitlines())
    texts = {key: _inside(value) for key, value in values.items()}
    return Html(Template("".join(pieces)).substitute(texts))


def page(title: str, *body: object, script: str = "") -> str:
    """Write a whole page; `script` runs once the content is there.

    Its content security policy forbids every request, and every script but the given one: even the
    name of a file that escaped the escaping could do no harm.
    """
    style = asset("page.css")
    policy = (
        "default-src 'none'; img-src data: blob:; base-uri 'none'; form-action 'none'; "
        f"style-src {_digest(style)}; script-src {_digest(script)}"
    )
    head = fragment("head.html", policy=policy, generator=GENERATOR, title=title, style=Html(style))
    end = tag("script", Html(script)) if script else ""
    content = tag("body", tag("main", *body), end)
    return f"<!doctype html>\n{tag('html', head, content, lang='en')}\n"


def _inside(child: object) -> str:
    if isinstance(child, list):
        return "".join(map(_inside, child))
    return child if isinstance(child, Html) else _escaped(child)


def _escaped(value: object) -> str:
    return html.escape(readable(str(value)))


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
