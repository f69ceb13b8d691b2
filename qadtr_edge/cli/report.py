"""``qadtr-edge report``: what was measured, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import console
from ..files import write_text
from ..runs import DEFAULT_ROOT, open_run
from . import options


def report(
    run: Annotated[
        list[Path] | None, typer.Argument(help="Run folders. Without any: the newest run.")
    ] = None,
    *,
    runs: options.RunsRoot = DEFAULT_ROOT,
    json: options.JsonFlag = False,
) -> None:
    """Write report.md from what the run folder holds, and print its summary. Runs nothing."""
    from ..report import document, evidence, markdown

    found = []
    for opened in [open_run(path, runs) for path in run] if run else [open_run(None, runs)]:
        composed = document.compose(evidence.read(opened))
        write_text(opened.report, markdown.page(composed))
        found.append(composed)
        if not json:
            lines = markdown.summary(composed, columns=markdown.SHORT)
            console.print_table(markdown.SHORT, lines, title=f"Run {opened.name}")
            for text in composed.warnings:
                console.answer(f"- {text}")
            console.say(f"Written: {opened.report}")
    if json:
        console.print_json({"runs": [composed.as_json() for composed in found]})
