"""The claims of the paper table, checked one by one on its rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import mean
from typing import cast

import paper_draws
from paper_draws import Flags, Floats
from paper_rows import Row, samples
from paper_scales import Scale

from qadtr_edge import statistics

ALIVE = {"6x6": 38, "8x8": 55, "10x10": 71}
"""What one universal patch is known to reach on a float CIFAR-10 ResNet-20, in per cent."""

BASELINES = ("pbat", "pbat whole", "dwq-patch", "dwq-pixel", "triqdef")


@dataclass(frozen=True)
class Claim:
    """What is wanted and what was found; ``margin`` is how far beyond its bar, in points.

    ``low`` and ``high``: the interval of the margin. None where there is no bar, or no interval.
    """

    claim: str
    wanted: str
    found: str
    margin: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def verdict(self) -> str:
        """``yes`` or ``no``, and ``open`` where the interval holds the bar."""
        if self.margin is None:
            return ""
        is_open = self.low is not None and self.high is not None and self.low < 0 < self.high
        return ("yes" if self.margin >= 0 else "**no**") + (", open" if is_open else "")


def claims(scale: Scale, found: list[Row]) -> list[Row]:
    """One row for each claim; of several trainings each is checked, seed by seed."""
    by_claim: dict[tuple[str, str], list[Claim]] = defaultdict(list)
    for seed in scale.seeds:
        for each in _checked(scale, [row for row in found if row["seed"] == seed]):
            by_claim[each.claim, each.wanted].append(each)
    return [
        {"kind": "claim", "claim": claim, "wanted": wanted,
         "found": "; ".join(each.found for each in checked),
         "holds": "; ".join(each.verdict for each in checked)}
        for (claim, wanted), checked in by_claim.items()
    ]  # fmt: skip


def _checked(scale: Scale, found: list[Row]) -> Iterator[Claim]:
    cells = [row for row in found if row["kind"] == "cell"]
    yield from _alive(cells)
    yield from _fallen(scale, cells)
    yield from _unseen(scale, cells)
    yield from _against_baselines(scale, cells)
    yield from _clean(scale, found)
    yield from _on_integers(cells)


def _alive(cells: list[Row]) -> Iterator[Claim]:
    for row in of(cells, "undefended", tier="T1", bits=32, victim="fp32"):
        each = [100 * rate for rate in cast(list[float], row["each_patch"])]
        wanted = ALIVE.get(str(row["patch"]))
        if wanted is not None:
            yield Claim(
                f"(0) the attack is alive: {row['patch']} on the float network",
                f"one patch {wanted} %", f"mean {mean(each):.1f}, best {max(each):.1f} %",
                max(each) - wanted,
            )  # fmt: skip


def _fallen(scale: Scale, cells: list[Row]) -> Iterator[Claim]:
    low = min(widths(scale))
    for tier, spoken in (("T1", "random places"), ("T2", "every place")):
        for patch in sorted({str(row["patch"]) for row in cells if row["tier"] == tier}):
            for row in of(cells, "plain", tier=tier, bits=low, patch=patch, victim="fp32")[:1]:
                asr, *ends = (100 * cast(float, row[name]) for name in ("asr", "low", "high"))
                yield Claim(
                    f"(i) undefended, {low} bits, {patch}, {spoken}", "> 70 %", f"{asr:.1f} %",
                    asr - 70, *(end - 70 for end in ends),
                )  # fmt: skip


def _unseen(scale: Scale, cells: list[Row]) -> Iterator[Claim]:
    """(ii): at each width, unseen sizes beside the seen one, all crafted at the widest."""
    low, high = min(widths(scale)), max(widths(scale))
    for name in ("pbat", "qadtr"):
        gaps = []
        for bits in (high, low):
            own = of(cells, name, tier="T1", victim=f"own w{high}", bits=bits)
            unseen, seen = (
                [row for row in own if is_seen(scale, row) == wanted] for wanted in (False, True)
            )
            if unseen and seen:
                gaps.append(f"{_difference(unseen, seen).text} at {bits} bits")
        if len(gaps) == 2:
            yield Claim(f"(ii) {name}: unseen minus seen sizes, crafted at {high} bits",
                        "reported", ", ".join(gaps))  # fmt: skip


def _against_baselines(scale: Scale, cells: list[Row]) -> Iterator[Claim]:
    """(iii): QADT-R beside the others, on what training did not show it."""
    for bits in widths(scale):

        def unseen(name: str, chosen: Callable[[Row], bool], at: int = bits) -> list[Row]:
            return [row for row in of(cells, name, tier="T1", bits=at)
                    if chosen(row) and not is_seen(scale, row)]  # fmt: skip

        for other in ("plain", "dwq-pixel"):
            yield from _ahead(
                f"(iii) unseen, random places, {bits} bits, over {other}",
                unseen("qadtr", _from_float), unseen(other, _from_float), wanted=15,
            )  # fmt: skip
        moved = {name: rows for name in BASELINES if (rows := unseen(name, _from_another))}
        if moved:
            best = min(moved, key=lambda name: cast(float, mean_asr(moved[name])))
            of_them = "the only one measured so" if len(moved) == 1 else f"the best of {len(moved)}"
            yield from _ahead(
                f"(iii) crafted on itself at another width, {bits} bits, over {best}, {of_them}",
                unseen("qadtr", _from_another), moved[best], wanted=25,
            )  # fmt: skip
        yield from _swept(cells, bits=bits)
        yield from _ahead(
            f"(iii) engine search, {bits} bits, over pbat",
            *(of(cells, name, tier="T4", bits=bits) for name in ("qadtr", "pbat")), wanted=10,
        )  # fmt: skip


def _swept(cells: list[Row], *, bits: int) -> Iterator[Claim]:
    """The excess of the strongest swept patch against half of PBAT's."""
    for patch in dict.fromkeys(
        str(row["patch"]) for row in cells if row["tier"] == "T2" and row["attack"] == "sweep"
    ):
        strongest = []
        for name in ("qadtr", "pbat"):
            rows = of(cells, name, tier="T2", bits=bits, patch=patch)
            strongest += sorted(
                (row for row in rows if row["excess"] is not None),
                key=lambda row: -cast(float, row["excess"]),
            )[:1]
        if len(strongest) == 2:
            mine, theirs = (100 * cast(float, row["excess"]) for row in strongest)
            drawn = [100 * samples(row, "excess_samples") for row in strongest]
            ends = paper_draws.middle(drawn[1] / 2 - drawn[0])
            yield Claim(
                f"(iii) sweep, {patch}, {bits} bits: excess over noise", "at most half of pbat's",
                f"{mine:.1f} against {theirs:.1f}", theirs / 2 - mine, *ends,
            )  # fmt: skip


