"""Anomaly detection end to end: peel, reconstruct, compare, decide.

A model learns to reconstruct good images only; a similarity measure compares each image with its
reconstruction; a threshold decides. `imsim.anomaly.xray` peels X-ray images of food first, and
`imsim.anomaly.simulate` makes such images. What needs more than the core dependencies of `imsim`
is loaded when it is first asked for, and says what to install.

What every method takes, unless it says otherwise:

images : array_like, shape (n, height, width)
    Grey images of any real dtype. Others raise `ShapeError` or `DTypeError`, NaN and infinity
    inside the masks `MaskError`.
masks : array_like of bool, shape (n, height, width) or (height, width), optional
    True = use; by default every pixel is used. Pixels outside have no influence, unless a
    preprocess reads them: see `AnomalyDetector.fit`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imsim.anomaly import simulate as simulate
from imsim.anomaly import xray as xray
from imsim.anomaly.optional import loaded

if TYPE_CHECKING:
    from imsim.anomaly.convolutional import ConvAutoencoder as ConvAutoencoder
    from imsim.anomaly.detector import AnomalyDetector as AnomalyDetector
    from imsim.anomaly.drift import DriftAlarm as DriftAlarm
    from imsim.anomaly.evaluation import Evaluation as Evaluation
    from imsim.anomaly.evaluation import evaluate as evaluate
    from imsim.anomaly.inspection_report import InspectionRecord as InspectionRecord
    from imsim.anomaly.inspection_report import write_inspection_report as write_inspection_report
    from imsim.anomaly.item_detector import ItemDetector as ItemDetector
    from imsim.anomaly.item_detector import ItemInspection as ItemInspection
    from imsim.anomaly.item_detector import LineScan as LineScan
    from imsim.anomaly.items import Item as Item
    from imsim.anomaly.items import ItemFinder as ItemFinder
    from imsim.anomaly.pca import PCAAutoencoder as PCAAutoencoder
    from imsim.anomaly.ranking import Ranking as Ranking
    from imsim.anomaly.ranking import rank_metrics as rank_metrics
    from imsim.anomaly.report import write_report as write_report
    from imsim.anomaly.side_by_side import write_comparison as write_comparison
    from imsim.anomaly.statistics import GoodStatistics as GoodStatistics

_HOMES = {
    "AnomalyDetector": "detector",
    "ConvAutoencoder": "convolutional",
    "DriftAlarm": "drift",
    "Evaluation": "evaluation",
    "GoodStatistics": "statistics",
    "InspectionRecord": "inspection_report",
    "Item": "items",
    "ItemDetector": "item_detector",
    "ItemFinder": "items",
    "ItemInspection": "item_detector",
    "LineScan": "item_detector",
    "PCAAutoencoder": "pca",
    "Ranking": "ranking",
    "evaluate": "evaluation",
    "rank_metrics": "ranking",
    "write_comparison": "side_by_side",
    "write_inspection_report": "inspection_report",
    "write_report": "report",
}
__all__ = sorted([*_HOMES, "simulate", "xray"])


def __getattr__(name: str) -> Any:
    return loaded(__name__, name, _HOMES)


def __dir__() -> list[str]:
    return sorted(globals().keys() | set(__all__))
