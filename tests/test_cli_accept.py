"""`imsim accept`: test images become references."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from image_files import GREY, NOISY, save

from imsim.cli import main
from imsim.pages.page import quoted

pytestmark = pytest.mark.usefixtures("empty_directory")
EXPECTED, ACTUAL = Path("expected"), Path("actual")


@pytest.fixture
def folders(empty_directory):
    """Two pairs that differ, one that is equal, and a new and an old image."""
    for folder in (EXPECTED, ACTUAL):
        (folder / "menu").mkdir(parents=True)
        save(str(folder / "same.png"), GREY)
    for name in ("a.png", "menu/b.png"):
        save(str(EXPECTED / name), GREY)
        save(str(ACTUAL / name), NOISY)
    save(str(ACTUAL / "menu/deep.png"), NOISY)
    (ACTUAL / "new").mkdir()
    save(str(ACTUAL / "new/c.png"), NOISY)
    save(str(EXPECTED / "old.png"), GREY)


def accept(*arguments, status=0):
    assert main(["accept", "expected", "actual", *arguments]) == status


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def changed(before):
    """Return the names of the references that are others than before; none may be gone."""
    after = contents(EXPECTED)
    assert before.keys() <= after.keys()
    assert not [name for name in after if name.endswith(".part")]
    return {name for name, content in after.items() if before.get(name) != content}


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["a.png"], {"a.png"}),
        (["./a.png", "menu//b.png"], {"a.png", "menu/b.png"}),
        (["actual/menu/b.png"], {"menu/b.png"}),  # as a shell completes it
        (["menu/*"], {"menu/b.png", "menu/deep.png"}),
        (["menu"], {"menu/b.png", "menu/deep.png"}),
        (["./new/", "actual/new"], {"new/c.png"}),
        (["*.png"], {"a.png", "menu/b.png", "menu/deep.png", "new/c.png"}),
        (["--all"], {"a.png", "menu/b.png"}),
        (["new/c.png", "same.png"], {"new/c.png"}),
    ],
)
def test_what_is_named_is_copied(names, wanted, folders, capsys):
    before, source = contents(EXPECTED), contents(ACTUAL)
    accept(*names, "--dry-run")
    tried = capsys.readouterr().out
    assert changed(before) == set()
    accept(*names)
    done = capsys.readouterr().out
    assert changed(before) == wanted
    after = contents(EXPECTED)
    assert all(after[name] == source[name] for name in wanted)
    assert contents(ACTUAL) == source
    for name in wanted:
        new = "" if name in before else " (new)"
        line = f"{ACTUAL / name} -> {EXPECTED / name}{new}\n"
        assert line in tried
        assert line in done
    assert f"{len(wanted)} file{'s' if len(wanted) > 1 else ''} would be copied" in tried
    assert ("1 is equal already" in done) == bool({"*.png", "--all", "same.png"} & set(names))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "NAME: there is none"),
        (["a.png", "--all"], "--all: is for every pair"),
        (["nowhere.png"], "nowhere.png: no image in actual fits it"),
        (["old.png"], "old.png: is only in expected; nothing is ever deleted"),
        (["../expected/old.png"], "no image in actual fits it"),
        (["a.png", "damaged.png"], "actual/damaged.png: damaged"),
        (["a.png", "kind.jpg"], "actual/kind.jpg: is of another format than expected/kind.png"),
        (["a.png", "twice.png"], "twice.png: has more than one partner in expected: twice.jpg"),
        (["one.jpg", "one.jpeg"], "expected/one.jpg: 2 files belong there"),
        (["a.png", "new/c.png[0]"], "is one image of new/c.png, which is accepted as a whole"),
        (["a.png", "file/x.png"], "file/x.png: cannot be written: expected/file is no folder"),
        (["a.png", "men"], "men: no image in actual fits it"),
        (["a.png", "."], "no image in actual fits it"),
        (["a.png", ""], "no image in actual fits it"),
    ],
)
def test_one_mistake_and_nothing_is_copied(names, said, folders, capsys):
    save(str(EXPECTED / "damaged.png"), GREY)
    (ACTUAL / "damaged.png").write_bytes((EXPECTED / "damaged.png").read_bytes()[:60])
    save(str(EXPECTED / "kind.png"), GREY)
    save(str(ACTUAL / "kind.jpg"), GREY)
    save(str(ACTUAL / "twice.png"), NOISY)
    for name in ("twice.jpg", "twice.tif", "one.jpg"):
        save(str(EXPECTED / name), GREY)
    (EXPECTED / "file").touch()
    (ACTUAL / "file").mkdir()
    for name in ("file/x.png", "one.jpeg", "one.jpg"):
        save(str(ACTUAL / name), NOISY)
    before = contents(EXPECTED)
    accept(*names, status=2)
    assert said in capsys.readouterr().err
    assert changed(before) == set()


def test_endings_of_one_format_and_permissions(folders):
    save(str(EXPECTED / "p.jpg"), GREY)
    save(str(ACTUAL / "p.jpeg"), NOISY)
    os.chmod(EXPECTED / "p.jpg", 0o604)
    accept("p.jpeg")
    assert (EXPECTED / "p.jpg").read_bytes() == (ACTUAL / "p.jpeg").read_bytes()
    assert (EXPECTED / "p.jpg").stat().st_mode & 0o777 == 0o604
    assert not (EXPECTED / "p.jpeg").exists()


def test_whole_paths_links_to_nothing_and_arrays_with_channels(folders):
    """Which the next comparison reads, with the options that the user has for it."""
    accept(str(Path(ACTUAL, "a.png").absolute()))
    assert (EXPECTED / "a.png").read_bytes() == (ACTUAL / "a.png").read_bytes()
    (EXPECTED / "a.png").unlink()
    (EXPECTED / "a.png").symlink_to("nowhere")
    accept("a.png")
    assert not (EXPECTED / "a.png").is_symlink()
    save(str(EXPECTED / "c.npy"), np.zeros((40, 48, 3)))
    save(str(ACTUAL / "c.npy"), np.ones((40, 48, 3)))
    accept("c.npy")
    assert np.load(EXPECTED / "c.npy").all()


def test_the_first_references(empty_directory):
    EXPECTED.mkdir()
    ACTUAL.mkdir()
    save(str(ACTUAL / "a.png"), GREY)
    accept("*")
    assert contents(EXPECTED) == contents(ACTUAL)


def test_nothing_is_written_outside(folders, capsys):
    """Not through a link to a folder; a link to a file becomes a file, and what it led to stays."""
    elsewhere = Path("elsewhere")
    elsewhere.mkdir()
    shutil.move(EXPECTED / "menu/b.png", elsewhere / "b.png")
    shutil.copy(EXPECTED / "a.png", elsewhere / "a.png")
    (EXPECTED / "menu").rmdir()
    (EXPECTED / "menu").symlink_to(elsewhere.absolute())
    before = contents(elsewhere)
    accept("menu/b.png", status=2)
    assert "lies outside expected, by a link" in capsys.readouterr().err
    os.remove(EXPECTED / "a.png")
    (EXPECTED / "a.png").symlink_to((elsewhere / "a.png").absolute())
    accept("a.png")
    assert not (EXPECTED / "a.png").is_symlink()
    assert (EXPECTED / "a.png").read_bytes() == (ACTUAL / "a.png").read_bytes()
    assert contents(elsewhere) == before


def test_a_name_that_is_there_stands_for_itself(folders):
    for folder, image in ((EXPECTED, GREY), (ACTUAL, NOISY)):
        save(str(folder / "[ab].png"), image)
    before = contents(EXPECTED)
    accept("[ab].png")
    assert changed(before) == {"[ab].png"}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(folders, capsys):
    EXPECTED.chmod(0o555)
    try:
        accept("a.png", status=2)
    finally:
        EXPECTED.chmod(0o755)
    assert "expected/a.png: cannot be written" in capsys.readouterr().err


def test_an_error_on_the_way_leaves_no_part(folders, capsys, monkeypatch):
    def full(source, target):
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    before = contents(EXPECTED)
    monkeypatch.setattr(shutil, "copyfile", full)
    accept("a.png", status=2)
    assert "expected/a.png: cannot be written: No space left" in capsys.readouterr().err
    assert changed(before) == set()


WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=[]), min_size=1).filter(
    lambda text: not text.endswith("\n")  # names of images end in their ending
)


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux")
@given(st.lists(st.one_of(WORDS, st.binary(min_size=1).map(os.fsdecode)), min_size=20, max_size=20))
@example(["it's", '$(touch x) `y` "z" \\0 *', "a\nb.png", "caf\udce9%s.png", "-x", "\x1b[1m", "é "])
def test_a_shell_reads_what_was_quoted(words):
    names = []
    for word in words:
        try:
            name = os.fsencode(word)
        except UnicodeEncodeError:  # a surrogate that stands for no byte
            continue
        if b"\0" not in name and not name.endswith(b"\n"):
            names.append((word, name))
    line = " ".join(quoted(word) for word, _ in names)
    assert line.isprintable()
    print_all = "for w in " + line + "; do printf '%s\\0' \"$w\"; done" if names else ":"
    found = subprocess.run(["sh", "-c", print_all], capture_output=True, check=True).stdout
    assert found.split(b"\0")[:-1] == [name for _, name in names]


def test_equal_pixels_in_other_bytes_are_copied(folders):
    """Bytes decide what is equal already: a file may be written anew for its colour profile."""
    from PIL import Image

    Image.fromarray(np.asarray(GREY)).save(ACTUAL / "same.png", compress_level=0)
    before = contents(EXPECTED)
    accept("same.png")
    assert changed(before) == {"same.png"}
