"""Code on the pages that needs PyTorch runs, and what JAX compiles."""

from __future__ import annotations

import pytest
from documents import KINDS, PAGES, WITH_JAX, blocks, run

WITH_TORCH = [page for page in PAGES if blocks(page, KINDS[1])]


@pytest.mark.parametrize("page", WITH_TORCH)
def test_code_for_torch_runs_from_top_to_bottom(page: str) -> None:
    run(page, KINDS[1])


@pytest.mark.parametrize("page", WITH_JAX)
def test_code_for_jax_runs_from_top_to_bottom(page: str) -> None:
    run(page)


def test_there_is_such_a_page() -> None:
    assert "docs/tensors.md" in WITH_TORCH
    assert "docs/tensors.md" in WITH_JAX
