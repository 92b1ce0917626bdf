"""compare(): every metric that can run, and the reasons of those that cannot."""

from __future__ import annotations

import pickle
from collections.abc import Mapping

import numpy as np
import pytest
from sampling import blob_mask, textured_pair

import imsim


def _images(rng: np.random.Generator, **options: object) -> tuple[np.ndarray, np.ndarray]:
    return textured_pair(rng, 32, 36, **options)  # type: ignore[arg-type]


def test_all_metrics_with_their_own_values(rng: np.random.Generator) -> None:
    a, b = (image.astype(np.uint8) for image in _images(rng))
    result = imsim.compare(a, b)
    assert isinstance(result, Mapping)
    assert list(result) == list(imsim.METRICS)
    assert result.skipped == {}
    for name, score in result.items():
        assert type(score) is np.float64
        assert score == imsim.METRICS[name].function(a, b), name


def test_mask_range_and_channels_reach_every_metric(rng: np.random.Generator) -> None:
    a, b = _images(rng, colour=True, batch=(2,))
    mask = blob_mask(rng, 32, 36)
    options = {"mask": mask, "data_range": 300.0, "channel_axis": -1}
    result = imsim.compare(a, b, **options)
    assert result.skipped == {}
    for name, score in result.items():
        want = imsim.METRICS[name].function(a, b, **options)
        assert score.shape == (2,)
        np.testing.assert_array_equal(score, want, err_msg=name)


def test_selection_keeps_its_order(rng: np.random.Generator) -> None:
    a, b = _images(rng)
    assert list(imsim.compare(a, b, ["zncc", "se"])) == ["zncc", "se"]
    assert list(imsim.compare(a, b, ("uiq",))) == ["uiq"]
    assert list(imsim.compare(a, b, [])) == []
    assert list(imsim.compare(a, b, iter(["se", "rmse"]))) == ["se", "rmse"]


def test_names_in_results_are_plain(rng: np.random.Generator) -> None:
    a, b = rng.uniform(size=(2, 16, 16))
    found = imsim.compare(a, b, np.array(["se", "rmse", "se"]))
    assert [type(name) for name in found] == [str, str]


def test_one_name_alone_is_refused(rng: np.random.Generator) -> None:
    """A string is iterable; its letters must not be looked up one by one."""
    with pytest.raises(imsim.OptionError, match=r"metrics='se'.*list of names"):
        imsim.compare(*_images(rng), "se")


def test_metrics_without_a_data_range_are_named(rng: np.random.Generator) -> None:
    a, b = _images(rng)
    result = imsim.compare(a, b)
    needing = {m.name for m in imsim.METRICS.values() if m.needs_data_range}
    assert set(result.skipped) == needing
    assert set(result) == set(imsim.METRICS) - needing
    assert all("data_range" in reason for reason in result.skipped.values())


def test_metrics_whose_window_does_not_fit_are_named() -> None:
    a, b = np.random.default_rng(0).uniform(0, 255, (2, 9, 10))
    result = imsim.compare(a, b, data_range=255)
    assert {"ssim", "issm"} <= set(result.skipped)
    assert "11x11" in result.skipped["ssim"]
    assert {"se", "rmse", "psnr", "imed", "zncc", "uiq"} <= set(result)


def test_the_remedy_of_an_error_can_be_read_apart() -> None:
    a, b = np.random.default_rng(0).uniform(0, 255, (2, 9, 10))
    result = imsim.compare(a, b, ["ssim"], data_range=255)
    error = result.errors["ssim"]
    hint = "if one axis holds channels, name it, e.g. channel_axis=-1"
    assert error.remedy == f"pass larger images or a smaller window; {hint}"
    assert result.skipped["ssim"] == str(error) == f"{error.message}; {error.remedy}"
    assert isinstance(error, imsim.ShapeError)
    assert error.__traceback__ is None  # which would keep the images
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.message, again.remedy) == (str(error), error.message, error.remedy)
    assert imsim.ImsimError("a is 3").remedy is None


def test_skipped_metrics_keep_the_selection(rng: np.random.Generator) -> None:
    a, b = _images(rng)
    result = imsim.compare(a, b, ["ssim", "se"])
    assert list(result) == ["se"]
    assert list(result.skipped) == ["ssim"]


