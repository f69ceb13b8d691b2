"""Two runs side by side: each attack's success on the same images, paired, and what else changed.

Rows are pairs when everything they were asked to do is the same: engine, width, attack, what its
maker knew, goal, size, places, seeds and images. Each run has its own patch, so a difference is one
of model *and* patch made for it. This project's definition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .. import metrics, statistics
from ..errors import BadInput
from ..results import Outcomes
from ..types import Json, Result
from . import words
from .document import Document
from .reading import Object
from .rows import Row
from .section import Section, table
from .warnings import title

Differences = tuple[statistics.Difference, statistics.Difference, statistics.Difference]
"""Of success, clean accuracy and robust accuracy, second run less first."""


@dataclass(frozen=True, eq=False)
class Pair:
    """One attack in two runs. Differences are second less first, in fractions.

    - ``asr``: on the images both engines get right without the patch; ``clean``, ``robust``: share
      of right labels without and with the patch, on all images.
    - ``p``: McNemar's exact test of ``asr``, ``p_holm`` adjusted over all pairs of the comparison.
    """

    first: Row
    second: Row
    asr: statistics.Difference
    clean: statistics.Difference
    robust: statistics.Difference
    p: float
    p_holm: float

    @property
    def name(self) -> str:
        result = self.first.result
        return f"{title(result.engine, result.bits)} {result.attack}, {self.first.size} px"

    def as_json(self) -> dict[str, Json]:
        result = self.first.result
        return {
            "engine": result.engine,
            "bits": result.bits,
            "attack": result.attack,
            "goal": result.goal,
            "target": result.target,
            "tier": result.tier,
            "placement": result.placement,
            "patch_size_px": result.patch_size_px,
            "asr_first": self.first.asr,
            "asr_second": self.second.asr,
            **{
                f"{name}_{key}": value
                for name, found in (("asr", self.asr), ("clean", self.clean),
                                    ("robust", self.robust))
                for key, value in (("difference", found.value), ("low", found.low),
                                   ("high", found.high))
            },
            "first_only": self.asr.second_only,
            "second_only": self.asr.first_only,
            "n": self.asr.n,
            "p_mcnemar": self.p,
            "p_holm": self.p_holm,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two runs. ``unpaired``: why rows have no pair; ``changed``: name, first and second value."""

    first: Document
    second: Document
    pairs: tuple[Pair, ...]
    unpaired: tuple[str, ...]
    changed: tuple[tuple[str, str, str], ...]

    def as_json(self) -> dict[str, Json]:
        return {
            "first": self.first.evidence.run,
            "second": self.second.evidence.run,
            "pairs": [pair.as_json() for pair in self.pairs],
            "unpaired": list(self.unpaired),
            "changed": [
                {"what": what, "first": before, "second": after}
                for what, before, after in self.changed
            ],
        }


def compare(first: Document, second: Document) -> Comparison:
    """The comparison of two runs from their rows, labels and manifests."""
    unpaired: list[str] = []
    found: list[tuple[Row, Row, Differences]] = []
    before, after = _by_kind(first, unpaired), _by_kind(second, unpaired)
    for kind in before:
        if kind not in after:
            unpaired.append(f"Only {first.evidence.run} has {_said(before[kind])}.")
            continue
        try:
            one = first.evidence.store.outcomes(before[kind].result.key)
            other = second.evidence.store.outcomes(after[kind].result.key)
        except BadInput as error:
            unpaired.append(f"{_said(before[kind])}: {error.fact}")
            continue
        paired = _paired(one, other, target=before[kind].result.target)
        if paired is None:
            unpaired.append(f"{_said(before[kind])}: no image is right on both engines.")
        else:
            found.append((before[kind], after[kind], paired))
    unpaired += [
        f"Only {second.evidence.run} has {_said(after[kind])}."
        for kind in after
        if kind not in before
    ]
    tested = {
        str(at): metrics.mcnemar(asr.first_only, asr.second_only)
        for at, (_, _, (asr, _, _)) in enumerate(found)
    }
    adjusted = statistics.holm(tested)
    pairs = tuple(
        Pair(one, other, *differences, p=tested[str(at)], p_holm=adjusted[str(at)])
        for at, (one, other, differences) in enumerate(found)
    )
    return Comparison(
        first, second, pairs, tuple(unpaired),
        tuple(_changes(first.evidence.stages, second.evidence.stages)),
    )  # fmt: skip


