"""Every parameter of every public name, with values that it may not have; images of every kind."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import imsim
from imsim import anomaly
from imsim.anomaly import AnomalyDetector, scoring, simulate, xray
from imsim.anomaly.report import Writer
from imsim.errors import silent

RNG = np.random.default_rng(0)
Y, X = np.mgrid[:24, :24] - 11.5
IMAGES = np.exp(-np.sqrt(np.maximum(1 - (Y**2 + X**2) / 80, 0))) + RNG.normal(0, 0.01, (8, 24, 24))
LABELS = np.arange(8) >= 4
PLAIN: dict[str, Any] = {"preprocess": None, "metric": "rmse", "false_alarm_rate": 0.2}
FITTED = AnomalyDetector(**PLAIN, random_state=0).fit(IMAGES)
EVALUATION = anomaly.evaluate(FITTED, IMAGES, LABELS, n_bootstrap=2)

ODD: tuple[Any, ...] = (
    None, True, np.True_, "x", "", b"x", -1, 0, 1, 7, 10**400, -0.5, 0.5, 1e308, float("nan"),
    float("inf"), np.float32(0.5), np.int8(-3), np.float64("nan"), np.array([1, 2]), np.array(2),
    [], ["x"], (1, 2), {}, object(), object, 1j,
)  # fmt: skip

FITS: dict[type, dict[str, Any]] = {
    AnomalyDetector: PLAIN,
    anomaly.PCAAutoencoder: {"components": 2, "patch": 4},
    anomaly.GoodStatistics: {"components": 2},
    anomaly.ItemFinder: {},
    anomaly.ItemDetector: {"detector": AnomalyDetector(**PLAIN)},
    xray.VirtualPeel: {"width": 2},
}
CALLS: dict[Callable[..., Any], dict[str, Any]] = {
    anomaly.evaluate: {
        "detector": FITTED, "images": IMAGES, "labels": LABELS, "n_bootstrap": 2,
    },
    anomaly.rank_metrics: {
        "inputs": IMAGES, "reconstructions": IMAGES * 0.9, "labels": LABELS, "n_bootstrap": 2,
        "metrics": ["rmse"], "data_range": 1.0,
    },
    scoring.anomaly_scores: {"metric": "rmse", "inputs": IMAGES, "reconstructions": IMAGES},
    scoring.dissimilarity_map: {"metric": "se", "inputs": IMAGES, "reconstructions": IMAGES},
    scoring.aggregates: {"metric": "se"},
    xray.correct: {"counts": IMAGES * 99, "flat": np.full((24, 24), 99)},
    xray.absorbance: {"transmission": IMAGES},
    xray.segment: {"absorbance": -np.log(IMAGES)},
    simulate.potatoes: {"count": 1, "size": 64},
    simulate.bars: {"count": 1, "size": 64},
    simulate.dataset: {"good": 1, "bad": 0, "size": 64},
    simulate.Beam: {},
    simulate.Detector: {},
}  # fmt: skip


def is_documented(call: Callable[[], object]) -> bool:
    """Call, and tell whether that ended with a result or an error of imsim's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call()
        except imsim.ImsimError:
            return True
    return True


