"""Compiling ahead of time: nothing is left to compile by default."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import imsim
from imsim.cli import main
from imsim.compilation import COMPILED

AGAIN = """
import sys
import numpy as np
import imsim
from numba.core import event

compiled = event.RecordingListener()
event.register("numba:compile", compiled)
name, dtype, height, width = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
x, y = np.random.default_rng(1).uniform(0, 255, (2, height, width, 3)).astype(dtype)
mask = np.ones((height, width), bool)
mask[:3, :3] = False
metric = imsim.METRICS[name]
for inside in (None, mask):
    for function in (metric.function, metric.map_function or metric.function):
        function(x, y, mask=inside, data_range=255, channel_axis=-1)
        if not metric.map_needs_channels:
            function(x[..., 1], y[..., 1], mask=inside, data_range=255)
print(sorted({str(e.data["dispatcher"]) for _, e in compiled.buffer}))
"""


@pytest.mark.parametrize("name", imsim.METRICS)
def test_nothing_is_left_to_compile(name: str) -> None:
    """In another process, on images of another size: calls load what was compiled."""
    code = "import sys, imsim; imsim.compile_kernels([sys.argv[1]])"
    for source, rest in (
        (code, ()),
        (AGAIN, ("float32", "70", "41")),
        (AGAIN, ("uint8", "41", "70")),
    ):
        process = subprocess.run(
            [sys.executable, "-c", source, name, *rest],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (process.returncode, process.stderr) == (0, "")
        assert process.stdout.strip() in ("", "[]")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": "se"}, "metrics='se'; expected a list of names"),
        ({"metrics": ["vif"]}, "metrics holds 'vif'; expected names of"),
        ({"dtypes": ["int64"]}, "dtypes holds 'int64'; expected names of 'uint8', 'float32'"),
        ({"dtypes": [np.uint8]}, "dtypes holds <class 'numpy.uint8'>; expected names"),
    ],
)
def test_unknown_names(arguments: dict, message: str) -> None:
    with pytest.raises(imsim.OptionError) as caught:
        imsim.compile_kernels(**arguments)
    assert str(caught.value).startswith(message)


def test_the_command_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "--dtypes", "int64"]) == 2
    assert "--dtypes holds 'int64'" in capsys.readouterr().err
    assert main(["compile", "--metrics", "vif"]) == 2
    assert "--metrics" in capsys.readouterr().err


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "--metrics", "se,rmse", "--dtypes", ",".join(COMPILED)]) == 0
    assert capsys.readouterr().out.startswith("compiled code is ready after ")
