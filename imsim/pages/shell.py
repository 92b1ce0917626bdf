"""Words of a command line, as a POSIX shell reads them."""

from __future__ import annotations

import os
import shlex

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./ ")


def quoted(word: str) -> str:
    r"""Quote a word, which may be any name of a file.

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
    >>> from imsim.pages.shell import quoted
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
