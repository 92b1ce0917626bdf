"""`imsim report` of two folders."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from image_files import DEEP, GREY, NOISY, RGB, save
from PIL import Image

from imsim.cli import main
from imsim.pages import Entry, folder, folder_report, readable
from imsim.pages.layers import ImagePair

pytestmark = pytest.mark.usefixtures("empty_directory")


def report(*options, status=0, output="report"):
    assert main(["report", "expected", "actual", "-o", output, *options]) == status


class Rows(HTMLParser):
    """Reads the rows of an index."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[dict[str, str]] = []
        self._into = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag == "tr" and "data-status" in found:
            self.rows.append({"status": found["data-status"], "name": "", "pictures": ""})
        elif self.rows and tag == "a" and "tabindex" not in found:
            self.rows[-1]["page"] = found["href"]
        elif self.rows and "data-accept" in found:
            self.rows[-1]["accept"] = found["data-accept"]
        elif self.rows and tag == "img":
            self.rows[-1]["pictures"] += found["title"][0]
        if tag in ("a", "span", "td", "h2"):
            kind = found.get("class", "name" if tag in ("a", "span") else "")
            self._into = kind if kind in ("name", "why") else ""

    def handle_data(self, data):
        if self.rows and self._into:
            self.rows[-1][self._into] = self.rows[-1].get(self._into, "") + data


def rows(output="report"):
    text = Path(output, "index.html").read_bytes().decode("utf-8")
    return {row["name"]: row for row in Rows(text).rows}


@pytest.fixture
def folders(empty_directory):
    """One pair, or file, of each kind."""
    for folder_name, image in (("expected", GREY), ("actual", NOISY)):
        save(f"{folder_name}/differs.png", image)
        save(f"{folder_name}/same.png", GREY)
        save(f"{folder_name}/menu/stack.npy", np.stack([GREY, image, image]))
        save(f"{folder_name}/deep.png", DEEP)
    save("expected/size.png", GREY)
    save("actual/size.png", GREY[:, :30])
    save("actual/new.png", RGB)
    save("expected/old.png", GREY)
    save("expected/damaged.png", GREY)
    Path("actual/damaged.png").write_bytes(Path("expected/damaged.png").read_bytes()[:50])
    Path("expected/was.png").write_bytes(Path("actual/damaged.png").read_bytes())
    save("actual/was.png", GREY)
    save("expected/kind.png", GREY)
    save("actual/kind.jpg", GREY)
    save("expected/worse.png", GREY)
    save("actual/worse.png", 255 - GREY)
    if sys.platform == "linux":
        os.mkfifo("actual/pipe.png")


def test_every_pair_and_file_has_its_row(folders, capsys):
    report("--fail-under", "ssim=0.5", status=2)
    assert capsys.readouterr().out == "Report: report/index.html\n"
    found = rows()
    assert "SystemError" not in str(found), found
    statuses = {name: row["status"] for name, row in found.items()}
    pipe = {"pipe.png": "could not be scored"} if sys.platform == "linux" else {}
    assert statuses == {
        "damaged.png": "could not be scored",
        "deep.png": "could not be scored",
        "was.png": "could not be scored",
        **pipe,
        "size.png": "failed",
        "worse.png": "failed",
        "new.png": "unmatched",
        "old.png": "unmatched",
        "kind.jpg": "differs",
        "differs.png": "differs",
        "menu/stack.npy[1]": "differs",
        "menu/stack.npy[2]": "differs",
        "menu/stack.npy[0]": "equal",
        "same.png": "equal",
    }
    order = [folder.STATUSES.index(status) for status in statuses.values()]
    assert order == sorted(order)  # the worst first
    assert found["size.png"]["why"] == "size 30x40 against 48x40"
    assert found["worse.png"]["why"].startswith("ssim is -0.")
    assert found["damaged.png"]["why"].startswith("actual/damaged.png: damaged")
    assert found["old.png"]["why"] == "only in expected"
    assert "add --data-range" in found["deep.png"]["why"]
    pictures = {name: row["pictures"] for name, row in found.items()}
    assert pictures["differs.png"] == pictures["size.png"] == "rtd"
    assert (pictures["same.png"], pictures["new.png"], pictures["old.png"]) == ("r", "t", "r")
    accepted = {name: row["accept"] for name, row in found.items() if "accept" in row}
    assert (pictures["deep.png"], pictures["damaged.png"]) == ("rt", "r")  # what can be read
    assert accepted == {
        "deep.png": "deep.png",
        "was.png": "was.png",  # of which the reference is damaged
        "size.png": "size.png",
        "worse.png": "worse.png",
        "new.png": "new.png",
        "differs.png": "differs.png",
        "menu/stack.npy[1]": "menu/stack.npy",
        "menu/stack.npy[2]": "menu/stack.npy",
    }
    linked = {name for name, row in found.items() if "page" in row}
    assert linked == {name for name, s in statuses.items() if s in ("failed", "differs")}
    for name in linked:
        page = Path("report", found[name]["page"]).read_text(encoding="utf-8")
        assert 'href="../index.html"' in page
        assert f"actual/{name} against" in page
    written = {path.name for path in Path("report/pairs").iterdir()}
    assert written == {os.path.basename(found[name]["page"]) for name in linked}
    index = Path("report/index.html").read_text(encoding="utf-8")
    assert "<td>ssim=0.5</td>" in index  # how it was made


