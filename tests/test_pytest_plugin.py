"""The pytest plugin: images compared with references beside the test."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from documents import PAGES, blocks
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import imsim
from imsim.pages import pair_report
from imsim.regression import ImageMismatchError, ImageRegression, safe_name

ROOT = Path(__file__).parents[1]
Make = Callable[..., ImageRegression]
RAMP = (np.arange(20 * 24).reshape(20, 24) % 251).astype(np.uint8)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make what the fixture is, for the test "test_a" of a module "test_x"."""

    def made(update: bool = False, written: Any = lambda path: None) -> ImageRegression:
        return ImageRegression(
            tmp_path / "test_x",
            "test_a",
            report=tmp_path / "report" / "test_x",
            start=tmp_path,
            test="test_x.py::test_a",
            update=update,
            written=written,
        )

    return made


def _files(folder: Path) -> list[str]:
    found = (p for p in folder.rglob("*") if p.is_file() and p.parent.name != "__pycache__")
    return sorted(path.relative_to(folder).as_posix() for path in found)


@pytest.fixture
def no_pages(tmp_path: Path) -> None:
    """Save the time of pages that nobody looks at: their folder cannot be made."""
    (tmp_path / "report").write_text("", encoding="utf-8")


def _failure(make: Make, *args: Any, **options: Any) -> str:
    with pytest.raises(ImageMismatchError) as caught:
        make().check(*args, **options)
    return str(caught.value)


# Names


LETTERS = 'aB0_[]-.~ /\\:*?"<>|\0\n\u00e9\u6f22\ud800'


@given(st.text(LETTERS, max_size=150))
def test_names_are_those_of_files_anywhere(text: str) -> None:
    name = safe_name(text)
    assert re.fullmatch(r"[A-Za-z0-9_.,=+@\[\]~-]*", name)
    assert len(name) <= 110
    if re.fullmatch(r"\w+(\[[\w.-]*\])?", text, re.ASCII) and len(text) <= 100:
        assert name == text


@given(st.text(LETTERS, max_size=3), st.text(LETTERS, max_size=3))
def test_two_texts_have_two_names(one: str, two: str) -> None:
    assert (safe_name(one) == safe_name(two)) is (one == two)


def test_several_images_of_a_test(make: Make, tmp_path: Path) -> None:
    said: list[str] = []
    regression = make(update=True, written=said.append)
    for name in (None, None, "a/b", "three", None):
        regression.check(RAMP, name)
    stems = ["test_a", "test_a-2", f"test_a-{safe_name('a/b')}", "test_a-three", "test_a-3"]
    assert _files(tmp_path) == sorted(f"test_x/{stem}.png" for stem in stems)
    assert [Path(path) for path in said] == [Path("test_x", f"{stem}.png") for stem in stems]
    with pytest.raises(imsim.OptionError, match=r"THREE.*case of letters"):
        regression.check(RAMP, "THREE")
    for name in ("", 3):
        with pytest.raises(imsim.OptionError, match=re.escape(f"name={name!r}")):
            regression.check(RAMP, name)  # type: ignore[arg-type]


# Stored images


@pytest.mark.parametrize(
    ("shape", "dtype", "suffix"),
    [
        *(((20, 24), dtype, ".png") for dtype in ("bool", "uint8", "uint16")),
        ((20, 24, 3), "uint8", ".png"),
        *(((20, 24), dtype, ".npy") for dtype in ("int8", "int64", "float16", "float32", ">f8")),
        *(((20, 24, n), "uint8", ".npy") for n in (1, 2, 4)),
        ((20, 24, 3), "uint16", ".npy"),
    ],
)
@pytest.mark.usefixtures("no_pages")
def test_references_hold_the_pixels(make, shape, dtype, suffix, rng, tmp_path):
    image = rng.uniform(0, 250, shape).astype(dtype)
    options = {"channel_axis": -1} if len(shape) == 3 else {}
    make(update=True).check(image, **options)
    assert _files(tmp_path / "test_x") == [f"test_a{suffix}"]
    make().check(image, **options)
    image[3, 4] = ~image[3, 4] if dtype == "bool" else image[3, 4] + 1
    assert "1 of 480 pixels (0.2%) differ" in _failure(make, image, **options)


def _figure(**options: Any) -> Any:
    figure = pytest.importorskip("matplotlib.figure").Figure(figsize=(0.6, 0.4), **options)
    figure.add_axes((0.1, 0.1, 0.8, 0.8)).plot([0, 1])
    return figure


