"""Makes the page, the plot and the README table from one result file."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from benchmarks.peers import WORKS
from benchmarks.plot import LIBRARIES, plot
from benchmarks.tensor_peers import TENSOR_WORKS

Result = dict[str, Any]
START, END = "<!-- benchmarks:start -->", "<!-- benchmarks:end -->"
README_SIZE = 512
BUSY_LOAD = 0.25
BUSY = (
    "\n\n**The machine was busy with other work, so these numbers say little:** libraries whose "
    "threads wait for each other, such as torch, suffer more from it than others."
)
METHOD = """\
- imsim and its peers take turns within one process; a ratio is taken within each turn, and the
  tables show the median over the turns. Each call is warmed up first, and again, untimed, before
  each of its turns. image-similarity-measures needs NumPy 1: it takes its turns in a process of an
  environment of its own, and times itself there.
- Every library may use as many threads as imsim, and gets its images in the form it wants
  (tensors, PIL images): the conversion is not timed.
- The images are seeded noise with the spectrum of photographs, an edge and a dark flat part, the
  same pixel values for everyone, from 1 to 255. They stay in memory, so that small ones stay in the
  caches.
- **≈** marks a peer that computes a slightly different number, **≠** one that computes another
  quantity; the notes say which. `benchmarks/test_agreement.py` checks every peer's number.
