"""One picture of a page, large, with what there is to choose about it."""

from __future__ import annotations

from imsim.pages.page import Html, tag

_MODES = ("wipe", "flicker", "difference", "reference", "test")
_RATES = {"0": "by hand", "0.5": "every 2 s", "1": "every second", "2": "twice a second"}
"""Rates of a flicker, far below three flashes a second, which can hurt."""
_KEYS = (
    "arrow keys move the spot, Enter holds it, plus and minus zoom; w wipes, square brackets move "
    "the divider; f flickers; d, r and t show difference, reference and test alone"
)


def large_picture(width: int, height: int) -> Html:
    """Write the place of the large picture; `stage.js` puts the pictures of the page into it."""
    buttons = [
        tag("button", mode, type="button", data_mode=mode, aria_pressed="false") for mode in _MODES
    ]
    rates = [
        tag("option", words, value=often, selected=often == "1") for often, words in _RATES.items()
    ]
    choices = [
        tag("div", *buttons, class_="modes", role="group", aria_label="The large picture shows"),
        tag(
            "label",
            "divider ",
            tag("input", type="range", id="wipe", min=0, max=100, step="any", value=50),
        ),
        tag("label", "turns ", tag("select", *rates, id="rate")),
        tag("button", "turn now", type="button", id="swap"),
    ]
    sides = [
        tag("div", class_="side", data_of=name) for name in ("reference", "test", "difference")
    ]
    frame = tag(
        "div",
        *sides,
        tag("span", class_="divider"),
        tag("span", class_="which left"),
        tag("span", class_="which right"),
        tag("span", class_="spot"),
        class_="frame stage",
        data_size=f"{width} {height}",
        tabindex=0,
        role="group",
        aria_label=f"the large picture; {_KEYS}",
    )
    keys = "Keys in a picture: w wipe, [ and ] its divider, f flicker, d difference, r reference, "
    return tag(
        "section",
        tag("h2", "One picture, large", id="large"),
        tag("div", *choices, class_="choices"),
        frame,
        tag("p", keys + "t test.", class_="note"),
        aria_labelledby="large",
        class_="large",
    )
