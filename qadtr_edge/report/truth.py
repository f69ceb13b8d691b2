"""Which kernels ran, and where an engine departs from the integer graph, layer by layer."""

from __future__ import annotations

from ..analysis.finding import Table
from ..types import FLOAT_BITS
from . import words
from .document import Document
from .engine import EngineEvidence
from .reading import Object
from .section import Section, table
from .warnings import title


def truth(document: Document) -> Section:
    """The gate and the parity of every engine, then each layer's precision and mismatches."""
    engines = [line.engine for line in document.lines]
    missing = []
    for engine in engines:
        if engine.facts is None:
            missing.append(
                f"{_name(engine)}: no facts.json speaks of this file (qadtr-edge export)."
            )
        if engine.parity is None and engine.bits != FLOAT_BITS:
            missing.append(f"{_name(engine)}: parity was not run (qadtr-edge verify).")
        elif engine.parity is not None and not _layers(engine.parity):
            missing.append(f"{_name(engine)}: no layer was traced, only logits were compared.")
    if not engines:
        missing.append("No engine was exported: qadtr-edge export.")
    tables = [table("Gate and parity", _COLUMNS, rows=[_row(one) for one in engines])]
    tables += [_by_layer(one, [e for e in engines if e.engine == one]) for one in
               dict.fromkeys(engine.engine for engine in engines)]  # fmt: skip
    return Section(
        name="truth",
        title="Integer or not, and parity",
        said=(
            "An engine is called integer when every weighted layer, addition and pooling between "
            "the first quantization and the last matrix product was seen to run on integers. "
            "Parity counts logits that differ from the exact execution of the integer graph, bit "
            "for bit.",
        ) if engines else (),
        missing=tuple(missing),
        tables=tuple(tables) if engines else (),
    )  # fmt: skip


_COLUMNS = (
    "engine", "runtime", "ran as", "integer kernels", "float layers", "images", "parity",
    "largest difference", "labels that differ", "first divergent layer",
)  # fmt: skip


def _row(engine: EngineEvidence) -> list[str]:
    facts, parity = engine.facts or {}, engine.parity or {}
    floats = parity.get("float_layers", facts.get("float_layers"))
    named = ", ".join(map(str, floats)) or "none" if isinstance(floats, list) else words.NOT_RUN
    if isinstance(floats, list) and engine.bits == FLOAT_BITS:
        named = f"all ({len(floats)})"
    return [
        _name(engine),
        str(facts.get("runtime", parity.get("runtime", words.NOT_RUN))),
        words.ran_as(engine),
        str(parity.get("integer_kernels", facts.get("integer_kernels", words.NOT_RUN))),
        named,
        _cell(parity, "images"),
        words.parity(engine),
        _cell(parity, "max_abs_diff"),
        _cell(parity, "argmax_mismatches"),
        str(parity.get("first_divergent_layer") or "none") if parity else words.NOT_RUN,
    ]


def _cell(parity: Object, key: str) -> str:
    return str(parity[key]) if key in parity else words.NOT_RUN


def _by_layer(name: str, engines: list[EngineEvidence]) -> Table:
    """One row a layer, one column a width: what it was seen to run as, and codes that differ."""
    observed = {engine.bits: _by_name(engine.facts, "name") for engine in engines}
    traced = {engine.bits: _by_name(engine.parity, "layer") for engine in engines}
    layers = dict.fromkeys(
        layer for found in (*observed.values(), *traced.values()) for layer in found
    )
    rows = []
    for layer in layers:
        cells = [layer]
        for engine in engines:
            said = observed[engine.bits].get(layer, {}).get("observed")
            entry = traced[engine.bits].get(layer)
            absent = "no such layer" if observed[engine.bits] else "not observed"
            text = absent if said is None else str(said)
            if entry is not None:
                text += f"; {entry.get('mismatches')} of {entry.get('elements')} differ"
            cells.append(text)
        rows.append(cells)
    return table(
        f"{name}, layer by layer", ("layer", *(_name(engine) for engine in engines)), rows=rows
    )


def _by_name(found: Object | None, key: str) -> dict[str, Object]:
    return {str(layer.get(key)): layer for layer in _layers(found or {})}


def _layers(found: Object) -> list[Object]:
    layers = found.get("layers")
    return (
        [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []
    )


def _name(engine: EngineEvidence) -> str:
    return title(engine.engine, engine.bits)
