"""Containers whose meaning bare numbers would lose are refused, with the remedy."""

from __future__ import annotations

import functools
import re
import warnings
from io import BytesIO
from typing import Any

import array_api_strict
import numpy as np
import pytest
from PIL import Image
from scipy import sparse

import imsim
from imsim import pages

IMAGE = np.random.default_rng(0).uniform(0, 255, (16, 18))
with warnings.catch_warnings():
    warnings.simplefilter("ignore", PendingDeprecationWarning)
    MATRIX = np.asmatrix(IMAGE)
each_name = pytest.mark.parametrize("name", list(imsim.METRICS))


class Wrapper:
    """What is no array but becomes one, with attributes that an array does not have."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return IMAGE.astype(IMAGE.dtype if dtype is None else dtype)


class Delayed:
    """Has every attribute it is asked for, and none is True or False, as in Dask."""

    def __getattr__(self, name: str) -> Delayed:
        if name.startswith("_"):
            raise AttributeError(name)
        return self

    def __call__(self, *_: Any, **__: Any) -> Delayed:
        return self

    def __eq__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise TypeError("Truth of Delayed objects is not supported")

    __hash__ = object.__hash__


class Labelled(np.ndarray):
    """An array with a unit, as astropy, unyt and others make them."""

    unit = "mm"
    value = IMAGE


MEANINGFUL = {
    "dimensions": (Wrapper(dims=("y", "x")), r"axes have names, \(y, x\).*bare numbers"),
    "names of axes": (Wrapper(names=("y", None)), r"axes have names"),
    "unit": (Wrapper(unit="mm", value=IMAGE), r"units of mm.*a\.value"),
    "units": (Wrapper(units="mm", magnitude=IMAGE), r"units of mm.*a\.magnitude"),
    "no unit": (Wrapper(unit=""), r"units of one.*numpy\.asarray\(a\)"),
    "mask": (Wrapper(mask=IMAGE > 9), r"mask of its own.*mask="),
    "fill value": (Wrapper(fill_value=-9999), r"fill_value, -9999.*mask="),
    "no data": (Wrapper(nodata=np.nan), r"nodata, nan.*mask="),
    "table": (Wrapper(columns=["x"], dtypes=[float]), r"labels.*to_numpy"),
    "names of arrays": ({"x": IMAGE}, r"dict, which holds arrays by name.*a\['name'\]"),
    "delayed": (Delayed(), r"test_containers\.Delayed.*before it is computed.*a\.compute"),
    "subclass": (IMAGE.view(Labelled), r"test_containers\.Labelled in units of mm.*a\.value"),
    "sparse array": (sparse.csr_array(IMAGE), r"scipy\.csr_array, a sparse array.*a\.todense\(\)"),
    "sparse matrix": (sparse.coo_matrix(IMAGE), r"a sparse array.*a\.todense\(\)"),
    "masked array": (np.ma.masked_less(IMAGE, 9), r"MaskedArray.*mask=~"),
}


@pytest.mark.parametrize("case", MEANINGFUL)
def test_meaning_is_not_lost(case: str) -> None:
    value, message = MEANINGFUL[case]
    with pytest.raises(imsim.DTypeError, match=rf"^a is a .*{message}"):
        imsim.rmse(value, IMAGE)
    with pytest.raises(imsim.DTypeError, match=r"^b is a "):
        imsim.se_map(IMAGE, value)
    with pytest.raises(imsim.ImsimError, match=r"^mask is a "):
        imsim.rmse(IMAGE, IMAGE, mask=value)
    with pytest.raises(imsim.DTypeError, match=r"^labels is a "):
        imsim.regions(IMAGE, IMAGE, value)
    with pytest.raises(imsim.DTypeError, match=r"^vertices is a "):
        imsim.polygon_mask(IMAGE.shape, value)


@each_name
def test_in_every_metric_alike(name: str) -> None:
    with pytest.raises(imsim.DTypeError, match=r"^b is a .*units of mm"):
        imsim.METRICS[name].function(IMAGE, Wrapper(unit="mm"), data_range=255)


@pytest.mark.parametrize(
    "value",
    [
        Wrapper(),
        Wrapper(mask=None, unit=None, units=None, nodata=None),
        Wrapper(fill_value=0.0),  # the default of Zarr and others
        Wrapper(mask=lambda: None, units=lambda: None),  # a method of that name
        MATRIX,
        memoryview(IMAGE),
        IMAGE.tolist(),
    ],
    ids=["bare", "nothing said", "zeros", "methods", "matrix", "memory", "lists"],
)
def test_nothing_to_lose(value: Any) -> None:
    zeros = np.zeros_like(IMAGE)
    assert imsim.rmse(value, zeros) == imsim.rmse(IMAGE, zeros)
    assert type(imsim.se_map(value, zeros)) is np.ndarray
    np.testing.assert_array_equal(imsim.se_map(value, zeros), imsim.se_map(IMAGE, zeros))


def test_memory_maps_are_arrays(tmp_path: Any) -> None:
    mapped = np.memmap(tmp_path / "pixels", dtype=float, mode="w+", shape=IMAGE.shape)
    mapped[...] = IMAGE
    zeros = np.zeros_like(IMAGE)
    assert imsim.ssim(mapped, zeros, data_range=255) == imsim.ssim(IMAGE, zeros, data_range=255)
    assert type(imsim.se_map(mapped, zeros)) is np.ndarray


class Broken:
    """Fails while it is read."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise self.error