def test_the_status_is_that_of_compare(folders, capsys):
    for name in ("damaged.png", "was.png", "deep.png", "pipe.png"):
        Path("actual", name).unlink(missing_ok=True)
        Path("expected", name).unlink(missing_ok=True)
    for options, status in (
        (["--fail-under", "ssim=0.5"], 1),
        (["--fail-over", "rmse=2", "--mask", save("m.png", np.tri(*GREY.shape, dtype=bool))], 1),
    ):
        report(*options, status=status)
        said = capsys.readouterr().err
        assert main(["compare", "expected", "actual", "--metrics", "ssim,psnr,rmse", *options]) == 1
        assert capsys.readouterr().err == said
    report()  # without limits, pairs differ and none fails; sizes that differ are shown
    assert {row["status"] for row in rows().values()} == {"unmatched", "differs", "equal"}
    assert "note: actual/size.png: size 30x40 against 48x40" in capsys.readouterr().err


def test_an_empty_cell_is_explained(empty_directory):
    save("expected/a.png", GREY[:9, :9])
    save("actual/a.png", NOISY[:9, :9])
    report()
    index = Path("report/index.html").read_text(encoding="utf-8")
    assert re.search("ssim: skipped, .*9x9 pixels.*11x11", index)


def test_what_is_left_out_decides(empty_directory):
    changed = GREY.copy()
    changed[2:5, 3:9] ^= 255
    save("expected/a.png", GREY)
    save("actual/a.png", changed)
    report("--ignore", "3,2,6,3")
    assert rows()["a.png"]["status"] == "equal"
    report("--ignore", "0,0,99,99")  # nothing is left that could be equal
    assert rows()["a.png"]["status"] == "could not be scored"
    report("--ignore", "3,2,5,3")
    assert rows()["a.png"]["status"] == "differs"
    report("--metrics", "rmse", "--tolerance", "300", "--fail-over", "pixels=0")
    assert rows()["a.png"]["status"] == "differs"


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux")
@pytest.mark.parametrize(
    "name",
    [
        '<img src=x onerror="a()">.png',
        'it\'s & "so".png',
        "new\nline.png",
        "caf\udce9.png",
        "%2e%2e%2f#?.png",
        "-o.png",
        "a[0].png",
    ],
)
def test_names_are_any_text(name, empty_directory, capsys):
    source = save("x.png", GREY)
    for folder_name, image in (("expected", GREY), ("actual", NOISY)):
        Path(folder_name).mkdir()
        Path(folder_name, name).write_bytes(Path(save(source, image)).read_bytes())
    report()
    ((shown, row),) = rows().items()
    index = Path("report/index.html").read_bytes().decode("utf-8")
    assert "<img src=x" not in index
    assert shown == readable(name)
    assert re.fullmatch(r"pairs/[0-9a-f]{16}\.html", row["page"])
    assert Path("report", row["page"]).is_file()
    assert row["accept"].isprintable()
    said = subprocess.run(
        ["sh", "-c", "printf %s " + row["accept"]], capture_output=True, check=True
    )
    assert main(["accept", "expected", "actual", os.fsdecode(said.stdout), "--dry-run"]) == 0
    assert "1 file would be copied" in capsys.readouterr().out