def parameters(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize("kind", FITS, ids=lambda kind: kind.__name__)
def test_parameters_of_what_is_fitted(kind: Any) -> None:
    for name in parameters(kind):
        for odd in ODD:
            assert is_documented(lambda n=name, o=odd: kind(**FITS[kind] | {n: o}).fit(IMAGES))


def test_parameters_of_the_network() -> None:
    pytest.importorskip("equinox", reason="the convolutional model is optional")
    for name in parameters(anomaly.ConvAutoencoder):
        for odd in ODD:
            # The parameters are checked first, so that nothing is trained.
            with pytest.raises(imsim.ImsimError) as caught:
                anomaly.ConvAutoencoder(**{name: odd}).fit(None)
            assert name in str(caught.value) or "images" in str(caught.value)


@pytest.mark.parametrize("function", CALLS, ids=lambda function: function.__name__)
def test_parameters_of_functions(function: Any) -> None:
    for name in parameters(function):
        for odd in ODD:
            assert is_documented(lambda n=name, o=odd: function(**CALLS[function] | {n: o}))


def test_parameters_of_the_report(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="the report is optional")
    figure, drawn = Writer.figure, set()

    def once(writer: Writer, name: str, *arguments: Any) -> Any:
        """Draw each figure at the first time only: most do not depend on what is odd."""
        if name in drawn:
            return ""
        drawn.add(name)
        return figure(writer, name, *arguments)

    monkeypatch.setattr(Writer, "figure", once)
    base = {"folder": tmp_path / "page", "evaluation": EVALUATION}
    for name in set(parameters(anomaly.write_report)) - {"folder", "title"}:
        for odd in (3, "x", float("nan"), [], object()):
            assert is_documented(lambda n=name, o=odd: anomaly.write_report(**base | {n: o}))


def test_no_public_name_is_left_out() -> None:
    public = {getattr(m, n) for m in (anomaly, xray, simulate) for n in m.__all__}
    callables = {f for f in public if inspect.isfunction(f) or hasattr(f, "fit")}
    tried = {*CALLS, *FITS, anomaly.ConvAutoencoder, anomaly.write_report}
    # In test_side_by_side.py, test_inspection_report.py, test_items.py.
    tried |= {anomaly.write_comparison, anomaly.write_inspection_report}
    tried |= {anomaly.ItemFinder}
    assert callables <= tried


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data_range": "x"}, "data_range='x'"),
        ({"data_range": float("nan")}, "data_range=nan"),
        ({"random_state": -1}, "random_state=-1"),
        ({"random_state": True}, "random_state=True"),
        ({"preprocess": 1}, "preprocess=1"),
        ({"preprocess": "XRAY"}, "preprocess='XRAY'"),
        ({"model": anomaly.PCAAutoencoder}, "model=<class"),
        ({"window": np.float64(3)}, "window="),
        ({"folds": True}, "folds=True"),
        ({"false_alarm_rate": [0.1]}, "false_alarm_rate="),
    ],
)
def test_the_parameter_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(imsim.ImsimError, match=message):
        AnomalyDetector(**PLAIN | options).fit(IMAGES)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_no_data_range_beyond_the_type(dtype: Any) -> None:
    images = (IMAGES * 99).astype(dtype)
    most = np.iinfo(dtype).max
    for more in ({}, {"metric": "ssim"}):
        with pytest.raises(imsim.DataRangeError, match=f"beyond what {images.dtype} .* {most}$"):
            AnomalyDetector(**PLAIN | more, data_range=most + 1).fit(images)
    assert AnomalyDetector(**PLAIN, data_range=most).fit(images).data_range_ == most


def read_only(images: NDArray[Any]) -> NDArray[Any]:
    images = images.copy()
    images.flags.writeable = False
    return images


KINDS_OF_IMAGES: dict[str, Callable[[NDArray[Any]], Any]] = {
    "list": lambda images: images.tolist(),
    "read-only": read_only,
    "strided": lambda images: np.repeat(images, 2, axis=2)[:, :, ::2],
    "reversed": lambda images: images[:, ::-1][:, ::-1].copy()[:, ::-1, ::-1][:, ::-1, ::-1],
    "Fortran": np.asfortranarray,
    "big-endian": lambda images: images.astype(">f8"),
}


@pytest.mark.parametrize("preprocess", [None, "xray"])
@pytest.mark.parametrize("kind", KINDS_OF_IMAGES)
def test_the_same_numbers_give_the_same_scores(kind: str, preprocess: Any) -> None:
    given = KINDS_OF_IMAGES[kind](IMAGES)
    before = np.array(given)
    options = PLAIN | {"preprocess": preprocess}
    want = AnomalyDetector(**options, random_state=0).fit(IMAGES).anomaly_score(IMAGES)
    found = AnomalyDetector(**options, random_state=0).fit(given).anomaly_score(given)
    np.testing.assert_array_equal(found, want)
    np.testing.assert_array_equal(np.asarray(given), before)


def test_arrays_of_another_library() -> None:
    jax = pytest.importorskip("jax", reason="JAX is optional")
    given = jax.numpy.asarray(IMAGES.astype(np.float32))
    detector = AnomalyDetector(**PLAIN, random_state=0).fit(given)
    want = detector.anomaly_score(IMAGES.astype(np.float32))
    np.testing.assert_array_equal(detector.anomaly_score(given), want)


