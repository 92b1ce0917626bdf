"""What each metric sees, in a sentence for a reader who has not met it."""

from __future__ import annotations

MEANINGS = {
    "fsim": "Are edges, lines and corners kept? Weighs each place by how much structure it shows, "
    "as the eye does.",
    "gmsd": "How unevenly are edges lost? An even loss of contrast over the whole image passes "
    "nearly unnoticed.",
    "imed": "Like the squared error, but forgives a shift by a pixel, since neighbours share "
    "the difference.",
    "issm": "Mixes shared information, edges and structure. Experimental: identical images do not "
    "score 1, and noise can raise it.",
    "psnr": "The mean squared error against the full range, in decibels. Blind to where and how "
    "the images differ.",
    "rmse": "The typical difference of a pixel, in the unit of the pixel values.",
    "sam": "Does colour, or the pattern as a whole, point the same way? Blind to a change of "
    "brightness by a factor.",
    "se": "The sum of all squared differences. Grows with the number of pixels; large differences "
    "count most.",
    "sh": "In what part of a short fingerprint do the images differ? Finds copies; blind to small "
    "defects.",
    "sre": "The error against the mean brightness of the reference, in decibels.",
    "ssim": "Do brightness, contrast and pattern agree around each pixel?",
    "uiq": "As SSIM without its constants: strict, and nervous where the images are flat.",
    "zncc": "Do bright and dark fall on the same places? Blind to a change of brightness or "
    "contrast of the whole image.",
}
"""Name of the metric -> what it sees."""
MAP_TITLES = {"gmsd": "Gradient similarity"}
"""Name of the metric -> what its map holds, where that is not the score of each place."""
