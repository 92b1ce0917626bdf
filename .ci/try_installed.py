"""Try what is installed, from a folder without a checkout: a score, the command and a page."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import imsim

CHECKOUT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Run what a user would run first."""
    if CHECKOUT in Path(imsim.__file__).resolve().parents:
        sys.exit(f"{imsim.__file__}: is the checkout, not what was installed; run with -I")
    image = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    scores = imsim.compare(image, image)
    if set(scores) | set(scores.skipped) != set(imsim.METRICS) or scores["ssim"] != 1:
        sys.exit(f"wrong scores of an image and itself:\n{scores}")
    with tempfile.TemporaryDirectory() as folder:
        for name, pixels in (("a.png", image), ("b.png", image[::-1])):
            Image.fromarray(pixels).save(Path(folder, name))
        for arguments in (
            ["compare", "a.png", "b.png"],
            ["report", "a.png", "b.png", "-o", "c.html"],
        ):
            command = [sys.executable, "-I", "-m", "imsim", *arguments]
            subprocess.run(command, cwd=folder, check=True)
        if "</html>" not in Path(folder, "c.html").read_text(encoding="utf-8"):
            sys.exit("the page is not whole")
    print(f"imsim {imsim.__version__} works on Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