@pytest.mark.parametrize("error", [OSError("gone"), TypeError("no"), KeyError("x"), ValueError()])
def test_errors_on_reading_name_the_argument(error: Exception) -> None:
    with pytest.raises(imsim.ImsimError, match=r"^b "):
        imsim.rmse(IMAGE, Broken(error))
    with pytest.raises(MemoryError):
        imsim.rmse(IMAGE, Broken(MemoryError()))


def test_truncated_picture() -> None:
    file = BytesIO()
    Image.fromarray(IMAGE.astype(np.uint8)).save(file, "png")
    picture = Image.open(BytesIO(file.getvalue()[:-60]))
    with pytest.raises(imsim.ImsimError, match=r"^a .*truncated"):
        imsim.rmse(picture, IMAGE)


GREY = Image.fromarray(IMAGE.astype(np.uint8))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa", "La"])
def test_alpha_is_no_colour(mode: str) -> None:
    picture = GREY.convert("RGBA" if "R" in mode else "LA").convert(mode)
    with pytest.raises(imsim.DTypeError, match=rf"^a is a .*transparency \(mode {mode}\).*convert"):
        imsim.rmse(picture, picture, channel_axis=-1)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_a_transparent_colour_is_none(mode: str) -> None:
    """A conversion to RGB takes it along; the remedy does not."""
    file = BytesIO()
    GREY.convert(mode).save(file, "png", transparency=(3, 3, 3) if mode == "RGB" else 1)
    picture = Image.open(file)
    with pytest.raises(imsim.DTypeError) as caught:
        imsim.rmse(picture, picture)
    assert "a.convert('RGBA').convert('RGB')" in str(caught.value)
    plain = picture.convert("RGBA").convert("RGB")
    assert imsim.rmse(plain, plain, channel_axis=-1) == 0


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "LAB", "RGBX", "P", "PA"])
def test_channels_that_are_no_intensities(mode: str) -> None:
    picture = Image.new(mode, (18, 16))
    with pytest.raises(imsim.DTypeError, match=r"^b is a .*intensities.*convert\('RGB'\)"):
        imsim.rmse(np.zeros((16, 18)), picture)


