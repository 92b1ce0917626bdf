"""How well and how fast the anomaly workflow decides: ``python -m benchmarks.anomaly [--quick]``.

Images of three generators are judged: the package's own potatoes and chocolate bars, and those of
`benchmarks.held_out`; with ``--pneumonia pneumoniamnist.npz`` also chest radiographs, and with
``--sets FOLDER`` real images of products, from files ``NAME.npz`` of ``train``, ``images`` and
``labels``. The numbers go to ``benchmarks/results/anomaly.json``, and the tables made from them to
``docs/anomaly_results.md``; a quick run writes to ``build/benchmarks`` only.
"""

from __future__ import annotations

import argparse
import datetime
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from benchmarks import anomaly_page, held_out
from benchmarks.render import to_json
from benchmarks.report import ROOT, commit, machine, say, versions
from imsim.anomaly import (
    AnomalyDetector,
    ConvAutoencoder,
    PCAAutoencoder,
    evaluate,
    rank_metrics,
    simulate,
)

Images = NDArray[np.float32]
BATCH, ROUNDS = 256, 7
SIZE_EDGES = (0.5, 0.625, 0.75, 0.875, 1.001)


@dataclass(frozen=True)
class Data:
    """Good images to learn from, and labelled ones to judge by."""

    train: NDArray[Any]
    images: NDArray[Any]
    labels: NDArray[np.int64]
    kinds: NDArray[np.str_] | None = None
    sizes: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Amount:
    """How much is measured."""

    train: int
    good: int
    bad: int
    seeds: tuple[int, ...]
    deals: tuple[int, ...]
    """Seeds of the folds, for real images, which are not drawn."""
    draws: int


FULL = Amount(train=350, good=198, bad=198, seeds=(11, 12), deals=(0, 1, 2, 3), draws=1000)
QUICK = Amount(train=60, good=36, bad=36, seeds=(11,), deals=(0,), draws=100)


def potatoes(amount: Amount, seed: int) -> Data:
    """Potatoes of `imsim.anomaly.simulate`, with every kind of defect."""
    train = simulate.potatoes(amount.train, seed=1000 + seed)
    test = simulate.dataset("potato", good=amount.good, bad=amount.bad, seed=2000 + seed)
    return Data(train.images, test.images, test.labels, test.kinds, test.sizes)


def bars(amount: Amount, seed: int) -> Data:
    """Chocolate bars, which come out of one mould and lie in one place."""
    train = simulate.bars(amount.train, seed=1000 + seed)
    test = simulate.dataset("bar", good=amount.good, bad=amount.bad, seed=2000 + seed)
    return Data(train.images, test.images, test.labels, test.kinds, test.sizes)


def unseen(amount: Amount, seed: int) -> Data:
    """Images of the held-out generator."""
    train = held_out.make(amount.train, False, 1000 + seed)
    good = held_out.make(amount.good, False, 2000 + seed)
    bad = held_out.make(amount.bad, True, 2000 + seed)
    return Data(
        train=train.images,
        images=np.concatenate([good.images, bad.images]),
        labels=np.repeat([0, 1], [len(good.images), len(bad.images)]),
        kinds=np.concatenate([good.kinds, bad.kinds]),
        sizes=np.concatenate([good.sizes, bad.sizes]),
    )


def turned_bars(amount: Amount, seed: int) -> Data:
    """The same bars, each turned by any angle and shifted by up to six pixels."""
    data = bars(amount, seed)
    rng = np.random.default_rng(3000 + seed)

    def turned(images: Images) -> Images:
        placed = [
            ndimage.shift(
                ndimage.rotate(image, rng.uniform(0, 360), reshape=False, order=1, cval=1),
                rng.uniform(-6, 6, 2),
                order=1,
                cval=1,
            )
            for image in images
        ]
        return np.array(placed, np.float32)

    return replace(data, train=turned(data.train), images=turned(data.images))


def product(path: Path) -> Data:
    """Real images of a product."""
    with np.load(path, allow_pickle=False) as file:
        return Data(file["train"], file["images"], file["labels"].ravel().astype(np.int64))


def radiographs(path: Path) -> Data:
    """PneumoniaMNIST: chest radiographs of children, learned from those without a finding."""
    with np.load(path, allow_pickle=False) as file:
        normal = file["train_labels"].ravel() == 0
        return Data(file["train_images"][normal], file["test_images"], file["test_labels"].ravel())


def whole_image() -> AnomalyDetector:
    """What the peel is measured against: components of whole images, compared as they are."""
    return AnomalyDetector(
        model=PCAAutoencoder(components=30), preprocess=None, metric="fsim", aggregate="mean"
    )


