"""Images optimised from noise arrive, for any start, through masks and over flat areas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy
import numpy as np
import optax
import pytest
import torch

import imsim

STEPS = 200
RATE = 0.1


def goal() -> np.ndarray:
    """Waves between flat areas, which have no contrast that could scale a gradient."""
    rows, columns = np.mgrid[:40, :40]
    image = 0.5 + 0.3 * np.sin(columns / 2) * np.cos(rows / 3)
    image[:14], image[:, :10], image[20:34, 6:18] = 0.8, 0.5, 0.2
    return image.astype(np.float32)


GOAL = goal()
DISC = np.hypot(*(np.mgrid[:40, :40] - 19.5)) < 17


def by_ssim(image: Any, target: Any, mask: Any) -> Any:
    score = imsim.ssim(image, target, mask=mask, data_range=1)
    return imsim.METRICS["ssim"].dissimilarity(score)


def by_fsim(image: Any, target: Any, mask: Any) -> Any:
    """With the squared error: alone, FSIM does not see shading, and ends in a local optimum."""
    score = imsim.fsim(image, target, mask=mask, data_range=1)
    error = imsim.se(image, target, mask=mask, reduction="mean")
    return imsim.METRICS["fsim"].dissimilarity(score) + error


def of_torch(loss: Callable[..., Any], start: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    image = torch.tensor(start, requires_grad=True)
    given = torch.from_numpy(GOAL), None if mask is None else torch.from_numpy(mask)
    optimiser = torch.optim.Adam([image], RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        optimiser.zero_grad()
        loss(image, *given).backward()
        assert torch.isfinite(image.grad).all()
        optimiser.step()
        schedule.step()
    return image.detach().numpy()


def of_jax(loss: Callable[..., Any], start: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    image = jax.numpy.asarray(start)
    given = jax.numpy.asarray(GOAL), None if mask is None else jax.numpy.asarray(mask)
    optimiser = optax.adam(optax.cosine_decay_schedule(RATE, STEPS))
    update = jax.jit(optimiser.update)
    state = optimiser.init(image)
    for _ in range(STEPS):
        gradient = jax.grad(loss)(image, *given)
        assert np.isfinite(gradient).all()
        change, state = update(gradient, state)
        image = optax.apply_updates(image, change)
    return np.asarray(image)


@pytest.fixture
def starts(request: pytest.FixtureRequest) -> list[np.ndarray]:
    """Noise; of twenty seeds by hand, `pytest --hypothesis-profile=thorough`."""
    count = 20 if request.config.getoption("--hypothesis-profile") == "thorough" else 1
    return [np.random.default_rng(i).random(GOAL.shape, dtype=np.float32) for i in range(count)]


@pytest.mark.parametrize("mask", [None, DISC], ids=["whole", "masked"])
@pytest.mark.parametrize(
    ("loss", "name", "least"), [(by_ssim, "ssim", 0.99), (by_fsim, "fsim", 0.98)]
)
@pytest.mark.parametrize("optimised", [of_torch, of_jax])
def test_from_noise(
    optimised: Callable[..., np.ndarray],
    loss: Callable[..., Any],
    name: str,
    least: float,
    mask: np.ndarray | None,
    starts: list[np.ndarray],
) -> None:
    scores = []
    for start in starts:
        image = optimised(loss, start, mask)
        assert image.dtype == np.float32
        if mask is not None:
            np.testing.assert_array_equal(image[~mask], start[~mask])
        scores.append(imsim.METRICS[name].function(image, GOAL, mask=mask, data_range=1))
    assert min(scores) >= least
