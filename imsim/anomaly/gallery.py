"""Which images a report shows, and how."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

import imsim
from imsim.anomaly import scoring
from imsim.anomaly.evaluation import Evaluation
from imsim.anomaly.figures import Picture, gallery_figure
from imsim.anomaly.inputs import check_masks
from imsim.pages import Scale, map_scale
from imsim.validation import usual_data_range

_INSTEAD = "fsim"
"""Whose maps are shown where the metric has none."""


def choose(evaluation: Evaluation, most: int) -> list[NDArray[np.intp]]:
    """Return the indices of the hits, misses and false alarms to show.

    Hits are spread from the clearest to the closest call; of the others, those that score highest.
    """
    labels, flagged = evaluation.labels, evaluation.flagged
    order = np.argsort(-np.nan_to_num(evaluation.scores, nan=np.inf), kind="stable")
    hits, misses, alarms = (
        order[wanted[order]] for wanted in (labels & flagged, labels & ~flagged, ~labels & flagged)
    )
    spread = np.linspace(0, len(hits) - 1, min(most, len(hits))).astype(np.intp)
    return [hits[spread], misses[:most], alarms[:most]]


class Gallery:
    """The evaluated images with what the detector made of them.

    Parameters
    ----------
    evaluation, reconstruction, images, metric, data_range, kinds, names
        As for `imsim.anomaly.write_report`.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        reconstruction: tuple[Any, Any, Any],
        images: Any,
        metric: str,
        data_range: float | None,
        *,
        kinds: Sequence[str] | None,
        names: Sequence[str] | None,
    ) -> None:
        if not isinstance(reconstruction, tuple | list) or len(reconstruction) != 3:
            raise imsim.OptionError(
                f"reconstruction is of type {type(reconstruction).__name__}; expected three parts: "
                "inputs, reconstructions and masks, which may be None"
            )
        inputs, reconstructions, masks = reconstruction
        count = len(evaluation.labels)
        given = {
            "inputs": inputs,
            "reconstructions": reconstructions,
            "images": images,
            "kinds": kinds,
            "names": names,
        }
        for name, values in given.items():
            length = len(values) if hasattr(values, "__len__") else 0
            if values is not None and length != count:
                raise imsim.ShapeError(
                    f"{name} has length {length}; expected one for each of the {count} "
                    "evaluated images"
                )
        self.evaluation = evaluation
        self.inputs, self.reconstructions = np.asarray(inputs), np.asarray(reconstructions)
        self.masks = None if masks is None else check_masks(masks, self.inputs.shape)
        self.images = None if images is None else np.asarray(images)
        self.metric = metric if "worst" in scoring.aggregates(metric) else _INSTEAD
        default = usual_data_range([self.inputs.dtype])
        self.data_range = default if data_range is None else data_range
        scale = map_scale(self.metric, self.data_range or 1)
        if self.data_range is None and (scale.root or imsim.METRICS[self.metric].needs_data_range):
            raise imsim.DataRangeError(
                f"data_range=None, but {self.metric} maps of {self.inputs.dtype} need it: "
                "pass data_range=detector.data_range_"
            )
        self.map_scale = scale
        self.kinds, self.names = kinds, names
        used = self.inputs if self.masks is None else self.inputs[self.masks]
        self.scale = _scale(used)
        self.image_scale = None if self.images is None else _scale(self.images)

    def figure(self, chosen: Sequence[int] | NDArray[np.intp]) -> Figure:
        """Draw the images of these indices, a row each."""
        return gallery_figure([self.picture(int(index)) for index in chosen])

    def picture(self, index: int) -> Picture:
        """Return input, reconstruction and similarity map of one image, with its caption."""
        mask = None if self.masks is None else self.masks[index]
        map_function: Any = imsim.METRICS[self.metric].map_function
        image, made = self.inputs[index], self.reconstructions[index]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", imsim.EmptyMaskWarning)  # the caption says NaN
            local = map_function(image, made, mask=mask, data_range=self.data_range)
        panels = [
            ("what the model sees", _inside(image, mask), self.scale),
            ("what it expects", _inside(made, mask), self.scale),
            (f"{self.metric}: bright differs", local, self.map_scale),
        ]
        if self.images is not None and self.image_scale is not None:
            panels.insert(0, ("image", self.images[index], self.image_scale))
        evaluation = self.evaluation
        words = [f"image {index}" if self.names is None else str(self.names[index])]
        if self.kinds is not None and evaluation.labels[index]:
            words.append(str(self.kinds[index]))
        words.append(f"score {evaluation.scores[index]:.4g}")
        # The name of a file need not be text that can be drawn.
        caption = ", ".join(words).encode("utf-8", "backslashreplace").decode("utf-8")
        return Picture(caption, tuple(panels), mask)


def _inside(image: NDArray[Any], mask: NDArray[np.bool_] | None) -> NDArray[Any]:
    return image if mask is None else np.where(mask, image, np.nan)


def _scale(values: NDArray[Any]) -> Scale:
    """One scale for all images together: from the least to the largest value, less 0.1 % a side."""
    values = values[np.isfinite(values)]
    low, high = (
        (float(end) for end in np.quantile(values, (0.001, 0.999))) if values.size else (0.0, 1.0)
    )
    return Scale(low, high if high > low else low + 1, colours="grey")
