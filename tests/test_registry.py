"""The records of METRICS: complete, read-only, and true."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sampling import frame, textured_pair

import imsim

METRICS = list(imsim.METRICS.values())
each_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
DOI = re.compile(r"10\.\d{4,9}/\S+")


def test_one_file_per_metric() -> None:
    folder = Path(imsim.__file__).parent / "metrics"
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert files == set(imsim.METRICS)


def test_one_test_file_per_metric() -> None:
    files = (Path(__file__).parent / "metrics").glob("test_*.py")
    assert {path.stem.removeprefix("test_") for path in files} == set(imsim.METRICS)


@each_metric
def test_one_name_for_key_function_and_file(metric: imsim.Metric) -> None:
    assert imsim.METRICS[metric.name] is metric
    assert metric.function.__name__ == metric.name
    assert metric.function.__module__ == f"imsim.metrics.{metric.name}"
    assert getattr(imsim, metric.name) is metric.function
    assert metric.name in imsim.__all__


@each_metric
def test_a_record_goes_where_its_name_goes(metric: imsim.Metric) -> None:
    """To other processes, into copies of what holds it, and into sets."""
    assert pickle.loads(pickle.dumps(metric)) is metric
    assert copy.deepcopy([metric])[0] is copy.copy(metric) is metric
    assert {metric: 1}[metric] == 1
    changed = dataclasses.replace(metric, title="changed")
    assert copy.copy(changed) == changed != metric
    assert dataclasses.asdict(metric)["capabilities"] == metric.capabilities


@pytest.mark.parametrize("records", [METRICS, imsim.COUNTS], ids=["METRICS", "COUNTS"])
def test_all_records_go_where_their_name_goes(records: Any) -> None:
    """As a part of a configuration, say; nobody can write into them."""
    for found in (pickle.loads(pickle.dumps(records)), copy.deepcopy(records), copy.copy(records)):
        assert found == records
        with pytest.raises(TypeError):
            found["ssim"] = None


@each_metric
def test_map_function(metric: imsim.Metric) -> None:
    name = f"{metric.name}_map"
    if metric.map_function is not None:
        assert metric.map_function is getattr(imsim, name)
        assert metric.map_function.__name__ == name
        assert metric.map_function.__module__ == metric.function.__module__
        assert name in imsim.__all__
    else:
        assert not hasattr(imsim, name)


@each_metric
def test_fields(metric: imsim.Metric) -> None:
    assert metric.title
    assert isinstance(metric.unit, str)
    low, high = metric.bounds
    assert low < high
    assert metric.sees[-1:] in {".", "?"}
    assert metric.best == (high if metric.higher_is_better else low) or metric.experimental
    assert (metric.map_kernel is None) or (metric.map_function is not None)


@each_metric
def test_references(metric: imsim.Metric) -> None:
    assert isinstance(metric.references, tuple)
    assert metric.references
    assert all(isinstance(r, str) and r.strip() for r in metric.references)
    found = DOI.findall(" ".join(metric.references))
    # The docstring names the same sources.
    doc = metric.function.__doc__
    assert doc is not None
    assert all(doi.rstrip(".,;)") in doc for doi in found)


def test_mapping_is_read_only() -> None:
    with pytest.raises(TypeError):
        imsim.METRICS["mine"] = imsim.METRICS["se"]  # type: ignore[index]
    with pytest.raises(TypeError):
        del imsim.METRICS["se"]  # type: ignore[attr-defined]
    with pytest.raises(KeyError):
        imsim.METRICS["nonsense"]


@each_metric
def test_record_is_read_only(metric: imsim.Metric) -> None:
    for name in [f.name for f in dataclasses.fields(metric)]:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(metric, name, None)


@each_metric
def test_dissimilarity_orders_alike(metric: imsim.Metric) -> None:
    """A better score never has the larger dissimilarity, and arrays go through elementwise."""
    low, high = (max(min(v, 100.0), -100.0) for v in metric.bounds)
    scores = np.linspace(low, high, 11)
    values = metric.dissimilarity(scores)
    assert isinstance(values, np.ndarray)
    steps = np.diff(values)
    assert np.all(steps < 0 if metric.higher_is_better else steps > 0)
    np.testing.assert_array_equal([metric.dissimilarity(s) for s in scores], values)
    np.testing.assert_array_equal(metric.dissimilarity(list(scores)), values)
    for convert in (metric.dissimilarity, metric.map_dissimilarity):
        for value in (None, "0.5", {"ssim": 0.5}):
            with pytest.raises(imsim.DTypeError, match=r"(score|values) is a \w+; expected a "):
                convert(value)
        with pytest.raises(imsim.ShapeError, match="has unequal lists; give all rows one length"):
            convert([[0.5], [0.5, 0.25]])
        for kind in (np.uint8, np.int8, np.bool_):  # whose numbers have no negative, or wrap
            whole = np.array([0, 1, -128 % 256]).astype(kind)
            np.testing.assert_array_equal(convert(whole), convert(whole.astype(float)))
    assert math.isnan(metric.dissimilarity(math.nan))


@each_metric
def test_dissimilarity_of_the_best_score(metric: imsim.Metric) -> None:
    want = -math.inf if math.isinf(metric.best) else 0.0
    if not math.isnan(metric.best):
        assert metric.dissimilarity(metric.best) == want


@each_metric
def test_more_noise_is_more_dissimilar(metric: imsim.Metric, rng: np.random.Generator) -> None:
    if metric.name in {"issm", "sh"}:
        return  # noise raises the joint entropy, and hashes forget it: no such order is promised
    a, _ = textured_pair(rng, *frame(40, 44))
    z = rng.standard_normal(a.shape)
    little, much = (metric.function(a, a + s * z, data_range=255) for s in (4, 40))
    assert metric.dissimilarity(much) > metric.dissimilarity(little)


MAPS = [metric for metric in METRICS if metric.map_function]


@pytest.mark.parametrize("metric", MAPS, ids=lambda metric: metric.name)
def test_facts_about_the_map(metric: imsim.Metric, rng: np.random.Generator) -> None:
    """Values within the bounds, and larger where the images are less alike."""
    a, _ = textured_pair(rng, *frame(40, 44))
    b = a + 2 * rng.standard_normal(a.shape)
    b[10:20, 10:20] += 60 * rng.standard_normal((10, 10))
    channels = -1 if metric.map_needs_channels else None
    pair = [np.stack([i, i[::-1], np.roll(i, 7, 1)], -1) for i in (a, b)]
    images = pair if channels else (a, b)
    values = metric.map_function(*images, data_range=255, channel_axis=channels)
    low, high = metric.map_bounds
    assert np.all((values >= low - 1e-12) & (values <= high + 1e-12) | np.isnan(values))
    found = metric.map_dissimilarity(values)
    assert np.nanmean(found[10:20, 10:20]) > 2 * np.nanmean(found[25:35, 25:35])
