"""The authors' values, plain, as integers, in float32, batched, and with named channels."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from golden_checks import UNDEFINED, Check, checks, golden_value
from golden_data import BY_ID, PAIRS, Pair

import imsim

thorough = pytest.mark.thorough
# Windows of these sizes are kernels of their own, of seconds, that few other tests need: all sizes
# but the usual ones, and some that have one kernel together, are left to `--thorough`.
OTHER_KERNELS = {
    "float64": re.compile(r"uiq_b(7|11)\b.*|ssim_index_win_ones8.*"),
    "float32": re.compile(r"uiq_b(?!8\b).*|ssim_index_win_.*|skimage_ssim_default"),
}
is_usual = pytest.mark.parametrize(
    "is_usual", [True, pytest.param(False, marks=thorough)], ids=["usual", "other kernels"]
)

# Values that are not imsim's business, and why.
NOT_HELD = {
    r"corr2": "a peer with an error of 1.6e-11; zncc is the exact value",
    r"piq_.*": "a peer that departs from the authors' code",
    r"up42_.*": "a peer that departs from the authors' code",
    r"sam_n_zero_pixels": "a count; the angles of the other pixels are held through it",
}


def test_all_pairs_are_there() -> None:
    assert len(PAIRS) == 62
    assert sum(pair.is_rgb for pair in PAIRS) == 7
    for pair in PAIRS:
        shape = (pair.height, pair.width, 3) if pair.is_rgb else (pair.height, pair.width)
        assert [image.shape for image in pair.uint8] == [shape, shape]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.id)
def test_every_value_is_held_or_named_with_a_reason(pair: Pair) -> None:
    held = {check.name for check in checks(pair)}
    held |= {name for pair_id, name in UNDEFINED if pair_id == pair.id}
    rest = [name for name in pair.values if name not in held]
    assert [n for n in rest if not any(re.fullmatch(p, n) for p in NOT_HELD)] == []


@pytest.mark.parametrize(("pair_id", "name"), sorted(UNDEFINED))
def test_undefined_values_are_so_because_of_flat_windows(pair_id: str, name: str) -> None:
    size = 11 if name.startswith("ssim") else int(name.removeprefix("uiq_b").split("@")[0])
    images = BY_ID[pair_id].grey601 if "@grey601" in name else BY_ID[pair_id].float64
    windows = [np.lib.stride_tricks.sliding_window_view(i, (size, size)) for i in images]
    both_flat = np.all([w.max((-1, -2)) == w.min((-1, -2)) for w in windows], axis=0)
    assert np.any(both_flat & (windows[0][..., 0, 0] != 0))


def few(name: str, values: list[Any], pair_of: Callable[[Any], Pair] = lambda pair: pair) -> Any:
    """Parametrise a test by pairs, of which large ones are left to `--thorough`.

    Each value of these is held as the authors' all the same.
    """
    marked = []
    for value in values:
        pair = pair_of(value)
        is_small = pair.height * pair.width <= 20_000 or pair.id == "rgb_coffee__blur_hi"
        marked.append(pytest.param(value, marks=() if is_small else thorough, id=pair.id))
    return pytest.mark.parametrize(name, marked)


def _checks(pair: Pair, is_usual: bool, dtype: str) -> list[Check]:
    others = OTHER_KERNELS[dtype]
    return [c for c in checks(pair) if is_usual is not bool(others.fullmatch(c.name))]


@cache
def _plain(pair_id: str, name: str) -> float:
    pair = BY_ID[pair_id]
    check = next(c for c in checks(pair) if c.name == name)
    return float(check.call(*check.images(pair)))


def _want(pair: Pair, check: Check) -> float:
    golden = golden_value(pair, check.name)
    assert golden is not None
    return check.wanted(golden)


@is_usual
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.id)
def test_authors_values(pair: Pair, is_usual: bool) -> None:
    wrong = {}
    for check in _checks(pair, is_usual, "float64"):
        got, want = _plain(pair.id, check.name), _want(pair, check)
        if not (got == want or abs(got - want) <= check.tolerance(want)):
            wrong[check.name] = got, want
    assert wrong == {}


@is_usual
@few("pair", PAIRS)
def test_authors_values_in_float32(pair: Pair, is_usual: bool) -> None:
    wrong = {}
    for check in _checks(pair, is_usual, "float32"):
        if check.float32 is None:
            continue
        ref, dist = (np.asarray(image, dtype=np.float32) for image in check.images(pair))
        got, want = float(check.call(ref, dist)), _want(pair, check)
        scale = max(1.0, abs(want))  # absolute for scores near 1, relative for unbounded ones
        if not (got == want or abs(got - want) <= check.float32 * scale):
            wrong[check.name] = got, want
    assert wrong == {}


@few("pair", PAIRS)
@pytest.mark.parametrize("name", list(imsim.METRICS))
def test_uint8_needs_no_data_range_and_is_the_same(pair: Pair, name: str) -> None:
    """uint8 pixels become the same float64 numbers; a kernel for each dtype may order its sums."""
    options: dict[str, Any] = {"channel_axis": -1} if pair.is_rgb else {}
    function = imsim.METRICS[name].function
    if name in {"issm", "sh"} and pair.height * pair.width > 200 * 200:
        pair = BY_ID["camera25__noise_lo"]  # no golden values for these: a small image will do
        options = {}
    np.testing.assert_allclose(
        function(*pair.uint8, **options),
        function(*pair.float64, data_range=255, **options),
        rtol=32 * np.finfo(np.float64).eps,
        atol=1e-15,
    )


def _families(key: Callable[[Pair], Any]) -> list[list[Pair]]:
    groups: dict[Any, list[Pair]] = defaultdict(list)
    for pair in PAIRS:
        groups[key(pair)].append(pair)
    return [group for group in groups.values() if len(group) > 1]


SAME_SHAPE = _families(lambda pair: (pair.kind, pair.height, pair.width))
SAME_REFERENCE = _families(lambda pair: pair.ref_file)


def _common_checks(group: list[Pair]) -> list[Check]:
    """Checks with a value for at least two pairs of the group."""
    seen: dict[str, list[Check]] = defaultdict(list)
    for pair in group:
        for check in _checks(pair, is_usual=True, dtype="float64"):
            if check.stackable:
                seen[check.name].append(check)
    return [found[0] for found in seen.values() if len(found) > 1]


@few("group", SAME_SHAPE, lambda group: group[0])
def test_stack_of_pairs(group: list[Pair]) -> None:
    for check in _common_checks(group):
        members = [pair for pair in group if any(c.name == check.name for c in checks(pair))]
        images = [check.images(pair) for pair in members]
        got = check.call(np.stack([i[0] for i in images]), np.stack([i[1] for i in images]))
        want = [_plain(pair.id, check.name) for pair in members]
        np.testing.assert_array_equal(got, want, err_msg=check.name)


@few("group", SAME_REFERENCE, lambda group: group[0])
def test_one_reference_against_many(group: list[Pair]) -> None:
    for check in _common_checks(group):
        members = [pair for pair in group if any(c.name == check.name for c in checks(pair))]
        images = [check.images(pair) for pair in members]
        got = check.call(images[0][0], np.stack([i[1] for i in images]))
        want = [_plain(pair.id, check.name) for pair in members]
        np.testing.assert_array_equal(got, want, err_msg=check.name)


@pytest.mark.parametrize("pair", [p for p in PAIRS if p.is_rgb], ids=lambda pair: pair.id)
@pytest.mark.parametrize("name", ["se", "rmse", "psnr", "imed", "ssim", "zncc", "gmsd", "uiq"])
def test_channel_axis_anywhere(pair: Pair, name: str) -> None:
    function = imsim.METRICS[name].function
    want = function(*pair.uint8, channel_axis=-1)
    first = [np.moveaxis(image, -1, 0) for image in pair.uint8]
    assert function(*first, channel_axis=0) == want
    stack = [np.stack([image, image]) for image in first]
    np.testing.assert_array_equal(function(*stack, channel_axis=1), [want, want])