def test_only_pages_of_a_report_are_replaced_or_removed(folders, capsys):
    report(status=2)
    own = {path.name for path in Path("report/pairs").iterdir()}
    kept = Path("report/pairs/0123456789abcdef.html"), Path("report/notes.txt")
    for path in kept:
        path.write_text("mine", encoding="utf-8")
    Path("actual/differs.png").write_bytes(Path("expected/differs.png").read_bytes())
    report(status=2)
    left = {path.name for path in Path("report/pairs").iterdir()}
    assert left - {kept[0].name} < own
    assert len(left) == len(own)  # one less of its own, and the other one
    assert all(path.read_text(encoding="utf-8") == "mine" for path in kept)
    Path("other").mkdir()
    Path("other/index.html").write_text("<p>mine</p>", encoding="utf-8")
    Path("file").write_text("mine", encoding="utf-8")
    for output, words in (
        ("other", "other: is there, and holds no report"),
        ("file", "file: is a file"),
        ("actual/report", "lies in actual, which is read"),
        ("nowhere/report", "there is no folder"),
        ("-", "is a folder; name one"),
    ):
        report(output=output, status=2)
        assert words in capsys.readouterr().err
    assert os.listdir("other") == ["index.html"]
    Path("begun").mkdir()
    Path("begun/.imsim-0123456789abcdef.part").touch()  # by a run at the same time
    report(output="begun", status=2)
    assert "holds no report" not in capsys.readouterr().err
    assert not Path("actual/report").exists()


def test_volumes_have_a_row_each(empty_directory, capsys, rng):
    volume = rng.integers(0, 256, (5, 12, 14)).astype(np.uint8)
    changed = volume.copy()
    changed[3, 4:7, 5:9] ^= 255
    for name, image in (("same", volume), ("differs", changed), ("size", volume[1:])):
        save(f"expected/{name}.npy", volume)
        save(f"actual/{name}.npy", image)
    save("actual/new.npy", volume)
    mask = np.ones(volume.shape, bool)
    report("--volume", "--metrics", "rmse", "--mask", save("m.npy", mask))
    found = rows()
    statuses = {name: row["status"] for name, row in found.items()}
    assert statuses == {
        "new.npy": "unmatched",
        "size.npy": "differs",
        "differs.npy": "differs",
        "same.npy": "equal",
    }
    assert found["size.npy"]["why"] == "size 14x12x4 against 14x12x5"
    assert {name: row["pictures"] for name, row in found.items()} == {
        "new.npy": "t",
        "size.npy": "rt",
        "differs.npy": "rtd",
        "same.npy": "r",
    }
    assert not any("accept" in row for row in found.values())
    page = Path("report", found["differs.npy"]["page"]).read_text(encoding="utf-8")
    assert 'href="../index.html"' in page
    mask[3] = False  # what differs is left out
    save("m.npy", mask)
    report("--volume", "--metrics", "rmse", "--mask", "m.npy")
    assert rows()["differs.npy"]["status"] == "equal"
    report("--volume", "--metrics", "rmse", "--fail-over", "rmse=1", status=1)
    found = rows()
    assert found["size.npy"]["status"] == found["differs.npy"]["status"] == "failed"
    page = Path("report", found["differs.npy"]["page"]).read_text(encoding="utf-8")
    assert "rmse is " in page


