"""Compiling ahead of time: nothing is left to compile by default."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import imsim
from imsim import kernels
from imsim.cli import main
from imsim.compilation import COMPILED, compiling_calls

LISTEN = """
import sys
import warnings
import numpy as np
import imsim
from imsim.kernels.common import jit

late = set()
load = jit._Cache.load_overload
def look_for(cache, signature, context):
    late.add(cache._name + str(signature))
    return load(cache, signature, context)
jit._Cache.load_overload = look_for
"""
"""Whatever the cache on disk holds: a kernel is looked for there if the process has not got it."""

SCORES = """
class Stored:  # what is read in blocks
    def __init__(self, values):
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
    def __getitem__(self, index):
        return self.values[index]
for dtype, frame in (("float32", (45, 30)), ("uint8", (30, 45))):
    mask = np.ones(frame, bool)
    mask[:3, :3] = False
    last = np.random.default_rng(1).uniform(0, 255, (2, 2, *frame, 3)).astype(dtype)
    last[..., :20, :] = 9
    first = np.ascontiguousarray(np.moveaxis(last, -1, 2))
    for x, y in (last, first, last[:, 0], first[:, 0], (last[0], last[1, 0]),
                 last[:, :, ::-1, ::-1], np.asfortranarray(last),
                 last.astype(last.dtype.newbyteorder())):
        axis = -3 if x.shape[-3] == 3 else -1
        grey = [np.take(v, 1, axis=axis) for v in (x, y)]
        view = [np.moveaxis(v, axis, 0)[1] for v in (x, y)]
        is_plain = x.base is last and y.base is last
        for inside in (None, mask, *([np.ones(frame, bool)] if is_plain else [])):
            for metric in imsim.METRICS.values():
                for function in (metric.function, metric.map_function or metric.function):
                    function(x, y, mask=inside, data_range=255, channel_axis=axis)
                    if not metric.map_needs_channels:
                        function(*view, mask=inside, data_range=255)
                        if is_plain:
                            function(*grey, mask=inside, data_range=255)
    wide = [Stored(np.tile(v, (17, 14, 1))[:500, :420]) for v in last[:, 0]]
    options = dict(memory=10**6, data_range=255, channel_axis=-1)
    for inside in (None, np.tile(mask, (17, 14))[:500, :420]):
        for metric in imsim.METRICS.values():
            if metric.pieces is not None:
                metric.function(*wide, mask=inside, **options)
"""

GRADIENTS = f"""
sys.path.insert(0, {str(Path(__file__).parent / "gradients")!r})
from capture import DIFFERENTIABLE, gradient

rng = np.random.default_rng(1)
mask = np.ones((41, 30), bool)
mask[:3, :3] = False
for metric in (m for m in DIFFERENTIABLE if m.name in sys.argv[1].split(",")):
    last = rng.uniform(0, 1, (2, 2, 41, 30, 3)).astype("float32")
    first = np.ascontiguousarray(np.moveaxis(last, -1, 2))
    for x, y in (last, first, last[:, 0], (last[0], last[1, :1]), last[:, :, ::-1]):
        def score(a, b, mask):
            axis = -3 if a.shape[-3] == 3 else -1
            return metric.function(a, b, mask=mask, data_range=1, channel_axis=axis)

        for inside in (None, mask):
            for wanted in ((True, True), (True, False), (False, True)):
                assert gradient(score, x, y, inside, 1.0, wanted) is not None
"""

REGIONS = """
for dtype in ("uint8", "float32"):
    pixels = np.random.default_rng(1).uniform(0, 255, (2, 150, 301, 3))
    pixels[:, :, 200:] = 9
    if dtype.startswith("float"):
        pixels[:, 3, 3] = np.nan
    x, y = pixels.astype(dtype)
    large, cells = np.ones((150, 301), int), np.arange(150)[:, None] // 9 * 50 + np.arange(301) // 8
    names = sys.argv[2].split(",")
    kinds = cells.astype(np.int32), cells.astype(np.uint8), cells * 10**12
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for labels in (large, cells, *kinds):
            imsim.regions(x[..., 1], y[..., 1], labels, names, data_range=255)
            imsim.regions(x[::-1], y, labels, names, data_range=255, channel_axis=-1)
"""

PASSES = """
from imsim.anomaly import simulate
from imsim.anomaly.xray import VirtualPeel

images = simulate.potatoes(6, size=64, seed=1).images
for frames in (images, (60000 * images).astype(np.uint16)):
    peel = VirtualPeel().fit(frames)
    frames.setflags(write=False)
    peel.transform(frames)
    peel.doubts(frames[:1])
