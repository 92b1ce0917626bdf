"""Each kind of bad input: the documented exception, with the argument and the remedy named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image
from sampling import frame

import imsim

NAMES = list(imsim.METRICS)
NEED_RANGE = [m.name for m in imsim.METRICS.values() if m.needs_data_range]
each_name = pytest.mark.parametrize("name", NAMES)
SIDE, _ = frame(32, 32)
IMAGE = np.arange(float(SIDE) * SIDE).reshape(SIDE, SIDE) % 251
MASK = np.ones((SIDE, SIDE), dtype=bool)


def call(name: str, a: Any = IMAGE, b: Any = IMAGE, **options: Any) -> Any:
    return imsim.METRICS[name].function(a, b, **{"data_range": 255, **options})


@each_name
@pytest.mark.parametrize("shape", [(SIDE, SIDE - 1), (SIDE - 1, SIDE), (1, SIDE), (3, 16, SIDE)])
def test_unequal_shapes(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(imsim.ShapeError, match=r"a has shape .*b has shape .*(crop|resample)"):
        call(name, IMAGE, np.zeros(shape))


@each_name
def test_batches_that_do_not_broadcast(name: str) -> None:
    with pytest.raises(imsim.ShapeError, match=r"a has shape .*b has shape .*batch.*broadcast"):
        call(name, np.zeros((2, SIDE, SIDE)), np.zeros((3, SIDE, SIDE)))


@each_name
@pytest.mark.parametrize("shape", [(SIDE, SIDE - 1), (SIDE,), (), (SIDE, SIDE, 3), (SIDE, SIDE, 1)])
def test_mask_of_another_shape(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(imsim.MaskError, match=rf"mask has shape .*{SIDE}x{SIDE}.*height"):
        call(name, mask=np.ones(shape, dtype=bool))


@each_name
def test_mask_batch_that_does_not_broadcast(name: str) -> None:
    stack = np.zeros((2, SIDE, SIDE))
    with pytest.raises(imsim.MaskError, match=r"mask has shape .*batch.*broadcast"):
        call(name, stack, stack, mask=np.ones((3, SIDE, SIDE), dtype=bool))


@each_name
@pytest.mark.parametrize(
    "mask",
    [
        MASK.astype(float),
        MASK * 255,
        MASK.astype(np.int8) * -1,
        MASK.astype(complex),
        MASK.astype(object),
        MASK.astype(str),
        np.rec.array(MASK.astype([("use", "?")])),
    ],
    ids=["float", "255", "-1", "complex", "object", "string", "records"],
)
def test_mask_that_is_not_boolean(name: str, mask: np.ndarray) -> None:
    with pytest.raises(imsim.MaskTypeError, match=r"mask .*(boolean|True)") as caught:
        call(name, mask=mask)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, imsim.MaskError)


@pytest.mark.parametrize(
    "mask",
    ["mask.png", np.ma.masked_array(MASK), np.full(MASK.shape, 1j), [[None, 1]]],
    ids=lambda v: type(v).__name__,
)
def test_mask_that_is_no_array(mask: Any) -> None:
    with pytest.raises(imsim.MaskError, match=r"^mask") as caught:
        imsim.rmse(IMAGE, IMAGE, mask=mask)
    if isinstance(mask, str):
        assert "pass numpy.asarray(PIL.Image.open(mask)) > 0" in str(caught.value)


@each_name
def test_mask_of_zeros_and_ones_is_fine(name: str) -> None:
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    mask[4:28, 4:28] = 1
    assert call(name, IMAGE, IMAGE.T, mask=mask) == call(name, IMAGE, IMAGE.T, mask=mask == 1)


@each_name
@pytest.mark.parametrize(
    "options",
    [
        {"a": np.zeros((SIDE, SIDE - 1))},
        {"a": IMAGE[0]},
        {"b": IMAGE[:0]},
        {"b": IMAGE * 1j},
        {"mask": MASK[:-1]},
        {"mask": MASK.astype(float)},
        {"data_range": -1},
        {"data_range": 1e200},
        {"channel_axis": 5},
        {"channel_axis": 0.5},
    ],
    ids=lambda options: str(next(iter(options))),
)
def test_remedy_is_a_field_of_its_own(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(imsim.ImsimError) as caught:
        call(name, **options)
    error = caught.value
    assert error.remedy
    assert str(error) == f"{error.message}; {error.remedy}"


@each_name
def test_masked_array(name: str) -> None:
    masked = np.ma.masked_greater(IMAGE, 100)
    for position, images in {"a": (masked, IMAGE), "b": (IMAGE, masked)}.items():
        with pytest.raises(imsim.DTypeError, match=rf"{position} is a .*MaskedArray.*mask="):
            call(name, *images)


@pytest.mark.parametrize("name", NEED_RANGE)
@pytest.mark.parametrize(
    "dtype", [np.float64, np.float32, np.float16, np.uint16, np.int8, np.int32, np.uint64]
)
def test_missing_data_range(name: str, dtype: type) -> None:
    image = IMAGE.astype(dtype)
    with pytest.raises(imsim.DataRangeError, match=rf"{name} .*data_range.*{np.dtype(dtype).name}"):
        call(name, image, image, data_range=None)


@pytest.mark.parametrize("name", NEED_RANGE)
def test_missing_data_range_for_unlike_types(name: str) -> None:
    with pytest.raises(imsim.DataRangeError, match=r"pass .*data_range="):
        call(name, IMAGE.astype(np.uint8), IMAGE.astype(np.uint16), data_range=None)


def test_missing_data_range_of_a_normalised_rmse() -> None:
    with pytest.raises(imsim.DataRangeError, match=r"pass .*data_range="):
        imsim.rmse(IMAGE, IMAGE, normalize="range")


@each_name
@pytest.mark.parametrize(
    "value",
    [
        *(0, -1, 0.0, -255.0, np.nan, np.inf, -np.inf, "255", 1j, True, [255], (0, 255)),
        *(np.ones(2), np.timedelta64(255), np.ma.MaskedArray(255.0, mask=True)),
    ],
    ids=str,
)
def test_bad_data_range(name: str, value: Any) -> None:
    with pytest.raises(imsim.DataRangeError, match=r"data_range=.*positive"):
        call(name, data_range=value)


@pytest.mark.parametrize("option", ["window_size", "sigma", "memory", "ndim"])
def test_spans_of_time_are_no_numbers(option: str) -> None:
    with pytest.raises(imsim.OptionError, match=rf"{option}="):
        call("ssim", **{option: np.timedelta64(3)})


@pytest.mark.parametrize(
    ("name", "least", "options"),
    [
        ("ssim", 11, {}),
        ("ssim", 7, {"window": "uniform"}),
        ("ssim", 6, {"window_size": 6}),
        ("zncc", 5, {"window_size": 5}),
        ("uiq", 8, {}),
        ("uiq", 12, {"block_size": 12}),
        ("issm", 11, {}),  # for its SSIM, which the message names
    ],
)
def test_image_smaller_than_the_window(name: str, least: int, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    enough = rng.uniform(0, 255, (2, least, least))
    assert np.isfinite(call(name, *enough, **options))
    for shape in ((least - 1, 40), (40, least - 1)):
        small = np.zeros(shape)
        expected = rf"{shape[0]}x{shape[1]}.*({name}|ssim).*{least}x{least}.*(larger|smaller)"
        with pytest.raises(imsim.ShapeError, match=expected):
            call(name, small, small, **options)


@each_name
@pytest.mark.parametrize("shape", [(0, SIDE), (SIDE, 0), (0, 0), (4, 0, SIDE), (0, SIDE, SIDE)])
def test_empty_array(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(imsim.ShapeError, match=r"a has shape .*no pixels.*pass"):
        call(name, np.zeros(shape), np.zeros(shape))


@each_name
@pytest.mark.parametrize(
    "image", [1.0, np.float64(1), np.zeros(()), np.zeros(SIDE), [1.0, 2.0], []]
)
def test_too_few_axes(name: str, image: Any) -> None:
    with pytest.raises(imsim.ShapeError, match=r"a has shape .*(height, width)"):
        call(name, image, image)


@each_name
def test_two_axes_are_too_few_with_channels(name: str) -> None:
    with pytest.raises(imsim.ShapeError, match=rf"a has shape \({SIDE}, {SIDE}\).*channels"):
        call(name, channel_axis=0)


@each_name
@pytest.mark.parametrize(
    "image",
    [
        IMAGE * 1j,
        IMAGE.astype(np.complex64),
        IMAGE.astype(object),
        IMAGE.astype(str),
        IMAGE.astype(bytes),
        IMAGE.astype("datetime64[s]"),
        IMAGE.astype("timedelta64[s]"),
        np.zeros((SIDE, SIDE), dtype=[("red", "u1"), ("green", "u1")]),
    ],
    ids=lambda image: image.dtype.str,
)
def test_not_a_real_number(name: str, image: np.ndarray) -> None:
    for position, images in {"a": (image, IMAGE), "b": (IMAGE, image)}.items():
        with pytest.raises(imsim.DTypeError, match=rf"{position} has dtype .*expected") as caught:
            call(name, *images)
        assert isinstance(caught.value, TypeError)
        assert isinstance(caught.value, ValueError)


@each_name
@pytest.mark.parametrize(
    "value", [None, "photo.png", {"pixels": 1}, object()], ids=lambda value: type(value).__name__
)
def test_not_an_image(name: str, value: Any) -> None:
    with pytest.raises(imsim.ImsimError, match=r"^b "):
        call(name, IMAGE, value)


@each_name
def test_ragged_lists(name: str) -> None:
    with pytest.raises(imsim.ShapeError, match=r"a is not a rectangular array.*same length"):
        call(name, [[1.0, 2.0], [3.0]], IMAGE)


@each_name
def test_palette_image(name: str) -> None:
    palette = Image.fromarray(IMAGE.astype(np.uint8)).convert("P")
    with pytest.raises(imsim.DTypeError, match=r"a is a palette image.*convert"):
        call(name, palette, palette)


@each_name
@pytest.mark.parametrize("axis", [3, -4, 10])
def test_channel_axis_out_of_range(name: str, axis: int) -> None:
    image = np.zeros((SIDE, SIDE, 3))
    with pytest.raises(imsim.ShapeError, match=rf"channel_axis={axis} .*expected -3 to 2"):
        call(name, image, image, channel_axis=axis)


@each_name
@pytest.mark.parametrize("axis", [1.0, "last", (0,), True], ids=repr)
def test_channel_axis_that_is_no_integer(name: str, axis: Any) -> None:
    image = np.zeros((SIDE, SIDE, 3))
    with pytest.raises(imsim.ImsimError, match=r"channel_axis=.*integer"):
        call(name, image, image, channel_axis=axis)


@each_name
def test_channel_axis_that_names_different_axes(name: str) -> None:
    stack = np.zeros((2, 3, SIDE, SIDE))
    with pytest.raises(imsim.ShapeError, match=r"channel_axis=1 .*negative"):
        call(name, stack, stack[0], channel_axis=1)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_chromatic_needs_three_channels(channels: int) -> None:
    image = np.zeros((SIDE, SIDE, channels))
    with pytest.raises(imsim.ShapeError, match=r"chromatic.*three channels"):
        imsim.fsim(image, image, data_range=255, channel_axis=-1, chromatic=True)
    with pytest.raises(imsim.ImsimError, match=r"chromatic.*channel_axis"):
        imsim.fsim(IMAGE, IMAGE, data_range=255, chromatic=True)


def test_maps_and_modes_that_need_channels() -> None:
    with pytest.raises(imsim.ImsimError, match="channel_axis"):
        imsim.sam_map(IMAGE, IMAGE)
    with pytest.raises(imsim.ImsimError, match="channel_axis"):
        imsim.sam(IMAGE, IMAGE, mode="spectral")


BAD_OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("se", {"reduction": "median"}),
    ("rmse", {"normalize": "mean"}),
    ("imed", {"sigma": 0.0}),
    ("imed", {"sigma": -1.0}),
    ("imed", {"sigma": np.nan}),
    ("imed", {"sigma": "1"}),
    ("imed", {"normalize": "range"}),
    ("ssim", {"window": "box"}),
    ("ssim", {"window": ["gaussian"]}),
    ("ssim", {"window_size": 0}),
    ("ssim", {"window_size": 7.0}),
    ("ssim", {"sigma": 0.0}),
    ("ssim", {"K1": -0.01}),
    ("ssim", {"K2": np.inf}),
    ("ssim", {"min_coverage": 1.5}),
    ("ssim", {"min_coverage": -0.1}),
    ("zncc", {"window_size": -3}),
    ("zncc", {"window_size": 9, "min_coverage": 2}),
    ("sam", {"mode": "spatial"}),
    ("uiq", {"block_size": 0}),
    ("uiq", {"block_size": 8.0}),
    ("uiq", {"block_size": True}),
    ("sh", {"hash": "foo"}),
    ("sh", {"hash": "entropy"}),
    ("sh", {"hash": None}),
    ("sh", {"hash_size": 1}),
    ("sh", {"hash_size": 8.0}),
    ("sh", {"hash": "wavelet", "hash_size": 6.5}),
]


@pytest.mark.parametrize(
    ("name", "options"), BAD_OPTIONS, ids=[f"{name}-{opts}" for name, opts in BAD_OPTIONS]
)
def test_unknown_option_value(name: str, options: dict[str, Any]) -> None:
    wrong = list(options)[-1]
    with pytest.raises(imsim.OptionError, match=rf"{wrong}=.*expected"):
        call(name, **options)


@each_name
def test_unknown_option_name(name: str) -> None:
    with pytest.raises(TypeError, match="nonsense"):
        call(name, nonsense=1)


def test_unknown_metric_in_compare() -> None:
    with pytest.raises(imsim.OptionError, match=r"fsimm.*fsim"):
        imsim.compare(IMAGE, IMAGE, ["ssim", "fsimm"], data_range=255)
