"""Colour maps and self-contained HTML pages, for the command and the anomaly workflow."""

from imsim.pages.colour import Scale, colour_map, map_scale, png
from imsim.pages.folder import Entry, folder_report
from imsim.pages.map_picture import MapPicture
from imsim.pages.page import Html, asset, page, picture, readable, share, table, tag
from imsim.pages.pair import pair_report
from imsim.pages.volume import volume_report

__all__ = [
    "Entry",
    "Html",
    "MapPicture",
    "Scale",
    "asset",
    "colour_map",
    "folder_report",
    "map_scale",
    "page",
    "pair_report",
    "picture",
    "png",
    "readable",
    "share",
    "table",
    "tag",
    "volume_report",
]
