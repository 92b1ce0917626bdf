"""Formulas as MathML, which browsers show by themselves: no script, no font, no network."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

# What the converter does not know, in words that it does.
UNKNOWN = {r"\tfrac": r"\frac", r"\lvert": "|", r"\rvert": "|"}


def converted(node: nodes.Element, as_block: bool) -> str:
    formula = node.astext()
    for name, known in UNKNOWN.items():
        formula = formula.replace(name, known)
    return str(tex2mathml(formula, as_block=as_block))


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
