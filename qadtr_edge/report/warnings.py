"""What a reader must know before quoting a number of this run. Each is one sentence."""

from __future__ import annotations

from collections.abc import Iterator

from ..statistics import INDICATIVE_N
from ..types import FLOAT_BITS
from .engine import EngineEvidence
from .evidence import Evidence
from .rows import Row


def warnings(evidence: Evidence, rows: tuple[Row, ...]) -> tuple[str, ...]:
    """Every warning of a run, the gravest first, each once."""
    found = [
        *evidence.unread,
        *_about_attacks(rows),
        *(text for engine in evidence.engines for text in _about_engine(engine)),
        *_about_rows(evidence, rows),
        *_about_latency(evidence.engines),
    ]
    return tuple(dict.fromkeys(found))


def title(engine: str, bits: int) -> str:
    """``ort 8-bit``, ``ort float``."""
    return f"{engine} {'float' if bits == FLOAT_BITS else f'{bits}-bit'}"


def _about_attacks(rows: tuple[Row, ...]) -> Iterator[str]:
    attacks = sorted({row.result.attack for row in rows if not row.is_control})
    if not rows:
        yield "No attack was run: `qadtr-edge attack`."
    elif not attacks:
        yield "Only controls were run, no attack."
    else:
        yield (
            "Every attack success rate is a lower bound, as good as the best attack tried; "
            f"tried: {', '.join(attacks)}."
        )
        if all(row.result.tier not in {"T4", "T5", "T6", "T7"} for row in rows):
            yield "No attack that adapts to the engine itself was run."


def _about_engine(engine: EngineEvidence) -> Iterator[str]:
    name = title(engine.engine, engine.bits)
    if engine.bits == FLOAT_BITS:
        return
    if engine.precision is None:
        yield f"{name}: which kernels ran was not observed; it may not be called INT8."
    elif engine.precision != "integer":
        source = engine.parity or engine.facts or {}
        layers = source.get("float_layers")
        named = ", ".join(map(str, layers)) if isinstance(layers, list) and layers else "not named"
        yield (
            f"{name} ran in {engine.precision} precision (float layers: {named}); "
            "it may not be called INT8."
        )
    if engine.parity is None:
        yield f"{name}: parity with the integer graph was not verified: `qadtr-edge verify`."
    elif engine.parity.get("logit_mismatches"):
        where = engine.parity.get("first_divergent_layer") or "not known"
        yield (
            f"{name} differs from the integer graph in {engine.parity['logit_mismatches']} of "
            f"{engine.parity.get('logits_compared')} logits; first divergent layer: {where}."
        )
    for file in engine.outdated:
        yield f"{name}: {file} speaks of another engine file and was left out."


def _about_rows(evidence: Evidence, rows: tuple[Row, ...]) -> Iterator[str]:
    attacks = [row for row in rows if not row.is_control]
    yield from _listed(
        "measured on an engine file that no longer stands in the run folder, so left out of the "
        "engines' table",
        [row for row in rows if not evidence.stands(row.result)],
    )
    yield from _listed(
        f"fewer than {INDICATIVE_N} images, so the rate is only indicative",
        [row for row in rows if row.result.counts.n < INDICATIVE_N],
    )
    yield from _listed(
        "no occlusion control of the same size, places and images was run",
        [row for row in attacks if row.control is None],
    )
    yield from _listed(
        "no stronger than its control, so it shows nothing about the attack",
        [row for row in attacks if row.control is not None and row.asr <= (row.control_asr or 0.0)],
    )
    yield from _listed(
        "the simulation was not shown the same images",
        [row for row in attacks if row.sim_asr is None],
    )


def _listed(fact: str, rows: list[Row]) -> Iterator[str]:
    """One sentence for all the rows a fact is about."""
    about: dict[str, None] = {}
    for row in rows:
        about[f"{title(row.result.engine, row.result.bits)} {row.result.attack}"] = None
    if about:
        yield f"{fact[0].upper()}{fact[1:]}: {', '.join(about)}."


def _about_latency(engines: tuple[EngineEvidence, ...]) -> Iterator[str]:
    missing = [title(engine.engine, engine.bits) for engine in engines if not engine.latency]
    if missing:
        yield f"Latency was not measured (`qadtr-edge bench`): {', '.join(missing)}."
    shaky = [
        f"{title(engine.engine, engine.bits)} at batch {batch}"
        for engine in engines
        for batch, row in sorted(engine.latency.items())
        if row.get("stable") is not True
    ]
    if shaky:
        yield f"Latency was not stable and should not be quoted: {', '.join(shaky)}."
