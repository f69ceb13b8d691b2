"""``qadtr-edge report``: what was measured, on one page; two runs compared; the gate of a build."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import console
from ..errors import BadInput, MissingDependency
from ..files import write_text
from ..runs import DEFAULT_ROOT, Run, open_run
from ..types import Json
from . import options

if TYPE_CHECKING:
    from ..report.compare import Comparison
    from ..report.document import Document
    from ..report.gate import Case
    from ..report.section import Section


def report(
    run: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Run folders. Without any: the newest run. Others are compared with the first."
        ),
    ] = None,
    *,
    same: Annotated[
        list[Path] | None,
        typer.Option("--run", metavar="RUN", help="A run folder, named as the other verbs do."),
    ] = None,
    runs: options.RunsRoot = DEFAULT_ROOT,
    html: Annotated[
        Path | None, typer.Option(help="Write the page there: one file for all runs.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Folder for the figures, as SVG and PDF.")
    ] = None,
    tables: Annotated[
        Path | None, typer.Option(help="Folder for the tables, as CSV and LaTeX (booktabs).")
    ] = None,
    data_root: options.DataRoot = None,
    max_asr: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Exit 1 when a worst case is above this; of several runs, not of the first.",
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="Exit 1 when accuracy falls by more, against the first run."
        ),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(help="Write the thresholds as JUnit XML there.")
    ] = None,
    summary: Annotated[
        Path | None, typer.Option(help="Write a summary in GitHub's Markdown there.")
    ] = None,
    json: options.JsonFlag = False,
) -> None:
    """Write report.md and report.html from what run folders hold. Runs nothing."""
    from ..report import compare, document, evidence, gate, markdown, page, papers

    opened = [open_run(path, runs) for path in [*(run or ()), *(same or ())] or [None]]
    if max_drop is not None and len(opened) < 2:
        raise BadInput(
            "--max-drop compares runs, and one run was given.",
            "Give the run to compare with first: qadtr-edge report BEFORE AFTER --max-drop 0.02.",
        )
    found = [document.compose(evidence.read(one)) for one in opened]
    compared = [compare.compare(found[0], other) for other in found[1:]]
    sections = [page.sections(one, root=data_root) for one in found]
    pages = []
    for one, composed, its in zip(opened, found, sections, strict=True):
        write_text(one.report, markdown.page(composed))
        console.say(f"Written: {one.report}")
        pages.append(_write_page(one, its, asked=html is not None))
    whole = _together(found, sections, compared)
    if html is not None:
        alone = pages[0] if len(pages) == 1 else None
        write_text(html, alone or page.render(_headed(*opened), whole))
        console.say(f"Written: {html}")
    for folder, write in ((figures, papers.write_figures), (tables, papers.write_tables)):
        if folder is not None:
            console.say(f"Written: {len(write(whole, folder))} files in {folder}")
    cases: list[Case] = []
    if max_asr is not None:
        judged = found[1:] or found  # of several the first is what they are compared with
        cases += [case for one in judged for case in gate.worst_cases(one, max_asr=max_asr)]
    if max_drop is not None:
        cases += [case for one in compared for case in gate.drops(one, max_drop=max_drop)]
    if junit is not None:
        write_text(junit, gate.junit(cases))
    if summary is not None:
        write_text(summary, f"{markdown.brief(found)}\n\n{gate.summary(cases)}")
    if json:
        console.print_json(
            {
                "runs": [{**one.as_json(), **_whole_json(one)} for one in found],
                "comparisons": [one.as_json() for one in compared],
                "thresholds": [case.as_json() for case in cases],
            }
        )
    else:
        _show(found, compared, cases)
    if any(case.status != "passed" for case in cases):
        for case in cases:
            if case.status != "passed":
                console.say(f"{case.run}, {case.name}: {case.status}. {case.said}")
        raise typer.Exit(1)


def _write_page(run: Run, sections: Sequence[Section], *, asked: bool) -> str | None:
    """Writes report.html into the run folder and returns it, or says which package it needs.

    A device reports without them; a page that was asked for by name is refused instead.
    """
    from ..report import page

    try:
        text = page.render(_headed(run), sections)
    except MissingDependency as error:
        if asked:
            raise
        console.say(f"No report.html: {error.fact} {error.remedy}")
        return None
    write_text(path := run.report.with_suffix(".html"), text)
    console.say(f"Written: {path}")
    return text


def _headed(*runs: Run) -> str:
    return f"Patch robustness of run {', '.join(run.name for run in runs)}"


def _together(
    found: Sequence[Document],
    sections: Sequence[Sequence[Section]],
    compared: Sequence[Comparison],
) -> Sequence[Section]:
    """The sections of one page for all runs: the comparisons first."""
    from ..report import compare, page

    if len(found) == 1:
        return sections[0]
    names = [one.evidence.run for one in found]
    beside = [compare.section(one, number=at) for at, one in enumerate(compared, start=1)]
    return (*beside, *page.of_runs(list(zip(names, sections, strict=True))))


def _whole_json(document: Document) -> dict[str, Json]:
    """What follows from the rows of a run together: transfer by judge, equality by engine."""
    from ..report import equal, matrix

    return {
        "transfer": [one.as_json() for one in matrix.reached(document)],
        "equivalence": [one.as_json() for one in equal.tested(document)],
    }


def _show(found: Sequence[Document], compared: Sequence[Comparison], cases: Sequence[Case]) -> None:
    """The answer on stdout: a table and the warnings of each run, comparisons, thresholds."""
    from ..report import compare, markdown

    for one in found:
        lines = markdown.summary(one, columns=markdown.SHORT)
        console.print_table(markdown.SHORT, lines, title=f"Run {one.evidence.run}")
        for text in one.warnings:
            console.answer(f"- {text}")
    for pair in compared:
        section = compare.section(pair, number=1)
        for table in section.tables:
            console.print_table(table.columns, table.rows, title=f"{section.title}: {table.title}")
        for text in section.missing:
            console.answer(f"- {text}")
    for case in cases:
        console.answer(f"{case.status}: {case.run}, {case.name}: {case.said}")
