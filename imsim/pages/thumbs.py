"""Small pictures of a pair for the index of a folder."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np

from imsim.pages.layers import ImagePair, difference_layer, image_layer
from imsim.typing import Array

SIDE = 80
"""Longest side in pixels."""
MOST_BYTES = 1150
"""Most bytes of a picture: 1500 of them and the text of 500 rows take less than 3 MB."""
_QUALITIES = (75, 50, 25, 5)


@dataclass(frozen=True)
class Thumbnail:
    """A small picture of so many pixels, as the content of a file."""

    content: bytes
    width: int
    height: int


def thumbnails(pair: ImagePair) -> dict[str, Thumbnail]:
    """Draw both images and their difference in small, or the reference alone if they are equal."""
    layers = [image_layer(pair, "reference", "", pair.reference)]
    if not pair.canvas.one_size or (pair.differ & pair.mask).any():
        layers += [image_layer(pair, "test", "", pair.test), difference_layer(pair)]
    side = math.ceil(max(pair.height, pair.width) / SIDE)
    step = min(side, pair.height), min(side, pair.width)
    # A faint dot is all that some differences have, and losses take it.
    return {
        layer.name: compact(layer.draw(step), exact=layer.name == "difference") for layer in layers
    }


def compact(pixels: Array, *, exact: bool = False) -> Thumbnail:
    """Encode colours in at most `MOST_BYTES`, smaller if need be; exactly if they fit so."""
    from PIL import Image, features

    kind = "WEBP" if features.check("webp") else "JPEG"
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if exact and kind == "WEBP":
        content = io.BytesIO()
        image.save(content, format=kind, lossless=True)
        if content.tell() <= MOST_BYTES:
            return Thumbnail(content.getvalue(), image.width, image.height)
    factor = 1
    while True:
        for quality in _QUALITIES:
            content = io.BytesIO()
            image.reduce(factor).save(content, format=kind, quality=quality)
            if content.tell() <= MOST_BYTES or max(image.size) // factor < 8:
                return Thumbnail(content.getvalue(), image.width, image.height)
        factor *= 2
