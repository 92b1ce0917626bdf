"""Tables as text, HTML, CSV and data frames; the one printer of each."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imsim.errors import ImsimError
from imsim.typing import Array
from imsim.whole_files import write_whole, writing_to


def number(value: float) -> str:
    """Write a number with six digits, and a whole one, such as a count, with all of up to twelve.

    Examples
    --------
    >>> from imsim.tables import number
    >>> number(1299999.0), number(0.12345678)
    ('1299999', '0.123457')
    """
    is_whole = abs(value) < 1e12 and value == int(value)
    return f"{value:.12g}" if is_whole else f"{value:.6g}"


def breadth(text: str) -> int:
    """Count the columns of a terminal that a text takes.

    Examples
    --------
    >>> from imsim.tables import breadth
    >>> breadth("cafe\u0301"), breadth("画像")
    (4, 4)
    """
    if text.isascii():
        return len(text)
    return sum(map(_breadth, text))


def _breadth(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):  # drawn over the one before, or not
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def padded(text: str, columns: int, *, right: bool = False) -> str:
    """Fill up a text with spaces to so many columns; they come first if it is set to the right."""
    spaces = " " * (columns - breadth(text))
    return spaces + text if right else text + spaces


def table(rows: Iterable[Sequence[str]], align: str = "", *, html: bool = False) -> str:
    """Set cells in columns, two spaces apart; the first row holds the heads.

    `align` has a letter for each column: ``"l"`` sets it to the left, as further ones are, and
    ``"r"`` to the right. An element of HTML, whose cells are escaped, names no colours: those of
    the page around it, bright or dark, hold.
    """
    if html:
        from tabulate import tabulate

        sides = ["right" if letter == "r" else "left" for letter in align]
        options: dict[str, Any] = {"colalign": sides, "disable_numparse": True}
        text: str = tabulate(list(rows), "firstrow", tablefmt="html", **options)
        for cell in ("<th>", "<td>"):  # Jupyter sets cells to the right that do not say their side
            text = text.replace(cell, f'{cell[:-1]} style="text-align: left;">')
        return text
    # Not by tabulate, which counts letters.
    cells = [[str(cell).strip() for cell in row] for row in rows]
    number = max(map(len, cells), default=0)
    columns = [max(breadth(row[i]) for row in cells if i < len(row)) for i in range(number)]
    rights = [letter == "r" for letter in align.ljust(number)]
    return "\n".join(
        "  ".join(
            padded(cell, size, right=right)
            for cell, size, right in zip(row, columns, rights, strict=False)
        ).rstrip()
        for row in cells
    )


def reasons(found: Mapping[str, str]) -> str:
    """Write an HTML table of what is missing by its name, or nothing."""
    if not found:
        return ""
    return "\n" + table([["metric", "skipped, since"], *found.items()], "ll", html=True)


def indexed(columns: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Flatten arrays of one shape; return the places along their axes, and the values.

    The axes are called "image", or, if there are several, "axis_0", "axis_1" ...
    """
    shape = next((np.shape(column) for column in columns.values()), ())
    names = ["image"] if len(shape) == 1 else [f"axis_{axis}" for axis in range(len(shape))]
    places = [place.ravel() for place in np.indices(shape)]
    values = {name: np.ravel(column) for name, column in columns.items()}
    return dict(zip(names, places, strict=True)), values


def to_csv(
    index: Mapping[str, Array], columns: Mapping[str, Array], path: str | Path | None
) -> str | None:
    """Write columns as CSV, with numbers that read back exactly; without a path, return the text.

    Columns have one length; those of the index come first. A file is replaced if it exists.
    """
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    every = {**index, **columns}
    writer.writerow(every)
    writer.writerows(zip(*(np.asarray(v).tolist() for v in every.values()), strict=True))
    if path is None:
        return content.getvalue()
    with writing_to(path):
        write_whole(path, content.getvalue().encode("utf-8"))
    return None


def to_frame(
    index: Mapping[str, Array], columns: Mapping[str, Array], attributes: Mapping[str, Any]
) -> Any:
    """Make a data frame of pandas, whose index is that of the rows where there is none."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ImsimError(
            "a data frame needs pandas, which is not installed",
            "pip install pandas, or take to_csv() or to_dict()",
        ) from error
    frame = pd.DataFrame(dict(columns))
    if len(index) > 1:
        frame.index = pd.MultiIndex.from_arrays(list(index.values()), names=list(index))
    elif index:
        frame.index = pd.Index(*index.values(), name=next(iter(index)))
    frame.attrs.update(attributes)
    return frame
