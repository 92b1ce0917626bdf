"""What is saved comes back; what imsim did not write is refused by name."""

from __future__ import annotations

import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save, save_file

import imsim
from imsim.anomaly import AnomalyDetector, GoodStatistics, PCAAutoencoder, simulate, storage
from imsim.anomaly.xray import VirtualPeel


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


def header(**changes: object) -> dict[str, str]:
    whole = {"format": storage.FORMAT, "kind": "Thing", "imsim": "0", "parameters": {}, **changes}
    return {"imsim": json.dumps(whole)}


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


@pytest.mark.parametrize("model", [PCAAutoencoder(2), GoodStatistics(2), VirtualPeel()], ids=repr)
def test_a_parameter_of_another_version_is_named(path: Path, model: Any) -> None:
    images = simulate.potatoes(6, size=64, seed=1).images
    parameters, arrays = model.fit(images).get_state()
    own = parameters.pop("parameters")
    name, *_ = own
    without = {key: value for key, value in own.items() if key != name}
    for changed, problem in ((own | {"gone": 1}, "a .*'gone'"), (without, f"no .*'{name}'")):
        state = {"parameters": changed, **parameters}
        storage.write(path, type(model).__name__, state, arrays)
        with pytest.raises(imsim.OptionError, match=rf"has {problem}, which .* train it again"):
            type(model).load(path)


def test_old_file_stays_if_writing_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write(path, "Thing", {}, {"x": np.ones(3)})

    def full_disk(path: Path, content: bytes) -> None:
        path.touch()
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="no space"):
        storage.write(path, "Thing", {}, {"x": np.zeros(3)})
    np.testing.assert_array_equal(Thing.load(path).arrays["x"], 1)
    assert [p.name for p in path.parent.iterdir()] == ["model.bin"]


def test_what_could_not_be_loaded_replaces_nothing(path: Path) -> None:
    images = np.random.default_rng(0).random((30, 16, 16))
    model = PCAAutoencoder(2, patch=8).fit(images)
    model.save(path)
    before = path.read_bytes()
    model.set_params(patch=4)
    with pytest.raises(imsim.OptionError, match=r"cannot be saved, since it could not be loaded"):
        model.save(path)
    assert path.read_bytes() == before
    detector = AnomalyDetector(preprocess=None, random_state=0).fit(images)
    detector.save(path)
    detector.set_params(false_alarm_rate=0.3)
    with pytest.raises(imsim.OptionError, match="its threshold does not come from its scores"):
        detector.save(path)
    assert AnomalyDetector.load(path).threshold_ == detector.threshold_
    detector.update(np.random.default_rng(1).random((3, 16, 16))).save(path)
    assert AnomalyDetector.load(path).false_alarm_rate == 0.3


@pytest.mark.parametrize("change", [{"metric": "gmsd"}, {"window": 9}])
def test_a_metric_without_a_threshold_is_refused(path: Path, change: dict[str, Any]) -> None:
    images = np.random.default_rng(0).random((30, 24, 24))
    detector = AnomalyDetector(preprocess=None, metric="ssim", random_state=0).fit(images)
    detector.save(path)
    scores = detector.anomaly_score(images)
    for fitted in (detector, AnomalyDetector.load(path)):
        own = {name: fitted.get_params()[name] for name in change}
        fitted.set_params(**change)
        for ask in (fitted.predict, fitted.anomaly_map, fitted.update):
            with pytest.raises(imsim.OptionError, match=r"but the threshold is of metric='ssim'"):
                ask(images)
        fitted.set_params(**own)
        np.testing.assert_array_equal(fitted.anomaly_score(images), scores)
    detector.set_params(**change).fit(images).predict(images)


def test_threads_save_to_one_name(path: Path) -> None:
    values = np.arange(200_000.0)

    def save(number: int) -> None:
        storage.write(path, "Thing", {"a": number}, {"x": values + number})
        thing = Thing.load(path)  # of this thread or of another, but whole
        np.testing.assert_array_equal(thing.arrays["x"], values + thing.parameters["a"])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(save, range(40)))
    assert [p.name for p in path.parent.iterdir()] == ["model.bin"]


def test_a_link_stays_and_leads_to_the_new_content(path: Path) -> None:
    storage.write(path, "Thing", {}, {"x": np.zeros(3)})
    link = path.with_name("link.bin")
    link.symlink_to(path.name)
    storage.write(link, "Thing", {}, {"x": np.ones(3)})
    assert link.is_symlink()
    np.testing.assert_array_equal(Thing.load(path).arrays["x"], 1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
def test_a_pipe_is_written_to_and_not_replaced(path: Path) -> None:
    os.mkfifo(path)
    end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        storage.write(path, "Thing", {}, {"x": np.ones(3)})
        content = os.read(end, 1 << 16)
    finally:
        os.close(end)
    assert path.is_fifo()
    copy = path.with_name("copy.bin")
    copy.write_bytes(content)
    np.testing.assert_array_equal(Thing.load(copy).arrays["x"], 1)


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
    with pytest.raises(imsim.OptionError, match=r"model\.bin cannot be loaded: its contents were"):
        Thing.load(path)


def test_foreign_files_are_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(imsim.OptionError, match=r"model\.bin cannot be loaded: it is no regular"):
        Thing.load(path)
    path.rmdir()
    for content in (b"", b"PNG", np.random.default_rng(0).bytes(1000), pickle.dumps({"x": 1})):
        path.write_bytes(content)
        with pytest.raises(imsim.OptionError, match=r"model\.bin cannot.*no safetensors file"):
            Thing.load(path)
    with open(path, "wb") as file:
        np.savez(file, x=np.ones(2))
    with pytest.raises(imsim.OptionError, match=r"model\.bin cannot.*no safetensors file"):
        Thing.load(path)
    arrays = {"x": np.ones(2)}
    for metadata in (None, {"other": "x"}):
        save_file(arrays, path, metadata)
        with pytest.raises(imsim.OptionError, match="imsim did not write it"):
            Thing.load(path)
    for metadata in ({"imsim": "[1, 2]"}, header(parameters=5)):
        save_file(arrays, path, metadata)
        with pytest.raises(imsim.OptionError, match="its header is damaged"):
            Thing.load(path)


def test_another_version_or_class_is_refused(path: Path) -> None:
    save_file({"x": np.ones(2)}, path, header(format=99, imsim="7.0"))
    with pytest.raises(imsim.OptionError, match=r"its format is 99, written by imsim 7\.0"):
        Thing.load(path)
    storage.write(path, "Thing", {}, {"x": np.ones(2)})
    with pytest.raises(imsim.OptionError, match=r"it holds a Thing: use Thing\.load"):
        PCAAutoencoder.load(path)


def test_missing_contents_are_refused(path: Path) -> None:
    own = PCAAutoencoder().get_params()
    for more, message in (({}, "it has no shape"), ({"unknown": 1}, "a parameter 'unknown'")):
        state = {"parameters": own | more}
        storage.write(path, "PCAAutoencoder", state, {"mean": np.zeros(4)})
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


def test_no_more_is_read_than_there_is(path: Path) -> None:
    """An array that promises more than the file holds is refused before there is room for it."""
    content = save({"x": np.zeros(3)}, header())
    path.write_bytes(content.replace(b'"shape":[3]', b'"shape":[3000000000]'))
    with pytest.raises(imsim.OptionError, match="no safetensors file, or damaged"):
        Thing.load(path)


def test_missing_file_and_missing_folder(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model\.bin"):
        Thing.load(path)
    with pytest.raises(FileNotFoundError):
        storage.write(path / "deeper", "Thing", {}, {})
