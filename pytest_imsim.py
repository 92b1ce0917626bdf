"""The pytest plugin of imsim: two options, and the fixture `image_regression`.

pytest imports this module in every session, before coverage starts and whether or not a test asks
for the fixture. So it lies beside the package and not in it, and imports none of it before.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from imsim.regression import ImageRegression

WRITTEN = "imsim_written"
"""The property of a test that names a reference that it wrote; it travels with the report."""
_stems = pytest.StashKey[Counter[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("imsim", "comparison of images (imsim)")
    group.addoption(
        "--imsim-update",
        action="store_true",
        help="image_regression: write references that are missing or that the images of the tests "
        "no longer meet; not where the variable CI is set",
    )
    group.addoption(
        "--imsim-report",
        metavar="DIR",
        help="image_regression: where pages and images of failed tests go (default: imsim-report "
        "in the root directory of the tests)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to make references where nobody looks at them."""
    on_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    if on_ci and config.getoption("imsim_update"):
        raise pytest.UsageError(
            "--imsim-update writes references that somebody has to look at, and CI is set: "
            "run it by hand, or unset CI"
        )


@pytest.fixture
def image_regression(request: pytest.FixtureRequest) -> ImageRegression:
    """Compare images with references beside the test: ``image_regression.check(image)``."""
    from imsim.errors import OptionError
    from imsim.regression import ImageRegression, named_from

    config, node = request.config, request.node
    folder, stem = _place(node)
    stems = config.stash.get(_stems, None)
    if stems is None:
        own = {item.nodeid: item for item in request.session.items if _uses(item)}
        stems = Counter(_one_case(*_place(item)) for item in own.values())
        config.stash[_stems] = stems
    if stems[_one_case(folder, stem)] > 1:
        raise OptionError(
            f"the references of {node.nodeid} and another test have the name {stem}, but for the "
            "case of letters, which not all file systems tell apart",
            "give the parameters of one of them other ids",
        )
    root, start = config.rootpath, config.invocation_params.dir
    given = config.getoption("imsim_report")
    report = start / given if given else root / "imsim-report"
    inside = folder.relative_to(root if folder.is_relative_to(root) else folder.anchor)
    test = named_from(node.path, start) + node.nodeid[len(node.nodeid.partition("::")[0]) :]
    return ImageRegression(
        folder,
        stem,
        report=report / inside,
        start=start,
        test=test,
        update=config.getoption("imsim_update"),
        written=lambda path: node.user_properties.append((WRITTEN, path)),
    )


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say which references were written, whatever process ran the test."""
    reports = [report for some in terminalreporter.stats.values() for report in some]
    properties = [pair for report in reports for pair in getattr(report, "user_properties", ())]
    paths = dict.fromkeys(path for name, path in properties if name == WRITTEN)
    if paths:
        terminalreporter.section("references written, to be looked at")
        for path in paths:
            terminalreporter.line(path)


def _place(item: pytest.Item) -> tuple[Path, str]:
    """Return the folder of the references of a test, and how their names begin."""
    from imsim.regression import safe_name

    classes = [node.name for node in item.listchain() if isinstance(node, pytest.Class)]
    return item.path.with_suffix(""), safe_name(".".join([*classes, item.name]))


def _one_case(folder: Path, stem: str) -> str:
    return str(folder / stem).casefold()


def _uses(item: pytest.Item) -> bool:
    return "image_regression" in getattr(item, "fixturenames", ())
