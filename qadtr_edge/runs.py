"""A run folder: what every verb reads from and writes to, and the only place that knows its layout.

runs/2026-11-20-1/
  manifest.json                    one entry per stage: options, git, versions, device, digests
  checkpoint.safetensors  log.jsonl
  train_state.safetensors          of an unfinished training, from which it goes on
  tensorboard/                     event files, when asked for
  graphs/w8a8.npz                  the integer graph
  engines/ort-w8a8/                artefact, facts.json, verify.json
  patches/KEY.npz  KEY.png
  results.jsonl  labels/KEY.npz    one line per finished unit, and its predicted labels
  probes/KEY.json                  what the extra runs of a suite's checks measured
  verdict.json                     the checks and the verdict of each suite and engine
  analysis/NAME.json  NAME.svg     what `analyze` found
  bench.json  report.md  report.html
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from importlib.resources import as_file, files
from pathlib import Path

from . import provenance, registry
from .errors import BadInput
from .files import explained, read_json, replacing, write_json
from .types import FLOAT_BITS, Json

DEFAULT_ROOT = Path("runs")
LATEST = "latest"
SCHEMA = 1
_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})-(\d+)")


def width_name(bits: int) -> str:
    """``w8a8`` for 8 bits, ``fp32`` for the float model."""
    return "fp32" if bits == FLOAT_BITS else f"w{bits}a{bits}"


@dataclass(frozen=True)
class Run:
    """The paths of one run. Nothing needs to exist but the folder."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.json"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    @property
    def log(self) -> Path:
        return self.folder / "log.jsonl"

    @property
    def train_state(self) -> Path:
        return self.folder / "train_state.safetensors"

    @property
    def tensorboard(self) -> Path:
        return self.folder / "tensorboard"

    @property
    def graphs(self) -> Path:
        return self.folder / "graphs"

    @property
    def engines(self) -> Path:
        return self.folder / "engines"

    @property
    def patches(self) -> Path:
        return self.folder / "patches"

    @property
    def labels(self) -> Path:
        return self.folder / "labels"

    @property
    def results(self) -> Path:
        return self.folder / "results.jsonl"

    @property
    def analysis(self) -> Path:
        return self.folder / "analysis"

    @property
    def bench(self) -> Path:
        return self.folder / "bench.json"

    @property
    def report(self) -> Path:
        return self.folder / "report.md"

    def graph(self, bits: int) -> Path:
        """The integer graph's file at a width."""
        return self.graphs / f"{width_name(bits)}.npz"

    def engine(self, engine: str, bits: int) -> Path:
        """The folder of one engine at one width (32: the float yardstick)."""
        return self.engines / f"{engine}-{width_name(bits)}"

    def widths(self, engine: str) -> tuple[int, ...]:
        """Widths this engine was exported at, widest first; empty when it never was."""
        found = (re.fullmatch(rf"{re.escape(engine)}-(?:w(\d+)a\1|fp32)", path.name)
                 for path in self.engines.glob(f"{engine}-*"))  # fmt: skip
        return tuple(sorted((int(m[1] or FLOAT_BITS) for m in found if m), reverse=True))


def new_run(root: Path = DEFAULT_ROOT) -> Run:
    """A fresh, empty run folder ``root/YYYY-MM-DD-N``; N counts the runs of the day from 1."""
    today = date.today().isoformat()
    with explained(root):
        root.mkdir(parents=True, exist_ok=True)
        number = max((n for day, n, _ in _dated(root) if day == today), default=0) + 1
        while True:
            folder = root / f"{today}-{number}"
            try:
                folder.mkdir()
            except FileExistsError:  # another process took the number between looking and making
                number += 1
            else:
                return Run(folder)


def newest_run(root: Path = DEFAULT_ROOT) -> Run | None:
    """The newest run under ``root`` by date and number, or ``None``; none that is unfinished."""
    found = [run for run in _by_age(root) if not run.train_state.exists()]
    return found[-1] if found else None


