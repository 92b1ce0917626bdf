"""Anomaly detection end to end: peel, reconstruct, compare, decide.

A model learns to reconstruct good images only; a similarity measure compares each image with its
reconstruction; a threshold decides. `imsim.anomaly.xray` peels X-ray images of food first, and
`imsim.anomaly.simulate` makes such images. What needs more than the core dependencies of `imsim`
is loaded when it is first asked for, and says what to install.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from imsim.anomaly import simulate, xray
from imsim.anomaly.pca import PCAAutoencoder

if TYPE_CHECKING:
    from imsim.anomaly.convolutional import ConvAutoencoder
    from imsim.anomaly.detector import AnomalyDetector
    from imsim.anomaly.ranking import Evaluation, Ranking, evaluate, rank_metrics
    from imsim.anomaly.report import write_report

__all__ = [
    "AnomalyDetector",
    "ConvAutoencoder",
    "Evaluation",
    "PCAAutoencoder",
    "Ranking",
    "evaluate",
    "rank_metrics",
    "simulate",
    "write_report",
    "xray",
]

_HOMES = {
    "AnomalyDetector": "detector",
    "ConvAutoencoder": "convolutional",
    "Evaluation": "ranking",
    "Ranking": "ranking",
    "evaluate": "ranking",
    "rank_metrics": "ranking",
    "write_report": "report",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "imsim":
            raise
        raise ImportError(
            f"imsim.anomaly.{name} needs the package {error.name!r}, which is not installed: "
            "pip install 'imsim[anomaly]'"
        ) from error
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | set(__all__))
