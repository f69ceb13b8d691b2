"""The attack suites at budgets for tests: the lines are their own, how long each tries is cut.

As a program it is the command line with a quick suite that is cut.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from qadtr_edge.cli import app, attack, attack_names, attack_suite
from qadtr_edge.suite import CONTROL_PLACES, DIFFERENTIAL, SUITES, Line
from qadtr_edge.types import Json
from qadtr_edge.verdict import probes

CUT: dict[str, Json] = {
    "steps": 2, "judged_every": 2, "restarts": 1, "attempts": 1, "queries": 24,
}  # fmt: skip


def cut(suite: str, patch: pytest.MonkeyPatch) -> tuple[Line, ...]:
    """Cuts a suite to a few steps, queries and places, one seed each; returns all its lines."""
    lines = tuple(_cut(line) for line in SUITES[suite])
    beyond = tuple(_cut(line) for line in DIFFERENTIAL[suite])
    patch.setitem(SUITES, suite, lines)
    patch.setitem(DIFFERENTIAL, suite, beyond)
    patch.setitem(CONTROL_PLACES, suite, 2)
    patch.setattr(attack_suite, "SELECTED_ON", 8)
    patch.setattr(attack, "CRAFT_IMAGES", 64)
    patch.setitem(probes.BUDGETS, suite, probes.Budget(4, 2, 1, 5, 2, 2, 1))
    return lines + beyond


def _cut(line: Line) -> Line:
    """Same attack, victims, goal and margins."""
    kind = attack_names.kind_of(line.attack)
    assert kind is not None, f"{line.attack} is in no table"
    known = attack_names.takes(kind, line.attack)
    options = {**line.options, **{name: value for name, value in CUT.items() if name in known}}
    return replace(
        line, seeds=1, places=min(2, line.places), grid=min(3, line.grid), options=options
    )


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        cut("quick", patch)
        app()
