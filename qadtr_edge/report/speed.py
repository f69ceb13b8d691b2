"""Robustness against latency: one row an engine file, and which engines no other beats on both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..analysis.figure import COLOURS, GREY
from . import markdown, words
from .document import Document, Line
from .section import Figure, Section, table
from .warnings import title

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def speed(document: Document) -> Section:
    """Everything that is known of each engine file in one row, and the Pareto figure."""
    joined = [(line, p50) for line in document.lines if (p50 := _p50_ms(line)) and line.worst]
    columns = (*markdown.SUMMARY, "worst case", "energy", "SHA-256")
    rows = [
        [*text, _worst(line), words.energy(line.timed(1)), line.engine.digest[:12]]
        for line, text in zip(document.lines, markdown.summary(document), strict=True)
    ]
    front = [title(line.engine.engine, line.engine.bits) for line, _ in joined
             if not _beaten(line, joined)]  # fmt: skip
    missing = [
        f"{title(line.engine.engine, line.engine.bits)} is not in the figure: "
        f"{'no latency' if not _p50_ms(line) else 'no attack with labels'} was measured."
        for line in document.lines
        if not (_p50_ms(line) and line.worst)
    ] or ([] if document.lines else ["No engine was exported: qadtr-edge export."])
    said = [markdown.latency_note(document)]
    if front:
        said.append(
            f"No other engine is both faster and harder to fool than: {', '.join(front)}. Latency "
            "depends on the machine, and the success rate on the attacks tried."
        )
    return Section(
        name="pareto",
        title="Robustness against latency",
        said=tuple(said),
        missing=tuple(missing),
        tables=(table("Engines, one row a file", columns, rows=rows),) if rows else (),
        figures=(_figure(joined),) if joined else (),
    )


def _p50_ms(line: Line) -> float | None:
    timed = line.timed(1)
    value = None if timed is None else timed.get("p50_ms")
    return float(value) if isinstance(value, float | int) else None


def _worst(line: Line) -> str:
    found = line.worst
    if found is None:
        return words.NOT_RUN
    return words.rate(found)


def _asr(line: Line) -> float:
    assert line.worst is not None
    return line.worst.asr


def _beaten(line: Line, joined: list[tuple[Line, float]]) -> bool:
    """Whether another engine is no slower and no easier to fool, and better in one of the two."""
    mine = next(p50 for other, p50 in joined if other is line), _asr(line)
    others = [(p50, _asr(other)) for other, p50 in joined if other is not line]
    return any(p50 <= mine[0] and asr <= mine[1] and (p50, asr) != mine for p50, asr in others)


def _figure(joined: list[tuple[Line, float]]) -> Figure:
    def draw(canvas: Canvas) -> None:
        axes = canvas.add_subplot()
        for line, p50 in joined:
            assert line.worst is not None
            rate, interval = 100 * line.worst.asr, line.worst.interval
            spread = [[max(0.0, rate - 100 * interval.low)], [max(0.0, 100 * interval.high - rate)]]
            colour = GREY if _beaten(line, joined) else COLOURS[0]
            axes.errorbar([p50], [rate], yerr=spread, fmt="o", color=colour, capsize=2)
            axes.annotate(title(line.engine.engine, line.engine.bits), (p50, rate),
                          xytext=(5, 4), textcoords="offset points", fontsize=7)  # fmt: skip
        axes.set_xlabel("p50 latency at batch 1, ms (left is better)")
        axes.set_ylabel("worst-case ASR, % (down is better)")
        axes.set_xlim(left=0)
        axes.set_ylim(0, 100)

    said = "; ".join(
        f"{title(line.engine.engine, line.engine.bits)}: {p50:.3f} ms, {_worst(line)}"
        for line, p50 in joined
    )
    return Figure("pareto", "Worst-case success against latency", f"{said}.", draw)
