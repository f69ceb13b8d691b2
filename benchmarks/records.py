"""Where benchmark scripts put what they measured: one JSON line a run, with its provenance."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from qadtr_edge import provenance

RESULTS = Path(__file__).parent / "results"


def append(name: str, *, options: dict[str, object], rows: list[dict[str, object]]) -> Path:
    """Appends one run to ``results/<name>.jsonl``; returns the file."""
    entry = {"benchmark": name, **provenance.collect(options=options), "rows": rows}
    # Where a file lay on this machine is nobody's business, and means nothing elsewhere.
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    entry["argv"] = [Path(sys.argv[0]).name, *words]
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.jsonl"
    with path.open("a") as file:
        file.write(json.dumps(entry, allow_nan=False) + "\n")
    return path


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table: the first column left-aligned, the others right-aligned."""
    rule = ["---", *["---:"] * (len(columns) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [columns, rule, *rows])
