"""`imsim accept`: test images become references, for changes that are right."""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from imsim._images import ImageFile, Reading, without_index
from imsim.cli.options import add_command
from imsim.cli.outputs import say
from imsim.cli.pairing import Folder, is_folder
from imsim.errors import ImsimError, OptionError
from imsim.pages import readable
from imsim.whole_files import replacing, writing_to

HELP = """\
Copy the named images of ACTUAL over their partners in EXPECTED, once a person
has looked at them, as on the pages of `imsim report EXPECTED ACTUAL -o DIR`.

NAME is the path of an image or a folder below ACTUAL, or a pattern such as
'menu/*.png', whose * also goes over folders; a name that is there as it is
stands for itself.
New images, without a partner in EXPECTED, are copied if they are named or fit a
pattern. --all stands for every image that has a partner. Files are matched as
`imsim compare` does. Images whose files are equal to the last byte stay.

Everything is checked before anything is copied: each NAME fits something, each
image can be read, and each file lies in EXPECTED itself, not where a link leads
to. An image of another format than its partner, as a.jpg for a.png, is refused:
remove the old one first, and the new one has no partner. Each file is replaced
at once, so that it is never half written. Nothing is ever deleted.

Exit status: 0; 2 after any error.
"""
_FORMATS = ({".jpg", ".jpeg"}, {".tif", ".tiff"})
"""Endings of one format."""
_MEMORY = 2**28
"""Bytes of an image above which its pixels are not all read to check it."""


class Copy(NamedTuple):
    """A file, and the place where it belongs."""

    source: str
    target: str
    is_new: bool


def add_accept(commands: Any) -> None:
    """Add the command with its options."""
    parser = add_command(commands, "accept", run, "make test images the new references", HELP)
    add = parser.add_argument
    add("expected", metavar="EXPECTED", help="the folder of references")
    add("actual", metavar="ACTUAL", help="the folder of test images")
    add("names", metavar="NAME", nargs="*", help="what to accept: paths below ACTUAL, or *")
    add("--all", action="store_true", help="accept every image that has a partner")
    add("--dry-run", action="store_true", help="say what would be copied, and copy nothing")


def run(arguments: argparse.Namespace) -> Generator[str, None, int]:
    """Copy files, yield the name of each, and return the exit status."""
    if not (arguments.names or arguments.all):
        raise OptionError(
            "NAME: there is none; name the images to accept, or give --all for every pair "
            "(--dry-run says what that is)"
        )
    if arguments.names and arguments.all:
        raise OptionError("--all: is for every pair; leave out the names, or --all")
    for folder in (arguments.expected, arguments.actual):
        if not is_folder(folder, volumes=False):
            raise OptionError(f"{folder}: is no folder of images; accept takes two folders")
    copies, wrong = _chosen(arguments)
    same = [copy for copy in copies if not copy.is_new and _equal(copy)]
    copies = [copy for copy in copies if copy not in same]
    wrong += [problem for copy in copies for problem in _problems(copy, arguments.expected)]
    twice = Counter(copy.target for copy in copies)
    wrong += [f"{place}: {n} files belong there; name one" for place, n in twice.items() if n > 1]
    for problem in wrong:
        say(f"error: {problem}")
    if wrong:
        say("nothing was copied")
        return 2
    for copy in copies:
        if not arguments.dry_run:
            _copy(copy)
        new = " (new)" if copy.is_new else ""
        yield f"{readable(copy.source)} -> {readable(copy.target)}{new}"
    done = "would be copied" if arguments.dry_run else "copied"
    equal = f"; {len(same)} {'is' if len(same) == 1 else 'are'} equal already" if same else ""
    yield f"{len(copies)} {'file' if len(copies) == 1 else 'files'} {done}{equal}"
    return 0


