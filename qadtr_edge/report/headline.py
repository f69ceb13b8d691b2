"""The verdict in plain words: what was attacked, where, what came of it, and what was not run."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import BadInput
from ..integer import graph_file
from ..types import FLOAT_BITS
from ..verdict.worst import THREATS
from . import beyond, words
from .document import Document, Line
from .evidence import Evidence
from .reading import Object
from .section import Section, table
from .warnings import title
from .worst import settings, worst_by_threat

TIERS = {
    "T0": "controls (grey, noise, crop)",
    "T1": "patches made for all images",
    "T2": "location sweep on the engine",
    "T3": "adaptive white-box attack on single images",
    "T4": "score search on the engine, per image",
    "T5": "score search on the engine, one patch for all",
    "T6": "label-only search on the engine",
    "T7": "patches that fool the engine and not the float model",
    "T8": "certified bound",
}


def headline(document: Document) -> Section:
    """The first section: a reader who reads no further has the verdict and its limits."""
    said = [attacked(document.evidence)]
    said += [_sentence(line) for line in document.lines if line.engine.bits != FLOAT_BITS]
    said += [_sentence(line) for line in document.lines if line.engine.bits == FLOAT_BITS]
    said += [
        f"Verdict on {title(str(cell.get('engine')), _bits(cell))}: "
        f"{str(cell.get('verdict')).replace('_', ' ')}. {cell.get('reason')}"
        for cell in document.evidence.cells
    ]
    said += beyond.sentences(document)
    said.append(
        "A success rate is a lower bound, as good as the strongest attack tried; nothing here says "
        "that a model is robust."
    )
    threats = [row for line in document.lines for row in _by_threat(document, line)]
    return Section(
        name="verdict",
        title="Verdict",
        said=tuple(said),
        missing=tuple(_not_run(document)),
        tables=(
            table(
                "Worst case per image, by threat, each with all that weaker attackers may do",
                ("engine", "threat", "what the attacker may do", "attacks", "fooled / eligible",
                 "ASR [95 %]"),
                rows=threats,
            ),
        ) if threats else (),
    )  # fmt: skip


def attacked(evidence: Evidence) -> str:
    """Which model, on which data, as the manifest and the graphs say."""
    model = str(_option(evidence.stages.get("checkpoint"), "model") or "")
    data = str(_option(evidence.stages.get("attack"), "data") or "")
    for path in sorted(evidence.home.graphs.glob("w*a*.npz")):
        try:
            source = graph_file.load(path).source
        except BadInput:
            continue
        model, data = model or str(source.get("model", "")), data or str(source.get("data", ""))
        break
    known = f"Attacked: {model or 'a model whose name the run does not hold'}"
    return f"{known}, on images of {data}." if data else f"{known}."


def _option(entry: Object | None, name: str) -> object:
    options = None if entry is None else entry.get("options")
    return options.get(name) if isinstance(options, dict) else None


def _sentence(line: Line) -> str:
    """One engine at one width: what it ran as, the worst case, the simulation, speed, energy."""
    name, row, timed = title(line.engine.engine, line.engine.bits), line.strongest, line.timed(1)
    runtime = (line.engine.facts or {}).get("runtime")
    said = [f"{name} ({runtime or 'runtime not observed'}; ran as {words.ran_as(line.engine)})"]
    if row is None:
        said.append("was not attacked")
    else:
        said.append(f"is right on {words.percent(row.clean_accuracy)} of clean images")
        said.append(_worst(line))
        said.append(
            f"strongest single attack {row.result.attack} at {row.size} px with "
            f"{words.rate(row)}, in simulation {words.percent(row.sim_asr)}, "
            f"strongest control {words.percent(row.control_asr)}"
        )
        if line.white_box_left:
            said.append("its white-box attack is not quoted: searches on the engine beat it")
    said.append(f"latency p50 / p90 / p99 at batch 1, ms: {words.milliseconds(timed)}")
    said.append(f"energy: {words.energy(timed)}")
    return "; ".join(said) + "."


def _worst(line: Line) -> str:
    found = line.worst
    if found is None:
        return f"deployed worst-case ASR: {words.NOT_RUN} (the labels behind the rows are missing)"
    left = f", {found.unlabelled} without labels left out" if found.unlabelled else ""
    return (
        f"deployed worst-case ASR {words.rate(found)}: {found.fooled} of {found.eligible} images "
        f"fall to at least one of {found.attacks} attacks{left}, patches of {_sizes(line)}"
    )


def _sizes(line: Line) -> str:
    tried = settings(line.rows)
    return tried[0] if len(tried) == 1 else f"{', '.join(tried)} taken together"


def _by_threat(document: Document, line: Line) -> Iterator[list[str]]:
    try:
        each = worst_by_threat(line.rows, document.evidence.store)
    except BadInput:  # damaged labels
        return
    for threat, found in each.items():
        if found is not None:
            yield [
                title(line.engine.engine, line.engine.bits),
                threat,
                THREATS[threat],
                str(found.attacks),
                f"{found.fooled} / {found.eligible}",
                words.rate(found),
            ]


def _not_run(document: Document) -> Iterator[str]:
    """Everything a full report would hold and this folder does not."""
    yield from document.evidence.unread
    if not document.lines:
        yield "No engine was exported: qadtr-edge export."
    present = {row.result.tier for row in document.rows}
    present |= {"T8"} if document.evidence.certificates else set()
    for tier, meaning in TIERS.items():
        if tier not in present:
            yield f"{tier}, {meaning}: not run."
    for line in document.lines:
        name = title(line.engine.engine, line.engine.bits)
        if line.strongest is None:
            yield f"{name}: no attack was run (qadtr-edge attack)."
        if line.engine.bits != FLOAT_BITS and line.engine.parity is None:
            yield f"{name}: gate and parity were not run (qadtr-edge verify)."
        if not line.engine.latency:
            yield f"{name}: latency was not run (qadtr-edge bench)."
        elif words.energy(line.timed(1)) == words.NOT_RUN:
            yield f"{name}: energy was not run (qadtr-edge bench --energy)."
    if not document.evidence.cells:
        yield "The automatic checks were not run (qadtr-edge attack --suite default)."


def _bits(cell: Object) -> int:
    bits = cell.get("bits")
    return bits if isinstance(bits, int) else FLOAT_BITS
