"""Files that are written whole or not at all, by everything that replaces files."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import imsim
from imsim._images import write_png
from imsim._images.map_files import take_place
from imsim.anomaly import storage
from imsim.cli import main
from imsim.errors import ImsimError
from imsim.regression import ImageRegression
from imsim.whole_files import replacing, write_whole, writing_to


def _model(folder: Path) -> Path:
    storage.write(folder / "model", "Thing", {}, {"x": np.ones(3)})
    return folder / "model"


def _images(folder: Path) -> None:
    for side in ("reference", "test"):
        (folder / side).mkdir(exist_ok=True)
        write_png(folder / side / "a.png", np.full((16, 16), len(side), np.uint8))


def _map(folder: Path) -> Path:
    _images(folder)
    names = [str(folder / side / "a.png") for side in ("reference", "test")]
    assert main(["compare", *names, "--metrics", "se", "--maps", str(folder / "maps")]) == 0
    return folder / "maps" / "a.se.png"


def _page(folder: Path) -> Path:
    _images(folder)
    names = [str(folder / side) for side in ("reference", "test")]
    assert main(["report", *names, "-o", str(folder / "report")]) == 0
    return folder / "report" / "index.html"


def _accepted(folder: Path) -> Path:
    _images(folder)
    names = [str(folder / side) for side in ("reference", "test")]
    assert main(["accept", *names, "--all"]) == 0
    return folder / "reference" / "a.png"


WRITERS = (_model, _map, _page, _accepted)


@pytest.mark.parametrize("write", WRITERS)
def test_permissions_stay_and_no_part_does(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    path = write(tmp_path)
    path.chmod(0o600)
    before = path.stat().st_ino
    (tmp_path / "kept").hardlink_to(path)  # or a new file may get the number
    assert write(tmp_path) == path
    assert path.stat().st_ino != before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not [name for name in tmp_path.rglob("*") if name.suffix == ".part"]


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def write() -> None:
        with replacing(path) as new:
            Path(new).write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_link_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("old")
    (tmp_path / "a").symlink_to("other")
    with replacing(tmp_path / "a") as new:
        Path(new).write_text("new")
    assert (tmp_path / "other").read_text() == "old"
    assert not (tmp_path / "a").is_symlink()
    assert (tmp_path / "a").read_text() == "new"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    end = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with replacing(tmp_path / "pipe") as new:
        Path(new).write_text("new")
    assert os.read(end, 9) == b"new"
    os.close(end)
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.parametrize("is_old", [False, True])
def test_a_folder_of_zarr_takes_the_place_of_one(tmp_path: Path, is_old: bool) -> None:
    zarr = pytest.importorskip("zarr")
    path = str(tmp_path / "a.zarr")
    if is_old:
        zarr.create_array(path, shape=(3,), dtype="f4")

    def write(length: int) -> None:
        with replacing(path, take_place) as new:
            zarr.create_array(new, shape=(length,), dtype="f4")
            if length == 5:
                raise KeyboardInterrupt

    write(4)
    assert zarr.open(path).shape == (4,)
    with pytest.raises(KeyboardInterrupt):
        write(5)
    assert os.listdir(tmp_path) == ["a.zarr"]
    assert zarr.open(path).shape == (4,)


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "a"
    words = r"nowhere.a: cannot be written: No such file"
    with pytest.raises(ImsimError, match=words), writing_to(path), replacing(path) as new:
        Path(new).write_text("new")


def _table(path: Path) -> None:
    imsim.compare([[1.0, 2.0]], [[[1.0, 3.0]], [[2.0, 2.0]]], ["se"]).to_csv(path)


def _pair_page(path: Path) -> None:
    _images(path.parent)
    names = [str(path.parent / side / "a.png") for side in ("reference", "test")]
    assert main(["report", *names, "--metrics", "se", "-o", str(path)]) in (0, 2)


def _junit(path: Path) -> None:
    _images(path.parent)
    names = [str(path.parent / side) for side in ("reference", "test")]
    assert main(["compare", *names, "--metrics", "se", "--junit", str(path)]) in (0, 2)


def _expected(path: Path) -> None:
    ImageRegression(
        path.parent,
        path.stem,
        report=path.parent / "report",
        start=path.parent,
        test="a test",
        update=True,
        written=print,
    ).check(np.full((16, 16), 7, np.float32))


NAMED = {"a.csv": _table, "a.html": _pair_page, "a.xml": _junit, "a.npy": _expected}
"""What writes a file that somebody named."""


@pytest.mark.parametrize("name", NAMED)
def test_a_named_file_is_never_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(b"old")
    put = Path.write_bytes

    def full(where: Path, content: bytes) -> int:
        put(where, content[: len(content) // 2])
        if content:
            raise OSError(errno.ENOSPC, "No space left on device")
        return 0

    monkeypatch.setattr(Path, "write_bytes", full)
    with suppress(ImsimError):
        NAMED[name](path)
    assert path.read_bytes() in (b"", b"old")
    assert not list(tmp_path.glob("*.part"))
    monkeypatch.undo()
    NAMED[name](path)
    assert len(path.read_bytes()) > 9


@pytest.mark.parametrize("name", NAMED)
def test_a_named_file_that_is_a_link_stays_one(tmp_path: Path, name: str) -> None:
    (tmp_path / "real").write_bytes(b"")
    (tmp_path / name).symlink_to("real")
    NAMED[name](tmp_path / name)
    assert (tmp_path / name).is_symlink()
    assert (tmp_path / "real").read_bytes()


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV])
def test_a_file_that_is_mounted_by_itself_is_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def replace(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", replace)
    before = path.stat().st_ino
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    with replacing(path) as new:
        Path(new).write_bytes(b"newer")
    assert path.read_bytes() == b"newer"
    assert path.stat().st_ino == before
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("write", WRITERS)
def test_whatever_is_mounted_by_itself_is_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], Path]
) -> None:
    path = write(tmp_path)
    before, replace = path.stat().st_ino, os.replace

    def mounted(new: str, old: str) -> None:
        if Path(old) == path:
            raise OSError(errno.EBUSY, "Device or resource busy")
        replace(new, old)

    monkeypatch.setattr(os, "replace", mounted)
    os.utime(path, (1, 1))
    assert write(tmp_path) == path
    assert path.stat().st_ino == before
    assert path.stat().st_mtime > 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no such device")
def test_devices_are_written_to() -> None:
    write_whole(os.devnull, b"new")
    with pytest.raises(OSError, match="No space left"):
        write_whole("/dev/full", b"new")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_a_file_in_a_folder_that_takes_no_new_files_is_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    put = Path.write_bytes

    def refusing(where: Path, content: bytes) -> int:
        if where != path:
            raise PermissionError(errno.EACCES, "Permission denied")
        return put(where, content)

    monkeypatch.setattr(Path, "write_bytes", refusing)
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_file_that_must_not_be_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o400)
    before = path.stat().st_ino
    monkeypatch.setattr(os, "access", lambda *_: False)
    with suppress(PermissionError):  # the superuser may
        write_whole(path, b"new")
    assert path.stat().st_ino == before


@pytest.mark.parametrize("path", [3.5, ["scores.csv"], b"scores.csv", "scores\0.csv"])
def test_what_is_no_name_of_a_file(path: Any) -> None:
    scores = imsim.compare([[1.0, 2.0]], [[1.0, 3.0]], ["se"])
    with pytest.raises(imsim.OptionError, match=r"path=.*; expected the name of a file"):
        scores.to_csv(path)
