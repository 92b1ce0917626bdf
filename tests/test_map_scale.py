"""Maps that end at their own worst value: `map_scale`, both pages and `--map-scale auto`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_files import save
from PIL import Image

import imsim
from imsim import pages
from imsim.cli import main

A = np.random.default_rng(4).integers(90, 110, (48, 40), dtype=np.uint8)
B = A.copy()
B[20:24, 8:12] += 9  # little, against 255
WITH_MAP = [m for m in imsim.METRICS.values() if m.map_function and not m.map_needs_channels]


@pytest.mark.parametrize("metric", WITH_MAP, ids=lambda metric: metric.name)
def test_the_worst_place_is_brightest_and_alike_stays_dark(metric):
    local = metric.map_function(A, B)
    fixed, own = pages.map_scale(metric.name, 255), pages.map_scale(metric.name, 255, local)
    assert own.colours_of(local).reshape(-1, 3).max(axis=0)[1] == 231  # the end of viridis
    assert fixed.colours_of(local).sum() < own.colours_of(local).sum()
    assert own == fixed._replace(high=own.high)
    worst = np.nanargmax(metric.map_dissimilarity(local))
    assert own.high == local.flat[worst]


@pytest.mark.parametrize("metric", WITH_MAP, ids=lambda metric: metric.name)
@pytest.mark.parametrize("empty", [False, True])
def test_where_nothing_differs_rounding_is_not_shown(metric, empty):
    local = metric.map_function(A, A)
    local = np.full_like(local, np.nan) if empty else local
    assert pages.map_scale(metric.name, 255, local) == pages.map_scale(metric.name, 255)


@pytest.mark.parametrize(
    ("write", "stack", "own"),
    [(pages.pair_report, lambda x: x, 7), (pages.volume_report, lambda x: np.stack([x] * 12), 1)],
)
def test_pages_say_which_scale_they_have(write, stack, own):
    fixed, auto = (write(stack(A), stack(B), map_scale=ends) for ends in ("fixed", "auto"))
    assert fixed == write(stack(A), stack(B))
    assert "(map scale: auto)" in auto
    assert "fixed by the data range and the bounds" not in auto
    assert auto.count(">own ") == own
    assert ">own " not in fixed
    with pytest.raises(imsim.OptionError, match=r"map_scale='log'.*'auto'"):
        write(stack(A), stack(B), map_scale="log")


@pytest.mark.usefixtures("empty_directory")
class TestCommand:
    def test_pictures(self, capsys):
        save("x/a.png", A), save("y/a.png", B)
        options = ["--metrics", "ssim,se", "--maps", "maps", "--map-scale", "auto"]
        assert main(["compare", "x", "y", *options]) == 0
        assert "the worst value of each map" in " ".join(capsys.readouterr().out.split())
        local = imsim.ssim_map(A, B)
        with Image.open("maps/a.ssim.png") as picture:
            wanted = pages.map_scale("ssim", 255, local).colours_of(local)
            assert np.array_equal(np.asarray(picture.convert("RGB")), wanted)

    def test_page(self):
        a, b = save("a.png", A), save("b.png", B)
        assert main(["report", a, b, "-o", "page.html", "--map-scale", "auto"]) == 0
        assert "(map scale: auto)" in Path("page.html").read_text(encoding="utf-8")

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ([], "--map-scale auto: is for maps; add --maps DIR"),
            (["--maps", "m", "--map-format", "npy"], "--map-format npy writes numbers"),
        ],
    )
    def test_what_is_refused(self, capsys, options, words):
        a = save("a.png", A)
        assert main(["compare", a, a, "--map-scale", "auto", *options]) == 2
        assert words in capsys.readouterr().err

    def test_a_map_that_is_written_in_strips_has_none(self, capsys):
        a = save("a.npy", np.tile(A, (20, 20)))
        call = ["compare", a, a, "--metrics", "ssim", "--maps", "maps", "--map-scale", "auto"]
        assert main([*call, "--memory", "300kB"]) == 0
        assert "no map of ssim: --map-scale auto needs a map in memory" in capsys.readouterr().err
