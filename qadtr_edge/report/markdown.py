"""The report as a page of Markdown, and its summary table as rows of text."""

from __future__ import annotations

from collections.abc import Sequence

from ..types import Json
from . import words
from .document import Document, Line
from .reading import Object
from .rows import Row
from .warnings import title

SUMMARY = (
    "engine", "ran as", "parity", "strongest attack", "ASR [95 %]", "control", "excess",
    "clean acc.", "robust acc.", "sim / engine only (p)", "p50 / p90 / p99 ms", "images/s",
    "against fp32", "size kB",
)  # fmt: skip

SHORT = (
    "engine", "ran as", "parity", "strongest attack", "ASR [95 %]", "control", "clean acc.",
    "p50 / p90 / p99 ms", "against fp32",
)  # fmt: skip
"""The columns of ``SUMMARY`` that fit a terminal."""

DETAIL = (
    "engine", "attack", "goal", "size px", "places", "fooled / eligible", "ASR [95 %]", "excess",
    "robust acc.", "ASR in simulation", "sim / engine only (p)", "n",
)  # fmt: skip


def page(document: Document) -> str:
    """The whole report. The same evidence gives the same bytes."""
    parts = [
        f"# Patch robustness of run {document.evidence.run}",
        *(_sentence(line) for line in document.lines if line.strongest),
        "## Engines",
        _table(SUMMARY, summary(document)),
        latency_note(document),
        "## Attacks",
        _table(DETAIL, detail(document))
        if document.rows
        else f"{words.NOT_RUN}: `qadtr-edge attack`.",
        "ASR = fooled / eligible; eligible images are right on this engine without the patch (and, "
        "if targeted, not of the target class). Intervals are Wilson 95 %. Excess = ASR minus that "
        "of the strongest of grey, noise and crop with the same size, places and images. p: exact "
        "McNemar on images eligible both in simulation and on the engine.",
        "## Read before quoting",
        "\n".join(f"- {text}" for text in document.warnings) or "Nothing to add.",
        "## Where it comes from",
        _provenance(document),
    ]
    return "\n\n".join(parts) + "\n"


def summary(document: Document, *, columns: Sequence[str] = SUMMARY) -> list[list[str]]:
    """One row of text per engine and width; ``columns`` chooses among those of ``SUMMARY``."""
    rows = [dict(zip(SUMMARY, _summary_row(line), strict=True)) for line in document.lines]
    return [[row[column] for column in columns] for row in rows]


def brief(found: Sequence[Document]) -> str:
    """The summary table of each run, for a page that holds more."""
    return "\n\n".join(
        f"### Run {one.evidence.run}\n\n{_table(SHORT, summary(one, columns=SHORT))}"
        for one in found
    )


def detail(document: Document) -> list[list[str]]:
    """One row of text per result, by the columns of ``DETAIL``."""
    return [_detail_row(row) for row in document.rows]


def _summary_row(line: Line) -> list[str]:
    row, single, many = line.strongest, line.timed(1), line.timed(64)
    return [
        title(line.engine.engine, line.engine.bits),
        words.ran_as(line.engine),
        words.parity(line.engine),
        words.NOT_RUN if row is None else row.result.attack,
        words.NOT_RUN if row is None else words.rate(row),
        words.percent(row.control_asr if row else None),
        words.points(row.asr_excess if row else None),
        words.percent(row.clean_accuracy if row else None),
        words.percent(row.robust_accuracy if row else None),
        words.paired(row),
        words.milliseconds(single),
        words.number(many, "images_per_s", shape="{:,.0f}"),
        words.number(single, "speedup_vs_fp32", shape="{:.2f}x"),
        f"{line.engine.size_bytes / 1000:,.0f}",
    ]


def _detail_row(row: Row) -> list[str]:
    result, counts = row.result, row.result.counts
    return [
        title(result.engine, result.bits),
        f"{result.attack} (control)" if row.is_control else result.attack,
        words.goal(row),
        row.size,
        result.placement,
        f"{counts.fooled} / {counts.eligible}",
        words.rate(row),
        "-" if row.is_control else words.points(row.asr_excess),
        words.percent(row.robust_accuracy),
        words.percent(row.sim_asr),
        words.paired(row),
        str(counts.n),
    ]


def _sentence(line: Line) -> str:
    row = line.strongest
    assert row is not None
    counts = row.result.counts
    control = (
        "; no control of as many tries was run"
        if row.control is None
        else f"; the strongest control of that size, {row.control.attack}, fools "
        f"{words.percent(row.control_asr)}"
    )
    goal = "" if row.result.target is None else f" towards class {row.result.target}"
    return (
        f"**{title(line.engine.engine, line.engine.bits)}** ({words.ran_as(line.engine)}): the "
        f"strongest patch tried{goal}, {row.result.attack} at {row.size} px, fools "
        f"{counts.fooled} of {counts.eligible} images, {words.rate(row)}{control}."
    )


def latency_note(document: Document) -> str:
    plan = document.evidence.bench_plan
    if plan is None:
        return f"Latency: {words.NOT_RUN} (`qadtr-edge bench`)."
    return f"Latency ({plan} mode): percentiles at batch 1, images/s at batch 64."


def _provenance(document: Document) -> str:
    stages = document.evidence.stages
    columns = ("stage", "command", "commit", "finished (UTC)")
    lines = [[name, *stage(entry)] for name, entry in sorted(stages.items(), key=finished)]
    places: dict[str, list[str]] = {}
    for name, entry in sorted(stages.items(), key=finished):
        places.setdefault(place(entry), []).append(name)
    engines = [
        [title(line.engine.engine, line.engine.bits), f"`{line.engine.digest}`"]
        for line in document.lines
    ]
    blocks = [_table(columns, lines)] if lines else ["No stage recorded itself."]
    blocks += [f"{', '.join(names)} ran on: {place}." for place, names in places.items()]
    if engines:
        blocks.append(_table(("engine", "SHA-256 of the file"), engines))
    return "\n\n".join(blocks)


def stage(entry: Object) -> list[str]:
    argv, git = entry.get("argv"), _inner(entry, "git")
    commit = str(git.get("commit") or "not a checkout")[:12]
    return [
        f"`{' '.join(map(str, argv))}`" if isinstance(argv, list) else "-",
        f"{commit} with changes" if git.get("dirty") else commit,
        str(entry.get("finished_utc")),
    ]


def place(entry: Object) -> str:
    """Machine and versions of a stage."""
    device, versions = _inner(entry, "device"), _inner(entry, "versions")
    software = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{device.get('cpu')}, {device.get('cores')} cores, {device.get('platform')}; {software}"


def _inner(entry: Object, key: str) -> dict[str, Json]:
    value = entry.get(key)
    return value if isinstance(value, dict) else {}


def finished(item: tuple[str, Object]) -> tuple[str, str]:
    return str(item[1].get("finished_utc")), item[0]


def _table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---"] * len(columns)
    cells = ([cell.replace("|", "\\|") for cell in line] for line in (columns, rule, *lines))
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