@pytest.mark.parametrize("names", [["nonsense"], ["se", "SSIM"], [3], [None]])
def test_unknown_names(names: list[object], rng: np.random.Generator) -> None:
    a, b = _images(rng)
    with pytest.raises(imsim.OptionError, match="metric"):
        imsim.compare(a, b, names, data_range=255)  # type: ignore[arg-type]


def test_input_that_no_metric_takes_is_an_error(rng: np.random.Generator) -> None:
    a, b = _images(rng)
    with pytest.raises(imsim.ShapeError, match="a has shape"):
        imsim.compare(a, b[:-1], data_range=255)
    with pytest.raises(imsim.MaskError, match="mask"):
        imsim.compare(a, b, mask=np.ones((3, 3), dtype=bool), data_range=255)
    with pytest.raises(imsim.MaskTypeError, match="mask"):
        imsim.compare(a, b, mask=np.ones(a.shape), data_range=255)
    with pytest.raises(imsim.DTypeError, match="a has dtype"):
        imsim.compare(a * 1j, b, data_range=255)
    with pytest.raises(imsim.DataRangeError, match="data_range"):
        imsim.compare(a, b, data_range=-1)


def test_read_only(rng: np.random.Generator) -> None:
    result = imsim.compare(*_images(rng), ["se"])
    with pytest.raises(TypeError):
        result["se"] = 0.0  # type: ignore[index]
    with pytest.raises(KeyError):
        result["nonsense"]
    assert "nonsense" not in result
    assert result.get("nonsense") is None


def test_prints_as_a_table(rng: np.random.Generator) -> None:
    a, b = _images(rng)
    result = imsim.compare(a, b)
    lines = str(result).splitlines()
    for name in imsim.METRICS:
        assert any(name in line for line in lines), name
    se_line = next(line for line in lines if line.split()[0] == "se")
    assert float(se_line.split()[1]) == pytest.approx(result["se"], rel=1e-4)
    assert len(set(lines)) == len(lines)


def test_batch_prints_too(rng: np.random.Generator) -> None:
    result = imsim.compare(*_images(rng, batch=(2, 3)), data_range=255)
    assert result["ssim"].shape == (2, 3)
    assert "ssim" in str(result)
    assert "ssim" in repr(result)


def test_empty_mask_warns(rng: np.random.Generator) -> None:
    a, b = _images(rng)
    with pytest.warns(imsim.EmptyMaskWarning) as warnings:
        result = imsim.compare(a, b, mask=np.zeros(a.shape, dtype=bool), data_range=255)
    [only] = warnings
    assert only.filename == __file__
    assert all(name in str(only.message) for name in imsim.METRICS)
    assert all(np.isnan(score) for score in result.values())
    assert result.skipped == {}


@pytest.mark.parametrize("own", [None, "sigma", ["sigma"], {"spacing": (1, 2)}, {"mask": None}])
def test_options_of_a_metric_that_are_none(own: object, rng: np.random.Generator) -> None:
    """Also where another metric takes them."""
    given: dict[str, object] = {"options": {"psnr": own}, "spacing": (1, 1), "data_range": 255}
    with pytest.raises(imsim.OptionError, match=r"^options\['psnr'\]"):
        imsim.compare(*_images(rng), ["psnr", "imed"], **given)  # type: ignore[arg-type]


def test_a_spacing_that_can_be_read_once(rng: np.random.Generator) -> None:
    a, b = _images(rng)
    result = imsim.compare(a, b, ["imed"], spacing=iter([1.0, 2.0]))  # type: ignore[arg-type]
    assert result["imed"] == imsim.imed(a, b, spacing=(1.0, 2.0))


def test_results_are_equal_if_all_their_scores_are(rng: np.random.Generator) -> None:
    """As dicts compare arrays, NumPy asks which of their answers is meant."""
    a, b = rng.random((2, 3, 8, 8))
    labels = np.repeat([[1], [2]], 4, axis=0).repeat(8, axis=1)
    for call in (
        lambda x: imsim.compare(x, b, ["rmse", "zncc"]),
        lambda x: imsim.compare(x[0], b[0], ["rmse"]),
        lambda x: imsim.regions(x[0], b[0], labels, ["rmse"]),
    ):
        found = call(a)
        assert found == call(a) == found.to_dict()
        assert found != call(a + 0.1 * b)
        assert found != {"rmse": 0}
        assert found != 3
    near = {"rmse": float(imsim.rmse(a[0], b[0])) + 1e-9}
    assert imsim.compare(a[0], b[0], ["rmse"]) == pytest.approx(near, abs=1e-8)