class HighPass:
    """The largest difference of Gaussians of the absorbance away from the rim, tuned by hand.

    It learns nothing but its threshold, as the detector does.
    """

    threshold_ = 0.0

    def fit(self, good: Images) -> HighPass:
        self.threshold_ = float(np.quantile(self.anomaly_score(good), 0.95))
        return self

    def anomaly_score(self, images: Images) -> NDArray[np.float64]:
        return np.array([self._score(image) for image in images])

    def _score(self, image: Images) -> float:
        absorbance = -np.log(np.clip(image, 1e-3, None))
        item = ndimage.binary_fill_holes(ndimage.gaussian_filter(absorbance, 1) > 0.15)
        inside = ndimage.binary_erosion(ndimage.binary_opening(item), iterations=6)
        fine, coarse = (ndimage.gaussian_filter(absorbance, s) for s in (1.2, 4))
        return float(np.abs(fine - coarse)[inside].max(initial=0))


WHOLE = "whole image, PCA"
FILTER = "high-pass filter, tuned by hand"
DEFAULT = "peeled, mean of good texture (the default)"
LINEAR = "peeled, PCA of patches"
CONVOLUTIONAL = "peeled, convolutional"
PLAIN = "as they are (the default without a preprocess)"
PLAIN_FSIM = "as they are, FSIM, mean or worst window"
PLAIN_SSIM = "as they are, SSIM"
FEW_SSIM = "as they are, mean of SSIM, 8 components"
METHODS: dict[str, Callable[[], Any]] = {
    WHOLE: whole_image,
    FILTER: HighPass,
    DEFAULT: AnomalyDetector,
    LINEAR: lambda: AnomalyDetector(model=PCAAutoencoder(components=4, patch=16)),
    CONVOLUTIONAL: lambda: AnomalyDetector(model=ConvAutoencoder(progress=False)),
    PLAIN: lambda: AnomalyDetector(preprocess=None),
    PLAIN_FSIM: lambda: AnomalyDetector(preprocess=None, aggregate="both"),
    PLAIN_SSIM: lambda: AnomalyDetector(preprocess=None, metric="ssim"),
    FEW_SSIM: lambda: AnomalyDetector(PCAAutoencoder(8), None, "ssim", aggregate="mean"),
}


@dataclass(frozen=True)
class Trial:
    """Which images are judged by which methods."""

    make: Callable[[Amount, int], Data]
    methods: tuple[str, ...]
    ranked: tuple[str, ...]
    """Those whose inputs and reconstructions every metric compares."""
    timed: tuple[str, ...]
    detailed: str | None = None
    """The one whose finds are told by kind and size of defect."""


EVERY = (WHOLE, FILTER, DEFAULT, LINEAR, CONVOLUTIONAL)
RANKED = (WHOLE, DEFAULT, CONVOLUTIONAL)
TIMED = (DEFAULT, CONVOLUTIONAL)
TRIALS = {
    "simulated potatoes": Trial(potatoes, EVERY, RANKED, TIMED, DEFAULT),
    "held-out generator": Trial(unseen, EVERY, RANKED, TIMED, DEFAULT),
    "simulated chocolate bars": Trial(
        bars, (WHOLE, DEFAULT, PLAIN, PLAIN_FSIM, PLAIN_SSIM), (PLAIN,), (PLAIN,), PLAIN
    ),
    "chocolate bars in any pose": Trial(
        turned_bars, (DEFAULT, PLAIN, PLAIN_FSIM, PLAIN_SSIM), (), (PLAIN,)
    ),
}
REAL = (PLAIN, PLAIN_FSIM, PLAIN_SSIM)
RADIOGRAPHS = "chest radiographs"


def judge(
    name: str, data: Data, draws: int, seed: int
) -> tuple[Any, NDArray[np.float64], dict[str, Any]]:
    """Train and evaluate one method; the seed deals the folds."""
    detector = METHODS[name]()
    if isinstance(detector, AnomalyDetector):
        detector.random_state = seed
    began = time.perf_counter()
    detector.fit(data.train)
    seconds = time.perf_counter() - began
    found = evaluate(
        detector, data.images, data.labels, kinds=data.kinds, sizes=data.sizes, n_bootstrap=draws
    )
    say(f"  {name}: AUROC {found.auroc:.3f}, accuracy {found.accuracy:.3f}, fit {seconds:.1f} s")
    return detector, found.scores, {"training_seconds": seconds, **found.to_dict()}


