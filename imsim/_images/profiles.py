"""Colour profiles (ICC), which are not applied: whether those of two images differ."""

from __future__ import annotations

import struct
from typing import NamedTuple

_TABLE = 128
"""Where the table of tags begins, behind the header."""
_WORDS = {b"desc", b"cprt", b"dmnd", b"dmdd", b"vued", b"tech", b"targ", b"meta"}
"""Tags that do not say which colours are meant."""


_CURVES = {b"rTRC", b"gTRC", b"bTRC", b"kTRC"}


class Profile(NamedTuple):
    """What a profile is called, and what says which colours are meant."""

    name: str
    colours: frozenset[tuple[bytes, bytes]]
    """The other tags, with their content."""

    @property
    def is_srgb(self) -> bool:
        """Whether it is one of the many profiles of sRGB, as images without a profile are taken."""
        return "srgb" in self.name.lower() and not any(
            kind in _CURVES and _is_gamma_1(body) for kind, body in self.colours
        )


def profile_of(content: bytes | None) -> Profile | None:
    """Return the profile that a file embeds; of a damaged one, what is there stands for colours."""
    if not content:
        return None
    tags: dict[bytes, bytes] = {}
    try:
        (count,) = struct.unpack_from(">I", content, _TABLE)
        for i in range(min(count, 256)):
            kind, start, size = struct.unpack_from(">4sII", content, _TABLE + 4 + 12 * i)
            tags[kind] = content[start : start + size]
        name = _text(tags.get(b"desc", b""))
    except (struct.error, UnicodeError):
        tags, name = {b"": content}, ""
    colours = frozenset((kind, body) for kind, body in tags.items() if kind not in _WORDS)
    return Profile(name or "without a name", colours)


def _is_gamma_1(curve: bytes) -> bool:
    """Tell whether a curve is a straight line: of no point, or a power of 1, in either version."""
    if curve[:4] == b"para":
        return curve[8:16] == b"\0\0\0\0\0\1\0\0"
    return curve[:12] == b"curv" + bytes(8) or curve[8:14] == b"\0\0\0\1\1\0"


def _text(tag: bytes) -> str:
    """Return the text of a tag, of either version of the format."""
    if tag[:4] == b"mluc":
        size, start = struct.unpack_from(">II", tag, 20)
        return tag[start : start + size].decode("utf-16-be").strip("\0 ")
    (size,) = struct.unpack_from(">I", tag, 8)
    return tag[12 : 12 + size].decode("latin-1").strip("\0 ")


def difference(reference: Profile | None, test: Profile | None) -> str:
    """Say how two profiles differ, or "": the same colours, or sRGB in other words or in none."""
    plain = [profile is None or profile.is_srgb for profile in (reference, test)]
    if all(plain):
        return ""
    if reference and test and reference.colours == test.colours:
        return ""
    names = [f"{profile.name!r}" if profile else "none" for profile in (test, reference)]
    return "its colour profile is {}, and that of the reference {}".format(*names)
