"""What a release is made with holds: addresses, the workflow, the recipe for conda-forge."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import pytest
import yaml

from imsim._version import __version__

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(TEXT)["project"]
ADDRESS = runpy.run_path(str(ROOT / ".ci" / "address.py"))
HOST = "https://host.example/owner/imsim"
PYTHONS = [c.split()[-1] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]


def loaded(path: str):
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_links_of_the_readme_lead_to_the_files_of_the_tag():
    text = ADDRESS["with_links"](README, HOST, "v1.2.3")
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert [link for link in links if not link.startswith("https://")] == []
    ours = [link for link in links if link.startswith(HOST)]
    assert f"{HOST}/raw/v1.2.3/docs/pictures/first.png" in ours
    assert len(ours) > 10
    for link in ours:
        match = re.fullmatch(rf"{HOST}/(?:raw|blob)/v1\.2\.3/([^#]*)(?:#.*)?", link)
        assert match, link
        assert (ROOT / match[1]).exists(), link
    assert ADDRESS["with_links"](text, HOST, "v1.2.3") == text


def test_the_metadata_get_addresses():
    urls = tomllib.loads(ADDRESS["with_urls"](TEXT, HOST, "v1.2.3"))["project"]["urls"]
    if "urls" in PROJECT:  # the project says where it is; nothing is added
        assert urls == PROJECT["urls"]
        citation = loaded("CITATION.cff")
        assert citation["repository-code"] in urls.values()
    else:
        assert urls.keys() == {"Source", "Documentation", "Changelog", "Issues"}
        assert all(url.startswith(HOST) for url in urls.values())
    assert all(url.startswith("https://") for url in urls.values())


def test_a_tag_is_that_of_the_version():
    ADDRESS["check_tag"](f"v{__version__}")
    for tag in (__version__, "v9.9.9", "v"):
        with pytest.raises(SystemExit, match="is not v and the version"):
            ADDRESS["check_tag"](tag)


def test_the_workflow_publishes_what_was_tried_on_every_python():
    jobs = loaded(".github/workflows/release.yml")["jobs"]
    assert set(jobs["publish"]["needs"]) == {"try", "test"}
    assert jobs["try"]["needs"] == jobs["test"]["needs"] == "build"
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["try"]["strategy"]["matrix"]["python"] == PYTHONS
    assert jobs["try"]["strategy"]["matrix"]["kind"] == ["whl", "tar.gz"]
    commands = " ".join(step.get("run", "") for job in jobs.values() for step in job["steps"])
    assert "secrets." not in commands
    for script in re.findall(r"\.ci/\w+(?:\.py)?", commands):
        assert (ROOT / script).exists(), script


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")))
def test_templates_ask_for_something(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert form["name"]
    assert form["description"]
    assert any(part.get("validations", {}).get("required") for part in form["body"])
    assert all(part["attributes"]["label"] for part in form["body"])


def test_the_recipe_is_that_of_the_project():
    recipe = loaded("recipe/recipe.yaml")
    assert recipe["context"] == {
        "name": PROJECT["name"],
        "version": __version__,
        "python_min": PROJECT["requires-python"].removeprefix(">="),
    }
    python, *run = recipe["requirements"]["run"]
    assert python == "python >=${{ python_min }}"
    assert run == [re.sub(r"([<>=~!])", r" \1", text, count=1) for text in PROJECT["dependencies"]]
    build = tomllib.loads(TEXT)["build-system"]["requires"]
    assert [text.replace(" ", "") for text in recipe["requirements"]["host"][2:]] == build
    entries = [f"{name} = {target}" for name, target in PROJECT["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == entries
    about = {"summary": PROJECT["description"], "license": PROJECT["license"]}
    assert about.items() <= recipe["about"].items()
    assert [recipe["about"]["license_file"]] == PROJECT["license-files"]