def section(found: Comparison, *, number: int) -> Section:
    """The comparison as a section of a page, the ``number``-th of its kind."""
    names = found.first.evidence.run, found.second.evidence.run
    rows = [
        [pair.name, words.goal(pair.first), pair.first.result.placement,
         words.rate(pair.first), words.rate(pair.second), _points(pair.asr),
         f"{pair.asr.second_only} / {pair.asr.first_only}", str(pair.asr.n), f"{pair.p:.2g}",
         f"{pair.p_holm:.2g}", _points(pair.clean), _points(pair.robust)]
        for pair in found.pairs
    ]  # fmt: skip
    tables = [
        table("Paired differences", (
            "attack", "goal", "places", "ASR, first", "ASR, second", "difference, points [95 %]",
            "fooled in first / second only", "n", "p", "p (Holm)", "clean accuracy, points",
            "robust accuracy, points"), rows=rows),
        table("What changed in the manifests", ("what", *names), rows=found.changed),
    ]  # fmt: skip
    missing = list(found.unpaired)
    if not found.pairs:
        missing.insert(0, "No attack was run in both runs with the same settings and images.")
    said = [
        f"First is {names[0]}, second is {names[1]}. Each pair is the same attack on the same "
        "images; differences of success are over images both engines get right without a patch, "
        "those of accuracy over all. Each run has a patch made for it. p: McNemar's exact test; "
        f"Holm over the {len(found.pairs)} pairs."
    ]
    said += [
        f"{pair.name}: {statistics.no_difference(pair.asr)}"
        for pair in found.pairs
        if pair.asr.low <= 0 <= pair.asr.high
    ]
    if not found.changed:
        said.append("The manifests differ in nothing but times.")
    return Section(
        f"comparison-{number}", f"{names[0]} against {names[1]}", tuple(said), tuple(missing),
        tuple(one for one in tables if one.rows),
    )  # fmt: skip


def _by_kind(document: Document, unpaired: list[str]) -> dict[tuple[object, ...], Row]:
    """The rows by what they were asked to do; those asked twice cannot be told apart."""
    counted = Counter(_kind(row.result) for row in document.rows)
    rows = {_kind(row.result): row for row in document.rows}
    for kind in [kind for kind, times in counted.items() if times > 1]:
        unpaired.append(
            f"{document.evidence.run} has {counted[kind]} rows of {_said(rows.pop(kind))} with the "
            "same settings, so none is compared."
        )
    return rows


def _kind(result: Result) -> tuple[object, ...]:
    return (
        result.engine, result.bits, result.attack, result.knowledge, result.victim, result.goal,
        result.target, result.tier, result.threat, result.patch_rows_px, result.patch_columns_px,
        result.mask_digest, result.patch_seed, result.placement, result.seed, result.data_digest,
    )  # fmt: skip


def _paired(one: Outcomes, other: Outcomes, *, target: int | None) -> Differences | None:
    """Second less first of success, clean and robust accuracy; ``None`` without a common image."""
    truth = one.truth
    able = metrics.eligible(one.clean.labels, truth, target=target)
    able &= metrics.eligible(other.clean.labels, truth, target=target)
    if not able.any():
        return None
    won = [metrics.succeeded(each.patched.labels, truth, target=target) for each in (other, one)]
    return (
        statistics.compared(won[0][able], won[1][able]),
        statistics.compared(other.clean.labels == truth, one.clean.labels == truth),
        statistics.compared(other.patched.labels == truth, one.patched.labels == truth),
    )


def _changes(
    first: Mapping[str, Object], second: Mapping[str, Object]
) -> Iterator[tuple[str, str, str]]:
    """Leaves of two manifests that differ, by their path; clock times aside.

    A stage that one of them lacks is one line.
    """
    for stage in sorted({*first, *second}):
        if stage not in first or stage not in second:
            sides = (words.NOT_RUN if stage not in each else "run" for each in (first, second))
            yield stage, next(sides), next(sides)
            continue
        before, after = dict(_leaves(first[stage])), dict(_leaves(second[stage]))
        for name in sorted({*before, *after}):
            if before.get(name) != after.get(name) and name != "finished_utc":
                yield f"{stage}: {name}", before.get(name, "-"), after.get(name, "-")


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        yield path, " ".join(map(str, value))
    else:
        yield path, str(value)


def _said(row: Row) -> str:
    result = row.result
    return (
        f"{title(result.engine, result.bits)} {result.attack} ({words.goal(row)}, {row.size} px, "
        f"{result.placement})"
    )


def _points(found: statistics.Difference) -> str:
    return f"{100 * found.value:+.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"