def newest_unfinished(root: Path = DEFAULT_ROOT) -> Run | None:
    """The newest run under ``root`` whose training was interrupted, or ``None``."""
    found = [run for run in _by_age(root) if run.train_state.exists()]
    return found[-1] if found else None


def open_run(path: Path | None = None, root: Path = DEFAULT_ROOT) -> Run:
    """The run at ``path``; without one the newest; with none at all, one of the packaged model.

    ``path`` may be a folder, the name of a run under ``root``, or end in ``latest``: the newest
    run beside it. Raises ``BadInput`` when it names nothing.
    """
    if path is None:
        return newest_run(root) or packaged_run(registry.DEFAULT_MODEL, root)
    if path.is_dir():
        return Run(path)
    if len(path.parts) == 1 and (root / path).is_dir():
        return Run(root / path)
    if path.name == LATEST:
        beside = path.parent if len(path.parts) > 1 else root
        if run := newest_run(beside):
            return run
    known = [name.name for *_, name in sorted(_dated(root), reverse=True)[:5]]
    listed = f"Runs in {root}: {', '.join(known)}." if known else f"There are no runs in {root}."
    raise BadInput(
        f"There is no run folder {path}.",
        f"{listed} Without --run the newest is used; `qadtr-edge train` makes one.",
    )


def packaged_run(name: str, root: Path = DEFAULT_ROOT) -> Run:
    """A fresh run that holds the packaged checkpoint ``name`` (typed as ``zoo:name``)."""
    file = registry.path_of("packaged model", name)
    with as_file(files("qadtr_edge.zoo") / file) as source:
        if not source.is_file():
            raise BadInput(
                f"The packaged model {name!r} is missing from this installation ({source}).",
                "Install qadtr-edge again.",
            )
        run = new_run(root)
        with replacing(run.checkpoint) as temporary:
            shutil.copyfile(source, temporary)
    record(run, "checkpoint", options={"model": f"zoo:{name}"}, inputs=(run.checkpoint,))
    return run


def record(
    run: Run,
    stage: str,
    *,
    options: Mapping[str, object],
    inputs: tuple[Path, ...] = (),
    measured: Mapping[str, object] | None = None,
) -> None:
    """Writes one stage into the manifest: ``options`` as resolved, argv, and the provenance.

    ``inputs`` are files whose digests are part of what was done; ``measured`` is what it took.
    Running a stage again replaces its entry.
    """
    manifest = read_manifest(run)
    stages = manifest.get("stages")
    entry = provenance.collect(options=options, inputs=inputs)
    if measured is not None:
        entry["measured"] = dict(measured)
    done = stages if isinstance(stages, dict) else {}
    write_json(run.manifest, {**manifest, "stages": {**done, stage: entry}})


def read_manifest(run: Run) -> dict[str, Json]:
    """The manifest, or an empty one of this schema. Raises ``BadInput`` for a newer schema."""
    if not run.manifest.is_file():
        return {"schema": SCHEMA, "stages": {}}
    value = read_json(run.manifest)
    if not isinstance(value, dict) or not isinstance(value.get("schema"), int):
        raise BadInput(
            f"{run.manifest} is not a manifest.", "Delete it and run the stages of this run again."
        )
    if value["schema"] != SCHEMA:
        raise BadInput(
            f"{run.manifest} has schema {value['schema']}; this version reads schema {SCHEMA}.",
            "Update qadtr-edge: pip install --upgrade qadtr-edge.",
        )
    return value


def _by_age(root: Path) -> list[Run]:
    """The runs under ``root``, oldest first."""
    return [Run(folder) for *_, folder in sorted(_dated(root))]


def _dated(root: Path) -> list[tuple[str, int, Path]]:
    """Day, number and folder of each run under ``root``."""
    if not root.is_dir():
        return []
    matched = ((_NAME.fullmatch(path.name), path) for path in root.iterdir() if path.is_dir())
    return [(match[1], int(match[2]), path) for match, path in matched if match]