def ranked(detector: AnomalyDetector, data: Data, draws: int) -> dict[str, Any]:
    """Every metric and aggregate on what the detector compares."""
    inputs, reconstructions, masks = detector.reconstruct(data.images)
    ranking = rank_metrics(
        inputs,
        reconstructions,
        data.labels,
        masks=masks,
        data_range=detector.data_range_,
        window=detector.window,
        n_bootstrap=draws,
    )
    return {"records": ranking.to_dicts(), "skipped": ranking.skipped}


def kinds_by_size(scores: NDArray[np.float64], data: Data) -> dict[str, list[float | None]]:
    """AUROC of each kind at each class of size, against all good images."""
    scored = ~np.isnan(scores)
    good = scored & (data.labels == 0)
    assert data.kinds is not None
    assert data.sizes is not None
    table = {}
    for kind in sorted(set(data.kinds[data.labels == 1])):
        row: list[float | None] = []
        for low, high in pairwise(SIZE_EDGES):
            bad = scored & (data.kinds == kind) & (low <= data.sizes) & (data.sizes < high)
            both = np.concatenate([scores[good], scores[bad]])
            of_bad = np.repeat([0, 1], [good.sum(), bad.sum()])
            row.append(float(roc_auc_score(of_bad, both)) if bad.any() else None)
        table[kind] = row
    return table


def throughput(detector: AnomalyDetector, images: NDArray[Any]) -> dict[str, float]:
    """Images per second of the whole detector, from pixels to scores, in one batch."""
    batch = images[np.arange(BATCH) % len(images)]
    detector.anomaly_score(batch)
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        detector.anomaly_score(batch)
        seconds.append(time.perf_counter() - began)
    rates = BATCH / np.array(seconds)
    return {
        "median": float(np.median(rates)),
        "least": float(rates.min()),
        "most": float(rates.max()),
    }


def measure(quick: bool, pneumonia: Path | None = None, sets: Path | None = None) -> dict[str, Any]:
    amount = QUICK if quick else FULL
    result: dict[str, Any] = {
        "quick": quick,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
        "load": round(os.getloadavg()[0], 2),
        "amount": asdict(amount),
        "size_edges": SIZE_EDGES,
        "generators": {},
    }
    for name, trial in TRIALS.items():
        say(name)
        result["generators"][name] = tried(trial, amount, amount.seeds)
    if pneumonia is not None:
        say(RADIOGRAPHS)
        trial = Trial(lambda *_: radiographs(pneumonia), (*REAL, FEW_SSIM), (PLAIN,), ())
        result["generators"][RADIOGRAPHS] = tried(trial, amount, amount.deals)
    for path in sorted(sets.glob("*.npz")) if sets is not None else ():
        name = path.stem.replace("_", " ")
        say(name)
        trial = Trial(lambda *_, path=path: product(path), REAL, (), ())
        result["generators"][name] = tried(trial, amount, amount.deals)
    return result


def tried(trial: Trial, amount: Amount, seeds: tuple[int, ...]) -> dict[str, Any]:
    """Judge all methods of a trial on images of every seed."""
    part: dict[str, Any] = {"methods": {method: [] for method in trial.methods}}
    part |= {"detailed": trial.detailed, "ranking": {}, "kinds_by_size": []}
    part["images_per_second"] = {}
    for seed in seeds:
        data = trial.make(amount, seed)
        first = seed == seeds[0]
        for method in trial.methods:
            if method == CONVOLUTIONAL and not first:
                continue  # training it takes minutes
            detector, scores, found = judge(method, data, amount.draws, seed)
            part["methods"][method].append(found)
            if first and method in trial.ranked:
                part["ranking"][method] = ranked(detector, data, amount.draws)
            if method == trial.detailed:
                part["kinds_by_size"].append(kinds_by_size(scores, data))
            if first and method in trial.timed:
                part["images_per_second"][method] = throughput(detector, data.images)
    return part


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.anomaly", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few images; writes to build/ only")
    parser.add_argument(
        "--pneumonia", metavar="FILE", type=Path, help="PneumoniaMNIST 28x28, pneumoniamnist.npz"
    )
    parser.add_argument("--sets", metavar="FOLDER", type=Path, help="images of products, NAME.npz")
    given = parser.parse_args(arguments)
    result = measure(given.quick, given.pneumonia, given.sets)
    numbers, page = anomaly_page.NUMBERS, anomaly_page.PAGE
    if given.quick:
        numbers = ROOT / "build" / "benchmarks" / "anomaly.json"
        page = numbers.with_name("anomaly_results.md")
    numbers.parent.mkdir(parents=True, exist_ok=True)
    numbers.write_text(to_json(result), encoding="utf-8")
    page.write_text(anomaly_page.page(result), encoding="utf-8")
    say(f"wrote {numbers.relative_to(ROOT)} and {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
