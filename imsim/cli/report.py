"""`imsim report`: two images on one HTML page, or two folders on many."""

from __future__ import annotations

import argparse
import os
from collections.abc import Generator
from dataclasses import replace
from typing import Any

from imsim._images import file_of, read_picture
from imsim.cli.aligning import add_aligning, max_shift_of
from imsim.cli.folders import is_folder
from imsim.cli.ignoring import IGNORING_HELP, Ignored, add_ignoring
from imsim.cli.jobs import Job
from imsim.cli.judging import add_judging, judged_by
from imsim.cli.maps import add_map_scale
from imsim.cli.measures import parse_options
from imsim.cli.messages import write_exactly
from imsim.cli.options import DataRanges, add_command, add_reading, count, reading_of
from imsim.cli.outcome import Outcome
from imsim.cli.outputs import check_output, is_standard_output
from imsim.cli.pair_scoring import Settings
from imsim.cli.pairing import Failure
from imsim.cli.reading import check_mask_size, mask_of
from imsim.cli.report_folder import hear, report_folder
from imsim.cli.report_pair import Rules, shown
from imsim.cli.scenes import OnDisk
from imsim.cli.volumes import add_volumes, check_volumes
from imsim.errors import ImsimError, OptionError
from imsim.pages import readable
from imsim.whole_files import write_whole, writing_to

METRICS = "ssim,psnr,rmse"
"""Of folders, without --metrics: what most people know, at little cost."""
HELP = f"""\
Show where images differ, on pages that need no network and open in any browser.

REF and TEST are files    one page: both images, their difference, every
                          similarity map and every score. -o names it
REF and TEST are folders  an index of all pairs, the worst first, with small
                          pictures, and a page for each pair that is not equal.
                          -o names the folder: a new one, or one with such a
                          report, which is replaced. Nothing else in it is
                          touched. Files are matched as `imsim compare` does

On the page, one picture is large: a wipe or a flicker between both images, or
their difference. Images of different sizes are aligned at the top left, and
what only one has is marked; --align moves TEST by the shift that fits best. Of
volumes (--volume), the page shows three cuts through the worst place, and
sliders through the rest. On the index, the ticked pairs make a command line of
`imsim accept`, which copies the new references.

{IGNORING_HELP}
Exit status: 0; 2 after any error, such as a damaged file; else 1 if a score is
beyond its --fail-under or --fail-over, or, with these, sizes differ or a file
has no partner.
"""


def add_report(commands: Any) -> None:
    """Add the command with its options."""
    parser = add_command(
        commands, "report", run, "show where images differ, on HTML pages: a pair or folders", HELP
    )
    add = parser.add_argument
    add("reference", metavar="REF", help="the reference: a file, FILE[i] of a stack, or a folder")
    add("test", metavar="TEST", help="what to compare with it, likewise")
    add_reading(parser)
    add_ignoring(parser)
    add_aligning(parser)
    add_volumes(parser)
    add_map_scale(parser)
    add_judging(parser, f"all of the former by default; of folders, {METRICS}")
    add("--workers", metavar="N", type=count, help="threads to use; by default one per CPU")
    add(
        "-o",
        "--output",
        metavar="PLACE",
        required=True,
        help="the page, such as report.html, - being the standard output; of folders, a folder",
    )


def run(arguments: argparse.Namespace) -> Generator[str, None, int]:
    """Write the report and yield where it is, or print the page itself; return the status."""
    check_volumes(arguments)
    both = arguments.reference, arguments.test
    folders = [path for path in both if is_folder(path, arguments.volume)]
    if len(folders) == 1:
        (other,) = (path for path in both if path not in folders)
        if not os.path.exists(other):
            raise OptionError(f"{other}: cannot be read: there is no such folder")
        raise OptionError(
            f"{folders[0]}: is a folder, and the other is not; report takes two images, or two "
            "folders"
        )
    metrics, limits, required = judged_by(arguments, METRICS if folders else None)
    settings = Settings(
        metrics,
        bool(required),
        DataRanges(arguments.data_range),
        Ignored.of(arguments),
        None,
        arguments.volume,
        arguments.spacing,
        OnDisk(map_scale=arguments.map_scale),
        tolerance=arguments.tolerance or 0.0,
        options=parse_options(arguments.option, metrics),
        max_shift=max_shift_of(arguments),
    )
    report = report_folder if folders else _report_pair
    return (yield from report(arguments, Rules(settings, limits, required)))


def _report_pair(arguments: argparse.Namespace, rules: Rules) -> Generator[str, None, int]:
    paths = [arguments.reference, arguments.test, *([arguments.mask] if arguments.mask else [])]
    if arguments.mask and is_folder(arguments.mask, arguments.volume):
        raise OptionError(f"{arguments.mask}: is a folder; the mask of two images is an image")
    printed = is_standard_output(arguments.output)
    check_output(None if printed else arguments.output, paths)
    reading = reading_of(arguments)
    plain = replace(reading, clear_is_no_data=False)
    first = read_picture(paths[0], reading)
    second, *masks = (read_picture(path, plain) for path in paths[1:])
    mask = mask_of(masks[0]) if masks else None
    if mask:
        check_mask_size(mask.pixels, arguments.mask, first)
    outcome = Outcome(rules.settings.metrics, rules.limits, rules.required)
    found = shown(
        Job(
            first.path,
            second.path,
            second.path,
            "",
            os.path.splitext(os.path.basename(file_of(second.path)))[0],
            lambda: (first, second, mask, None),
            lambda: None,
        ),
        rules,
    )
    if isinstance(found, Failure):
        raise ImsimError(found.message)
    html = found.html()
    hear(outcome, found.result)
    status = outcome.end()
    if printed:
        write_exactly(html)
        return status
    with writing_to(arguments.output):
        write_whole(arguments.output, html.encode("utf-8"))
    yield f"Report: {readable(arguments.output)}"
    return status
