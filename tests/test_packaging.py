"""What the repository says about itself holds: README and versions."""

from __future__ import annotations

import re
import runpy
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest

import imsim
from imsim import _version, cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_tables_are_current():
    tool = runpy.run_path(str(ROOT / "docs" / "tables.py"))
    for page in tool["TABLES"]:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert tool["with_table"](page, text) == text, "run: python docs/tables.py"


def test_readme_example_runs_and_does_what_its_comments_say(capsys):
    block, *_ = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(block, names)
    whole, masked, shape, batch, _, *table, higher = capsys.readouterr().out.splitlines()
    assert float(whole) < 1
    assert float(masked) == 1
    assert shape == "(512, 512)"
    assert len(np.fromstring(batch.strip("[]"), sep=" ")) == 3
    assert all(any(name in line for line in table) for name in imsim.METRICS)
    assert higher == "False"


@pytest.mark.parametrize("line", re.findall(r"^imsim .*", README, flags=re.MULTILINE))
def test_readme_commands_are_understood(line):
    cli.command_parser().parse_args(shlex.split(line)[1:])


def test_one_version_everywhere():
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "imsim/_version.py"
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.*)$", citation, flags=re.MULTILINE) == [_version.__version__]
    assert re.findall(r"^## \[(\d.*?)\]", changelog, flags=re.MULTILINE)[0] == _version.__version__


def test_the_package_says_that_it_is_typed():
    assert (Path(imsim.__file__).parent / "py.typed").exists()
