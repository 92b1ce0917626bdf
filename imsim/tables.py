"""The one printer of tables as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(rows: Iterable[Sequence[str]], align: str = "") -> str:
    """Set cells in columns, two spaces apart.

    Parameters
    ----------
    rows : iterable of sequence of str
        The cells, row by row; the first row holds the heads.
    align : str
        A letter for each column: ``"l"`` sets it to the left, and ``"r"`` to the right. Further
        columns are set to the left.

    Returns
    -------
    str
        A line per row, without a line break at the end.
    """
    from tabulate import tabulate

    sides = ["right" if letter == "r" else "left" for letter in align]
    text: str = tabulate(list(rows), tablefmt="plain", colalign=sides, disable_numparse=True)
    return text
