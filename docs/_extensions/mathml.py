"""Formulas as MathML, which browsers show by themselves: no script, no font, no network."""

from __future__ import annotations

import html
import re
from typing import Any
from xml.etree import ElementTree

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

# What the converter does not know, in words that it does.
UNKNOWN = {r"\tfrac": r"\frac", r"\lvert": "|", r"\rvert": "|"}

ENTITY = re.compile(r"&(?!amp;|lt;|gt;)\w+;")
"""Of HTML, such as a space of some width; XML does not know its name."""
MATHML = "http://www.w3.org/1998/Math/MathML"
ElementTree.register_namespace("", MATHML)


def with_even_subscripts(text: str) -> str:
    """Let no base push its subscript down: those of μ and σ stand side by side.

    As in TeX, a single character is taken to end at the base line. Browsers look at the depth of
    the glyph instead, and lower the subscript of μ to twice that of σ.
    """
    tree = ElementTree.fromstring(ENTITY.sub(lambda found: html.unescape(found[0]), text))
    for element in tree.iter():
        if element.tag in (f"{{{MATHML}}}msub", f"{{{MATHML}}}msubsup") and not len(element[0]):
            base = ElementTree.Element(f"{{{MATHML}}}mpadded", {"depth": "0"})
            base.append(element[0])
            element[0] = base
    return ElementTree.tostring(tree, encoding="unicode")


def converted(node: nodes.Element, as_block: bool) -> str:
    formula = node.astext()
    for name, known in UNKNOWN.items():
        formula = formula.replace(name, known)
    return with_even_subscripts(tex2mathml(formula, as_block=as_block))


def visit_inline(self: Any, node: nodes.Element) -> None:
    self.body.append(converted(node, as_block=False))
    raise nodes.SkipNode


def visit_block(self: Any, node: nodes.Element) -> None:
    self.body.append(f'<div class="formula">{converted(node, as_block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
