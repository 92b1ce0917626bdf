"""The calls that the page on parity shows are those that are benchmarked and tested."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from benchmarks import images, parity_tensors
from benchmarks.parity import evaluate
from benchmarks.parity_calls import CALLS, FORMS, IMPORTS
from benchmarks.peers import WORKS, peer


def test_every_peer_has_a_text() -> None:
    peers = {(name, other.library) for name, work in WORKS.items() for other in work.peers}
    assert set(CALLS) == peers
    assert set(IMPORTS) == set(FORMS) == {library for _, library in peers}


@pytest.mark.parametrize(("work", "library"), CALLS, ids=[" ".join(key) for key in CALLS])
def test_text_gives_the_number_of_the_call(work: str, library: str) -> None:
    x, y = images.pair(96, "float64", channels=WORKS[work].channels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what peers warn of is theirs
        try:
            expected = float(np.squeeze(peer(work, library).bind(x, y)()))
        except ImportError as error:
            pytest.skip(str(error))
    # To rounding: threads of the other library may add in another order.
    assert evaluate(CALLS[work, library], library, x, y) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("row", parity_tensors.ROWS, ids=lambda row: f"{row.library} {row.ours}")
def test_tensors_agree_as_far_as_the_page_says(row: parity_tensors.Row) -> None:
    page = parity_tensors.PAGE.read_text(encoding="utf-8")
    _, after = page.split(f"| `{row.theirs}` | `{row.ours}` | ")
    for dtype, cell in zip(parity_tensors.PRECISIONS, after.split(" | "), strict=False):
        try:
            found = parity_tensors.worst(row, dtype, (96,))
        except ImportError as error:
            pytest.skip(str(error))
        agree = cell.split(";")[0]
        assert found <= (1e-15 if agree == "all" else 10.0 ** -int(agree))
