"""What all reports are written with: templates, and the files of a folder."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup
from matplotlib.figure import Figure

import imsim
from imsim.pages import picture, readable, tag

PAGE = "report.html"
DPI = 160


def template(name: str) -> Template:
    """Return a template beside this file; any text in it is escaped, and made readable."""
    environment = Environment(
        autoescape=True,
        finalize=lambda value: value if hasattr(value, "__html__") else readable(str(value)),
        loader=FunctionLoader(_source),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(name)


def _source(name: str) -> str:
    return resources.files("imsim.anomaly").joinpath(name).read_text(encoding="utf-8")


class Writer:
    """Writes the files of one report; the page is written even if a figure fails."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK | os.X_OK):  # known before hours of computing
                raise PermissionError(None, "no permission to write")
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    def figure(
        self,
        name: str,
        caption: str,
        draw: Callable[..., Figure],
        *arguments: object,
    ) -> Markup:
        """Draw a figure into a file, and return it for the page."""
        path = self.folder / f"{name}.png"
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # in names
                draw(*arguments).savefig(path, dpi=DPI, format="png")
            content = path.read_bytes()
        except OSError as error:
            raise _unwritable(path, error) from error
        except Exception as error:  # hours of computing lie behind: write what there is
            reason = f"{path.name} could not be drawn: {error}"
            warnings.warn(reason, RuntimeWarning, stacklevel=3)
            return Markup(tag("p", reason, class_="note"))
        image = picture(content, caption)
        return Markup(tag("figure", image, tag("figcaption", caption), class_="plot", id=name))

    def page(self, text: str, name: str = PAGE) -> Path:
        """Write the page, and return its path."""
        path = self.folder / name
        try:
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise _unwritable(path, error) from error
        return path


def _unwritable(path: Path, error: OSError) -> imsim.ImsimError:
    return imsim.ImsimError(
        f"{path}: cannot be written ({error.strerror}); choose another folder for the report"
    )


def check_facts(facts: Any) -> None:
    """Refuse what is no mapping before images are inspected."""
    if facts is not None and not isinstance(facts, Mapping):
        raise imsim.OptionError(
            f"facts is of type {type(facts).__name__}; expected a dictionary of what else to say"
        )
