"""What is saved comes back; what imsim did not write is refused by name."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

import imsim
from imsim.anomaly import PCAAutoencoder, storage


class Thing(storage.Stored):
    """Whatever was written, of known types and shapes."""

    parameters: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    expected: ClassVar[dict[str, tuple[Any, ...]]] = {}

    @classmethod
    def from_state(cls, parameters: dict[str, Any], arrays: storage.Arrays) -> Thing:
        thing = cls()
        thing.parameters = parameters
        thing.arrays = {n: arrays.take(n, *how, finite=False) for n, how in cls.expected.items()}
        return thing


@pytest.fixture(autouse=True)
def _x_is_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Thing, "expected", {"x": (np.float64, None)})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.bin"  # the name is kept as it is given


def header(**changes: object) -> np.ndarray:
    whole = {"format": storage.FORMAT, "kind": "Thing", "imsim": "0", "parameters": {}, **changes}
    return np.frombuffer(json.dumps(whole).encode(), dtype=np.uint8)


def test_round_trip(path: Path) -> None:
    parameters = {"a": None, "b": True, "c": 1.5, "d": "x", "e": (1, 2), "f": {"g": np.int64(3)}}
    arrays = {
        "single": np.array([1, np.nan, -0.0], dtype=np.float32),
        "double": np.array(np.pi),
        "bits": np.array([[True, False]]),
        "model.whole": np.arange(6).reshape(2, 3)[:, ::2],
    }
    storage.write(path, "Thing", parameters, arrays)
    Thing.expected = {name: (array.dtype, *array.shape) for name, array in arrays.items()}
    thing = Thing.load(path)
    back, values = thing.parameters, thing.arrays
    assert back == {**parameters, "e": [1, 2], "f": {"g": 3}}
    assert values.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(values[name], array)
        assert values[name].dtype == array.dtype
    assert [p.name for p in path.parent.iterdir()] == ["model.bin"]


def test_same_content_same_bytes(path: Path) -> None:
    storage.write(path, "Thing", {"a": 1}, {"x": np.ones(3)})
    first = path.read_bytes()
    storage.write(path, "Thing", {"a": 1}, {"x": np.ones(3)})
    assert path.read_bytes() == first


def test_old_file_stays_if_writing_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write(path, "Thing", {}, {"x": np.ones(3)})

    def full_disk(file: object, **arrays: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="no space"):
        storage.write(path, "Thing", {}, {"x": np.zeros(3)})
    np.testing.assert_array_equal(Thing.load(path).arrays["x"], 1)
    assert [p.name for p in path.parent.iterdir()] == ["model.bin"]


@pytest.mark.parametrize(
    ("parameters", "arrays", "message"),
    [
        ({"a": object()}, {}, "parameters of this Thing cannot be saved"),
        ({"a": np.ones(2)}, {}, "parameters of this Thing cannot be saved"),
        ({}, {"x": np.array(["text"])}, "x of this Thing has dtype <U4"),
        ({}, {"x": np.array([None])}, "x of this Thing has dtype object"),
    ],
)
def test_what_cannot_be_saved(
    path: Path, parameters: dict[str, object], arrays: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(imsim.OptionError, match=message):
        storage.write(path, "Thing", parameters, arrays)
    assert not path.exists()


def test_every_truncation_is_refused(path: Path) -> None:
    storage.write(path, "Thing", {}, {"x": np.arange(20.0)})
    whole = path.read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(imsim.OptionError, match=r"model\.bin cannot be loaded"):
            Thing.load(path)


def test_damaged_numbers_are_refused(path: Path) -> None:
    storage.write(path, "Thing", {}, {"x": np.arange(20.0)})
    whole = bytearray(path.read_bytes())
    place = whole.index(np.float64(7).tobytes())
    whole[place + 2] ^= 1
    path.write_bytes(whole)
    with pytest.raises(imsim.OptionError, match=r"model\.bin cannot be loaded: it is .*damaged"):
        Thing.load(path)


def test_foreign_files_are_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(imsim.OptionError, match=r"model\.bin cannot be loaded: it is no regular"):
        Thing.load(path)
    path.rmdir()
    for content in (b"", b"PNG", np.random.default_rng(0).bytes(1000)):
        path.write_bytes(content)
        with pytest.raises(imsim.OptionError, match=r"model\.bin cannot.*no \.npz file"):
            Thing.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("letter.txt", "hello")
    with pytest.raises(imsim.OptionError, match=r"model\.bin cannot be loaded"):
        Thing.load(path)
    for arrays in (
        {"x": np.ones(2)},
        {"imsim_header": np.ones(2)},
        {"imsim_header": np.frombuffer(b"[1, 2]", dtype=np.uint8)},
        {"imsim_header": header(parameters=5)},
    ):
        with open(path, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        with pytest.raises(imsim.OptionError, match="imsim did not write it, or its header"):
            Thing.load(path)


def test_pickles_are_refused(path: Path) -> None:
    with open(path, "wb") as file:
        np.savez(file, imsim_header=header(), x=np.array([{}], dtype=object))
    with pytest.raises(imsim.OptionError, match=r"x has dtype object"):
        Thing.load(path)


def test_another_version_or_class_is_refused(path: Path) -> None:
    with open(path, "wb") as file:
        np.savez(file, imsim_header=header(format=99, imsim="7.0"), x=np.ones(2))
    with pytest.raises(imsim.OptionError, match=r"its format is 99, written by imsim 7\.0"):
        Thing.load(path)
    storage.write(path, "Thing", {}, {"x": np.ones(2)})
    with pytest.raises(imsim.OptionError, match=r"it holds a Thing: use Thing\.load"):
        PCAAutoencoder.load(path)


def test_missing_contents_are_refused(path: Path) -> None:
    for parameters, message in (({}, "it has no shape"), ({"unknown": 1}, "do not fit together")):
        storage.write(path, "PCAAutoencoder", parameters, {"mean": np.zeros(4)})
        with pytest.raises(imsim.OptionError, match=rf"model\.bin cannot.*{message}"):
            PCAAutoencoder.load(path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones(3, np.float32), "x has dtype float32"),
        (np.float64(1), r"x has dtype float64 and shape \(\); expected float64 and \(any\)"),
        (np.ones((2, 2)), r"shape \(2, 2\)"),
    ],
)
def test_other_arrays_are_refused(path: Path, array: NDArray[Any], message: str) -> None:
    storage.write(path, "Thing", {}, {"x": array})
    with pytest.raises(imsim.OptionError, match=message):
        Thing.load(path)
    storage.write(path, "Thing", {}, {"x": np.ones(3), "y": np.ones(1)})
    with pytest.raises(imsim.OptionError, match="more than it should: y"):
        Thing.load(path)


def test_nothing_is_inflated(path: Path) -> None:
    """A thousand times its size would be read."""
    with open(path, "wb") as file:
        np.savez_compressed(file, imsim_header=header(), x=np.zeros(10**6))
    with pytest.raises(imsim.OptionError, match="is compressed, which imsim never does"):
        Thing.load(path)


def test_missing_file_and_missing_folder(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model\.bin"):
        Thing.load(path)
    with pytest.raises(FileNotFoundError):
        storage.write(path / "deeper", "Thing", {}, {})
