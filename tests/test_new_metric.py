"""One decorated function is a metric everywhere: nothing else needs an edit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CONTRACT = ("contract", "masks", "inputs", "bad_input", "not_finite", "array_api", "registry")


def python(*arguments: str, cwd: Path = HERE) -> str:
    """Run Python with the new metric at hand, and return what it prints."""
    path = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, "NUMBA_DISABLE_JIT": "1"},  # which starts faster
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_contract() -> None:
    """The tests over all metrics run for it too; those of files in the package cannot."""
    files = [f"test_{name}.py" for name in CONTRACT]
    apart = "not file"
    printed = python(
        *("-m", "pytest", "-q", "-p", "new_metric", "-p", "no:cacheprovider", *files),
        *("-k", f"mae and {apart}", "-W", "error"),
    )
    passed = int(printed.split(" passed")[0].split()[-1])
    assert passed > 100, printed


def test_compare_list_report_and_maps(tmp_path: Path) -> None:
    code = (
        "import new_metric, imsim, numpy as np\n"
        "from PIL import Image\n"
        "from imsim.pages import pair_report\n"
        "x = np.tile(np.arange(48, dtype=np.uint8), (48, 1))\n"
        "print(imsim.compare(x, x + 2)['mae'])\n"
        "print(imsim.compare(x[:9], x[:9] + 2).skipped['mae'])\n"
        "from imsim.cli import main\n"
        "main(['list'])\n"
        "html = pair_report(x, x + 2)\n"
        "assert 'How far are pixels apart' in html and 'mae: Mean absolute error' in html\n"
        "Image.fromarray(x).save('x.png'); Image.fromarray(x + 2).save('y.png')\n"
        "assert main(['compare', 'x.png', 'y.png', '--metrics', 'mae', '--maps', 'maps']) == 0\n"
    )
    score, reason, *table = python("-c", code, cwd=tmp_path).splitlines()
    assert score == "2.0"
    assert "mae needs at least 41x41" in reason
    row, compared = [line.split() for line in table if line.startswith("mae ")]
    assert compared == ["mae", "2", "I", "lower"]
    assert row[1:] == ["Mean", "absolute", "error", "lower", "[0,", "inf)", "no", "I"]
    assert list((tmp_path / "maps").glob("*mae*"))


def test_ranking_and_documentation() -> None:
    """The latter are the generators of the pages of the metrics, and of the README's table."""
    pytest.importorskip("sklearn", reason="needs the extra 'anomaly'")
    code = (
        "import sys, new_metric, imsim, numpy as np\n"
        "from imsim.anomaly import rank_metrics\n"
        "good = np.random.default_rng(0).normal(100, 5, (12, 48, 48))\n"
        "bad = good + 40\n"
        "images, labels = np.concatenate([good, bad]), np.repeat([0, 1], 12)\n"
        "models = np.full_like(images, 100)\n"
        "print(rank_metrics(images, models, labels, metrics=['mae'], data_range=255))\n"
        "sys.path[:0] = ['docs/_extensions', 'docs']\n"
        "import metric_pages, tables\n"
        "assert 'Mean absolute error' in metric_pages.page(imsim.METRICS['mae'])\n"
        "assert '[mae](mae.md)' in metric_pages.index()\n"
        "assert '`mae`' in tables.metrics()\n"
        "assert 'mae\\n   mae_map' in metric_pages.summary()\n"
    )
    assert "mae" in python("-c", code, cwd=HERE.parent)
