"""Models that somebody changed: one error that names the file, or the same scores as before."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import imsim
from imsim.anomaly import AnomalyDetector, PCAAutoencoder, storage
from imsim.anomaly.xray import VirtualPeel

Members = dict[str, bytes]
Y, X = np.mgrid[:32, :32] - 15.5
IMAGES = np.exp(-np.sqrt(np.maximum(1 - (Y**2 + X**2) / 150, 0))) + np.random.default_rng(0).normal(
    0, 0.01, (12, 32, 32)
)
ODD_VALUES: tuple[Any, ...] = (
    None, True, "x", "", -1, 0, 3, 1e300, 10**40, float("nan"), float("inf"), [], [1], {}, {"a": 1},
)  # fmt: skip


@pytest.fixture(scope="module", params=["peel", "patches", "whole"])
def model(request: Any, tmp_path_factory: Any) -> Path:
    """A detector in a file, with every class that can be saved without JAX."""
    parts: dict[str, tuple[Any, Any]] = {
        "peel": (None, "xray"),
        "patches": (PCAAutoencoder(3, patch=4), VirtualPeel(width=2, body=0)),
        "whole": (PCAAutoencoder(0.9), None),
    }
    chosen = parts[request.param]
    detector = AnomalyDetector(*chosen, metric="rmse", random_state=0, false_alarm_rate=0.2)
    path: Path = tmp_path_factory.mktemp("model") / "m.npz"
    detector.fit(IMAGES).save(path)
    return path


def members(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def put(path: Path, contents: Members) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


def signed(contents: Members) -> Members:
    """Give the contents the digest that belongs to them, as an attacker would."""
    arrays = {name.removesuffix(".npy"): array(content) for name, content in contents.items()}
    del arrays["imsim_sha256"]
    digest = np.frombuffer(storage._digest(arrays), np.uint8)
    return contents | {"imsim_sha256.npy": packed(digest)}


def array(content: bytes) -> NDArray[Any]:
    values: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    return values


def packed(values: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def header(contents: Members) -> Any:
    return json.loads(array(contents["imsim_header.npy"]).tobytes())


def with_header(contents: Members, text: bytes) -> Members:
    return contents | {"imsim_header.npy": packed(np.frombuffer(text, np.uint8))}


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
    expected = members(model)
    path = tmp_path / "t.npz"
    loaded = 0
    for trial in range(200):
        data = bytearray(whole)
        if trial % 4 == 0:
            data = data[: rng.integers(len(data))]
        else:
            # Most of a file are values: the places between are tried more often.
            place = rng.integers(len(data)) if trial % 4 == 1 else -int(rng.integers(1, 1500))
            data[place] ^= 1 << rng.integers(8)
        path.write_bytes(data)
        if not refused(path):
            assert members(path) == expected  # a date, or the like, was hit
            loaded += 1
    assert loaded < 100


def changes(contents: Members) -> Iterator[tuple[str, Members]]:
    """Yield members that do not belong together."""
    for name, content in contents.items():
        rest = {n: c for n, c in contents.items() if n != name}
        values = array(content)
        yield f"without {name}", rest
        yield f"{name} is text", contents | {name: b"hello"}
        yield f"{name} is cut", contents | {name: content[:-1]}
        yield f"{name} is longer", contents | {name: content + b"\0"}
        if name in ("imsim_header.npy", "imsim_sha256.npy"):
            continue
        for kind, other in (
            ("a scalar", np.float64(1) if values.ndim else np.ones(1)),
            ("of another type", values.astype(np.float16)),
            ("of another order", values.astype(values.dtype.newbyteorder())),
            ("of one axis more", values[None]),
            ("empty", values.reshape(-1)[:0]),
            ("longer", np.append(values.reshape(-1), values.reshape(-1))),
            ("text", np.array(["1"])),
        ):
            yield f"{name} is {kind}", contents | {name: packed(other)}
        for odd in (np.nan, np.inf, -np.inf):
            # Good images that were not held out have no score.
            if values.dtype.kind == "f" and "held_out" not in name:
                unsound = values.copy()
                unsound.reshape(-1)[-1] = odd
                yield f"{name} holds {odd}", contents | {name: packed(unsound)}
        huge = content.replace(b"'shape': (", b"'shape': (9999999999, ", 1)
        yield f"{name} promises much", contents | {name: huge}
    yield "one more", contents | {"more.npy": packed(np.ones(3))}
    yield "something else", contents | {"readme.txt": b"hello"}


def test_members(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    found = members(model)
    put(path, found)
    assert not refused(path)
    for what, contents in changes(found):
        put(path, contents)
        assert refused(path), what
    for what, contents in changes(found):
        if "imsim_sha256" in what:
            continue  # it is made anew
        try:
            contents = signed(contents)
        except (ValueError, KeyError, MemoryError):
            continue  # nothing that has a digest
        put(path, contents)
        # The scores of good images are told of only, so that their number is free.
        assert refused(path) or what == "held_out_scores.npy is longer", what
    for name, content in found.items():
        changed = array(content).copy()
        with np.errstate(over="ignore"):  # bytes of 255
            changed.reshape(-1)[0] += 1  # of the right type and shape
        put(path, found | {name: packed(changed)})
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


def test_headers(model: Path, tmp_path: Path) -> None:
    """Other values everywhere; with the digest that belongs to them, refused or sensible."""
    path = tmp_path / "t.npz"
    found = members(model)
    whole = header(found)
    for where in leaves(whole):
        for odd in ODD_VALUES:
            changed = replaced(whole, where, lambda _, odd=odd: odd)
            text = json.dumps(changed).encode()
            if odd is ODD_VALUES[0]:
                put(path, with_header(found, text))
                assert refused(path) or changed == whole, (where, odd)
            put(path, signed(with_header(found, text)))
            if not refused(path):
                AnomalyDetector.load(path)._check_parameters()
    for text in (
        b"",
        b"{",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"1" * 10_000,
        b'{"format": 2, "kind": "AnomalyDetector", "parameters": 1e999}',
        b"\xff\xfe",
    ):
        put(path, with_header(found, text))
        assert refused(path)
    huge = with_header(found, b" " * (1 << 21))
    put(path, huge)
    assert refused(path)
