"""For papers: every figure as SVG and PDF, every table as CSV and LaTeX (booktabs)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from ..analysis import figure
from ..analysis.finding import Table
from ..files import write_bytes, write_text
from .section import Figure, Section

_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "²": "$^2$",
    "±": r"$\pm$", "–": "--", "×": r"$\times$", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def write_figures(sections: Sequence[Section], folder: Path) -> list[Path]:
    """Writes ``NAME.svg`` and ``NAME.pdf`` of every figure; returns the paths."""
    written = []
    for one in (one for section in sections for one in section.figures):
        for suffix, content in (
            ("svg", figure.svg(one.draw, size_in=one.size_in)),
            ("pdf", pdf(one)),
        ):
            written.append(folder / f"{one.name}.{suffix}")
            write_bytes(written[-1], content)
    return written


def write_tables(sections: Sequence[Section], folder: Path) -> list[Path]:
    """Writes ``SECTION-N.csv`` and ``.tex`` of every table; returns the paths."""
    written = []
    for section in sections:
        for number, table in enumerate(section.tables, start=1):
            for suffix, text in (("csv", as_csv(table)), ("tex", as_latex(table))):
                written.append(folder / f"{section.name}-{number}.{suffix}")
                write_text(written[-1], text)
    return written


def pdf(drawing: Figure) -> bytes:
    """The PDF of a figure, its text as text; equal calls, equal bytes."""
    figure.require()
    import matplotlib
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.figure import Figure as Canvas

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"pdf.fonttype": 42, "font.size": 8.0})
        canvas = Canvas(figsize=drawing.size_in, layout="constrained")
        FigureCanvasPdf(canvas)
        drawing.draw(canvas)
        target = io.BytesIO()
        canvas.savefig(target, format="pdf", metadata={"CreationDate": None})
    return target.getvalue()


def as_csv(table: Table) -> str:
    """The table with a heading line, as RFC 4180 has it but for the line ends."""
    target = io.StringIO()
    csv.writer(target, lineterminator="\n").writerows([table.columns, *table.rows])
    return target.getvalue()


def as_latex(table: Table) -> str:
    """The table as a ``tabular`` with booktabs rules, under a caption of its title."""
    lines = [
        "% \\usepackage{booktabs}",
        "\\begin{table}",
        f"\\caption{{{_tex(table.title)}}}",
        f"\\begin{{tabular}}{{{'l' * len(table.columns)}}}",
        "\\toprule",
        _line(table.columns),
        "\\midrule",
        *(_line(row) for row in table.rows),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    # A line of LaTeX may not go on with "[": after \\ it would be read as a length.
    texts = [_tex(cell) for cell in cells]
    return " & ".join(f"{{}}{text}" if text.startswith("[") else text for text in texts) + r" \\"


def _tex(text: str) -> str:
    return re.sub("|".join(map(re.escape, _TEX)), lambda found: _TEX[found[0]], text)