"""


def check_nothing_is_left(ahead: str, calls: str, *names: str) -> None:
    """Compile ahead in a process of its own; the calls take no other kernel."""
    code = f"import imsim\n{ahead}\n{LISTEN}\n{calls}\nprint(sorted(late))"
    command = [sys.executable, "-c", code, *names]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.strip() == "[]"


def test_nothing_is_left_to_compile(request: pytest.FixtureRequest) -> None:
    """On images of other sizes, batches and layouts in memory.

    Of gradients and regions, whose kernels few other tests need, every day a metric of each kind:
    of pixels, and of windows.
    """
    names = "rmse,ssim", "rmse,ssim"
    if request.config.getoption("--thorough"):
        names = "fsim,gmsd,rmse,ssim,zncc", "gmsd,imed,rmse,ssim,uiq,zncc"
    ahead = f"""
imsim.compile_kernels(dtypes=["uint8", "float32"], xray=True)
imsim.compile_kernels({names[0].split(",")}, ["float32"], gradients=True)
imsim.compile_kernels({names[1].split(",")}, ["uint8", "float32"], regions=True)
"""
    check_nothing_is_left(ahead, SCORES + GRADIENTS + REGIONS + PASSES, *names)


def test_no_gradient_is_left_to_compile_without_scores() -> None:
    ahead = 'imsim.compile_kernels(["sam"], ["float32"], gradients=True)'
    check_nothing_is_left(ahead, GRADIENTS, "sam")


def test_dtypes_or_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both name the same kernels."""
    named: list[list[str]] = []
    calls = lambda _, dtypes, *__: named.append(dtypes) or []  # noqa: E731
    monkeypatch.setattr(imsim.compilation, "compiling_calls", calls)
    imsim.compile_kernels(["se"], ["uint8", "float32"])
    imsim.compile_kernels(["se"], [np.uint8, np.dtype(">f4").newbyteorder("=")])
    imsim.compile_kernels(["se"])
    assert named == [["uint8", "float32"]] * 2 + [["uint8", "float32", "float64"]]


def test_calls_of_regions() -> None:
    """One for each metric that is cropped, and each type."""
    metrics, dtypes = ("fsim", "se", "ssim"), ("uint8", "float32")
    assert len(compiling_calls(metrics, dtypes, regions=True)) == 6 + 2 * 2


def test_calls_of_gradients() -> None:
    """One for each metric that has a gradient, and each type of floats."""
    metrics, dtypes = ("issm", "se", "ssim"), ("uint8", "float32", "float64")
    plain = compiling_calls(metrics, dtypes)
    assert len(plain) == 9
    assert len(compiling_calls(metrics, dtypes, gradients=True)) == 9 + 2 * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": "se"}, "metrics='se'; expected a list of names"),
        ({"metrics": ["vif"]}, "metrics holds 'vif'; expected names of"),
        ({"dtypes": ["int64"]}, "dtypes holds 'int64'; expected names of 'uint8', 'float32'"),
        ({"gradients": "yes"}, "gradients='yes'"),
        ({"regions": 1}, "regions=1"),
        ({"xray": None}, "xray=None"),
        ({"dtypes": [np.int8]}, "dtypes holds 'int8'; expected names"),
    ],
)
def test_unknown_names(arguments: dict, message: str) -> None:
    with pytest.raises(imsim.OptionError) as caught:
        imsim.compile_kernels(**arguments)
    assert str(caught.value).startswith(message)


def test_the_command_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "--dtypes", "int64"]) == 2
    assert "--dtypes holds 'int64'" in capsys.readouterr().err
    for name in ("vif", "ssim,pixels"):  # a count has no code to compile
        assert main(["compile", "--metrics", name]) == 2
        err = capsys.readouterr().err
        assert f"--metrics holds '{name.split(',')[-1]}'; expected names of 'fsim'" in err


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--dtypes", ", ".join(COMPILED), "--gradients", "--regions", "--xray"]
    assert main(["compile", "--metrics", "se,rmse", *options]) == 0
    said, err = capsys.readouterr()
    assert said.startswith("compiled code is ready after ")
    assert said.endswith(f", in {kernels.cache_folder()}\n")
    assert err == ""


def test_nothing_is_said_to_be_ready_that_is_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("/dev/null/x", "/dev/null"):
        monkeypatch.setenv("IMSIM_CACHE_DIR", place)
        assert main(["compile", "--metrics", "se"]) == 2
        assert f"IMSIM_CACHE_DIR={place}: no folder that can be" in capsys.readouterr().err
    monkeypatch.delenv("IMSIM_CACHE_DIR")
    monkeypatch.setattr(kernels, "cache_folder", lambda: None)
    assert main(["compile", "--metrics", "se"]) == 2
    assert "IMSIM_CACHE_DIR" in capsys.readouterr().err
    monkeypatch.setattr(kernels, "are_enabled", lambda: False)
    with pytest.raises(imsim.ImsimError, match="NUMBA_DISABLE_JIT"):
        imsim.compile_kernels(["se"])
    imsim.set_engine("portable")
    try:
        with pytest.raises(imsim.OptionError, match="set_engine"):
            imsim.compile_kernels(["se"])
    finally:
        imsim.set_engine("auto")