@pytest.mark.parametrize("dtype", [np.float16, np.uint16, np.int32, bool])
def test_every_depth_is_learned(dtype: Any) -> None:
    images = (IMAGES * (1 if dtype is np.float16 else 999)).astype(dtype)
    images[:, ::2] = 0  # of booleans, too
    with silent(UserWarning):  # of booleans, all are copies
        detector = AnomalyDetector(**PLAIN, random_state=0).fit(images)
    assert np.isfinite(detector.anomaly_score(images)).all()
    other = images.astype(np.float32 if dtype is not np.float16 else np.uint8)
    with pytest.raises(imsim.DTypeError, match=f"those learned from {detector.depth_}"):
        detector.anomaly_score(other)
    with pytest.raises(imsim.ShapeError, match="24 x 20 pixels, those learned from 24 x 24"):
        detector.anomaly_score(images[:, :20])


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((0, 24, 24)),
        IMAGES[:1],
        IMAGES[0],
        [IMAGES[0], IMAGES[1, :20]],
        IMAGES.astype(object),
        IMAGES.astype(str),
        IMAGES + 0j,
        np.repeat(IMAGES[..., None], 3, axis=-1),
        np.repeat(IMAGES[0, ..., None], 3, axis=-1),
        np.ma.masked_less(IMAGES, 0.5),
        np.full_like(IMAGES, np.nan),
        None,
        {},
    ],
)
@pytest.mark.parametrize("preprocess", [None, "xray"])
def test_images_that_are_none(images: Any, preprocess: Any) -> None:
    with pytest.raises(imsim.ImsimError):
        AnomalyDetector(**PLAIN | {"preprocess": preprocess}).fit(images)


def test_constant_images_and_odd_ones() -> None:
    for level in (0.0, 0.5):
        with (
            pytest.warns(UserWarning, match="8 of 8 good images are constant"),
            pytest.warns(UserWarning, match="8 good images are 1 different"),
        ):
            detector = AnomalyDetector(**PLAIN, random_state=0).fit(np.full((8, 24, 24), level))
        assert (detector.predict(IMAGES) == -1).all()
        with pytest.raises(imsim.ImsimError, match=r"unclear|constant|interior"):
            AnomalyDetector().fit(np.full((8, 24, 24), level))
    odd = IMAGES.copy()
    odd[2, 3, 3], odd[5] = np.nan, 1e300
    with pytest.warns(anomaly.detector.UnscorableImageWarning, match="2 of 8 images are left out"):
        detector = AnomalyDetector(**PLAIN, random_state=0).fit(odd)
    assert detector.left_out_.keys() == {2, 5}
    assert detector.inspect(odd).problems.keys() == {2, 5}


@pytest.mark.parametrize("preprocess", [None, "xray"])
def test_nan_counts_unless_the_mask_excludes_it(preprocess: Any) -> None:
    options = PLAIN | {"preprocess": preprocess}
    detector = AnomalyDetector(**options, random_state=0).fit(IMAGES)
    odd = IMAGES[:3].copy()
    odd[1, 12, 12] = np.nan
    assert "NaN" in detector.inspect(odd).problems[1]
    masks = np.isfinite(odd)
    assert detector.inspect(odd, masks).problems == {}
    assert np.isfinite(detector.anomaly_score(odd, masks)).all()
    odd[2] = 0
    expected = set() if preprocess is None else {2}
    assert detector.inspect(odd, masks).problems.keys() == expected
    assert not any("NaN" in reason for reason in detector.inspect(odd, masks).problems.values())


def test_the_peel_of_images_that_are_no_x_rays() -> None:
    """Refused; or, where it was made on purpose or only patterns speak against it, a warning."""
    y, x = np.mgrid[:64, :64] - 32
    single, beside = (
        np.exp(-np.sqrt(np.maximum(1 - ((y + shift) ** 2 + x**2) / 400, 0)))
        + RNG.normal(0, 0.01, (8, 64, 64))
        for shift in (0, 20)
    )
    options: dict[str, Any] = {"metric": "rmse", "false_alarm_rate": 0.2, "random_state": 0}
    with pytest.raises(imsim.ImsimError, match=r"touches the frame.*preprocess=None"):
        AnomalyDetector(**options).fit(beside)
    with pytest.warns(xray.UnlikelyItemWarning, match=r"8 of 8.*preprocess=None"):
        AnomalyDetector(preprocess=xray.VirtualPeel(width=2), **options).fit(beside)
    mixed = np.concatenate([single, beside[:6]])  # most are single items
    AnomalyDetector(**options).fit(mixed)
    figure = np.ones((8, 64, 64)) + RNG.normal(0, 0.01, (8, 64, 64))
    figure[:, 12:52, 12:52] = 0.5
    figure[:, 22:42, 22:30] = 0.1
    with pytest.warns(xray.UnlikelyItemWarning, match="varies like that of a photograph"):
        AnomalyDetector(**options).fit(figure)


@pytest.mark.parametrize("item", simulate.ITEMS)
def test_x_rays_of_single_items_are_never_refused(item: str) -> None:
    samples = simulate.dataset(item, good=9, bad=18, size=64, seed=3)
    counts = np.rint(samples.images * 200).clip(0, 255).astype(np.uint8)
    for images in (samples.images, counts, xray.absorbance(samples.images)):
        AnomalyDetector(metric="rmse", fence=None, random_state=0).fit(images)
