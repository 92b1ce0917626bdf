"""`imsim report`: two images on one HTML page."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator

from imsim._images import as_mask, read_picture
from imsim.cli.jobs import Mask, check_alike, check_mask_size
from imsim.cli.outputs import check_data_range, check_output
from imsim.cli.scoring import option_notes
from imsim.cli.terminal import patience, say
from imsim.errors import DataRangeError, ImsimError, OptionError


def run(arguments: argparse.Namespace) -> Iterator[str]:
    """Write the page and yield where it is."""
    from imsim.pages import pair_report

    check_data_range(arguments.data_range)
    paths = [arguments.reference, arguments.test, *([arguments.mask] if arguments.mask else [])]
    for path in paths:
        if os.path.isdir(path):
            raise OptionError(
                f"{path}: is a folder; report takes two images, and `imsim compare` takes folders"
            )
    check_output(arguments.output, paths)
    reference, test, *masks = map(read_picture, paths)
    check_alike(reference, test)
    mask = Mask(masks[0], as_mask(masks[0])) if masks else None
    if mask:
        check_mask_size(mask.pixels, arguments.mask, reference)
    if arguments.data_range is None and test.pixels.dtype not in ("uint8", "bool"):
        raise DataRangeError(
            f"{test.path}: is {test}; add --data-range "
            "(65535 for full 16-bit images, 4095 for those of a 12-bit camera)"
        )
    notes = [
        f"{picture.path}: {note}" for picture in (reference, test, *masks) for note in picture.notes
    ]
    for name, note in option_notes(reference, test, mask, arguments.data_range):
        notes.append(f"{name}: {note}")
    notes = list(dict.fromkeys(notes))  # the same image may be given twice
    for note in notes:
        say(f"note: {note}")
    with patience():
        html = pair_report(
            reference.pixels,
            test.pixels,
            mask=mask and mask.pixels,
            data_range=arguments.data_range,
            channel_axis=reference.channel_axis,
            names=(reference.path, test.path),
            notes=notes,
        )
    try:
        with open(arguments.output, "w", encoding="utf-8") as file:
            file.write(html)
    except OSError as error:
        raise ImsimError(f"{arguments.output}: cannot be written: {error.strerror}") from error
    yield f"Report: {arguments.output}"
