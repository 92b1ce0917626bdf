"""Code on the pages that needs xarray, Dask or Zarr runs."""

from __future__ import annotations

import pytest
from documents import KINDS, PAGES, blocks, run

CASES = [(page, kind) for page in PAGES for kind in KINDS[2:] if blocks(page, kind)]


@pytest.mark.parametrize(("page", "kind"), CASES)
def test_code_runs_from_top_to_bottom(page: str, kind: str) -> None:
    pytest.importorskip(kind.split()[1])
    run(page, kind)


def test_there_is_such_a_page() -> None:
    assert {page for page, _ in CASES} >= {"docs/labelled_arrays.md", "docs/scenes.md"}
