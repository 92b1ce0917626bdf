"""Do the metrics rank images as people do?

``python -m benchmarks.human_agreement --data FOLDER`` scores the distorted photographs of the LIVE
database that the folder describes (``scores.csv``, ``ref/``, ``jpeg/``), correlates every metric
with the human scores (DMOS: larger is worse) and writes ``docs/human_agreement.md``.

Correlations are those of ranks (Spearman's rho, Kendall's tau-b), within one viewing session: DMOS
of different sessions are not on one scale. The JPEG images were seen in two sessions; their two
coefficients are averaged with the numbers of images as weights. Intervals are 95 % percentile
bootstrap intervals over the *reference photographs*, since versions of one photograph are not
independent.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage, stats

import imsim
from imsim import METRICS

ROOT = Path(__file__).parents[1]
SECOND_JPEG_SESSION = 117  # the number of its first image
RESAMPLES = 500

# The options that change what is measured, next to the defaults of all metrics; on colour images
# where True, on luma otherwise.
VARIANTS: dict[str, tuple[str, dict[str, object], bool]] = {
    **{name: (name, {}, False) for name in METRICS},
    "ssim, downsample=True": ("ssim", {"downsample": True}, False),
    "fsim, chromatic=True": ("fsim", {"chromatic": True}, True),
    "sam, mode='spectral'": ("sam", {"mode": "spectral"}, True),
}


class View(NamedTuple):
    """One distorted photograph as people saw it."""

    distortion: str
    session: str
    reference: str
    dmos: float
    scores: dict[str, float]


def views(folder: Path) -> Iterator[View]:
    """Make each distorted photograph and score it."""
    rng = np.random.default_rng(0)
    references: dict[str, np.ndarray] = {}
    with (folder / "scores.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name = row["reference"]
            if name not in references:
                references[name] = read(folder / "ref" / f"{name}.png")
            reference = references[name]
            test = distorted(reference, row, folder, rng)
            session = row["distortion"]
            if session == "jpeg":
                session += str(1 + (int(row["live_img_no"]) >= SECOND_JPEG_SESSION))
            yield View(
                row["distortion"], session, name, float(row["dmos"]), scored(reference, test)
            )


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def distorted(
    reference: np.ndarray, row: dict[str, str], folder: Path, rng: np.random.Generator
) -> np.ndarray:
    """Return LIVE's version of the reference, from the parameter it was made with."""
    if row["distortion"] == "jpeg":
        return read(folder / row["file"])
    x, sigma = reference.astype(float), float(row["regenerate_parameter"])
    if row["distortion"] == "gblur":
        # LIVE filtered with zeros around the image.
        x = ndimage.gaussian_filter(x, sigma, truncate=3, mode="constant", axes=(0, 1))
    else:
        x = x + 255 * sigma * rng.standard_normal(x.shape)
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def scored(reference: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """Return the dissimilarity of the two images in every metric and variant."""
    greys = luma(reference), luma(test)
    found = {}
    for label, (name, options, in_colour) in VARIANTS.items():
        pair = (reference, test) if in_colour else greys
        axis = -1 if in_colour else None
        function: Callable[..., float] = METRICS[name].function
        score = function(*pair, data_range=255, channel_axis=axis, **options)
        found[label] = float(METRICS[name].dissimilarity(score))
    return found


def luma(image: np.ndarray) -> np.ndarray:
    """Return ITU-R BT.601 luma, rounded to 8 bits."""
    return np.rint(image @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)


class Agreement(NamedTuple):
    """A coefficient and its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.2f}, {self.high:.2f}]"


Coefficient = Callable[[np.ndarray, np.ndarray], float]
COEFFICIENTS: dict[str, Coefficient] = {
    "Spearman": lambda x, y: float(stats.spearmanr(x, y).statistic),
    "Kendall": lambda x, y: float(stats.kendalltau(x, y).statistic),
}


def agreement(seen: list[View], label: str, coefficient: Coefficient) -> Agreement:
    """Correlate a metric with the human scores, with an interval over the references."""
    references = sorted({view.reference for view in seen})
    of_reference = {r: [v for v in seen if v.reference == r] for r in references}
    rng = np.random.default_rng(0)
    values = []
    for _ in range(RESAMPLES):
        drawn = rng.choice(references, len(references))
        values.append(
            within_sessions([v for r in drawn for v in of_reference[r]], label, coefficient)
        )
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return Agreement(within_sessions(seen, label, coefficient), low, high)


def within_sessions(seen: list[View], label: str, coefficient: Coefficient) -> float:
    """Average the sessions' coefficients, weighted by their numbers of images."""
    total = 0.0
    for session in sorted({view.session for view in seen}):
        part = [view for view in seen if view.session == session]
        x = np.array([view.scores[label] for view in part])
        y = np.array([view.dmos for view in part])
        if np.ptp(x) == 0 or np.ptp(y) == 0:
            return np.nan  # a resample without any order to agree with
        total += len(part) * coefficient(x, y)
    return total / len(seen)


TITLES = {"jpeg": "JPEG", "gblur": "Gaussian blur", "wn": "white noise"}


def page(seen: list[View]) -> str:
    """Write the tables."""
    groups = {kind: [view for view in seen if view.distortion == kind] for kind in TITLES}
    text = [
        "# Do the metrics agree with people?",
        "",
        "<!-- written by `python -m benchmarks.human_agreement`; do not edit -->",
        "",
        f"{len(seen)} distorted versions of {len({v.reference for v in seen})} Kodak photographs "
        "with the human scores of the LIVE Image Quality Assessment Database, release 2 "
        "(H. R. Sheikh, Z. Wang, L. Cormack and A. C. Bovik, "
        "<http://live.ece.utexas.edu/research/quality>): "
        + ", ".join(f"{len(views)} {TITLES[kind]}" for kind, views in groups.items())
        + ". Rank correlation of each metric's dissimilarity with DMOS (both grow with the damage: "
        "1 is full agreement), within a viewing session; in brackets the 95 % bootstrap interval "
        "over the photographs. Metrics see 8-bit luma, unless named as a variant in colour. "
        "Ordered by the mean over the three distortions.",
    ]
    for name, coefficient in COEFFICIENTS.items():
        rows = {
            label: [agreement(views, label, coefficient) for views in groups.values()]
            for label in VARIANTS
        }
        text += ["", f"## {'rho' if name == 'Spearman' else 'tau-b'} ({name})", ""]
        text += [
            f"| metric | {' | '.join(TITLES.values())} | mean |",
            "| --- | --- | --- | --- | --- |",
        ]
        means = {label: float(np.mean([a.value for a in row])) for label, row in rows.items()}
        for label in sorted(rows, key=lambda label: -means[label]):
            cells = " | ".join(map(str, rows[label]))
            text.append(f"| `{label}` | {cells} | {means[label]:.3f} |")
    text += [
        "",
        "What the table does not say: within one kind of distortion nearly every metric ranks the "
        "amounts of it well. Across kinds, where metrics differ most, these scores cannot be "
        "compared, since each kind was seen in sessions of its own.",
        "",
        "`python -m benchmarks.human_agreement --data FOLDER` makes this page from such a folder.",
        "",
    ]
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder with scores.csv")
    parser.add_argument(
        "-o", type=Path, default=ROOT / "docs" / "human_agreement.md", help="the page"
    )
    arguments = parser.parse_args()
    if not (arguments.data / "scores.csv").is_file():
        parser.error(f"{arguments.data} has no scores.csv")
    seen = list(views(arguments.data))
    arguments.o.write_text(page(seen), encoding="utf-8")
    print(f"{imsim.__name__} {imsim.__version__}: {len(seen)} images -> {arguments.o}")


if __name__ == "__main__":
    main()
