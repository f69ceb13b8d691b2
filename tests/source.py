"""The package's source files, and what each imports, read off their text."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOMES = {"qadtr_edge": "qadtr_edge", "export": "qadtr_edge.export", "kernels": "qadtr_edge.kernels"}
"""Folder in the tree -> name it is installed under."""


@dataclass(frozen=True)
class Module:
    path: Path

    @property
    def parts(self) -> tuple[str, ...]:
        """``("qadtr_edge", "integer", "judge")`` of ``qadtr_edge/integer/judge.py``."""
        return self.path.relative_to(ROOT).with_suffix("").parts

    @property
    def package(self) -> list[str]:
        """The package the module lives in, as installed."""
        return [*HOMES[self.parts[0]].split("."), *self.parts[1:-1]]

    @property
    def name(self) -> str:
        """The dotted name it is imported by."""
        last = [] if self.parts[-1] == "__init__" else [self.parts[-1]]
        return ".".join([*self.package, *last])

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text())

    def imports(self, *, at_top: bool = False) -> set[str]:
        """Absolute dotted names it imports; ``at_top``: only those run when it is imported."""
        found: set[str] = set()
        for node in _run_on_import(self.tree) if at_top else ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = self.package[: len(self.package) - node.level + 1] if node.level else []
                stem = ".".join([*base, *([node.module] if node.module else [])])
                found |= {f"{stem}.{alias.name}" for alias in node.names}
        return found


def modules() -> list[Module]:
    return [Module(path) for home in HOMES for path in sorted((ROOT / home).rglob("*.py"))]


def blocking(packages: Iterable[str]) -> str:
    """Python source after which importing any of ``packages`` fails as if it were not installed."""
    return (
        "import sys\n"
        "class Blocked:\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {sorted(packages)!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Blocked)\n"
    )


def module_id(module: Module) -> str:
    return str(module.path.relative_to(ROOT))


def _run_on_import(node: ast.AST) -> list[ast.AST]:
    """Every node that runs at import: not in a function, not under ``if TYPE_CHECKING``."""
    found = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        found += [child, *_run_on_import(child)]
    return found
