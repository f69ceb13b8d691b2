"""The paper table as Markdown, out of the rows of one scale."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import cast

import records
from paper_cells import TRIES
from paper_claims import is_seen, mean_asr, of, widths
from paper_rows import Row
from paper_scales import Scale

SEARCHED = ("T2", "T4")


def page(scale: Scale, found: Iterable[Row]) -> str:
    """Networks, universal patches at random places, sweeps and searches, claims."""
    listed = list(found)
    cells = [row for row in listed if row["kind"] == "cell"]
    claims = [row for row in listed if row["kind"] == "claim"]
    return "\n\n".join([
        f"Scale: **{scale.name}**. ASR in % on the engine [95 %], excess over the matched control "
        "in points, then the simulation's ASR on the same bytes. Intervals of several patches draw "
        "patches and images anew; those of one patch, as in the sweeps, are Wilson's.",
        "Everything at a glance: clean accuracy on all test images, then ASR of the float "
        "network's unseen patches at random places, of one of them at its worst place on a grid, "
        "of noise there, of a search on the engine, one patch and place for each image, and of as "
        "many random patches and places. Widths from left to right.",
        _summary(scale, listed),
        "Universal patches at random places",
        _table(scale, [row for row in cells if row["tier"] == "T1"]),
        "Every place of the grid, and one patch for each image",
        _table(scale, [row for row in cells if row["tier"] in SEARCHED]),
        "Controls",
        _table(scale, [row for row in cells if row["tier"] == "T0"]),
        "Claims. Differences are of two networks on the same drawn images and patches [95 %]. "
        "*Open*: the bar lies within the interval. One training seed tells nothing of the spread "
        "between trainings.",
        records.table(["claim", "wanted", "found", "holds"], [
            [str(row[name]) for name in ("claim", "wanted", "found", "holds")] for row in claims
        ]),
    ])  # fmt: skip


def _summary(scale: Scale, found: list[Row]) -> str:
    """One line a network: what it costs, what it knows, how it falls."""
    side = f"{scale.swept_px[0]}x{scale.swept_px[0]}"
    lines = []
    for network in (row for row in found if row["kind"] == "network"):
        name = str(network["defence"])
        if "seconds" not in network:
            lines.append([_name(scale, network), "*not run*", *[""] * 6])
            continue
        cells = [row for row in found if row["kind"] == "cell" and row["seed"] == network["seed"]]
        clean = cast(dict[str, dict[str, int]], network["clean"])
        shares = [clean.get(str(bits)) for bits in widths(scale)]
        columns: list[list[float | None]] = [
            [c["right"] / c["n"] if c else None for c in shares],
            [mean_asr([row for row in of(cells, name, tier="T1", bits=bits,
                                         victim="undefended fp32") if not is_seen(scale, row)])
             for bits in widths(scale)],
            [mean_asr(of(cells, name, tier="T2", bits=bits, patch=side, victim="fp32"))
             for bits in widths(scale)],
            [mean_asr([row for row in of(cells, name, tier="T0", bits=bits, patch=side)
                       if str(row["placement"]).startswith("sweep")]) for bits in widths(scale)],
            [mean_asr(of(cells, name, tier="T4", bits=bits)) for bits in widths(scale)],
            [mean_asr([row for row in of(cells, name, tier="T0", bits=bits)
                       if row["attack"] == TRIES]) for bits in widths(scale)],
        ]  # fmt: skip
        spoken = (" / ".join("-" if r is None else f"{100 * r:.1f}" for r in c) for c in columns)
        lines.append([_name(scale, network), f"{network['seconds']:.0f}", *spoken])
    small = f"{scale.sizes[0]}x{scale.sizes[0]}"
    head = ["network", "seconds of training", "clean", "unseen, random places",
            f"{side}, worst place of stride {scale.stride}", "noise, the same places",
            f"engine search, {small}, {scale.queries:,} queries", "random tries"]  # fmt: skip
    return records.table(head, lines)


def _table(scale: Scale, found: list[Row]) -> str:
    lines: dict[tuple[str, ...], dict[int, str]] = defaultdict(dict)
    for row in found:
        key = (_name(scale, row), *(str(row[name]) for name in ("attack", "victim", "patch")))
        if row["tier"] == "T0":
            key = (*key[:2], str(row["placement"]), key[3])
        lines[key][cast(int, row["bits"])] = _cell(row)
    head = ["network", "attack", "crafted on", "patch", *(f"{b} bits" for b in widths(scale))]
    return records.table(
        head, [[*key, *(cells.get(b, "") for b in widths(scale))] for key, cells in lines.items()]
    )


def _name(scale: Scale, row: Row) -> str:
    """The network, and which of its trainings where there are several."""
    seed = f", seed {row['seed']}" if len(scale.seeds) > 1 else ""
    return f"{row['defence']}{seed}"


def _cell(row: Row) -> str:
    asr, low, high = (100 * cast(float, row[name]) for name in ("asr", "low", "high"))
    text = f"{asr:.1f} [{low:.1f}, {high:.1f}]"
    if row["tier"] != "T0" and row.get("excess") is not None:
        text += f" {100 * cast(float, row['excess']):+.1f}"
    return text + (f" / {100 * cast(float, row['sim_asr']):.1f}" if "sim_asr" in row else "")