def _chosen(arguments: argparse.Namespace) -> tuple[list[Copy], list[str]]:
    """Return what the names stand for, and what is wrong with them."""
    expected, actual = Folder(arguments.expected), Folder(arguments.actual)
    names: dict[str, None] = {}
    wrong = []
    if arguments.all:
        names = {name: None for name in actual.names if expected.partners(name)}
    for given in arguments.names:
        fitting = _fitting(given, actual)
        if not fitting:
            wrong.append(f"{given}: {_why_none(given, expected, actual)}")
        names |= dict.fromkeys(fitting)
    copies = []
    for name in names:
        partners = expected.partners(name)
        if len(partners) > 1:
            several = ", ".join(partners)
            wrong.append(f"{name}: has more than one partner in {expected.root}: {several}")
            continue
        target = expected.path(partners[0] if partners else name)
        copies.append(Copy(actual.path(name), target, not partners))
    return copies, wrong


def _fitting(given: str, actual: Folder) -> list[str]:
    """Return the images that a name stands for: one, those of a folder, or those of a pattern."""
    places = [given, os.path.normpath(given)]
    with suppress(ValueError):  # there is none from one drive to another
        places.append(os.path.relpath(given, actual.root))  # as a shell fills it in
    for place in places:
        if place in actual.names:
            return [place]
    folders = tuple(os.path.join(place, "") for place in places[1:])
    inside = [own for own in actual.names if own.startswith(folders)]
    return inside or [own for own in actual.names if fnmatchcase(own, given)]


def _why_none(given: str, expected: Folder, actual: Folder) -> str:
    if os.path.normpath(given) in expected.names:
        return f"is only in {expected.root}; nothing is ever deleted"
    file, index = without_index(given)
    if index is not None and file in actual.names:
        return f"is one image of {file}, which is accepted as a whole: name the file"
    return f"no image in {actual.root} fits it"


def can_replace(reference: str, test: str | None) -> bool:
    """Tell whether a test image is, or lies in, a file of the format of its reference."""
    files = [without_index(path)[0] for path in (reference, test) if path is not None]
    endings = {os.path.splitext(file)[1].lower() for file in files}
    one_format = len(endings) == 1 or any(endings <= known for known in _FORMATS)
    return test is not None and one_format and os.path.isfile(files[1])


def _problems(copy: Copy, expected: str) -> Iterator[str]:
    """Yield why a file must not be copied."""
    if os.path.isdir(copy.source):
        yield f"{copy.source}: is a folder; copy it yourself"
        return
    place, inside = os.path.realpath(os.path.dirname(copy.target)), os.path.realpath(expected)
    if os.path.commonpath([place, inside]) != inside:
        yield f"{copy.target}: lies outside {expected}, by a link; copy it yourself"
    if not can_replace(copy.target, copy.source):
        yield (
            f"{copy.source}: is of another format than {copy.target}; remove that first, and it is "
            "accepted as a new one"
        )
    above = os.path.dirname(copy.target)
    while above and not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above or os.curdir):
        yield f"{copy.target}: cannot be written: {above} is no folder"
    elif not os.access(above or os.curdir, os.W_OK):
        yield f"{copy.target}: cannot be written: {above or os.curdir} is write-protected"
    # An array that may have channels is one to those who name them.
    problems = [_problem(copy.source, axis) for axis in (None, -1)]
    if all(problems):
        yield str(problems[0])


def _problem(path: str, channel_axis: int | None) -> str | None:
    """Say why the images of a file cannot be read."""
    try:
        with ImageFile(path, Reading(memory=_MEMORY, channel_axis=channel_axis)) as file:
            for index in range(len(file)):
                file.read(index)
    except ImsimError as error:
        return str(error)
    return None


def _equal(copy: Copy) -> bool:
    """Tell whether both files are equal to the last byte; a damaged one may differ."""
    try:
        return filecmp.cmp(copy.source, copy.target, shallow=False)
    except OSError:
        return False


def _copy(copy: Copy) -> None:
    with writing_to(copy.target):
        os.makedirs(os.path.dirname(copy.target), exist_ok=True)
        with replacing(copy.target) as new:
            shutil.copyfile(copy.source, new)
