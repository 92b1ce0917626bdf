"""`imsim anomaly score --scheduler`: the rows of a run here, by the workers of a cluster."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clusters import workers
from image_files import save

from imsim.anomaly import AnomalyDetector, ItemDetector
from imsim.anomaly.report import Writer
from imsim.cli import main
from imsim.cli.anomaly import score as home
from imsim.cli.anomaly.pictures import Shown

pytest.importorskip("distributed")
pytestmark = pytest.mark.usefixtures("empty_directory")
RNG = np.random.default_rng(11)


@pytest.fixture(scope="module")
def address():
    with workers(1) as found:  # two, in test_cli_fleet.py
        yield found.scheduler_address


def textures(number, side=24):
    return RNG.integers(90, 160, (number, side, side)).astype(np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A detector of textures, in a file."""
    path = str(tmp_path_factory.mktemp("model") / "m.safetensors")
    detector = AnomalyDetector(metric="se", preprocess=None, random_state=0)
    detector.fit(textures(20) / 255).save(path)
    return path


@pytest.fixture
def images(empty_directory):
    """Good ones and bad ones; a stack, one that is damaged, and one that is not looked for."""
    for i, pixels in enumerate(textures(6) / 255):
        save(f"in/{i}.npy", pixels)
    stack = textures(40) / 255
    stack[7, 4:12, 4:12] = 5.0
    save("in/stack.npy", stack)
    save("in/tiny.npy", stack[0, :3, :3])
    Path("in/damaged.png").write_bytes(b"damaged")
    Path("in/other.bmp").write_bytes(b"BM")
    return "in"


def score(*arguments, status):
    assert main(["anomaly", "score", *arguments]) == status


def both(capsys, address, *arguments, status, form="csv"):
    """Run here and there, and expect the same rows, messages and summaries."""
    found = []
    for name, more in (("here", []), ("there", ["--scheduler", address])):
        score(*arguments, "-o", f"{name}.{form}", *more, status=status)
        head, *rows = Path(f"{name}.{form}").read_text().splitlines()
        said = [
            sorted(text.replace(f"{name}.{form}", "x").splitlines()) for text in capsys.readouterr()
        ]
        found.append((head, sorted(rows), *said))
    assert found[0] == found[1]
    return found[0][1]


@pytest.mark.parametrize("form", ["csv", "json"])
def test_the_rows_are_those_of_a_run_here(capsys, address, model, images, form):
    rows = both(capsys, address, model, images, status=2, form=form)
    assert len(rows) == 49
    assert sum("anomaly" in row.replace("anomaly_score", "") for row in rows) > 0


def test_resume(capsys, address, model, images):
    score(model, images, "-o", "o.csv", status=2)
    text = Path("o.csv").read_text().splitlines(keepends=True)
    whole = sorted(text[1:])
    kept = [line for line in text if "stack.npy[1" in line or "3.npy" in line]
    Path("o.csv").write_text("".join(text[:1] + kept))
    score(model, images, "-o", "o.csv", "--resume", "--scheduler", address, status=2)
    assert sorted(Path("o.csv").read_text().splitlines(keepends=True)[1:]) == whole


def test_flat_fields_and_threads(capsys, address, model):
    save("in/a.npy", 0.5 * textures(3) / 255)
    save("flat.npy", np.full((24, 24), 0.5))
    both(capsys, address, model, "in", "--flat", "flat.npy", "--workers", "2", status=0)


def test_items(capsys, address):
    """Rows of several items in an image, and of images without one."""
    rows, columns = np.mgrid[:50, :90]

    def frame(*places):
        image = RNG.normal(40, 2, (50, 90))
        for y, x in places:
            image[np.hypot(rows - y, columns - x) < 11] += 100
        return image

    good = [frame((20, 20), (30, 45), (20, 70)) for _ in range(8)]
    ItemDetector(AnomalyDetector(preprocess=None)).fit(good).save("items.safetensors")
    save("in/a.npy", np.stack(good[:3])), save("in/b.npy", frame())
    found = both(capsys, address, "items.safetensors", "in", status=2)
    assert len(found) == 10


def test_reports_and_maps(capsys, address, model, images, monkeypatch):
    """What they show is read here, in the order of the files."""
    pytest.importorskip("matplotlib", reason="reports draw")
    save("in/3.npy", np.where(np.eye(24) > 0, 5.0, np.load("in/3.npy")))
    monkeypatch.setattr(Writer, "figure", lambda *_: "")
    pages, maps = [], []
    for place, more in (("here", []), ("there", ["--scheduler", address])):
        shown = ["--report", f"{place}_page", "--maps", f"{place}_maps", "--maps-as", "npy"]
        score(model, images, *shown, *more, status=2)
        text = Path(f"{place}_page/inspection.html").read_text()
        pages.append(text[text.index('class="sortable"') :].split("</tbody>")[0])
        maps.append({path.name for path in Path(f"{place}_maps").iterdir()})
    assert maps[0] == maps[1]
    assert maps[0] >= {"3.npy.se.npy", "stack.npy[7].se.npy"}
    assert pages[0] == pages[1]
    assert "x 4 to" in pages[0]  # the place of a reject
    assert "is not shown" not in capsys.readouterr().err


def test_an_image_that_is_gone_is_not_shown(capsys, address, model, monkeypatch):
    save("in/a.npy", np.full((24, 24), 5.0)), save("in/b.npy", np.full((24, 24), 5.0))
    again = Shown.again

    def late(self, rows, pictures):
        Path("in/a.npy").unlink()
        again(self, rows, pictures)

    monkeypatch.setattr(Shown, "again", late)
    score(model, "in", "--scheduler", address, "--maps", "maps", status=0)
    assert "note: in/a.npy: is not shown, since it cannot be read here" in capsys.readouterr().err
    assert [path.name for path in Path("maps").iterdir()] == ["b.npy.se.png"]


def test_what_workers_cannot_do(capsys, address, model, monkeypatch):
    save("in/a.npy", textures(1)[0] / 255)
    score(model, "-", "--scheduler", address, status=2)
    assert "-: is the standard input of this machine" in capsys.readouterr().err
    score(model, "in", "--scheduler", "nonsense", "-o", "o.csv", status=2)
    err = capsys.readouterr().err
    assert "--scheduler nonsense: cannot be reached" in err
    assert "0 rows are in o.csv, --resume goes on" in err


def test_another_model_on_a_worker(capsys, address, model, monkeypatch):
    save("in/a.npy", textures(1)[0] / 255)
    work = home.Run
    monkeypatch.setattr(home, "Run", lambda m, sha, *more: work(m, "0" * 64, *more))
    score(model, "in", "--scheduler", address, status=2)
    assert "m.safetensors: is another file there; copy the model" in capsys.readouterr().err