CONTAINERS = {
    "list": lambda: RAMP.astype(int).tolist(),
    "PIL, grey": lambda: Image.fromarray(RAMP),
    "PIL, RGB": lambda: Image.fromarray(np.stack([RAMP, RAMP, 255 - RAMP], axis=-1)),
    "PIL, 1 bit": lambda: Image.fromarray(RAMP > 9),
    "JAX": lambda: pytest.importorskip("jax.numpy").asarray(RAMP),
    "figure": _figure,
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_containers(make, container):
    make(update=True).check(CONTAINERS[container]())
    make().check(CONTAINERS[container]())
    with pytest.raises(ImageMismatchError, match="reference"):
        make().check(RAMP[1:])


def test_figures_are_drawn_alike_whatever_they_have_for_the_screen(make, tmp_path):
    make(update=True).check(_figure(dpi=100))
    make().check(_figure(dpi=217))
    with Image.open(tmp_path / "test_x" / "test_a.png") as stored:
        assert stored.size == (60, 40)
        assert stored.info == {}
    make(update=True).check(_figure(facecolor="none"), "transparent")
    make().check(_figure(facecolor="white"), "transparent", tolerance=2)
    figure = _figure()
    part = figure.subfigures()
    part.set_visible(False)
    for of_figure in (figure.axes[0], part, part.add_subplot()):
        make().check(of_figure)


def test_channels_anywhere(make):
    colour = np.stack([RAMP, RAMP // 2, 255 - RAMP])
    make(update=True).check(colour, channel_axis=0)
    make().check(np.moveaxis(colour, 0, -1), channel_axis=2)


@pytest.mark.parametrize(
    ("image", "options", "error", "words"),
    [
        (np.zeros((4, 5, 3)), {}, imsim.ShapeError, "channel_axis=-1"),
        (np.zeros((4, 5)), {"channel_axis": -1}, imsim.ShapeError, "expected three axes"),
        (np.zeros((0, 5)), {}, imsim.ShapeError, "(0, 5)"),
        (np.zeros((4, 5, 3)), {"channel_axis": 3}, imsim.OptionError, "channel_axis=3"),
        (np.zeros((4, 5, 3)), {"channel_axis": 1.0}, imsim.OptionError, "channel_axis=1.0"),
        (np.zeros((4, 5, 3)), {"channel_axis": True}, imsim.OptionError, "channel_axis=True"),
        (np.zeros((4, 5), complex), {}, imsim.DTypeError, "complex128"),
        (Image.new("RGBA", (4, 5)), {}, imsim.DTypeError, "transparency"),
        (RAMP, {"metric": "nonsense"}, imsim.OptionError, "expected one of"),
        (RAMP, {"metric": ["ssim"]}, imsim.OptionError, "expected one of"),
        (RAMP, {"at_most": 3}, imsim.OptionError, "metric=None"),
        (RAMP, {"metric": "se", "at_most": "3"}, imsim.OptionError, "at_most='3'"),
        (RAMP, {"metric": "se", "at_most": 3, "tolerance": 1}, imsim.OptionError, "tolerance=1"),
        (RAMP, {"tolerance": -1}, imsim.OptionError, "tolerance=-1"),
        (RAMP, {"mask": np.ones((3, 3), bool)}, imsim.MaskError, "(3, 3)"),
        (RAMP, {"mask": np.zeros(RAMP.shape, bool)}, imsim.MaskError, "uses no pixel"),
        (RAMP / 7, {"metric": "ssim", "at_least": 0.9}, imsim.DataRangeError, "data_range"),
        (
            *(RAMP, {"metric": "ssim", "at_least": 0.9, "data_range": 65535}),
            *(imsim.DataRangeError, "data_range=65535 is beyond what uint8 pixels hold"),
        ),
        (RAMP, {"data_range": -1}, imsim.DataRangeError, "data_range=-1; expected one positive"),
        (
            *(RAMP, {"metric": "rmse", "at_most": 1, "tolerance": np.ones(2)}),
            *(imsim.OptionError, "tolerance=array([1., 1.]); expected a number"),
        ),
        (
            *(RAMP, {"metric": "psnr", "at_least": 10**400}),
            *(imsim.OptionError, "expected a number from -inf to inf"),
        ),
    ],
)
@pytest.mark.parametrize("update", [False, True])
def test_what_no_reference_can_help(make, image, options, error, words, update, tmp_path):
    """It is told before there is one, and makes none."""
    with pytest.raises(error, match=re.escape(words)):
        make(update=update).check(image, **options)
    assert _files(tmp_path) == []


# Rules


@pytest.mark.usefixtures("no_pages")
def test_pixels_with_tolerance_and_mask(make):
    make(update=True).check(RAMP)
    image = RAMP.copy()
    image[5:7, 8:11] += 3
    image[15, 2] += 1
    said = _failure(make, image)
    assert "7 of 480 pixels (1.5%) differ, the largest part in rows 5:7 and columns 8:11" in said
    assert "the largest difference is 3" in said
    assert "6 of 480 pixels (1.2%) differ by more than 2" in _failure(make, image, tolerance=2)
    make().check(image, tolerance=3)
    assert "1 of 474 pixels" in _failure(make, image, mask=image - RAMP < 3)
    make().check(image, mask=image == RAMP)


@pytest.mark.parametrize("name", [*imsim.METRICS, *imsim.COUNTS])
@pytest.mark.usefixtures("no_pages")
def test_every_measure_with_its_direction(make, name, rng):
    record = {**imsim.METRICS, **imsim.COUNTS}[name]
    image = rng.integers(0, 255, (32, 32), dtype=np.uint8)
    other = rng.integers(0, 255, (32, 32), dtype=np.uint8)
    make(update=True).check(image)
    wanted, wrong = ("at_least", "at_most") if record.higher_is_better else ("at_most", "at_least")
    if isinstance(record, imsim.Metric):
        score = record.function(image, other)
    else:
        options = {"anti_aliasing": record.anti_aliasing}
        score = getattr(imsim.differing_pixels(image, other, **options), record.attribute)
    step = 1e-6 if record.higher_is_better else -1e-6
    make().check(other, metric=name, **{wanted: score - step})
    assert re.search(
        rf"{name} is \S+, not at",
        _failure(make, other, metric=name, **{wanted: score + step * max(1, abs(score))}),
    )
    for limits in ({wrong: score}, {}, {wanted: score, wrong: score}):
        with pytest.raises(imsim.OptionError, match=wanted):
            make().check(other, metric=name, **limits)


def test_nan_is_nan(make):
    image = RAMP / 7
    image[:3] = np.nan
    make(update=True).check(image)
    make().check(image)
    image[4, 4] = np.nan
    assert "1 of 480 pixels" in _failure(make, image, data_range=36)
    said = _failure(make, image, metric="rmse", at_most=1)
    assert "with itself, rmse is NaN" in said
    assert "left out by mask=" in said


# What is told and written


def test_without_a_reference_the_command_to_make_one_is_told(make, tmp_path):
    said = _failure(make, RAMP).splitlines()
    assert said[0].endswith("test_a.png: there is no such reference yet")
    assert said[-1] == "  to make it: python -m pytest test_x.py::test_a --imsim-update"
    assert _files(tmp_path) == ["report/test_x/test_a.png"]


@pytest.mark.parametrize(
    ("image", "options", "words"),
    [
        (RAMP[1:], {}, "the image is 24x19, uint8, no channels, its reference 24x20, uint8"),
        (RAMP.astype(np.uint16), {}, "24x20, uint16, no channels, its reference 24x20, uint8"),
        (RAMP / 7, {}, "the image is 24x20, float64, no channels, its reference 24x20, uint8"),
        (np.stack([RAMP] * 3), {"channel_axis": 0}, "3 channels, its reference 24x20, uint8, no"),
    ],
)
def test_other_sizes_types_and_channels(make, image, options, words, tmp_path):
    make(update=True).check(RAMP)
    assert words in _failure(make, image, **options)
    make(update=True).check(image, **options)
    make().check(image, **options)
    assert len(_files(tmp_path)) == 1  # nor one of the other format


def test_a_failure_has_its_page_and_image_until_it_passes(make, tmp_path):
    make(update=True).check(RAMP)
    image = RAMP + np.eye(20, 24, dtype=np.uint8)
    said = _failure(make, image)
    page, stored = tmp_path / "report/test_x/test_a.html", tmp_path / "report/test_x/test_a.png"
    assert f"the page: {page.relative_to(tmp_path)}" in said
    assert f"the image: {stored.relative_to(tmp_path)}" in said
    html = page.read_text(encoding="utf-8")
    assert "20 of 480 pixels" in html
    assert "test_x.py::test_a" in html
    assert html.count('href="#') == 1 + 1 + 1  # to the view, the largest difference and the part
    assert '<a href="#10,10">20 × 20 at 0, 0</a>' in html
    assert "Scores" not in html  # nobody asked for any, and each costs seconds to compile
    said = _failure(make, image, metric="rmse", at_most=0.1)
    html = page.read_text(encoding="utf-8")
    assert "rmse is 0.2" in said
    assert "Root mean squared error" in html
    assert "Structural" not in html
    assert (np.asarray(Image.open(stored)) == image).all()
    make().check(RAMP)
    assert _files(tmp_path) == ["test_x/test_a.png"]


def test_other_sizes_have_a_page_too(make, tmp_path):
    make(update=True).check(RAMP)
    assert "the page: " in _failure(make, RAMP[:, 2:])
    html = (tmp_path / "report/test_x/test_a.html").read_text(encoding="utf-8")
    assert "the image is 22x20" in html


def test_without_a_data_range_there_is_no_page(make, tmp_path):
    make(update=True).check(RAMP / 7)
    said = _failure(make, RAMP / 6)
    assert "no page: the report shows differences on a fixed scale" in said
    assert _files(tmp_path) == ["report/test_x/test_a.npy", "test_x/test_a.npy"]
    assert "the page: " in _failure(make, RAMP / 6, data_range=50)


EMPTY_ZIP = b"PK\5\6" + bytes(18)


def _npy(shape: str) -> bytes:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"nonsense", b"\x89PNG\r\n\x1a\nnonsense", EMPTY_ZIP),
        *map(_npy, ("(2, 2)", "(2, ", "'''", "(1000000000, 1000000)")),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_a_damaged_reference(make, content, suffix, tmp_path):
    (tmp_path / "test_x").mkdir()
    (tmp_path / f"test_x/test_a{suffix}").write_bytes(content)
    assert f"test_a{suffix}: cannot be read" in _failure(make, RAMP)
    make(update=True).check(RAMP)
    make().check(RAMP)


def test_a_reference_in_the_other_byte_order(make, tmp_path):
    (tmp_path / "test_x").mkdir()
    np.save(tmp_path / "test_x/test_a.npy", RAMP.astype(">f4"))
    make().check(RAMP.astype("<f4"))


def test_an_array_that_is_no_image(make, tmp_path):
    (tmp_path / "test_x").mkdir()
    np.save(tmp_path / "test_x/test_a.npy", np.zeros(3))
    assert "holds no image, but an array of shape (3,)" in _failure(make, RAMP)


def test_an_update_leaves_what_is_met(make, tmp_path):
    make(update=True).check(RAMP)
    before = (tmp_path / "test_x/test_a.png").read_bytes()
    said: list[str] = []
    make(update=True, written=said.append).check(RAMP + np.uint8(1), tolerance=1)
    assert (tmp_path / "test_x/test_a.png").read_bytes() == before
    assert said == []
    make(update=True, written=said.append).check(RAMP + np.uint8(1))
    assert (tmp_path / "test_x/test_a.png").read_bytes() != before
    assert len(said) == 1


def test_folders_that_cannot_be_written(make, tmp_path):
    (tmp_path / "report").write_text("a file")
    assert re.search("no page: .*--imsim-report DIR", _failure(make, RAMP))
    (tmp_path / "test_x").write_text("a file")
    with pytest.raises(imsim.ImsimError, match=r"test_a\.png: cannot be written"):
        make(update=True).check(RAMP)


def test_a_report_over_the_references_is_refused(tmp_path):
    options = {"start": tmp_path, "test": "", "update": False, "written": print}
    with pytest.raises(imsim.OptionError, match="--imsim-report"):
        ImageRegression(tmp_path / "test_x", "test_a", report=tmp_path / "y/../test_x", **options)


# Under pytest

MODULE = """
import os

import numpy as np
import pytest

SHIFT = int(os.environ.get("SHIFT", "0"))


def image():
    ramp = np.arange(480, dtype=np.uint8).reshape(20, 24)
    ramp[3:5, 4:9] += np.uint8(SHIFT)
    return ramp


class TestClass:
    @pytest.mark.parametrize("name", ["a::b/c", "plain"])
    def test_a(self, name, image_regression):
        image_regression.check(image())


def test_b(image_regression, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    image_regression.check(image(), metric="ssim", at_least=0.999)
    image_regression.check(image(), "again", tolerance=2)
"""
REFERENCES = [
    *(f"test_x/{safe_name(f'TestClass.test_a[{name}]')}.png" for name in ("a::b/c", "plain")),
    *("test_x/test_b.png", "test_x/test_b-again.png"),
]
OTHERS = ("cacheprovider", "hypothesispytest", "jaxtyping", "zarr")
"""Plugins that take time and have no part in this."""


@pytest.fixture(scope="module")
def loaded() -> None:
    """Import what a check imports: a run forgets its modules, and some load only once."""
    pair_report(RAMP, RAMP[::-1])
    imsim.differing_pixels(RAMP, RAMP)


@pytest.fixture
def run(
    loaded: None, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Run pytest on tests/test_x.py."""
    monkeypatch.delenv("CI", raising=False)
    pytester.mkdir("tests").joinpath("test_x.py").write_text(MODULE, encoding="utf-8")

    def ran(*arguments: str, shift: int = 0) -> Any:
        monkeypatch.setenv("SHIFT", str(shift))
        plugins = ["pytest_imsim", *(f"no:{name}" for name in OTHERS)]
        return pytester.runpytest(*(f"-p{name}" for name in plugins), *arguments)

    return ran


def test_from_the_first_run_to_a_failure_that_is_accepted(run, pytester):
    tests = pytester.path / "tests"
    result = run()
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        ["*to make it: python -m pytest *tests/test_x.py::TestClass::test_a*--imsim-update*"]
    )
    assert _files(tests) == ["test_x.py"]
    result = run("--imsim-update")
    result.assert_outcomes(passed=3)
    assert _files(tests) == sorted([*REFERENCES, "test_x.py"])
    result.stdout.fnmatch_lines(["*references written*", *(f"tests/{r}" for r in REFERENCES)])
    run("--imsim-update").stdout.no_fnmatch_line("*references written*")
    result = run(shift=9)
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        ["*the page: imsim-report/tests/test_x/test_b-again.html", "*::test_b --imsim-update"]
    )
    result.stdout.no_fnmatch_line("*__tracebackhide__*")
    failed = [*REFERENCES[:2], REFERENCES[3]]  # test_b meets its first
    assert _files(pytester.path / "imsim-report/tests") == sorted(
        [*failed, *(reference.replace(".png", ".html") for reference in failed)]
    )
    run("--imsim-update", "-k", "test_a", shift=9).assert_outcomes(passed=2, deselected=1)
    run(shift=9).assert_outcomes(passed=2, failed=1)


def test_the_page_of_the_documentation(run, pytester):
    text = "".join(blocks("docs/pytest.md"))
    (pytester.path / "tests/test_x.py").write_text(text, encoding="utf-8")
    run("--imsim-update").assert_outcomes(passed=2)
    run().assert_outcomes(passed=2)
    name = safe_name("test_a[a/b]")
    assert f"`test_a[a/b]` has `{name}.png`" in PAGES["docs/pytest.md"]


def test_another_folder_for_pages(run, pytester):
    run("--imsim-report", "out", "-k", "test_b")
    assert _files(pytester.path / "out") == ["tests/test_x/test_b.png"]
    result = run("--imsim-report", ".")
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(["*the report would be written over the references*"])


def test_from_within_the_folder_of_tests(run, pytester, monkeypatch):
    monkeypatch.chdir(pytester.path / "tests")
    pytester.path.joinpath("pytest.ini").write_text("[pytest]\n")
    result = run("-k", "test_b")
    result.stdout.fnmatch_lines(
        ["*the image: ../imsim-report/tests/*", "*python -m pytest test_x.py::test_b *"]
    )


def test_several_processes(run, pytester):
    pytest.importorskip("xdist")
    result = run("-n", "2", "--imsim-update", "-k", "test_a")
    result.assert_outcomes(passed=2)
    assert sorted(result.outlines[-3:-1]) == sorted(f"tests/{name}" for name in REFERENCES[:2])


def test_references_are_not_made_on_a_build_machine(run, monkeypatch):
    monkeypatch.setenv("CI", "true")
    result = run("--imsim-update")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*CI is set*"])
    run().assert_outcomes(failed=3)


def test_names_that_differ_by_case_alone(run, pytester):
    (pytester.path / "tests/test_x.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('p', ['L', 'l', 'm'])\n"
        "def test_a(p, image_regression):\n"
        "    image_regression.check([[1, 2]])\n",
        encoding="utf-8",
    )
    result = run("--imsim-update")
    result.assert_outcomes(passed=1, errors=2)
    result.stdout.fnmatch_lines(["*test_a?l? and another test have the name*"])


def test_the_plugin_costs_nothing_until_it_is_used():
    code = (
        "import sys, pytest, pytest_imsim\n"
        "print([name for name in ('numpy', 'numba', 'imsim', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


def test_the_wheel_brings_the_plugin():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["entry-points"]["pytest11"] == {"pytest_imsim": "pytest_imsim"}
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(wheel["only-include"]) == {"imsim", "pytest_imsim.py"}
    assert all((ROOT / name).exists() for name in wheel["only-include"])
