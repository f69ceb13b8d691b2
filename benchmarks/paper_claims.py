"""The paper table and its claims as Markdown, out of the rows of one scale."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from statistics import mean
from typing import cast

import records
from paper_rows import Row
from paper_scales import Scale

SEARCHED = ("T2", "T4")
ALIVE = {"6x6": 38, "8x8": 55, "10x10": 71}
"""What one universal patch is known to reach on a float CIFAR-10 ResNet-20, in per cent."""

BASELINES = ("pbat", "pbat whole", "dwq-patch", "dwq-pixel")


def page(scale: Scale, found: Iterable[Row]) -> str:
    """Networks, universal patches at random places, sweeps and searches, claims."""
    listed = list(found)
    cells = [row for row in listed if row["kind"] == "cell"]
    controls = [row for row in cells if row["tier"] == "T0"]
    return "\n\n".join([
        f"Scale: **{scale.name}**. ASR in % on the engine [95 %], excess over the matched control "
        "in points, then the simulation's ASR on the same bytes.",
        "Everything at a glance: clean accuracy on all test images, then ASR of the float "
        "network's unseen patches at random places, of one of them at the worst place, of noise "
        "there, and of the search on the engine; widths from left to right.",
        _summary(scale, listed),
        "Universal patches at random places",
        _table(scale, [row for row in cells if row["tier"] == "T1"]),
        "Every place of the grid, and one patch for each image",
        _table(scale, [row for row in cells if row["tier"] in SEARCHED]),
        "Controls",
        _table(scale, controls),
        "Claims",
        records.table(["claim", "wanted", "found", "holds"], [*_claims(scale, listed)]),
    ])  # fmt: skip


def _summary(scale: Scale, found: list[Row]) -> str:
    """One line a network: what it costs, what it knows, how it falls."""
    side = f"{scale.swept_px[0]}x{scale.swept_px[0]}"
    lines = []
    for network in (row for row in found if row["kind"] == "network"):
        name = str(network["defence"])
        if "seconds" not in network:
            lines.append([name, "*not run*", *[""] * 5])
            continue
        cells = [row for row in found if row["kind"] == "cell"]
        clean = cast(dict[str, dict[str, int]], network["clean"])
        shares = [clean.get(str(bits)) for bits in _widths(scale)]
        columns: list[list[float | None]] = [
            [c["right"] / c["n"] if c else None for c in shares],
            [_mean(_of(cells, name, tier="T1", bits=bits, victim="undefended fp32"),
                   lambda row: not _is_seen(scale, row)) for bits in _widths(scale)],
            [_mean(_of(cells, name, tier="T2", bits=bits, patch=side, victim="fp32"))
             for bits in _widths(scale)],
            [_mean([row for row in _of(cells, name, tier="T0", bits=bits, patch=side)
                    if str(row["placement"]).startswith("sweep")]) for bits in _widths(scale)],
            [_mean(_of(cells, name, tier="T4", bits=bits)) for bits in _widths(scale)],
        ]  # fmt: skip
        spoken = (" / ".join("-" if r is None else f"{100 * r:.1f}" for r in c) for c in columns)
        lines.append([name, f"{network['seconds']:.0f}", *spoken])
    head = ["network", "seconds of training", "clean", "unseen, random places",
            f"{side}, worst place", "noise, worst place", "engine search"]  # fmt: skip
    return records.table(head, lines)


def _table(scale: Scale, found: list[Row]) -> str:
    lines: dict[tuple[str, ...], dict[int, str]] = defaultdict(dict)
    for row in found:
        key = tuple(str(row[name]) for name in ("defence", "attack", "victim", "patch"))
        if row["tier"] == "T0":
            key = (*key[:2], str(row["placement"]), key[3])
        lines[key][cast(int, row["bits"])] = _cell(row)
    head = ["network", "attack", "crafted on", "patch", *(f"{b} bits" for b in _widths(scale))]
    return records.table(
        head, [[*key, *(cells.get(b, "") for b in _widths(scale))] for key, cells in lines.items()]
    )


def _cell(row: Row) -> str:
    asr, low, high = (100 * cast(float, row[name]) for name in ("asr", "low", "high"))
    text = f"{asr:.1f} [{low:.1f}, {high:.1f}]"
    if row["tier"] != "T0" and row.get("excess") is not None:
        text += f" {100 * cast(float, row['excess']):+.1f}"
    return text + (f" / {100 * cast(float, row['sim_asr']):.1f}" if "sim_asr" in row else "")


def _claims(scale: Scale, found: list[Row]) -> Iterable[list[str]]:
    """Each claim: what is wanted, what was found, and whether it holds."""
    cells = [row for row in found if row["kind"] == "cell"]
    low, high = min(_widths(scale)), max(_widths(scale))
    for row in _of(cells, "undefended", tier="T1", bits=32, victim="fp32"):
        each = [100 * rate for rate in cast(list[float], row["each_patch"])]
        wanted = ALIVE.get(str(row["patch"]))
        if wanted is not None:
            text = f"mean {mean(each):.1f}, best {max(each):.1f} %"
            yield _line(f"(0) the attack is alive: {row['patch']} on the float network",
                        f"one patch {wanted} %", text, max(each) >= wanted)  # fmt: skip
    for tier, spoken in (("T1", "random places"), ("T2", "every place")):
        for patch in sorted({str(row["patch"]) for row in cells if row["tier"] == tier}):
            rows = _of(cells, "plain", tier=tier, bits=low, patch=patch, victim="fp32")
            if rows:
                asr = 100 * cast(float, rows[0]["asr"])
                yield _line(f"(i) undefended, {low} bits, {patch}, {spoken}", "> 70 %",
                            f"{asr:.1f} %", asr > 70)  # fmt: skip
    seen, unseen = f"{scale.sizes[0]}x{scale.sizes[0]}", lambda row: not _is_seen(scale, row)
    for name in ("pbat", "qadtr"):
        own = _of(cells, name, tier="T1", victim=f"own w{high}")
        at_seen = _mean(own, lambda row: row["patch"] == seen and row["bits"] == high)
        at_unseen = _mean(own, lambda row: unseen(row) and row["bits"] == high)
        both = _mean(own, lambda row: unseen(row) and row["bits"] == low)
        if None not in (at_seen, at_unseen, both):
            text = (
                f"{_points(at_seen, at_unseen)} at {high} bits, {_points(at_seen, both)} at {low}"
            )
            yield _line(f"(ii) {name}: unseen minus seen, crafted at {high} bits", "reported", text)
    yield from _against_baselines(scale, cells)
    yield from _clean(scale, found)
    yield from _on_integers(cells)


def _against_baselines(scale: Scale, cells: list[Row]) -> Iterable[list[str]]:
    """(iii): QADT-R beside the others, on what training did not show it."""
    for bits in _widths(scale):
        random = {
            name: _mean(
                _of(cells, name, tier="T1", bits=bits, victim="undefended fp32"),
                lambda row: not _is_seen(scale, row),
            )
            for name in ("plain", *BASELINES, "qadtr")
        }
        for other in ("plain", "dwq-pixel"):
            yield from _ahead(f"(iii) unseen, random places, {bits} bits, over {other}",
                              random["qadtr"], random[other], wanted=15)  # fmt: skip
        moved = {
            name: _mean(
                [row for row in _of(cells, name, tier="T1", bits=bits) if _from_another(row)],
                lambda row: not _is_seen(scale, row),
            )
            for name in (*BASELINES, "qadtr")
        }
        best = min((moved[name] for name in BASELINES if moved[name] is not None), default=None)
        yield from _ahead(f"(iii) crafted on itself at another width, {bits} bits, over the best",
                          moved["qadtr"], best, wanted=25)  # fmt: skip
        for patch in dict.fromkeys(
            str(row["patch"]) for row in cells if row["tier"] == "T2" and row["attack"] == "sweep"
        ):
            excess = {
                name: max(
                    (cast(float, row["excess"])
                     for row in _of(cells, name, tier="T2", bits=bits, patch=patch)
                     if row["excess"] is not None),
                    default=None,
                )
                for name in ("pbat", "qadtr")
            }  # fmt: skip
            if None not in excess.values():
                mine, theirs = (100 * cast(float, excess[name]) for name in ("qadtr", "pbat"))
                yield _line(f"(iii) sweep, {patch}, {bits} bits: excess over noise",
                            "at most half of pbat's", f"{mine:.1f} against {theirs:.1f}",
                            mine <= theirs / 2)  # fmt: skip
        found = {name: _mean(_of(cells, name, tier="T4", bits=bits)) for name in ("pbat", "qadtr")}
        yield from _ahead(f"(iii) engine search, {bits} bits, over pbat", found["qadtr"],
                          found["pbat"], wanted=10)  # fmt: skip


def _clean(scale: Scale, found: list[Row]) -> Iterable[list[str]]:
    networks = {row["defence"]: row for row in found if row["kind"] == "network"}
    for bits in _widths(scale):
        shares = []
        for name in ("plain", "qadtr"):
            clean = cast(dict[str, dict[str, int]], networks.get(name, {}).get("clean", {}))
            if counts := clean.get(str(bits)):
                shares.append(counts["right"] / counts["n"])
        if len(shares) == 2:
            lost = 100 * (shares[0] - shares[1])
            yield _line(f"(iii) clean accuracy, {bits} bits, below plain", "at most 1.5 points",
                        f"{lost:.1f}", lost <= 1.5)  # fmt: skip


def _on_integers(cells: list[Row]) -> Iterable[list[str]]:
    """(iv): the simulation's verdict against the engine's, pair by pair."""
    for name in dict.fromkeys(str(row["defence"]) for row in cells):
        rows = [row for row in _of(cells, name) if "sim_only" in row]
        if rows:
            pairs = sum(cast(int, row["both_eligible"]) for row in rows)
            only = [
                sum(cast(int, row[side]) for row in rows) for side in ("sim_only", "engine_only")
            ]
            yield _line(f"(iv) {name}: fooled in simulation only / on the engine only", "reported",
                        f"{only[0]} / {only[1]} of {pairs}")  # fmt: skip


def _ahead(
    claim: str, mine: float | None, theirs: float | None, *, wanted: float
) -> Iterable[list[str]]:
    if mine is not None and theirs is not None:
        text = f"{100 * mine:.1f} against {100 * theirs:.1f}: {_points(mine, theirs)}"
        yield _line(claim, f"{wanted:g} points lower", text, 100 * (theirs - mine) >= wanted)


def _of(
    cells: list[Row], defence: str, *, tier: str | None = None, bits: int | None = None,
    patch: str | None = None, victim: str = "",
) -> list[Row]:  # fmt: skip
    return [
        row for row in cells
        if row["defence"] == defence and tier in (None, row["tier"]) and bits in (None, row["bits"])
        and patch in (None, row["patch"]) and victim in str(row["victim"])
    ]  # fmt: skip


def _from_another(row: Row) -> bool:
    """Crafted on the network itself at another width."""
    victim = str(row["victim"])
    return victim.startswith("own w") and victim != f"own w{row['bits']}"


def _is_seen(scale: Scale, row: Row) -> bool:
    return row["patch"] == f"{scale.sizes[0]}x{scale.sizes[0]}"


def _mean(rows: list[Row], chosen: Callable[[Row], bool] = lambda row: True) -> float | None:
    rates = [cast(float, row["asr"]) for row in rows if chosen(row)]
    return mean(rates) if rates else None


def _points(first: float | None, second: float | None) -> str:
    assert first is not None
    assert second is not None
    return f"{100 * (second - first):+.1f} points"


def _line(claim: str, wanted: str, found: str, holds: bool | None = None) -> list[str]:
    return [claim, wanted, found, "" if holds is None else "yes" if holds else "**no**"]


def _widths(scale: Scale) -> list[int]:
    return [bits for bits in scale.widths if bits != 32]