def test_folders_without_any_pair_are_shown(empty_directory, capsys):
    """As before the first references are accepted; that nothing was compared is an error."""
    Path("expected").mkdir()
    save("actual/a.png", GREY)
    report(status=2)
    assert "expected: holds no image" in capsys.readouterr().err
    ((name, row),) = rows().items()
    assert (name, row["status"], row["accept"]) == ("a.png", "unmatched", "a.png")
    save("expected/b.png", GREY)
    report("--fail-under", "ssim=0.5", status=2)
    assert "no image has the name of one" in capsys.readouterr().err
    assert rows().keys() == {"a.png", "b.png"}
    Path("actual/a.png").unlink()
    report(status=2)
    assert rows().keys() == {"actual", "b.png"}
    assert rows()["actual"]["status"] == "could not be scored"
    Path("expected/b.png").unlink()
    report(output="other", status=2)
    assert not Path("other").exists()
    assert main(["report", "expected", "nowhere", "-o", "other"]) == 2
    assert "nowhere: cannot be read: there is no such folder" in capsys.readouterr().err
    assert main(["report", "expected", "-", "-o", "other"]) == 2
    assert "expected: is a folder, and the other is not" in capsys.readouterr().err


def test_an_interrupted_report_says_so_and_can_be_made_again(folders, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("imsim.cli.report.folder_report", lambda *_, **__: 1 / 0)
        report(status=2)
    assert "was interrupted" in Path("report/index.html").read_text(encoding="utf-8")
    report(status=2)
    assert "differs.png" in rows()


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ZeroDivisionError("of a fault"), "could not be shown: ZeroDivisionError: of a fault"),
        (MemoryError(), "too large for the memory of this machine"),
    ],
)
def test_a_pair_that_cannot_be_drawn_does_not_end_the_run(folders, monkeypatch, error, why):
    def thumbnails(pair):
        if (pair.test == 77).all():
            raise error
        return {}

    save("actual/worse.png", np.full_like(GREY, 77))
    monkeypatch.setattr("imsim.cli.report.thumbnails", thumbnails)
    report(status=2)
    found = rows()
    assert why in found["worse.png"]["why"]
    assert found["differs.png"]["status"] == "differs"


def test_small_pictures_are_small(rng):
    noise = rng.integers(0, 256, (2, 512, 300, 3), dtype=np.uint8)  # nothing to compress
    small = folder.thumbnails(ImagePair(*noise, None, None))
    assert small.keys() == {"reference", "test", "difference"}
    for one in small.values():
        assert len(one.content) <= folder.SMALL_BYTES
        assert max(one.width, one.height) <= folder.SMALL_SIDE
    entries = [
        Entry(f"a/rather/long/name/of/an/image{i}.png", "differs", {"ssim": i / 500}, (), (), small)
        for i in range(500)
    ]
    html = folder_report(entries, folders=("expected", "actual"), metrics=["ssim", "psnr"])
    assert len(html) <= 3_000_000


@pytest.mark.parametrize("shape", [(16, 16), (300, 400), (200, 20)])
def test_a_faint_dot_is_in_the_small_difference(shape, rng):
    image = rng.integers(0, 255, (*shape, 1), dtype=np.uint8)
    changed = image.copy()
    changed[shape[0] // 3, shape[1] // 2] += 1
    small = folder.thumbnails(ImagePair(image, changed, None, None))["difference"]
    shown = np.asarray(Image.open(io.BytesIO(small.content)).convert("RGB")).astype(int)
    away = np.abs(shown - np.median(shown.reshape(-1, 3), axis=0)).max(axis=-1)
    assert np.count_nonzero(away) == 1
    assert away.max() > 5


def test_order_within_a_status():
    scores = [0.9, float("nan"), 0.2, 1.0]
    entries = [Entry(f"{i}", "differs", {"ssim": s}) for i, s in enumerate(scores)]
    entries += [Entry("4", "equal", {"ssim": 0.0}), Entry("5", "failed", {"ssim": 1.0})]
    html = folder_report(entries, folders=("a", "b"), metrics=["ssim"])
    assert [row["name"] for row in Rows(html).rows] == ["5", "1", "2", "0", "3", "4"]
    entries = [Entry("few", "failed", {"pixels": 3.0}), Entry("many", "failed", {"pixels": 30.0})]
    html = folder_report(entries, folders=("a", "b"), metrics=["pixels"])
    assert [row["name"] for row in Rows(html).rows] == ["many", "few"]
    assert "nothing to compare" in folder_report([], folders=("a", "b"))
