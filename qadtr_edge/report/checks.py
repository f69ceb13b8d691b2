"""The automatic checks of the attack suite, as it wrote them, and the success of each tier."""

from __future__ import annotations

from ..types import FLOAT_BITS, Json
from . import words
from .document import Document
from .reading import Object
from .section import Section, table
from .warnings import title


def checks(document: Document) -> Section:
    """Verdict, checks and tiers of every engine and width the suite judged."""
    verdicts, lines, tiers, missing = [], [], [], []
    for cell in document.evidence.cells:
        bits = cell.get("bits")
        name = title(str(cell.get("engine")), bits if isinstance(bits, int) else FLOAT_BITS)
        worst = cell.get("worst_case_asr")
        verdicts.append([
            name, str(cell.get("suite") or "-"), str(cell.get("verdict")).replace("_", " "),
            str(cell.get("reason")), words.percent(worst if isinstance(worst, float) else None),
        ])  # fmt: skip
        standing = {line.engine.digest for line in document.lines}
        if cell.get("engine_digest") not in standing:
            missing.append(f"{name}: the checks are of an engine file that no longer stands.")
        listed = cell.get("checks")
        lines += [[name, *_check(one)] for one in (listed if isinstance(listed, list) else ())
                  if isinstance(one, dict)]  # fmt: skip
        for kind in ("by_tier", "by_threat"):
            table_of = cell.get(kind)
            tiers += [[name, *_tier(key, value)] for key, value in
                      (table_of.items() if isinstance(table_of, dict) else ())]  # fmt: skip
    if not document.evidence.cells:
        missing.append("The checks were not run: qadtr-edge attack --suite quick, default or full.")
    tables = []
    if verdicts:
        tables.append(table("Verdicts", ("engine", "suite", "verdict", "reason", "worst case"),
                            rows=verdicts))  # fmt: skip
    if tiers:
        tables.append(table("Success by tier and threat", ("engine", "tier or threat",
                            "fooled / eligible", "ASR [95 %]"), rows=tiers))  # fmt: skip
    if lines:
        tables.append(table("Checks", ("engine", "number", "check", "status", "found",
                            "interval", "remedy"), rows=lines))  # fmt: skip
    return Section(
        name="checks",
        title="Checks",
        said=("A check that was not run is not passed.",) if lines else (),
        missing=tuple(missing),
        tables=tuple(tables),
    )


def _check(check: Object) -> list[str]:
    status = str(check.get("status"))
    return [
        str(check.get("number")),
        str(check.get("name")),
        status if status == "pass" else status.upper(),
        str(check.get("figure")),
        _interval(check.get("interval")),
        "-" if status == "pass" else str(check.get("remedy")),
    ]


def _interval(value: Json) -> str:
    if isinstance(value, list) and len(value) == 2:
        low, high = value
        if isinstance(low, float | int) and isinstance(high, float | int):
            return f"[{100 * low:.1f}, {100 * high:.1f}] %"
    return "-"


def _tier(name: str, found: Json) -> list[str]:
    """One tier's union; a tier that was not run holds null."""
    if not isinstance(found, dict):
        return [name, words.NOT_RUN, words.NOT_RUN]
    asr, low, high = (found.get(key) for key in ("asr", "asr_low", "asr_high"))
    known = (
        isinstance(asr, float | int)
        and isinstance(low, float | int)
        and isinstance(high, float | int)
    )
    return [
        name,
        f"{found.get('fooled')} / {found.get('eligible')}",
        words.spread(asr, low, high=high) if known else words.NOT_RUN,  # type: ignore[arg-type]
    ]
