"""JAX is for the convolutional model alone: everything else works without, and says what it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imsim import anomaly

HOW = r"needs the package '\w+', which is not installed: pip install 'imsim\[network\]'$"

WITHOUT = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"jax", "jaxlib", "equinox", "optax"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
import numpy as np
from imsim.anomaly import AnomalyDetector, evaluate, write_report
good = np.random.default_rng(0).random((20, 16, 16))
images = good[:8].copy()
images[4:, 4:9, 4:9] = 3
detector = AnomalyDetector(preprocess=None, random_state=0, data_range=1.0).fit(good)
print(detector.predict(images)[4:].tolist())
detector.save(sys.argv[1])
print(AnomalyDetector.load(sys.argv[1]).threshold_ == detector.threshold_)
try:
    from imsim.anomaly import ConvAutoencoder
except ImportError as error:
    print(error)
"""


@pytest.fixture
def without_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("jax", "equinox", "optax"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "imsim.anomaly.convolutional", raising=False)
    monkeypatch.delitem(anomaly.__dict__, "ConvAutoencoder", raising=False)


def test_the_default_needs_no_jax(tmp_path: Path) -> None:
    call = [sys.executable, "-c", WITHOUT, str(tmp_path / "detector.safetensors")]
    ran = subprocess.run(call, capture_output=True, text=True, check=True, timeout=120)
    verdicts, same, message = ran.stdout.splitlines()
    assert verdicts == "[-1, -1, -1, -1]"
    assert same == "True"
    assert message.startswith("imsim.anomaly.ConvAutoencoder needs the package 'equinox'")
    assert message.endswith("pip install 'imsim[network]'")


@pytest.mark.usefixtures("without_jax")
def test_the_network_says_what_to_install() -> None:
    with pytest.raises(ImportError, match=f"^imsim.anomaly.ConvAutoencoder {HOW}"):
        _ = anomaly.ConvAutoencoder


def test_a_detector_with_a_network_says_what_to_install(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("equinox", reason="the convolutional model is optional")
    import jax

    from imsim.anomaly import convolutional

    def train(model: Any, _: Any) -> None:
        model.network_ = convolutional.autoencoder((1,), 1, jax.random.key(0))
        model.history_ = [1.0]

    monkeypatch.setattr(convolutional.ConvAutoencoder, "_train", train)
    model = anomaly.ConvAutoencoder(channels=(1,), bottleneck=1, epochs=1, patch=None, seed=0)
    good = np.random.default_rng(0).random((100, 16, 16))  # of which 20 are held out
    detector = anomaly.AnomalyDetector(
        model, preprocess=None, metric="se", aggregate="mean", random_state=0
    ).fit(good)
    path = tmp_path / "detector.safetensors"
    detector.save(path)
    assert anomaly.AnomalyDetector.load(path).threshold_ == detector.threshold_
    request.getfixturevalue("without_jax")
    with pytest.raises(ImportError, match=HOW):
        anomaly.AnomalyDetector.load(path)
