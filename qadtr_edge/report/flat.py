"""The results of a run as a flat table, for pandas, Polars or a loop."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from ..results import Store
from ..runs import Run, open_run
from ..types import Json
from .rows import rows


def read_results(run: Run | str | PathLike[str] | None = None) -> list[dict[str, Json]]:
    """One flat row per result, attacks before controls, the same columns in each.

    ``pandas.DataFrame(read_results("runs/latest"))`` and ``polars.DataFrame(…)`` take it as it is.
    Rates are fractions. ``run`` is a run, a path (``runs/latest`` is the newest), or ``None`` for
    the newest. Raises ``BadInput`` for a run that is not there or results that cannot be read.
    """
    opened = run if isinstance(run, Run) else open_run(None if run is None else Path(run))
    return [
        {**row.as_json(), "control_asr": row.control_asr, "sim_asr": row.sim_asr}
        for row in rows(Store(opened.results, opened.labels).rows())
    ]
