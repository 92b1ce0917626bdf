"""Arrays that have no values yet: compiled, mapped, differentiated forwards, on other devices."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.export
import numpy as np
import pytest
import torch
from sampling import FRAME, PLAIN, Variant, blob_mask, textured_pair
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import imsim

FEW = [v for v in PLAIN if not imsim.METRICS[v.metric].numpy_only]
each = pytest.mark.parametrize("variant", FEW, ids=lambda v: v.id)


pytestmark = pytest.mark.usefixtures("by_formulas")


def in_batches(variant: Variant, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    a, b = textured_pair(rng, *FRAME, colour=variant.colour, batch=(2,))
    return a, b, np.stack([blob_mask(rng, *FRAME), blob_mask(rng, *FRAME, 0.4)])


def with_range(variant: Variant) -> Callable[..., Any]:
    """Take the mask and the data range as arguments, as what is compiled does."""
    return lambda a, b, mask, data_range: variant(a, b, mask=mask, data_range=data_range)


def equal(got: Any, want: Any, close: float = 1e-12) -> None:
    np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=close, atol=close)


@each
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_torch_compiles_one_graph(variant: Variant, backend: str) -> None:
    """Also for other contents, and for other sizes, which it then compiles once more."""
    torch._dynamo.reset()
    counter = importlib.import_module("torch._dynamo.testing").CompileCounterWithBackend(backend)
    compiled = torch.compile(with_range(variant), backend=counter, fullgraph=True)
    for i, seed in enumerate((0, 1)):
        *images, mask = map(torch.asarray, in_batches(variant, seed))
        for one in (mask, None) if backend == "eager" else (mask,):
            data_range = torch.tensor(255.0 + i)
            equal(
                compiled(*images, one, data_range),
                variant(*images, mask=one, data_range=255.0 + i),
            )
    assert counter.frame_count == (2 if backend == "eager" else 1)


@each
def test_torch_compiles_other_sizes(variant: Variant) -> None:
    """PyTorch makes symbols of sides that change."""
    torch._dynamo.reset()
    compiled = torch.compile(with_range(variant), backend="eager", fullgraph=True)
    *images, mask = map(torch.asarray, in_batches(variant))
    for first in (0, 2):
        part = (slice(None), slice(first, None), slice(first // 2, None))
        parts = [v[part] for v in (*images, mask)]
        equal(
            compiled(*parts, torch.tensor(255.0)),
            variant(*parts[:2], mask=parts[2], data_range=255.0),
        )


@pytest.mark.parametrize("variant", [v for v in FEW if not v.is_map], ids=lambda v: v.id)
def test_torch_exports_any_batch(variant: Variant) -> None:
    class Module(torch.nn.Module):
        def forward(self, a: Any, b: Any) -> Any:
            return variant(a, b)

    a, b = (torch.asarray(v).float() for v in in_batches(variant)[:2])
    sizes = ({0: torch.export.Dim("images")},) * 2
    exported = torch.export.export(Module(), (a, b), dynamic_shapes=sizes, strict=False)
    more = torch.cat([a, b]), torch.cat([b, a])
    equal(exported.module()(*more), variant(*more), close=1e-5)


@pytest.mark.parametrize("name", ["fsim", "se_map", "uiq"])
@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # of sizes, which stay those
def test_torch_jit_traces_for_any_batch(name: str) -> None:
    """Sizes are tensors there, which neither caches nor every operation take."""
    variant = Variant(name.removesuffix("_map"), is_map=name.endswith("_map"))
    a, b, mask = map(torch.asarray, in_batches(variant))
    function = with_range(variant)
    traced = torch.jit.trace(lambda *v: function(*v, 255), (a, b, mask[0]), check_trace=False)
    got, want = traced(b[:1], a[:1], mask[1]), function(b[:1], a[:1], mask[1], 255)
    assert got.shape == want.shape
    equal(got, want)


def test_pytorch_says_what_is_wrong_within_a_graph() -> None:
    image = torch.ones(24, 24)
    torch._dynamo.reset()
    compiled = torch.compile(imsim.ssim, backend="eager", fullgraph=True)
    with pytest.raises(RuntimeError, match=r"DataRangeError.*data_range=-1"):
        compiled(image, image, data_range=-1)


@each
def test_nobody_asks_for_values_where_pytorch_looks_on(variant: Variant) -> None:
    """Modes that record what is computed, or only shapes, give no value out."""
    a, b, mask = map(torch.asarray, in_batches(variant))
    traced = make_fx(lambda x, y: variant(x, y, mask=mask))(a, b)
    equal(traced(b, a), variant(b, a, mask=mask))
    with FakeTensorMode() as mode:
        found = variant(mode.from_tensor(a), mode.from_tensor(b))
    assert found.shape[0] == 2


@each
def test_nobody_asks_for_values_on_a_device(variant: Variant) -> None:
    """The device "meta" has no values at all, so whoever asks for one fails."""
    *images, mask = (torch.asarray(v).to("meta") for v in in_batches(variant))
    for one in (mask, None):
        found = variant(*images, mask=one, data_range=torch.tensor(255.0, device="meta"))
        assert found.device.type == "meta"
        assert found.shape[0] == 2


@each
def test_torch_maps_over_a_batch(variant: Variant) -> None:
    images = tuple(map(torch.asarray, in_batches(variant)))
    ranges = torch.tensor([255.0, 200.0])
    got = torch.func.vmap(with_range(variant))(*images, ranges)
    for i in range(2):
        want = with_range(variant)(*(v[i] for v in images), float(ranges[i]))
        equal(got[i], want)


@each
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_torch_differentiates_both_ways(variant: Variant) -> None:
    a, b, mask = (torch.asarray(v[0]) for v in in_batches(variant))
    weights = torch.ones_like(variant(a, b, mask=mask))

    def total(x: Any, y: Any) -> Any:
        return (variant(x, y, mask=mask).nan_to_num() * weights).sum()

    g, h = torch.func.grad(total, argnums=(0, 1))(a, b)
    tangents = torch.cos(torch.arange(a.numel())).reshape(a.shape).double(), torch.ones_like(b)
    _, along = torch.func.jvp(total, (a, b), tangents)
    assert float(along) == pytest.approx(
        float((g * tangents[0]).sum() + (h * tangents[1]).sum()), rel=1e-9, abs=1e-9
    )


@each
def test_jax_traces_once_with_everything_traced(variant: Variant) -> None:
    a, b, mask = in_batches(variant)
    for one in (mask, None):
        shape = jax.eval_shape(with_range(variant), a.astype("f4"), b.astype("f4"), one, 255.0)
        assert shape.shape[0] == 2


@each
def test_jax_exports_any_batch(variant: Variant) -> None:
    image, mask = in_batches(variant)[1:]
    (images,) = jax.export.symbolic_shape("images")
    batch = jax.ShapeDtypeStruct((images, *image.shape[1:]), "f4")
    exported = jax.export.export(jax.jit(lambda x, y: variant(x, y, mask=mask[0])))
    one = jax.ShapeDtypeStruct(image.shape[1:], "f4")
    assert exported(batch, one).out_avals[0].shape[0] == images
    height, width = jax.export.symbolic_shape("height, width")
    images_of_any_size = jax.ShapeDtypeStruct((height, width), "f4")
    with pytest.raises(imsim.ShapeError, match=r"a has shape \(.*symbols"):
        jax.export.export(jax.jit(imsim.rmse))(images_of_any_size, images_of_any_size)


@pytest.mark.parametrize("name", ["gmsd", "psnr", "sre"])
def test_jax_compiles_once_for_a_hundred_calls(name: str) -> None:
    traces = 0

    def function(*arguments: Any) -> Any:
        nonlocal traces
        traces += 1
        return with_range(Variant(name))(*arguments)

    compiled = jax.jit(function)
    a, b, mask = in_batches(Variant(name))
    a, b = a.astype("f4"), b.astype("f4")
    for i in range(100):
        a, b, mask = a[:, ::-1].copy(), b.transpose(0, 1, 2) + np.float32(0.1), mask[::-1].copy()
        compiled(a, b, mask, 255.0 + i)
    assert traces == 1
    want = imsim.METRICS[name].function(a, b, mask=mask, data_range=300.0)
    equal(compiled(a, b, mask, 300.0), want, 1e-5)


@pytest.mark.parametrize("name", ["gmsd", "psnr", "sam"])
def test_jax_maps_over_a_batch(name: str) -> None:
    a, b, mask = in_batches(Variant(name))
    a, b = a.astype("f4"), b.astype("f4")
    ranges = np.asarray([255.0, 200.0], dtype="f4")
    got = jax.vmap(with_range(Variant(name)))(*map(jax.numpy.asarray, (a, b, mask, ranges)))
    for i in range(2):
        equal(got[i], with_range(Variant(name))(a[i], b[i], mask[i], float(ranges[i])), 1e-5)


@each
def test_distant_parts_in_double_precision(variant: Variant, rng: np.random.Generator) -> None:
    """One half lies far from the other, compared with the contrast of both."""
    a, b = (v / 255 for v in textured_pair(rng, *FRAME, colour=variant.colour))
    far = np.where(np.arange(FRAME[1]) < 12, 65535.0, 0.0)
    a, b = ((v.T + far[:, None]).T if v.ndim == 2 else v + far[:, None] for v in (a, b))
    want = variant(a, b, data_range=1)
    got = torch.func.vmap(lambda x: variant(x, torch.asarray(b), data_range=1))(
        torch.asarray(a)[None]
    )
    scale = max(1.0, float(np.nanmax(np.abs(want))))
    np.testing.assert_allclose(got[0] / scale, want / scale, rtol=0, atol=1e-11)


def sharded(image: np.ndarray) -> Any:
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("images",))
    places = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("images"))
    return jax.device_put(image, places)


@pytest.mark.parametrize("name", ["rmse", "ssim"])
def test_images_on_several_devices_of_jax(name: str) -> None:
    a, b, mask = in_batches(Variant(name))
    function = with_range(Variant(name))
    want = function(a, b, mask, 255.0)
    for other in (sharded(b), jax.numpy.asarray(b), b):
        equal(function(sharded(a), other, mask, 255.0), want)
    gradient = jax.grad(lambda x: function(x, sharded(b), None, 255.0).sum())(sharded(a))
    assert len(gradient.devices()) == 2


def test_pixels_that_jax_cannot_hold_are_refused() -> None:
    with jax.enable_x64(False):
        image = jax.numpy.full((8, 8), 3e9)
        for pixels in (np.full((8, 8), 3_000_000_000), np.full((8, 8), 1e300)):
            with pytest.raises(imsim.DTypeError, match=r"b has dtype .* beyond the .*32 of jax"):
                jax.jit(lambda x, pixels=pixels: imsim.rmse(x, pixels))(image)


def test_a_traced_range_that_is_not_allowed_gives_nan() -> None:
    image = torch.rand(2, 24, 24)
    mapped = torch.func.vmap(lambda x, data_range: imsim.ssim(x, x, data_range=data_range))
    got = mapped(image, torch.tensor([0.0, 1.0]))
    assert torch.isnan(got[0])
    assert got[1] == 1


def test_a_traced_range_needs_images_of_its_library() -> None:
    image = np.ones((24, 24))
    with pytest.raises(imsim.DataRangeError, match=r"data_range.*of another library"):
        jax.jit(lambda data_range: imsim.psnr(image, image, data_range=data_range))(1.0)


def test_a_range_on_another_device_is_refused() -> None:
    image, span = torch.rand(24, 24), torch.tensor(1.0)
    with pytest.raises(imsim.DataRangeError, match="data_range is on meta, the images on cpu"):
        imsim.psnr(image, image, data_range=span.to("meta"))
    # PyTorch brings a number of the host to any device.
    assert imsim.psnr(image.to("meta"), image.to("meta"), data_range=span).device.type == "meta"


def test_a_mask_of_integers_is_refused_where_it_is_only_traced() -> None:
    image = np.ones((2, 24, 24))
    for library, arrays in ((jax, jax.numpy), (torch.func, torch)):
        with pytest.raises(imsim.MaskError, match="only traced"):
            library.vmap(lambda x, mask: imsim.se(x, x, mask=mask))(
                arrays.asarray(image), arrays.asarray(image.astype("i4"))
            )


def test_huge_pixels_beside_ordinary_ones(rng: np.random.Generator) -> None:
    """One pass in one unit gives what two passes give on NumPy."""
    a, b = textured_pair(rng, 40, 41)
    a[3, 4], b[30, 31], b[30, 3] = 1e120, 1e110, -1e140
    for name in ("ssim_map", "uiq_map", "gmsd_map", "zncc_map"):
        options = {"data_range": 255} if name[0] in "sg" else {}
        want = getattr(imsim, name)(a, b, **options)
        got = getattr(imsim, name)(torch.asarray(a), torch.asarray(b), **options)
        equal(got, want, 1e-9)
