"""The gallery: images an engine was sure of until the patch was on them, and what it said then."""

from __future__ import annotations

import numpy as np

from .. import metrics
from ..errors import BadInput, MissingDependency
from ..types import Patch
from .document import Document
from .pictures import Sources, patch_png, png, shown
from .rows import Row
from .section import Exhibit, Section
from .warnings import title

EXAMPLES = 3
"""Images of each engine."""

BUDGET_BYTES = 2_000_000
"""Of pictures in all: a page is sent by mail."""


def gallery(document: Document, sources: Sources) -> Section:
    """For the strongest attack on each engine: the images with the largest margin for it."""
    exhibits: list[Exhibit] = []
    missing: list[str] = []
    spent = 0
    for line in document.lines:
        name = title(line.engine.engine, line.engine.bits)
        if line.strongest is None:
            continue
        try:
            found = _examples(line.strongest, name, document=document, sources=sources)
        except MissingDependency as error:  # a device has no Pillow
            found = f"{error.fact} {error.remedy}"
        if isinstance(found, str):
            missing.append(f"{name}: {found}")
            continue
        size = sum(len(one.content) for exhibit in found for one in exhibit.pictures)
        if spent + size > BUDGET_BYTES:
            missing.append(f"{name}: left out, to keep the page small.")
            continue
        spent += size
        exhibits += found
    if not exhibits and not missing:
        missing.append("No attack was run on an engine that stands: qadtr-edge attack.")
    return Section(
        name="gallery",
        title="Patch gallery",
        said=(
            "Of the strongest attack on each engine, the images on which the engine was led "
            "furthest astray: without the patch, with it, and the patch. These are the best cases "
            "for the attack, not typical ones.",
        ) if exhibits else (),
        missing=tuple(dict.fromkeys(missing)),
        exhibits=tuple(exhibits),
    )  # fmt: skip


def _examples(row: Row, name: str, *, document: Document, sources: Sources) -> list[Exhibit] | str:
    """Exhibits of one row, or why there are none."""
    result = row.result
    patch = sources.patch(result)
    if patch is None:
        return f"the patch of {result.attack} is not in the run folder."
    images = sources.images(result)
    if isinstance(images, str):
        return images
    try:
        outcomes = document.evidence.store.outcomes(result.key)
    except BadInput as error:
        return f"{error.fact} {error.remedy}"
    able = metrics.eligible(outcomes.clean.labels, outcomes.truth, target=result.target)
    won = able & metrics.succeeded(outcomes.patched.labels, outcomes.truth, target=result.target)
    led = np.where(won, outcomes.patched.margins, -np.inf)
    best = [int(at) for at in np.argsort(-led, kind="stable")[:EXAMPLES] if won[at]]
    if not best:
        return f"{result.attack} fooled no image."
    made = []
    for at in best:
        truth, said = outcomes.truth[at], outcomes.patched.labels[at]
        clean, fooled = _named(images.class_names, truth), _named(images.class_names, said)
        try:
            pasted = shown(result, patch, images=images, index=at)
        except BadInput:
            return f"the mask of its places, {result.placement}, is kept by digest alone."
        pictures = [
            png(images.images[at], f"Test image {outcomes.ids[at]}, without patch: {clean}"),
            png(pasted, f"With the patch: {fooled}"),
        ]
        if isinstance(patch, Patch):
            pictures.append(patch_png(patch, f"The patch alone, {row.size} px"))
        made.append(Exhibit(
            tuple(pictures),
            f"{name}, {result.attack}, image {outcomes.ids[at]}: said {clean} and was right; with "
            f"the patch it said {fooled}, {outcomes.patched.margins[at]:.2f} logits ahead.",
        ))  # fmt: skip
    return made


def _named(names: tuple[str, ...], label: int) -> str:
    return names[label] if 0 <= label < len(names) else f"class {label}"
