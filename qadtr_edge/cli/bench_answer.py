"""What ``bench`` answers: its rows as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .. import console, timing
from ..devices.energy import Energy
from ..latency import Row
from ..runs import width_name
from ..types import Json


def show(
    rows: list[Row],
    plan: timing.Plan,
    *,
    loop_ms: Mapping[str, Json],
    threads: int,
    after_gaps: Mapping[str, Json],
) -> None:
    """The rows as a table on stdout, and what limits them on stderr."""
    columns = ["engine", "values", "ran as", "batch", "p50 ms", "p90 ms", "p99 ms", "images/s",
               "against fp32", "CoV", "stable"]  # fmt: skip
    lines = [_line(row) for row in rows]
    if any(row.device_ms is not None for row in rows):
        columns.append("device alone, p50 ms")
        for line, row in zip(lines, rows, strict=True):
            told = row.device_percentile_ms(50)
            line.append("same as host" if told is None else f"{told:.3f}")
    if any(row.energy for row in rows):
        columns.append("mJ/image (above idle)")
        for line, row in zip(lines, rows, strict=True):
            line.append(_millijoules(row.energy))
    console.print_table(
        columns,
        lines,
        title=f"Latency ({plan.name}: {plan.windows} windows of {plan.window_s:g} s, {threads} "
        f"thread{'' if threads == 1 else 's'})",
    )
    if after_gaps:
        _show_gaps(after_gaps)
    costs = ", ".join(f"{value:.4f} ms at batch {size}" for size, value in loop_ms.items())
    console.say(f"The measuring loop itself costs {costs}; it is subtracted nowhere.")
    moved = [row for row in rows if not row.timing.stable]
    for row in moved:
        where = f"{row.facts.engine} {width_name(row.facts.bits)} at batch {row.timing.batch}"
        console.say(f"Not stable: {where}: {'; '.join(row.timing.unstable_because)}.")
    if moved:
        console.say("Rows marked NO moved too much to be quoted: quiet the machine, or use --full.")


def _line(row: Row) -> list[str]:
    return [
        row.facts.engine,
        width_name(row.facts.bits),
        row.facts.precision,
        str(row.timing.batch),
        *(f"{row.timing.percentile_ms(percent):.3f}" for percent in (50, 90, 99)),
        f"{row.timing.images_per_s:,.0f}",
        "not run" if row.speedup is None else f"{row.speedup:.2f}x",
        f"{row.timing.cov:.3f}",
        "yes" if row.timing.stable else "NO",
    ]


def _millijoules(found: Energy | None) -> str:
    if found is None:
        return ""
    return f"{found.mj_per_image:.3f} ({found.mj_per_image_above_idle:.3f})"


def _show_gaps(after_gaps: Mapping[str, Json]) -> None:
    """One line an engine: median milliseconds of one image after each pause."""
    tables = {key: each for key, each in after_gaps.items() if isinstance(each, dict)}
    gaps = list(next(iter(tables.values())))
    console.print_table(
        ["engine", *(f"{gap} ms" for gap in gaps)],
        [[key, *(f"{each[gap]:.3f}" for gap in gaps)] for key, each in tables.items()],
        title="One image after a pause, p50 ms",
    )


def show_loadgen(rows: Sequence[Mapping[str, Json]]) -> None:
    """What MLPerf LoadGen measured; nothing without a scenario."""
    if not rows:
        return
    names = ("p50_ms", "p90_ms", "p99_ms", "images_per_s")
    console.print_table(
        ["engine", "values", "scenario", "p50 ms", "p90 ms", "p99 ms", "images/s", "valid"],
        [
            [
                str(row["engine"]),
                width_name(int(str(row["bits"]))),
                str(row["scenario"]),
                *(f"{row[name]:,.3f}" if name in row else "not told" for name in names),
                "yes" if row["valid"] else "NO",
            ]
            for row in rows
        ],
        title="MLPerf LoadGen (not an MLPerf result)",
    )
