"""Provenance: which commands, on which commit and machine, made the numbers, and of which files."""

from __future__ import annotations

from . import markdown
from .document import Document
from .section import Section, table
from .warnings import title


def origin(document: Document) -> Section:
    """Stages, machines, digests of engine files, patches and images."""
    stages = sorted(document.evidence.stages.items(), key=markdown.finished)
    lines = [[name, *markdown.stage(entry), markdown.place(entry)] for name, entry in stages]
    engines = [
        [title(line.engine.engine, line.engine.bits), f"{line.engine.size_bytes:,}",
         line.engine.digest]
        for line in document.lines
    ]  # fmt: skip
    patches = sorted({(row.result.attack, row.result.patch_digest) for row in document.rows})
    images = sorted({(str(row.result.counts.n), row.result.data_digest) for row in document.rows})
    tables = [
        table("Commands", ("stage", "command", "commit", "finished (UTC)", "machine and software"),
              rows=lines),
        table("Engine files", ("engine", "bytes", "SHA-256"), rows=engines),
        table("Patches", ("attack", "SHA-256"), rows=patches),
        table("Sets of images", ("images", "SHA-256"), rows=images),
    ]  # fmt: skip
    missing = [f"{one.title}: none recorded." for one in tables if not one.rows]
    return Section(
        name="provenance",
        title="Where it comes from",
        said=(f"Run {document.evidence.run}. Everything on this page was read from that folder.",),
        missing=tuple(missing),
        tables=tuple(one for one in tables if one.rows),
    )
