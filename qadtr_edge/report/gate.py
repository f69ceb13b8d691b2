"""The regression gate: thresholds on what was measured, for a build server to stop at.

A threshold on what was not measured is broken: what was not run has not passed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

from ..types import FLOAT_BITS, Json
from . import words
from .compare import Comparison
from .document import Document
from .warnings import title

Status = Literal["passed", "failed", "not run"]


@dataclass(frozen=True)
class Case:
    """One threshold on one engine of one run: what was found, and whether it holds."""

    run: str
    name: str
    status: Status
    said: str

    def as_json(self) -> dict[str, Json]:
        return {"run": self.run, "name": self.name, "status": self.status, "said": self.said}


def worst_cases(document: Document, *, max_asr: float) -> list[Case]:
    """The deployed worst-case ASR of every quantized engine against ``max_asr``, a fraction."""
    run, cases = document.evidence.run, []
    for line in document.lines:
        if line.engine.bits == FLOAT_BITS:
            continue
        name = f"{title(line.engine.engine, line.engine.bits)}: worst-case ASR"
        found = line.worst
        if found is None:
            cases.append(Case(run, name, "not run", "No attack with labels: qadtr-edge attack."))
            continue
        cases.append(
            Case(
                run,
                name,
                "failed" if found.asr > max_asr else "passed",
                f"{words.rate(found)} of {found.eligible} images; at most "
                f"{100 * max_asr:g} % is allowed.",
            )
        )
    return cases or [Case(run, "worst-case ASR", "not run", "No quantized engine was exported.")]


def drops(found: Comparison, *, max_drop: float) -> list[Case]:
    """Clean and robust accuracy, second run against first: neither may drop by more."""
    run = found.second.evidence.run
    cases = list(_drops(found, max_drop=max_drop, run=run))
    nothing = f"No attack was run alike in {found.first.evidence.run} and {run}."
    return cases or [Case(run, "drop in accuracy", "not run", nothing)]


def _drops(found: Comparison, *, max_drop: float, run: str) -> Iterator[Case]:
    for pair in found.pairs:
        if pair.first.is_control:
            continue
        for name, lost in (("clean accuracy", pair.clean), ("robust accuracy", pair.robust)):
            yield Case(
                run,
                f"{pair.name}, {pair.first.result.placement}: {name}",
                "failed" if -lost.value > max_drop else "passed",
                f"{100 * lost.value:+.1f} points [{100 * lost.low:.1f}, {100 * lost.high:.1f}] "
                f"against {found.first.evidence.run}; a drop of {100 * max_drop:g} is allowed.",
            )


def junit(cases: Sequence[Case]) -> str:
    """JUnit XML: a failure where a threshold is broken, an error where nothing was measured."""
    root = ElementTree.Element("testsuites")
    for run in dict.fromkeys(case.run for case in cases):
        mine = [case for case in cases if case.run == run]
        suite = ElementTree.SubElement(
            root, "testsuite", name=f"qadtr-edge {run}", tests=str(len(mine)),
            failures=str(sum(case.status == "failed" for case in mine)),
            errors=str(sum(case.status == "not run" for case in mine)),
        )  # fmt: skip
        for case in mine:
            element = ElementTree.SubElement(suite, "testcase", classname=run, name=case.name)
            if case.status == "passed":
                ElementTree.SubElement(element, "system-out").text = case.said
            else:
                kind = "failure" if case.status == "failed" else "error"
                ElementTree.SubElement(element, kind, message=case.said)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


_MARKS = {"passed": "✅ passed", "failed": "❌ failed", "not run": "⚠️ not run"}


def summary(cases: Sequence[Case]) -> str:
    """The gate as GitHub-flavoured Markdown; without thresholds it says so."""
    if not cases:
        return "No threshold was set: `--max-asr`, `--max-drop`.\n"
    broken = sum(case.status != "passed" for case in cases)
    head = f"**{broken} of {len(cases)} thresholds broken.**" if broken else (
        f"**All {len(cases)} thresholds hold.**")  # fmt: skip
    lines = ["| run | threshold | status | found |", "| --- | --- | --- | --- |"]
    lines += [f"| {case.run} | {case.name} | {_MARKS[case.status]} | {case.said} |"
              for case in cases]  # fmt: skip
    return f"{head}\n\n" + "\n".join(lines) + "\n"