- Ratios carry from machine to machine better than times do, yet not unchanged: run
  `make bench` on yours (about 20 minutes; `make bench BENCH="--quick"` for a first look)."""

TENSORS = """\
Float32 tensors on the CPU. The gradient is that with respect to the first image. Colour is scored
by channel and averaged, and FSIM is that of the luma, with imsim as with piq. Where a goal is one
in µs, the number is what imsim takes for tensors beyond 1.3 times that for NumPy arrays in the same
memory. What JAX compiles takes all cores. Missed goals come first."""

LIMITS = """\
Measured in turns with imsim, on as many threads. To copy an image moves as many bytes as to read
two. The multiply-adds are those of separable windows: of x + y, x - y and their squares for SSIM
and UIQ, of x - y for IMED. They run on numbers in registers, in the widest vectors that the
compiler uses here. No other arithmetic, load or store counts, so 100 % of them is out of reach.
SSIM of float32 computes some windows where dark and bright parts meet again, in float64."""
BETWEEN = """\
Calls in a row find their images in the caches and the threads awake. Between other work, each call
follows a pass over an array of 20 MB. The last column says how many times as long it takes with
one thread."""


def to_json(result: Result) -> str:
    """Indented, but lists of numbers on one line."""
    text = json.dumps(result, indent=1, ensure_ascii=False)
    lists = r"\[[-+.\de,\s]+\]"
    return (
        re.sub(
            lists,
            lambda found: re.sub(r"\s+", " ", found[0]).replace("[ ", "[").replace(" ]", "]"),
            text,
        )
        + "\n"
    )


def times(value: float) -> str:
    """Format a ratio: two digits, bold where imsim is the slower one."""
    text = f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.995 else f"{value:.2g}"
    return text if value >= 1 else f"**{text}**"


def milliseconds(seconds: float) -> str:
    value = 1e3 * seconds
    return f"{value:.0f} ms" if value >= 99.5 else f"{value:.2g} ms"


def plain(value: float, unit: str) -> str:
    text = f"{value:.3g}" if value < 1000 else f"{value:.0f}"
    return f"{text}x" if unit == "x" else f"{text} {unit}"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def marked(work: str, library: str) -> str:
    mark = next(p.mark for p in WORKS[work].peers if p.library == library)
    return f"{library} {mark}".strip()


def verdict(bar: Result) -> tuple[str, Result | None]:
    """Whether every case that was measured meets the bar, and the worst of them."""
    measured = [case for case in bar["cases"] if case["value"] is not None]
    if not measured:
        return "not measured", None
    worst = (min if bar["at_least"] else max)(measured, key=lambda case: case["value"][0])
    missed = sum(not case["met"] for case in measured)
    text = "yes" if not missed else "**no**"
    if missed and len(measured) > 1:
        text += f", {missed} of {len(measured)}"
    return text, worst


def bar_rows(result: Result) -> list[list[str]]:
    rows = []
    for bar in result["bars"]:
        met, worst = verdict(bar)
        sign = "at least" if bar["at_least"] else "at most"
        shown = "–"
        if worst is not None:
            middle, low, high = (plain(v, bar["unit"]) for v in worst["value"])
            shown = middle if low == high else f"{middle} ({low} to {high})"
            shown += f" {worst['label']}" if len(bar["cases"]) > 1 else ""
        rows.append([bar["work"], f"{sign} {bar['text']}", shown, met])
    return rows


def case_rows(result: Result) -> list[list[str]]:
    rows = []
    for bar in result["bars"]:
        for case in [] if bar.get("tensors") else bar["cases"]:
            if len(bar["cases"]) > 1 and case["value"] is not None:
                middle, low, high = (plain(v, bar["unit"]) for v in case["value"])
                limit = f"{'≥' if bar['at_least'] else '≤'} {plain(bar['limit'], bar['unit'])}"
                row = [bar["work"], case["label"], limit, middle, f"{low} to {high}"]
                rows.append([*row, "yes" if case["met"] else "**no**"])
    return rows


def tensor_rows(result: Result) -> list[list[str]]:
    """Every goal for tensors: first those that are missed, then what was not measured."""
    rows = []
    for bar in filter(lambda bar: bar.get("tensors"), result["bars"]):
        sign = "≥" if bar["at_least"] else "≤"
        for case in bar["cases"]:
            row = [case["label"], f"{sign} {plain(bar['limit'], bar['unit'])}"]
            if case["value"] is None:
                rows.append((1, [*row, "–", "–", "not measured"]))
                continue
            middle, low, high = (plain(v, bar["unit"]) for v in case["value"])
            met = "yes" if case["met"] else "**no**"
            rows.append((2 if case["met"] else 0, [*row, middle, f"{low} to {high}", met]))
    return [row for _, row in sorted(rows, key=lambda row: row[0])]


def race_rows(result: Result) -> list[list[str]]:
    """The times of all calls on the same tensors."""
    rows = []
    for race in result["races"]:
        others = [
            f"{name} {race['marks'].get(name, '')}".strip() + f" {milliseconds(found[0])}"
            for name, found in race["seconds"].items()
            if name != "imsim"
        ]
        others += [f"{name}: not installed" for name in race["missing"]]
        own = milliseconds(race["seconds"]["imsim"][0])
        rows.append([race["label"], own, ", ".join(others)])
    return rows


def tensors(result: Result) -> str:
    """Return the section on tensors."""
    if not result.get("races"):
        return ""
    notes = [
        f"- {name}, {other.library} ≈: {other.reason}"
        for name, work in TENSOR_WORKS.items()
        for other in work.peers
        if other.reason
    ]
    goals = table(["work", "goal", "median", "quartiles", "met"], tensor_rows(result))
    times = table(["work", "imsim", "others"], race_rows(result))
    return f"## Tensors\n\n{TENSORS}\n\n{goals}\n\n{times}\n\n" + "\n".join(notes)


def peer_rows(result: Result) -> tuple[list[str], list[list[str]]]:
    """One row for each metric and library, one column for each size."""
    entries = result["sizes"]
    sizes = sorted({entry["size"] for entry in entries})
    rows = []
    for work in WORKS:
        found = {entry["size"]: entry for entry in entries if entry["work"] == work}
        times_row = [milliseconds(found[s]["seconds"]["imsim"][0]) for s in sizes]
        rows.append([f"`{work}`, {WORKS[work].dtype}", "imsim itself", *times_row])
        for other in WORKS[work].peers:
            ratios = {s: found[s]["ratios"].get(other.library) for s in found}
            if any(ratios.values()):
                cells = [times(r[0]) if (r := ratios.get(s)) else "–" for s in sizes]
                rows.append(["", marked(work, other.library), *cells])
    return ["metric", "library", *(f"{s}x{s}" for s in sizes)], rows


def losses(result: Result) -> list[list[str]]:
    """Everything that another library does faster, and in what part of the time."""
    found: dict[tuple[str, str], list[str]] = {}
    for kind, batch in (("sizes", ""), ("batches", "64 pairs ")):
        for entry in result[kind]:
            what = f"{batch}{entry['size']}x{entry['size']}"
            for library, ratio in entry["ratios"].items():
                if ratio[0] < 1:
                    cases = found.setdefault((entry["work"], library), [])
                    cases.append(f"{what}: {ratio[0]:.2g}")
    return [
        [f"`{work}`", marked(work, library), ", ".join(cases)]
        for (work, library), cases in found.items()
    ]


def notes() -> list[str]:
    return [
        f"`{name}`, {marked(name, other.library)}: {other.reason}"
        for name, work in WORKS.items()
        for other in work.peers
        if not other.same
    ]


def limit_rows(result: Result) -> list[list[str]]:
    """What the machine allows, and how much of it is reached."""
    rows = []
    for entry in result["limits"]:
        at_limit, own = (entry[name][0] for name in ("limit", "imsim"))
        rate = f"{entry['amount'] / at_limit / 1e9:.3g} G/s"
        middle, low, high = (f"{v:.0f} %" for v in entry["share"])
        what = f"`{entry['work']}`, {entry['size']}x{entry['size']} {entry['dtype']}"
        shown = f"{middle} ({low} to {high})"
        rows.append([what, entry["kind"], rate, milliseconds(at_limit), milliseconds(own), shown])
    return rows


def between_rows(result: Result) -> list[list[str]]:
    """Median times of a call in a row, and between other work."""
    rows = []
    for entry in result["between"]:
        seconds = {name: found[0] for name, found in entry["seconds"].items()}
        what = f"`{entry['work']}`, {entry['size']}x{entry['size']}"
        shown = (milliseconds(seconds[name]) for name in ("in a row", "between", "alone"))
        rows.append([what, *shown, times(seconds["alone"] / seconds["between"])])
    return rows


def limits(result: Result) -> str:
    """Return the section on what the machine allows."""
    if not result.get("limits"):
        return ""
    head = ["work", "limit", "rate", "time at the limit", "imsim", "share reached"]
    return f"## Limits of the machine\n\n{LIMITS}\n\n{table(head, limit_rows(result))}"


def between(result: Result) -> str:
    """Return the section on calls between other work."""
    if not result.get("between"):
        return ""
    head = ["work", "in a row", "between other work", "with one thread", "gain by threads"]
    return f"## Between other work\n\n{BETWEEN}\n\n{table(head, between_rows(result))}"


def about(result: Result) -> str:
    machine, load = result["machine"], result["load"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    load_text = " and ".join(f"{load[when][0]:.1f} {when}" for when in ("before", "after"))
    return (
        f"Measured {result['date']} at commit `{result['commit']}` on {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['memory_GiB']} GiB, {machine['system']}, "
        f"Python {machine['python']}; {machine['cores']} threads for everyone; "
        f"load {load_text}. {versions}."
        + (BUSY if load["before"][0] > BUSY_LOAD * machine["cores"] else "")
    )


def markdown(result: Result) -> str:
    met = [verdict(bar)[0] for bar in result["bars"]]
    head, peers = peer_rows(result)
    slower = losses(result)
    dtypes = ["uint8", "uint16", "float64"]
    batches = [
        [f"`{e['work']}`", marked(e["work"], library), times(ratio[0])]
        for e in result["batches"]
        for library, ratio in e["ratios"].items()
    ]
    firsts = [
        [f"`{name}`", *(f"{t[k]:.2g} s" for k in ("cold", "warm")), milliseconds(t["later"])]
        for name, t in result["first_calls"].items()
    ]
    types = [[f"`{e['work']}`", *(f"{e[d][0]:.2g}" for d in dtypes)] for e in result["dtypes"]]
    without = sorted({work.metric for work in WORKS.values()} - set(result["kernels"]))
    sections = [
        "# Benchmarks",
        "<!-- Generated by `python -m benchmarks.report`; edit benchmarks/render.py instead. -->",
        about(result),
        f"No compiled kernel yet: {', '.join(without)}." if without else "",
        "## How it is measured\n\n" + METHOD,
        f"## Goals\n\n{met.count('yes')} of {len(met)} are met. Where a goal has several cases, "
        "the worst one is shown; the quartiles of the turns stand in brackets.\n\n"
        + table(["work", "goal", "measured", "met"], bar_rows(result)),
        "<details><summary>Every case</summary>\n\n"
        + table(["work", "case", "goal", "median", "quartiles", "met"], case_rows(result))
        + "\n\n</details>",
        tensors(result),
        "## How many times as long other libraries take\n\n"
        "Bold: below 1, where imsim is the slower one.\n\n" + table(head, peers),
        "![Time against size for every metric and library](benchmarks.svg)",
        "## What others do faster\n\n"
        + (table(["metric", "library", "part of imsim's time"], slower) if slower else "Nothing."),
        "## What other libraries compute instead\n\n" + "\n".join(f"- {n}" for n in notes()),
        limits(result),
        between(result),
        "## Batches\n\n64 pairs 128x128 float32: how many times as long others take. piq takes the "
        "batch in one call, OpenCV one pair after the other.\n\n"
        + table(["metric", "library", "times"], batches),
        "## Pixel types\n\nTime as a multiple of that for float32, 512x512.\n\n"
        + table(["metric", *dtypes], types),
        "## First calls\n\nKernels are compiled by their first call and kept on disk. Seconds from "
        "a fresh process with `imsim` imported to the first score of a 256x256 pair.\n\n"
        + table(["metric", "nothing compiled", "compiled before", "later calls"], firsts),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def readme_block(result: Result) -> str:
    """The table at one size, with the losses in it."""
    entries = [e for e in result["sizes"] if e["size"] == README_SIZE and e["ratios"]]
    used = [name for name in LIBRARIES if any(name in e["ratios"] for e in entries)]
    rows = []
    for entry in entries:
        row = [f"`{entry['work']}`", milliseconds(entry["seconds"]["imsim"][0])]
        for name in used:
            ratio = entry["ratios"].get(name)
            mark = marked(entry["work"], name).removeprefix(name) if ratio else ""
            row.append(times(ratio[0]) + mark if ratio else "")
        rows.append(row)
    met = [verdict(bar)[0] for bar in result["bars"]]
    machine = result["machine"]
    return "\n".join(
        (
            START,
            f"How many times as long others take for a {README_SIZE}x{README_SIZE} pair (float32; "
            f"`sh`: uint8), on {machine['cores']} cores of an {machine['cpu']}. Bold: others are "
            "faster. ≈ is a slightly different number, ≠ another quantity.",
            "",
            table(["metric", "imsim", *used], rows),
            "",
            f"{met.count('yes')} of {len(met)} speed goals are met. [docs/benchmarks.md]"
            "(docs/benchmarks.md) has them all, more sizes, and every case where others win; "
            "`make bench` measures your machine.",
            END,
        )
    )


def update_readme(result: Result, path: Path) -> None:
    text = path.read_text()
    if START not in text or END not in text:
        raise SystemExit(f"{path.name} has no {START} and {END} to put the table between")
    before, rest = text.split(START, 1)
    path.write_text(before + readme_block(result) + rest.split(END, 1)[1])


def write(result: Result, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "benchmarks.md").write_text(markdown(result))
    plot(result, folder / "benchmarks.svg")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the page again from a result file.")
    parser.add_argument("result", type=Path)
    parser.add_argument("--into", type=Path, default=Path("docs"))
    given = parser.parse_args()
    result = json.loads(given.result.read_text())
    write(result, given.into)
    readme = given.into.parent / "README.md"
    if readme.exists():
        update_readme(result, readme)


if __name__ == "__main__":
    main()
