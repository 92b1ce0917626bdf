"""Numbers, shares and names as text, and as words of a command line."""

from __future__ import annotations

import math
import os
import shlex
import unicodedata

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./ ")
"""Bytes of a name that ``printf`` takes as they are."""


def readable(text: str) -> str:
    r"""Escape characters that cannot be seen, or cannot be saved as UTF-8.

    Parameters
    ----------
    text : str
        Such as the name of a file. Python keeps bytes that the encoding of the file system cannot
        decode as surrogates; these are read as UTF-8 where possible.

    Returns
    -------
    str
        Without characters that only control others.

    Examples
    --------
    >>> from imsim.pages import readable
    >>> print(readable("caf\udcc3\udca9 \x1b.png"))
    café \x1b.png
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
    r"""Quote a word of a command line, which may be any name of a file, as a POSIX shell reads it.

    Parameters
    ----------
    word : str
        Python keeps bytes that the encoding of the file system cannot decode as surrogates.

    Returns
    -------
    str
        Printable text. What cannot be seen is spelled by ``printf``.

    Examples
    --------
    >>> from imsim.pages.text import quoted
    >>> print(quoted("it's.png"), quoted("\udcff\n.png"))
    'it'"'"'s.png' "$(printf %b '\0377\0012.png')"
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

    Parameters
    ----------
    part, whole : int
        Counts; `part` is at most `whole`.

    Returns
    -------
    str
        With one decimal; ``<0.1%`` and ``>99.9%`` near the ends.

    Examples
    --------
    >>> from imsim.pages import share
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