ODD_MODES = ("RGBA", "LA", "RGBa", "La", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB", "RGBX")


@pytest.mark.parametrize("name", ["a", "mask"])
@pytest.mark.parametrize("mode", ODD_MODES)
def test_the_remedy_for_a_picture_works(mode: str, name: str) -> None:
    """Of a mask, it is two-valued, and of the images' height and width."""
    picture = Image.new(mode, (18, 16), 1)
    given = {"a": IMAGE, "b": IMAGE, name: picture}
    with pytest.raises(imsim.DTypeError) as caught:
        imsim.rmse(**given)
    conversion = rf"(?:numpy\.asarray\()?{name}(?:\.convert\('\w+'\))+(?:\) > 0)?"
    converted = eval(re.findall(conversion, str(caught.value))[-1], {"numpy": np, name: picture})
    axes = {"channel_axis": -1} if name == "a" else {}
    given |= {"b": converted, "a": converted} if name == "a" else {"mask": converted}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", imsim.EmptyMaskWarning)
        assert not imsim.rmse(**given, **axes) > 0


def test_a_mask_of_other_integers_names_one() -> None:
    with pytest.raises(imsim.MaskTypeError, match="other than 0 and 1, such as 255; pass booleans"):
        imsim.rmse(IMAGE, IMAGE, mask=Image.fromarray(np.full(IMAGE.shape, 255, np.uint8)))


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L"])
def test_sixteen_bits(mode: str) -> None:
    values = IMAGE.astype(np.uint16) * 257
    order = ">" if mode.endswith("B") else "<"
    data = values.astype(f"{order}u2").tobytes()
    picture = Image.frombytes(mode, (18, 16), data)
    assert imsim.rmse(picture, values) == 0


# Masks of other libraries, devices and layouts.

MASK = IMAGE > 100
STRICT = array_api_strict


def test_mask_of_another_library() -> None:
    other = IMAGE[::-1]
    want = imsim.rmse(IMAGE, other, mask=MASK)
    for mask in (STRICT.asarray(MASK), STRICT.asarray(MASK.astype(np.uint8))):
        assert imsim.rmse(IMAGE, other, mask=mask) == want
    images = STRICT.asarray(IMAGE), STRICT.asarray(np.ascontiguousarray(other))
    for mask in (MASK, MASK.tolist(), MASK.astype(np.int64), MASK[::-1][::-1]):
        assert float(imsim.rmse(*images, mask=mask)) == want
    with pytest.raises(imsim.MaskTypeError, match=r"^mask "):
        imsim.rmse(IMAGE, other, mask=STRICT.asarray(IMAGE))
    with pytest.raises(imsim.ImsimError, match=r"^mask "):
        imsim.rmse(*images, mask=MASK.astype(object))


def test_devices_are_named() -> None:
    image = STRICT.asarray(IMAGE)
    far = STRICT.asarray(IMAGE, device=STRICT.Device("device1"))
    with pytest.raises(imsim.DTypeError, match=r"a and b are on different devices.*device1"):
        imsim.rmse(image, far)
    with pytest.raises(imsim.MaskError, match=r"mask is on .*device1.*images are on"):
        imsim.rmse(image, image, mask=far > 3)
    assert float(imsim.rmse(far, far, mask=MASK)) == 0


@pytest.mark.parametrize("layout", [">f8", "negative strides", "read-only"])
def test_numpy_partner_of_any_layout(layout: str) -> None:
    image = IMAGE.astype(">f8") if layout == ">f8" else IMAGE.copy()
    image = image[::-1] if layout == "negative strides" else image
    image.setflags(write=layout != "read-only")
    got = imsim.se(STRICT.asarray(IMAGE), image)
    # Formula and kernel add up in another order.
    assert float(got) == pytest.approx(imsim.se(IMAGE, image), rel=1e-14)


def test_mask_of_jax_and_traced() -> None:
    jax = pytest.importorskip("jax", reason="an optional array library; see the extra 'anomaly'")
    other = np.ascontiguousarray(IMAGE[::-1])
    want = imsim.rmse(IMAGE, other, mask=MASK)
    assert imsim.rmse(IMAGE, other, mask=jax.numpy.asarray(MASK)) == want
    images = jax.numpy.asarray(IMAGE), jax.numpy.asarray(other)
    assert float(imsim.rmse(*images, mask=STRICT.asarray(MASK))) == pytest.approx(want, rel=1e-6)
    assert float(imsim.rmse(images[0], other.astype(">f4"))) > 0

    def compiled(mask: Any, data_range: Any = 255.0, images: Any = images) -> Any:
        return jax.jit(lambda m, r: imsim.rmse(*images, mask=m, data_range=r, normalize="range"))(
            mask, data_range
        )

    assert float(compiled(MASK)) == pytest.approx(want / 255, rel=1e-6)
    with pytest.raises(imsim.DTypeError, match=r"^mask is a .*jax"):
        jax.jit(lambda m: imsim.rmse(IMAGE, other, mask=m))(MASK)
    with pytest.raises(imsim.MaskTypeError, match=r"^mask .*traced"):
        jax.jit(lambda m: imsim.rmse(*images, mask=m))(MASK.astype(np.int32))
    got = jax.jit(lambda m: imsim.rmse(*images, mask=m))(MASK)
    assert float(got) == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("axes", [32, 33, 48, 64])
def test_many_axes(axes: int) -> None:
    image = IMAGE.reshape((1,) * (axes - 2) + IMAGE.shape)
    for name, metric in imsim.METRICS.items():
        if axes <= 32:
            got = metric.function(image, IMAGE[::-1], data_range=255)
            want = metric.function(IMAGE, IMAGE[::-1], data_range=255)
            assert got.shape == image.shape[:-2], name
            assert got.item() == want, name
        else:
            with pytest.raises(imsim.ShapeError, match=rf"a has {axes} axes.*at most 32"):
                metric.function(image, image, data_range=255)
    if axes > 32:
        with pytest.raises(imsim.ShapeError, match=rf"mask has {axes} axes"):
            imsim.rmse(IMAGE, IMAGE, mask=np.broadcast_to(MASK, image.shape))


# A last axis that may hold channels.


def fits(name: str, shape: tuple[int, ...]) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            imsim.METRICS[name].function(np.zeros(shape), np.zeros(shape), data_range=1)
    except imsim.ShapeError:
        return False
    return True


@each_name
@pytest.mark.parametrize("channels", [3, 4])
def test_channels_taken_for_a_width(name: str, channels: int) -> None:
    images = np.random.default_rng(0).uniform(0, 1, (2, 16, 18, channels))
    function = imsim.METRICS[name].function
    if fits(name, images[0].shape):
        with pytest.warns(imsim.ChannelAxisWarning, match=r"channel_axis=-1") as caught:
            function(*images, data_range=1)
        assert len(caught) == 1
        assert caught[0].filename == __file__
    else:
        with pytest.raises(imsim.ShapeError, match="channel_axis=-1"):
            function(*images, data_range=1)
    if channels == 3 or name != "fsim":
        function(*images, data_range=1, channel_axis=-1)
    function(*images.swapaxes(1, -1), data_range=1) if fits(name, (channels, 18, 16)) else None


def test_channels_taken_for_a_width_in_a_mask() -> None:
    images = np.zeros((2, 16, 18, 3))
    with pytest.warns(imsim.ChannelAxisWarning, match=r"channel_axis=-1") as caught:
        imsim.finite_mask(*images)
    assert caught[0].filename == __file__
    imsim.finite_mask(*images, channel_axis=-1)


def test_channels_taken_for_a_width_in_compare() -> None:
    images = np.random.default_rng(0).uniform(0, 1, (2, 16, 18, 3))
    with pytest.warns(imsim.ChannelAxisWarning, match=r"channel_axis=-1") as caught:
        imsim.compare(*images, ["se", "rmse", "sam"])
    assert len(caught) == 1
    assert caught[0].filename == __file__


# Values beyond the data range.


def test_values_beyond_the_data_range() -> None:
    x, y = np.random.default_rng(0).uniform(0, 255, (2, 16, 18))
    names = ["psnr", "se"]
    with pytest.warns(imsim.DataRangeWarning, match=r"span 2[0-9.]+.*data_range=1;") as caught:
        imsim.compare(x, y, names, data_range=1)
    assert caught[0].filename == __file__
    mask = np.ones(x.shape, dtype=bool)
    mask[3, 3] = False
    x[3, 3], y[3, 3] = -9999, np.inf
    with pytest.warns(imsim.DataRangeWarning):
        imsim.compare(x, y, names, data_range=255)
    with pytest.warns(imsim.DataRangeWarning):
        imsim.compare(*map(STRICT.asarray, (x, y)), names, data_range=255)
    imsim.compare(x, y, names, data_range=255, mask=mask)
    imsim.compare(x * 2 - 500, y * 2 - 500, names, data_range=256, mask=mask)  # an overshoot
    imsim.compare(x, y, ["se", "zncc"], data_range=1)  # which do not depend on it
    imsim.compare(x, y, ["se"])


@pytest.mark.parametrize("kind", ["masked", "rows", "PIL", "units", "nested", "turns out masked"])
def test_containers_in_a_list(kind: str) -> None:
    """A list of images is a batch; what each of them would lose counts as it does alone."""
    masked = np.ma.masked_greater(IMAGE, IMAGE.mean())

    class TurnsOut:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return masked

    value: Any = {
        "masked": [masked, masked],
        "rows": list(masked),
        "PIL": (Image.new("RGBA", (16, 16)),),
        "units": [IMAGE, Wrapper(units="mm")],
        "nested": [[masked]],
        "turns out masked": TurnsOut(),
    }[kind]
    with pytest.raises(imsim.DTypeError, match=r"^[ab](\[\d\])* is "):
        imsim.rmse(value, value)
    assert imsim.rmse([IMAGE, IMAGE], [IMAGE, IMAGE]).shape == (2,)


# Pages draw the numbers, and what is known of scores spares no check.

KNOWN = imsim.compare(IMAGE, IMAGE, ["rmse"])
LOST = {
    "masked": (np.ma.masked_greater(IMAGE, 9), "whose mask means 'leave out'"),
    "in units": (IMAGE.view(Labelled), "in units of mm"),
    "a palette": (Image.new("P", (18, 16)), "palette"),
    "ragged": ([[1, 2], [3]], "not a rectangular array"),
    "objects": (IMAGE.astype(object), "has dtype object"),
    "no array": (None, "no array"),
}


@pytest.mark.parametrize("scores", [None, KNOWN], ids=["to be scored", "scored"])
@pytest.mark.parametrize("name", ["reference", "test"])
@pytest.mark.parametrize("draw", [pages.pair_report, pages.volume_report])
@pytest.mark.parametrize(("value", "words"), LOST.values(), ids=LOST)
def test_pages_refuse_what_metrics_refuse(
    value: Any, words: str, draw: Any, name: str, scores: Any
) -> None:
    given = {"reference": IMAGE, "test": IMAGE, name: value}
    with pytest.raises(imsim.ImsimError, match=f"^{name} .*{words}"):
        draw(**given, scores=scores, data_range=255)


@pytest.mark.parametrize("draw", [pages.pair_report, pages.volume_report])
@pytest.mark.parametrize("mask", [IMAGE, MASK[1:]], ids=["numbers", "another size"])
def test_pages_refuse_masks_that_metrics_refuse(draw: Any, mask: Any) -> None:
    axes = (None, slice(None), slice(None))[draw is pages.pair_report :]
    with pytest.raises(imsim.MaskError, match=r"^mask has"):
        draw(IMAGE[axes], IMAGE[axes], mask=mask[axes], scores=KNOWN, data_range=255)


def test_pages_draw_arrays_of_another_device() -> None:
    images = IMAGE.astype(np.float32), IMAGE[::-1].astype(np.float32)
    far = [STRICT.asarray(image, device=STRICT.Device("device1")) for image in images]
    draw = functools.partial(pages.pair_report, data_range=255, metrics=["rmse", "se"])
    assert draw(*far) == draw(*images)
