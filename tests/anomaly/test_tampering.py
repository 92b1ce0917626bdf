"""Models that somebody changed: one error that names the file, or the same scores as before."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

import imsim
from imsim.anomaly import AnomalyDetector, GoodStatistics, PCAAutoencoder, storage
from imsim.anomaly.preparation import check_parameters
from imsim.anomaly.xray import VirtualPeel

Arrays = dict[str, NDArray[Any]]
Y, X = np.mgrid[:32, :32] - 15.5
IMAGES = np.exp(-np.sqrt(np.maximum(1 - (Y**2 + X**2) / 150, 0))) + np.random.default_rng(0).normal(
    0, 0.01, (12, 32, 32)
)
ODD_VALUES: tuple[Any, ...] = (
    None, True, "x", "", -1, 0, 3, 1e300, 10**40, float("nan"), float("inf"), [], [1], {}, {"a": 1},
)  # fmt: skip


@pytest.fixture(scope="module", params=["peel", "patches", "whole", "memory"])
def model(request: Any, tmp_path_factory: Any) -> Path:
    """A detector in a file, with every class that can be saved without JAX."""
    parts: dict[str, tuple[Any, Any]] = {
        "peel": (None, "xray"),
        "patches": (PCAAutoencoder(3, patch=4), VirtualPeel(width=2)),
        "whole": (PCAAutoencoder(4), None),
        "memory": (GoodStatistics(3, places=False), None),
    }
    chosen = parts[request.param]
    detector = AnomalyDetector(
        *chosen,
        metric="rmse" if not isinstance(chosen[0], GoodStatistics) else "fsim",
        random_state=0,
        false_alarm_rate=0.2,
    )
    path: Path = tmp_path_factory.mktemp("model") / "m.safetensors"
    detector.fit(IMAGES).save(path)
    return path


def contents(path: Path) -> tuple[str, Arrays]:
    """Return header and arrays of a file."""
    with safe_open(path, "numpy") as file:
        return file.metadata()["imsim"], {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def put(path: Path, header: str, arrays: Arrays) -> None:
    path.write_bytes(save(arrays, {"imsim": header}))


def signed(header: str, arrays: Arrays) -> Arrays:
    """Give the contents the digest that belongs to them, as an attacker would."""
    rest = {name: array for name, array in arrays.items() if name != "imsim_sha256"}
    return rest | {"imsim_sha256": np.frombuffer(storage._digest(header, rest), np.uint8)}


def refused(path: Path) -> bool:
    """Load a file, and tell whether that was refused by its name."""
    try:
        AnomalyDetector.load(path)
    except imsim.OptionError as error:
        return str(error).startswith(f"{path} cannot be loaded: ")
    return False


def test_bytes(model: Path, tmp_path: Path) -> None:
    """Truncations and flipped bits; what is loaded is what was saved."""
    whole, rng = model.read_bytes(), np.random.default_rng(1)
    path = tmp_path / "t.safetensors"
    for trial in range(200):
        data = bytearray(whole)
        if trial % 4 == 0:
            data = data[: rng.integers(len(data))]
        else:
            # Most of a file are values: the header is tried more often.
            place = rng.integers(len(data) if trial % 4 == 1 else 1500)
            data[place] ^= 1 << rng.integers(8)
        path.write_bytes(data)
        if not refused(path):
            assert str(contents(path)) == str(contents(model))  # a space, or the like, was hit
    path.write_bytes(whole + b"\0")
    assert refused(path)


def changes(arrays: Arrays) -> Iterator[tuple[str, Arrays]]:
    """Yield arrays that do not belong together."""
    for name, values in arrays.items():
        yield f"without {name}", {n: v for n, v in arrays.items() if n != name}
        for kind, other in (
            ("a scalar", np.float64(1) if values.ndim else np.ones(1)),
            ("of another type", values.astype(np.float16)),
            ("of one axis more", values[None]),
            ("empty", values.reshape(-1)[:0]),
            ("longer", np.append(values.reshape(-1), values.reshape(-1))),
        ):
            yield f"{name} is {kind}", arrays | {name: np.array(other)}
        for odd in (np.nan, np.inf, -np.inf):
            # Good images that were not held out have no score.
            if values.dtype.kind == "f" and values.size and "held_out" not in name:
                unsound = values.copy()
                unsound.reshape(-1)[-1] = odd
                yield f"{name} holds {odd}", arrays | {name: unsound}
    yield "one more", arrays | {"more": np.ones(3)}


def test_arrays(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    header, arrays = contents(model)
    put(path, header, arrays)
    assert not refused(path)
    for what, changed in changes(arrays):
        put(path, header, changed)
        assert refused(path), what
        if "imsim_sha256" in what:
            continue  # it is made anew
        put(path, header, signed(header, changed))
        # The scores of good images are told of only, so that their number is free.
        assert refused(path) or what == "held_out_scores is longer", what
    for name, values in arrays.items():
        other = values.copy()
        if not (first := other.reshape(-1)[:1]).size:  # of the right type and shape
            continue
        first[:] = ~first if first.dtype == bool else first + 1
        put(path, header, arrays | {name: other})
        assert refused(path), name


def leaves(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the places of all values in nested dictionaries, the dictionaries among them."""
    yield where
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield from leaves(inner, (*where, key))


def replaced(value: Any, where: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    if not where:
        return change(value)
    return value | {where[0]: replaced(value[where[0]], where[1:], change)}


def test_headers(model: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Other values everywhere; with the digest that belongs to them, refused or sensible.

    Every day each place gets every fourth value, the next place the next ones.
    """
    path = tmp_path / "t.safetensors"
    text, arrays = contents(model)
    whole = json.loads(text)
    step = 1 if request.config.getoption("--thorough") else 4
    for number, where in enumerate(leaves(whole)):
        for k, odd in enumerate(ODD_VALUES[number % step :: step]):
            changed = replaced(whole, where, lambda _, odd=odd: odd)
            header = json.dumps(changed)
            if k == 0:
                put(path, header, arrays)
                assert refused(path) or changed == whole, (where, odd)
            put(path, header, signed(header, arrays))
            if not refused(path):
                check_parameters(AnomalyDetector.load(path))
    for header in (
        "",
        "{",
        "[" * 100_000,
        '{"a":' * 100_000,
        "1" * 10_000,
        '{"format": 3, "kind": "AnomalyDetector", "parameters": 1e999}',
        " " * (1 << 21),
    ):
        put(path, header, signed(header, arrays))
        assert refused(path)


def test_a_threshold_that_nothing_exceeds(model: Path, tmp_path: Path) -> None:
    header, arrays = contents(model)
    columns = np.full_like(arrays["held_out_columns"], np.inf)
    path = tmp_path / "t.safetensors"
    changed = arrays | {"threshold": np.array(np.inf), "held_out_columns": columns}
    put(path, header, signed(header, changed))
    assert refused(path)
