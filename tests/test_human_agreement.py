"""The agreement with people: made on a small folder with known answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from benchmarks import human_agreement
from benchmarks.human_agreement import COEFFICIENTS, View, agreement, within_sessions

LEVELS = {"wn": (0.01, 0.03, 0.1), "gblur": (0.6, 1.2, 2.5), "jpeg": (60, 20, 5)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photographs, three kinds of damage, DMOS that grow with it."""
    folder = tmp_path_factory.mktemp("scored")
    (folder / "ref").mkdir()
    (folder / "jpeg").mkdir()
    rows = ["distortion,reference,live_img_no,regenerate_parameter,file,dmos"]
    for name, photo in {"a": data.astronaut()[:96, 150:246], "b": data.coffee()[:96, :96]}.items():
        Image.fromarray(photo).save(folder / "ref" / f"{name}.png")
        for kind, levels in LEVELS.items():
            for step, level in enumerate(levels):
                file = f"jpeg/{name}{level}.jpg" if kind == "jpeg" else ""
                if file:
                    Image.fromarray(photo).save(folder / file, quality=level)
                number = 117 if name == "b" else 1  # of the second session, for JPEG
                rows.append(f"{kind},{name},{number},{level},{file},{20 * step + 10}")
    (folder / "scores.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def seen(folder: Path) -> list[View]:
    return list(human_agreement.views(folder))


def test_every_metric_follows_the_amount_of_noise(seen: list[View]) -> None:
    for reference in "ab":
        part = [v for v in seen if v.distortion == "wn" and v.reference == reference]
        for label in ("psnr", "ssim", "fsim", "gmsd", "imed", "fsim, chromatic=True"):
            assert within_sessions(part, label, COEFFICIENTS["Spearman"]) == pytest.approx(1)


def test_sessions_are_ranked_apart(seen: list[View]) -> None:
    """A shift of one session's DMOS changes no coefficient."""
    jpeg = [view for view in seen if view.distortion == "jpeg"]
    assert {view.session for view in jpeg} == {"jpeg1", "jpeg2"}
    shifted = [v._replace(dmos=v.dmos + 50) if v.session == "jpeg2" else v for v in jpeg]
    for coefficient in COEFFICIENTS.values():
        assert within_sessions(jpeg, "ssim", coefficient) == pytest.approx(
            within_sessions(shifted, "ssim", coefficient)
        )


def test_interval_holds_the_value(seen: list[View], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(human_agreement, "RESAMPLES", 20)
    blur = [view for view in seen if view.distortion == "gblur"]
    found = agreement(blur, "sre", COEFFICIENTS["Spearman"])
    assert found.low <= found.value <= found.high


def test_page_names_every_metric(seen: list[View], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(human_agreement, "RESAMPLES", 5)
    text = human_agreement.page(seen)
    assert all(text.count(f"| `{label}` |") == 2 for label in human_agreement.VARIANTS)
    # A hash of 8 x 8 cells need not notice JPEG at all; then there is no order to agree with.
    assert "nan" not in "".join(line for line in text.splitlines() if "`sh`" not in line)


def test_blur_has_zeros_around_the_image(seen: list[View]) -> None:
    row = {"distortion": "gblur", "regenerate_parameter": "2"}
    grey = np.full((32, 32, 3), 200, np.uint8)
    blurred = human_agreement.distorted(grey, row, Path(), np.random.default_rng(0))
    assert blurred[16, 16, 0] == 200
    assert blurred[0, 16, 0] < 130
