"""T8: what two masks around an engine certify, measured now or found in the run's folder.

``certificates/KEY.json`` holds one engine, patch size and set of images. It is a bound on double
masking around the engine, not on the engine, and never part of a success rate.
"""

from __future__ import annotations

from collections.abc import Mapping

from .. import console, metrics, replay
from ..attacks import certificate
from ..errors import BadInput
from ..files import read_json, write_json
from ..patch import bank
from ..report.evidence import CERTIFICATE_SCHEMA as SCHEMA
from ..report.evidence import CERTIFICATES as FOLDER
from ..runs import width_name
from ..types import Json
from .attack_plan import Plan
from .attack_search import Asked


def require(plan: Plan) -> None:
    """Raises ``BadInput`` when no mask hides the patch and leaves something of the image."""
    certificate.masks_of(_image_px(plan), plan.patch_px)


def certified(plan: Plan, asked: Asked) -> dict[str, Json]:
    """How many images are certified against a patch of that size, and what that costs.

    Counts, rates as fractions with 95 % intervals, and the ids of the certified images.
    """
    recipe: dict[str, Json] = {
        "schema": SCHEMA,
        "engine": asked.subject.digest,
        "data": replay.data_digest(plan.test),
        "patch_px": list(plan.patch_px),
        "masks_per_axis": certificate.PER_AXIS,
    }
    path = plan.run.folder / FOLDER / f"{bank.key(recipe)}.json"
    if path.is_file():
        return dict(_object(read_json(path)))
    found = _measured(plan, asked)
    write_json(path, found)
    return found


def _measured(plan: Plan, asked: Asked) -> dict[str, Json]:
    data, facts = plan.test, asked.facts
    masks, _ = certificate.masks_of(_image_px(plan), plan.patch_px)
    total = len(data) * certificate.pairs(len(masks))
    label = f"Certifying {facts.engine} {width_name(facts.bits)}"
    with console.Progress(label, total, unit="pairs of masks") as bar:
        made = certificate.certify(
            asked.subject.model, data, patch_px=plan.patch_px, batch=plan.batch,
            told=lambda count, note: bar.advance(count, note=note),
        )  # fmt: skip
    right = metrics.predicted(asked.subject.clean) == data.labels
    return {
        "schema": SCHEMA,
        "engine": facts.engine,
        "bits": facts.bits,
        "engine_digest": facts.digest,
        "data_digest": replay.data_digest(data),
        "patch_rows_px": plan.patch_px[0],
        "patch_columns_px": plan.patch_px[1],
        "masks": made.masks,
        "mask_rows_px": made.mask_px[0],
        "mask_columns_px": made.mask_px[1],
        "n": len(data),
        "clean_correct": int(right.sum()),
        **_share("certified", int(made.certified.sum()), of=len(data)),
        **_share("double_masking", int((made.answers == data.labels).sum()), of=len(data)),
        "inferences": made.shown,
        "certified_ids": [int(number) for number in data.ids[made.certified]],
    }


def _image_px(plan: Plan) -> tuple[int, int]:
    rows, columns = plan.test.images.shape[2:]
    return rows, columns


def _share(name: str, held: int, *, of: int) -> dict[str, Json]:
    interval = metrics.wilson(held, of)
    return {
        name: held,
        f"{name}_rate": metrics.rate(held, of),
        f"{name}_low": interval.low,
        f"{name}_high": interval.high,
    }


def _object(value: Json) -> Mapping[str, Json]:
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise BadInput(
            f"A stored certificate is none this version reads, schema {SCHEMA}.",
            f"Delete the run's folder {FOLDER}.",
        )
    return value
