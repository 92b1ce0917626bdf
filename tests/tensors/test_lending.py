"""Eager tensors in the memory of the host are scored by the kernels, without a copy."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
import torch
import xarray
from engines import by_engine, formulas
from libraries import TORCH, Library
from sampling import DEFAULTS, FRAME, MAPS, PLAIN, SCORES, Variant, blob_mask, textured_pair

import imsim
from imsim import tensors

each_variant = pytest.mark.parametrize("variant", [*SCORES, *MAPS], ids=lambda v: v.id)
each_default = pytest.mark.parametrize("variant", DEFAULTS, ids=lambda v: v.id)


def same(got: Any, want: Any, library: Library) -> None:
    """Require the bits of NumPy, in an array of the library."""
    assert isinstance(got, library.kind)
    assert tuple(got.shape) == np.shape(want)
    assert np.asarray(got).dtype == np.asarray(want).dtype
    np.testing.assert_array_equal(np.asarray(got), want)


@each_variant
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_bits_of_numpy(
    variant: Variant, masked: bool, library: Library, rng: np.random.Generator
) -> None:
    """With the engine that refuses what no kernel computes."""
    images = textured_pair(rng, *FRAME, colour=variant.colour, batch=(2,))
    mask = blob_mask(rng, *FRAME) if masked else None
    for dtype in (np.float32, np.float64, np.uint8):
        a, b = (image.astype(dtype) for image in images)
        own = None if mask is None else library.asarray(mask)
        given = (library.asarray(a), library.asarray(b))
        got = by_engine("fast", variant, *given, mask=own)
        same(got, variant(a, b, mask=mask), library)


@each_default
def test_short_floats_are_computed_in_single_precision(
    variant: Variant, library: Library, rng: np.random.Generator
) -> None:
    a, b = (image.astype(np.float32) for image in textured_pair(rng, *FRAME))
    for name in ("float16", "bfloat16", "float8_e5m2", "float8_e4m3fn"):
        if library.name == "torch":
            short = [torch.from_numpy(v).to(getattr(torch, name)) for v in (a, b)]
            wide = [v.float().numpy() for v in short]
        else:
            short = [jax.numpy.asarray(v, dtype=name) for v in (a, b)]
            wide = [np.asarray(v.astype("float32")) for v in short]
        same(variant(*short), variant(*wide), library)


def test_no_copy(rng: np.random.Generator) -> None:
    tensor = torch.rand(5, 6)
    assert np.shares_memory(tensors._torch_view(tensor), tensor.numpy())
    array = jax.numpy.asarray(rng.random((64, 64)))
    assert np.shares_memory(tensors._jax_view(array), np.asarray(array))


def test_any_layout_of_a_torch_tensor(rng: np.random.Generator) -> None:
    a, b = (v.astype(np.float32) for v in textured_pair(rng, 40, 44))
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    for change in (
        lambda v: v.T,
        lambda v: v[::2],
        lambda v: v[3:, 5:],
        lambda v: v[None].expand(3, -1, -1),
        lambda v: torch.nn.Parameter(v, requires_grad=False),
    ):
        got = imsim.ssim(change(x), change(y), data_range=255)
        want = imsim.ssim(change(x).numpy(), change(y).numpy(), data_range=255)
        np.testing.assert_array_equal(np.asarray(got), want)
    with torch.inference_mode():
        assert float(imsim.se(x + 0, y + 0)) == imsim.se(a, b)


@each_default
def test_partner_and_mask_from_elsewhere(
    variant: Variant, library: Library, rng: np.random.Generator
) -> None:
    a, b = textured_pair(rng, *FRAME)
    mask = blob_mask(rng, *FRAME)
    want = variant(a, b, mask=mask)
    for partner in (b.astype(">f8"), b[::-1, ::-1].copy()[::-1, ::-1], b.tolist()):
        for own in (mask, mask.tolist(), torch.from_numpy(mask), jax.numpy.asarray(mask)):
            same(variant(library.asarray(a), partner, mask=own), want, library)
    reverse = variant(a, library.asarray(b), mask=mask)
    same(reverse, want, library)


@each_default
def test_gradient_that_nobody_asks_for(variant: Variant, rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *FRAME)
    x = torch.tensor(a, requires_grad=True)
    with torch.no_grad():
        got = variant(x, torch.from_numpy(b))
    assert not got.requires_grad
    assert float(got) == float(variant(a, b))


@each_default
def test_gradient_of_metrics_that_have_none(variant: Variant, rng: np.random.Generator) -> None:
    """It is refused: a score without a graph would train nothing in silence."""
    a, b = textured_pair(rng, *FRAME)
    x = torch.tensor(a, requires_grad=True)
    if imsim.METRICS[variant.metric].numpy_only:
        with pytest.raises(imsim.DTypeError, match="gradient"):
            variant(x, torch.from_numpy(b))
    else:
        assert variant(x, torch.from_numpy(b)).requires_grad


def test_two_libraries() -> None:
    image = np.ones((24, 27))
    with pytest.raises(imsim.DTypeError, match="different array libraries"):
        imsim.se(torch.from_numpy(image), jax.numpy.asarray(image))


def test_what_carries_more_than_numbers_is_not_lent(rng: np.random.Generator) -> None:
    """A number taken out of these would be wrong without a word."""
    a, b = (torch.from_numpy(v) for v in textured_pair(rng, *FRAME))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit, which forward mode uses too, is deprecated
        traced = torch.jit.trace(lambda x, y: imsim.rmse(x, y), (a, b), check_trace=False)
        assert float(traced(a + 1, b)) == pytest.approx(float(imsim.rmse(a + 1, b)))
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(a, torch.ones_like(a))
            score = imsim.se(dual, b)
            tangent = torch.autograd.forward_ad.unpack_dual(score).tangent
    assert float(tangent) == pytest.approx(float(2 * (a - b).sum()))
    mapped = torch.func.vmap(imsim.rmse)(torch.stack([a, b]), torch.stack([b, b]))
    assert mapped.tolist() == pytest.approx([float(imsim.rmse(a, b)), 0])
    slope = torch.func.grad(imsim.se)(a, b)
    np.testing.assert_allclose(slope.numpy(), 2 * (a - b).numpy(), rtol=1e-12)


def test_forward_mode_of_jax(rng: np.random.Generator) -> None:
    a, b = (jax.numpy.asarray(v) for v in textured_pair(rng, *FRAME))
    _, tangent = jax.jvp(lambda v: imsim.se(v, b), (a,), (jax.numpy.ones_like(a),))
    assert float(tangent) == pytest.approx(float(2 * (a - b).sum()))


def test_complex_tensors() -> None:
    image = torch.ones((24, 27), dtype=torch.complex64)
    with pytest.raises(imsim.DTypeError, match="a has dtype complex64"):
        imsim.se(image, image)


def test_floats_of_8_bits(rng: np.random.Generator) -> None:
    a, b = (torch.from_numpy(v).to(torch.float8_e4m3fn) for v in textured_pair(rng, *FRAME))
    want = float(imsim.se(a.float(), b.float()))
    assert float(imsim.se(a, b)) == want
    assert float(torch.func.vmap(imsim.se)(a[None], b[None])) == pytest.approx(want, rel=1e-12)
    x, y = (jax.numpy.asarray(v.float().numpy(), "float8_e4m3fn") for v in (a, b))
    assert jax.grad(imsim.se)(x, y).dtype == x.dtype


def test_empty_mask_warns(library: Library) -> None:
    image = library.asarray(np.ones((24, 27)))
    with pytest.warns(imsim.EmptyMaskWarning):
        score = imsim.rmse(image, image, mask=np.zeros((24, 27), dtype=np.bool_))
    assert np.isnan(float(score))


@pytest.mark.parametrize("variant", [v for v in MAPS if v in PLAIN], ids=lambda v: v.id)
def test_where_maps_of_tensors_are_written(
    variant: Variant, library: Library, rng: np.random.Generator
) -> None:
    a, b = map(library.asarray, textured_pair(rng, *FRAME, colour=variant.colour))
    want = np.asarray(variant(a, b))
    out = np.zeros(want.shape)
    assert variant(a, b, out=out) is out
    np.testing.assert_array_equal(out, want)
    with pytest.raises(imsim.DTypeError, match="array of NumPy or Zarr"):
        variant(a, b, out=library.asarray(out))
    if library is TORCH:
        a.requires_grad_()
        with pytest.raises(imsim.OptionError, match="leave it out"):
            variant(a, b, out=out)
    else:
        with pytest.raises(imsim.OptionError, match="leave it out"):
            jax.jit(lambda x: variant(x, b, out=out))(a)


@pytest.mark.parametrize(
    "name", [n for n, m in imsim.METRICS.items() if m.needs_data_range and not m.numpy_only]
)
@pytest.mark.parametrize("value", [-1.0, 0.0, np.nan, np.inf])
def test_a_range_with_a_gradient_is_checked(name: str, value: float) -> None:
    x = torch.rand(24, 24)
    with pytest.raises(imsim.DataRangeError):
        getattr(imsim, name)(x, x, data_range=torch.tensor(value, requires_grad=True))


def deleted(image: np.ndarray) -> Any:
    array = jax.numpy.asarray(image) + 1
    array.delete()
    return array


def freed(image: np.ndarray) -> Any:
    tensor = torch.tensor(image)
    tensor.untyped_storage().resize_(0)
    return tensor


ODD: dict[str, Callable[[np.ndarray], Any]] = {
    "another layout": lambda image: torch.asarray(image, dtype=torch.float32).to_mkldnn(),
    "sparse": lambda image: torch.asarray(image).to_sparse(),
    "nested": lambda image: torch.nested.nested_tensor(
        [torch.asarray(image)] * 2, layout=torch.jagged
    ),
    "keys": lambda image: jax.random.split(jax.random.key(0), image.shape),
    "deleted": deleted,
    "freed": freed,
    "with a mask": lambda image: torch.masked.masked_tensor(
        torch.tensor(image), torch.tensor(image) > 0
    ),
    "packed": lambda image: torch.empty(image.shape, dtype=torch.float4_e2m1fn_x2),
    "8-bit floats of NumPy": lambda image: np.asarray(jax.numpy.asarray(image, "float8_e5m2")),
}


@pytest.mark.filterwarnings("ignore:.*(nested tensors|MaskedTensors):UserWarning")
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_tensors_without_plain_numbers_are_named(odd: Callable[[np.ndarray], Any]) -> None:
    image = np.ones((24, 25))
    for facts in imsim.METRICS.values():
        with pytest.raises(imsim.DTypeError, match=r"^b (is a|has dtype)"):
            facts.function(image, odd(image), data_range=1)


def test_a_deleted_data_range_is_named() -> None:
    image = np.ones((24, 25))
    with pytest.raises(imsim.DTypeError, match=r"data_range is a .* whose memory is freed"):
        imsim.psnr(image, image, data_range=deleted(np.float64(1)))


def test_a_data_range_that_is_no_number_is_named() -> None:
    image = jax.numpy.ones((24, 25))
    for span in (torch.tensor(9, dtype=torch.uint8).view(torch.bits8), jax.random.key(0)):
        with pytest.raises(imsim.DTypeError, match=r"^data_range has dtype"):
            imsim.psnr(image, image, data_range=span)


def test_deleted_partners_under_a_gradient_are_named() -> None:
    image = np.ones((24, 25))
    a, gone = jax.numpy.asarray(image), deleted(image)
    with pytest.raises(imsim.DTypeError, match=r"^b is a .* whose memory is freed"):
        jax.grad(lambda x: imsim.rmse(x, gone))(a)
    with pytest.raises(imsim.DTypeError, match=r"^mask is a .* whose memory is freed"):
        jax.grad(lambda x: imsim.rmse(x, image, mask=gone))(a)


def test_scores_lie_on_the_device_that_was_chosen(rng: np.random.Generator) -> None:
    """As results of JAX itself do, whichever argument was put there."""
    second = jax.devices()[1]
    images = [jax.numpy.asarray(v) for v in textured_pair(rng, *FRAME)]
    free, there = images[0], jax.device_put(images[1], second)
    for pair in ((free, there), (there, free)):
        assert imsim.rmse(*pair).devices() == {second}
        for gradient in jax.grad(imsim.rmse, argnums=(0, 1))(*pair):
            assert gradient.devices() == {second}


def test_several_devices_of_jax_are_refused(rng: np.random.Generator) -> None:
    first, second = jax.devices()[:2]
    a, b = textured_pair(rng, *FRAME)
    x, y = jax.device_put(a, first), jax.device_put(b, second)
    seen = jax.device_put(np.ones(FRAME, bool), second)
    for call in (imsim.rmse, jax.grad(imsim.rmse)):
        with pytest.raises(imsim.DTypeError, match=r"^a and b are on different devices"):
            call(x, y)
        with pytest.raises(imsim.DTypeError, match=r"^a and mask are on different devices"):
            call(x, b, mask=seen)


def test_no_array_of_nan_is_made_of_numbers(rng: np.random.Generator) -> None:
    """JAX, told to look for NaN, takes it for a mistake."""
    a, b = (jax.numpy.asarray(v) for v in textured_pair(rng, *FRAME, batch=(2,)))
    seen = jax.numpy.asarray(blob_mask(rng, *FRAME))
    with jax.debug_nans(True):
        found = jax.vmap(lambda x, y: imsim.rmse(x, y, mask=seen))(a, b)
    np.testing.assert_allclose(found, imsim.rmse(a, b, mask=seen), rtol=1e-12)


def test_long_integers_of_torch_that_no_kernel_reads() -> None:
    image = torch.ones(24, 25, dtype=torch.uint64)
    assert float(imsim.rmse(image, image)) == 0
    for facts in imsim.METRICS.values():
        with formulas(), pytest.raises(imsim.DTypeError, match=r"^a has dtype torch\.uint64"):
            facts.function(image, image, data_range=1)


def test_pytorch_without_fourier_transforms_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.rand(24, 25)

    def lacking(*_: Any, **__: Any) -> None:
        raise RuntimeError("fft: ATen not compiled with FFT support")

    monkeypatch.setattr(torch.fft, "fftn", lacking)
    assert imsim.fsim(image, image, data_range=1) == 1  # by the kernel
    with formulas(), pytest.raises(imsim.ImsimError, match=r"^FSIM needs Fourier.*not compiled"):
        imsim.fsim(image, image, data_range=1)


def test_pytorch_has_nothing_to_warn_of() -> None:
    """It warns of memory that may not be written to, and of numbers read off a gradient."""
    image = np.random.default_rng(0).random((24, 25), dtype=np.float32)
    row = np.broadcast_to(image[:1], image.shape)
    torch.set_warn_always(True)
    try:
        recording = torch.tensor(image, requires_grad=True)
        for mask in (row > 0.3, jax.numpy.asarray(row > 0.3)):
            found = imsim.compare(recording, row, ["psnr"], mask=mask, data_range=1)
            assert float(found["psnr"].detach()) == imsim.psnr(image, row, mask=mask, data_range=1)
    finally:
        torch.set_warn_always(False)


def test_gradients_do_not_pass_labelled_arrays() -> None:
    labelled = xarray.DataArray(np.ones((24, 25)))
    with pytest.raises(imsim.DTypeError, match=r"^b is a torch\.Tensor.*grad"):
        imsim.rmse(labelled, torch.ones(24, 25, requires_grad=True))


@pytest.mark.parametrize("name", ["psnr", "se_map"])
def test_torch_compiles_with_arrays_of_numpy(name: str, rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *FRAME)
    options: dict[str, Any] = {"mask": blob_mask(rng, *FRAME), "data_range": np.float64(255)}
    function = getattr(imsim, name)
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: function(x, b, **options), backend="eager", fullgraph=True)
    np.testing.assert_allclose(compiled(torch.tensor(a)), function(a, b, **options), rtol=1e-12)


def test_torch_compile_does_not_look_into_what_it_cannot_trace(rng: np.random.Generator) -> None:
    a, b = textured_pair(rng, *FRAME)
    x, y = map(torch.tensor, (a, b))

    def step() -> list[float]:
        found = [float(facts.function(a, b, data_range=255)) for facts in imsim.METRICS.values()]
        found += [float(imsim.issm(x, y, data_range=255)), float(imsim.se(x, b.tolist()))]
        by_region = imsim.regions(x, y, np.ones(FRAME, int), ["se"])["se"]
        return [*found, *by_region, *imsim.align(a, b).shift]

    torch._dynamo.reset()
    compiled = torch.compile(lambda v: v + torch.tensor(step()), backend="eager")
    np.testing.assert_array_equal(compiled(torch.zeros(())), torch.tensor(step()))
