"""
Training with SSIM and a mask
=============================

Every metric but ISSM and SH can be a loss, for JAX and PyTorch, and the mask counts in the gradient
too: outside, it is exactly 0. Here a small network learns to denoise from targets that are seen in
part only, in about a minute on two cores.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from skimage import color, data

import imsim

SIDE, NOISE, STEPS, BATCH, WIDTH = 48, 0.15, 400, 8, 24
photographs = [
    color.rgb2gray(image) if image.ndim == 3 else image / 255
    for image in (data.coins(), data.coffee(), data.brick(), data.astronaut(), data.grass())
]

# %%
# Patches of five photographs with noise, and the same without as targets. The targets were taken by
# another camera, and end where its frame ends: beyond a straight line they have no pixels and read
# 0. The mask says so, `True` = use.


def patches(rng):
    """Return noisy patches, their targets, and masks."""
    clean = np.empty((BATCH, SIDE, SIDE), np.float32)
    for patch in clean:
        image = photographs[rng.integers(len(photographs))]
        i, j = (rng.integers(n - SIDE) for n in image.shape)
        patch[:] = image[i : i + SIDE, j : j + SIDE]
    noisy = clean + NOISE * rng.standard_normal(clean.shape, np.float32)
    along = np.arange(SIDE) - SIDE / 2
    angle = rng.uniform(0, 2 * np.pi, (BATCH, 1, 1))
    edge = rng.uniform(0, SIDE / 2, (BATCH, 1, 1))
    mask = np.cos(angle) * along + np.sin(angle) * along[:, None] < edge
    return noisy, np.where(mask, clean, 0), mask


# %%
# Four layers of 3x3 filters find the noise. Blocks of 2x2 pixels are their channels, which costs a
# quarter of the time.


class Denoiser(eqx.Module):
    """Convolutions whose output is subtracted from the image."""

    layers: list

    def __init__(self, key):
        sizes = [4, WIDTH, WIDTH, WIDTH, 4]
        self.layers = [
            eqx.nn.Conv2d(n, m, 3, padding="SAME", padding_mode="REPLICATE", key=k)
            for n, m, k in zip(sizes, sizes[1:], jax.random.split(key, 4), strict=False)
        ]

    def __call__(self, image):
        rows, columns = (n // 2 for n in image.shape)
        found = image.reshape(rows, 2, columns, 2).transpose(1, 3, 0, 2)
        found = found.reshape(4, rows, columns)
        for layer in self.layers[:-1]:
            found = jax.nn.leaky_relu(layer(found))
        noise = self.layers[-1](found).reshape(2, 2, rows, columns)
        return image - noise.transpose(2, 0, 3, 1).reshape(image.shape)


# %%
# The loss is a sum of dissimilarities, each with its weight. The network is compiled by JAX; the
# scores and their gradients are not within `jit`, so the kernels of `imsim` compute them.

restore = eqx.filter_jit(lambda model, images: jax.vmap(model)(images))


def loss(model, noisy, target, mask, weight_of_ssim):
    restored = restore(model, noisy)
    terms = 10 * imsim.se(restored, target, mask=mask, reduction="mean")
    if weight_of_ssim:
        ssim = imsim.ssim(restored, target, mask=mask, data_range=1)
        terms += weight_of_ssim * imsim.METRICS["ssim"].dissimilarity(ssim)
    return jnp.mean(terms)


def train(weight_of_ssim, use_mask=True):
    rng = np.random.default_rng(0)
    model = Denoiser(jax.random.key(1))
    optimiser = optax.adam(optax.cosine_decay_schedule(4e-3, STEPS))
    update = jax.jit(optimiser.update)
    state = optimiser.init(eqx.filter(model, eqx.is_array))
    for _ in range(STEPS):
        noisy, target, mask = patches(rng)
        arguments = jnp.asarray(noisy), target, mask if use_mask else None, weight_of_ssim
        gradient = eqx.filter_grad(loss)(model, *arguments)
        change, state = update(gradient, state)
        model = eqx.apply_updates(model, change)
    return model


# %%
# Three networks start from the same weights and see the same patches. They are tried on a
# photograph that none of them has seen; its rim, which they know less about, is cut off.

rng = np.random.default_rng(9)
photograph = (data.camera()[52:236, 102:286] / 255).astype(np.float32)
noisy = photograph + NOISE * rng.standard_normal(photograph.shape, np.float32)
inside = np.s_[8:-8, 8:-8]
clean = photograph[inside]
restored = {
    title: np.asarray(restore(train(*arguments), noisy[None])[0])[inside]
    for title, arguments in {
        "trained with SE": (0,),
        "with SE + SSIM": (1,),
        "with SE + SSIM, no mask": (1, False),
    }.items()
}

# %%
# With SSIM the network leaves less noise where the photograph is smooth, at nearly the same PSNR.
# Without the mask it learns that missing pixels are black, and darkens the whole image.

targets = [np.pad(target, 1, constant_values=1) for target in patches(rng)[1][:4]]
images = {
    "four of the targets": np.block([targets[:2], targets[2:]]),
    "noisy": noisy[inside],
    "clean": clean,
    **restored,
}
figure, axes = plt.subplots(2, 3, figsize=(9, 6.7), layout="constrained")
for axis, (title, image) in zip(axes.flat, images.items(), strict=True):
    axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    if image.shape == clean.shape and image is not clean:
        psnr, ssim = (float(f(clean, image, data_range=1)) for f in (imsim.psnr, imsim.ssim))
        title += f"\n{psnr:.1f} dB, SSIM {ssim:.2f}"
    axis.set_title(title)
    axis.set_axis_off()
plt.show()
