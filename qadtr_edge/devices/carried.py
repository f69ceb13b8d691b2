"""The part of this package that travels to a device: what runs there on NumPy and one runtime."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

CARRIED = (
    "__init__.py", "types.py", "errors.py", "registry.py", "streams.py", "files.py", "console.py",
    "metrics.py", "provenance.py", "runs.py", "results.py", "results_line.py", "engines.py",
    "replay.py", "timing.py", "latency.py", "search.py", "edge.py", "patch", "data", "devices",
    "answered.py",
)  # fmt: skip
"""Files and folders of ``qadtr_edge``."""

WHOLE = ("export", "kernels")
"""What knows a runtime, and device memory: these stand outside ``qadtr_edge`` in a checkout."""

INTEGER = (
    "__init__.py", "arithmetic.py", "graph.py", "graph_file.py", "judge.py", "pooling.py",
    "windows.py",
)  # fmt: skip
"""The integer graph and its judge; lowering and the twin need torch."""

ATTACKS = (
    "__init__.py", "label_search.py", "mpa.py", "parameters.py", "patch_moves.py", "patch_rs.py",
    "queries.py",
)  # fmt: skip
"""The searches that need nothing but an engine."""


def sources() -> dict[str, bytes]:
    """The files of the package by their path in a bundle, ``qadtr_edge/types.py`` for one."""
    home = Path(__file__).resolve().parents[1]
    chosen = {"integer": INTEGER, "attacks": ATTACKS}
    found = {
        f"qadtr_edge/{folder}/{name}": home / folder / name
        for folder, names in chosen.items()
        for name in names
    }
    for name in CARRIED:
        top = home / name
        for path in [top] if top.is_file() else sorted(top.rglob("*.py")):
            found[f"qadtr_edge/{path.relative_to(home).as_posix()}"] = path
    for part in WHOLE:
        folder = _folder(part)
        for path in sorted([*folder.rglob("*.py"), *folder.rglob("*.cu")]):
            found[f"qadtr_edge/{part}/{path.relative_to(folder).as_posix()}"] = path
    return {name: path.read_bytes() for name, path in sorted(found.items())}


def _folder(part: str) -> Path:
    """The folder of a sub-package, wherever it is installed; nothing of it is imported."""
    spec = find_spec(f"qadtr_edge.{part}")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations)))
