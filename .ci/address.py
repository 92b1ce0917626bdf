"""Write where the project is hosted into a checkout that is to be released.

usage: python .ci/address.py https://HOST/OWNER/NAME vVERSION

The repository names no host, so that a copy of it anywhere is whole. A package index needs one:
addresses in the metadata, and links of README.md that do not lead into the index itself.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(!?)(\[[^\]]*\])\((?!https?:|mailto:|#)([^)\s]+)\)")


def with_links(readme: str, address: str, tag: str) -> str:
    """Let links and pictures lead to the files of a tag."""

    def absolute(link: re.Match[str]) -> str:
        kind = "raw" if link[1] else "blob"
        return f"{link[1]}{link[2]}({address}/{kind}/{tag}/{link[3]})"

    return LINK.sub(absolute, readme)


def with_urls(project: str, address: str, tag: str) -> str:
    """Add the addresses to the metadata, unless they are there."""
    if "[project.urls]" in project:
        return project
    urls = (
        "[project.urls]\n"
        f'Source = "{address}"\n'
        f'Documentation = "{address}/blob/{tag}/docs/index.md"\n'
        f'Changelog = "{address}/blob/{tag}/CHANGELOG.md"\n'
        f'Issues = "{address}/issues"\n\n'
    )
    return project.replace("[project.scripts]\n", urls + "[project.scripts]\n")


def check_tag(tag: str) -> None:
    """Refuse a tag that is not that of the version."""
    text = (ROOT / "imsim" / "_version.py").read_text(encoding="utf-8")
    version = re.search(r'__version__ = "(.*)"', text)
    if version is None or tag != f"v{version[1]}":
        sys.exit(f"{tag}: is not v and the version in imsim/_version.py")


def main(address: str, tag: str) -> None:
    """Write both files of this checkout."""
    check_tag(tag)
    for name, change in (("README.md", with_links), ("pyproject.toml", with_urls)):
        path = ROOT / name
        path.write_text(change(path.read_text("utf-8"), address, tag), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