def _clean(scale: Scale, found: list[Row]) -> Iterator[Claim]:
    networks = {row["defence"]: row for row in found if row["kind"] == "network"}
    for bits in widths(scale):
        both = [
            cast(dict[str, Flags], networks.get(name, {}).get("right", {})).get(str(bits))
            for name in ("plain", "qadtr")
        ]
        if both[0] is not None and both[1] is not None:
            lost = statistics.compared(both[0], both[1])
            value, low, high = (100 * each for each in (lost.value, lost.low, lost.high))
            yield Claim(
                f"(iii) clean accuracy, {bits} bits, below plain", "at most 1.5 points",
                f"{value:.1f} [{low:.1f}, {high:.1f}]", 1.5 - value, 1.5 - high, 1.5 - low,
            )  # fmt: skip


def _on_integers(cells: list[Row]) -> Iterator[Claim]:
    """(iv): the simulation's verdict against the engine's, pair by pair."""
    for name in dict.fromkeys(str(row["defence"]) for row in cells):
        rows = [row for row in of(cells, name) if "sim_only" in row]
        for spoken, of_kind in (
            ("patches crafted elsewhere", [row for row in rows if row["tier"] != "T4"]),
            ("patches searched on the engine", [row for row in rows if row["tier"] == "T4"]),
        ):
            if of_kind:
                simulated, engine, pairs = (
                    sum(cast(int, row[side]) for row in of_kind)
                    for side in ("sim_only", "engine_only", "both_eligible")
                )
                yield Claim(f"(iv) {name}, {spoken}: fooled in simulation only / on engine only",
                            "reported", f"{simulated} / {engine} of {pairs}")  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """Of two mean rates, in points, with the interval over shared draws."""

    value: float
    low: float
    high: float

    @property
    def text(self) -> str:
        return f"{self.value:+.1f} points [{self.low:.1f}, {self.high:.1f}]"


def _difference(first: list[Row], second: list[Row]) -> Difference:
    """The mean rate of the cells ``first`` minus that of ``second``."""
    rates = [100 * cast(float, mean_asr(rows)) for rows in (first, second)]
    drawn = [cast(Floats, sum(map(samples, rows))) / len(rows) for rows in (first, second)]
    return Difference(rates[0] - rates[1], *paper_draws.middle(100 * (drawn[0] - drawn[1])))


def _ahead(claim: str, mine: list[Row], theirs: list[Row], *, wanted: float) -> Iterable[Claim]:
    if mine and theirs:
        lead = _difference(theirs, mine)
        rates = [100 * cast(float, mean_asr(rows)) for rows in (mine, theirs)]
        found = f"{rates[0]:.1f} against {rates[1]:.1f}: {_difference(mine, theirs).text}"
        yield Claim(claim, f"{wanted:g} points lower", found,
                    *(each - wanted for each in (lead.value, lead.low, lead.high)))  # fmt: skip


def of(
    cells: list[Row], defence: str, *, tier: str | None = None, bits: int | None = None,
    patch: str | None = None, victim: str = "",
) -> list[Row]:  # fmt: skip
    """The cells of one network."""
    return [
        row for row in cells
        if row["defence"] == defence and tier in (None, row["tier"]) and bits in (None, row["bits"])
        and patch in (None, row["patch"]) and victim in str(row["victim"])
    ]  # fmt: skip


def mean_asr(rows: list[Row]) -> float | None:
    """None where there is no cell."""
    return mean(cast(float, row["asr"]) for row in rows) if rows else None


def is_seen(scale: Scale, row: Row) -> bool:
    """Whether training showed patches of this size."""
    return row["patch"] == f"{scale.sizes[0]}x{scale.sizes[0]}"


def widths(scale: Scale) -> list[int]:
    """The quantized ones."""
    return [bits for bits in scale.widths if bits != 32]


def _from_float(row: Row) -> bool:
    return "undefended fp32" in str(row["victim"])


def _from_another(row: Row) -> bool:
    """Crafted on the network itself at another width."""
    victim = str(row["victim"])
    return victim.startswith("own w") and victim != f"own w{row['bits']}"
