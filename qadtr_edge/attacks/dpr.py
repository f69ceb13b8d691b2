"""DPR, the deformable patch (Chen et al., Shape Matters, ECCV 2022): outline and colours together.

The outline is a star: rays at equal angles about the centre, their lengths learned. The area is
that of the patch it is compared with, pixel for pixel, so that what is gained is gained by shape.
*This project's definition:* the outline is the radius interpolated linearly between rays; pixels
are ranked by how far inside they lie and the first ``h * w`` of them are the patch; the gradient of
that choice is the one of a sigmoid, straight through.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from .. import streams
from ..data.dataset import Dataset
from ..patch import light
from ..patch.placement import policy
from ..types import Json, Patch
from . import eot
from .parameters import parameters_of
from .per_image import lead_of
from .universal import Best, Jury, as_bytes, blank, drawn, noise, split
from .victim import Told, Victim, frozen

ROOM = 1.3
"""Side of the box that the outline can reach, in sides of the square of the same area."""

SOFTNESS_PX = 0.5
"""Width of the sigmoid whose gradient the outline gets."""


class Dpr:
    """One universal patch of ``patch_px`` pixels in any star-shaped outline.

    ``rays``: of the outline; ``shape_rate``: step of their lengths, as a share of the mean length;
    ``step_size``: of the colours, where pixels are 0 to 1. Both fall linearly to a tenth.
    """

    name = "dpr"
    needs_gradient = True
    tier = "T1"
    threat: Literal["T-A"] = "T-A"

    def __init__(
        self,
        *,
        patch_px: tuple[int, int] = (6, 6),
        target: int | None = None,
        placement: str = "random",
        steps: int = 150,
        batch: int = 128,
        rays: int = 16,
        shape_rate: float = 0.02,
        step_size: float = 0.1,
        judged_every: int = 15,
    ) -> None:
        self.patch_px = patch_px
        self.target = target
        self.placement = placement
        self.steps = steps
        self.batch = batch
        self.rays = rays
        self.shape_rate = shape_rate
        self.step_size = step_size
        self.judged_every = judged_every

    @property
    def parameters(self) -> dict[str, Json]:
        return parameters_of(self)

    def craft(self, victim: Victim, data: Dataset, *, seed: int, told: Told) -> Patch:
        """The patch and outline that won most on images of ``data`` held out from the ascent."""
        rows, columns = data.images.shape[2:]
        how = policy(self.placement, image_px=min(rows, columns))
        chance = streams.generator(seed, self.name)
        box = _box(self.patch_px, (rows, columns))
        outline = Outline(box, self.patch_px[0] * self.patch_px[1], rays=self.rays)
        values, lengths = noise(chance, box), torch.ones(self.rays)
        like = blank(box, target=self.target)
        with frozen(victim):
            fit, held = split(victim, data, target=self.target)
            best = Best(Jury(victim, held, how, seed))
            for now in drawn(
                fit, how, patch_px=box, steps=self.steps, batch=self.batch, chance=chance,
                seed=seed, name=self.name,
            ):  # fmt: skip
                step = now.step
                values, lengths = (x.detach().requires_grad_(True) for x in (values, lengths))
                nothing = torch.zeros_like(now.images)
                cover = outline.mask(lengths)
                share = eot.paste(
                    nothing, cover.expand(3, *box), mask=like.mask,
                    placements=light.without(now.places),
                )  # fmt: skip
                if how.is_lit:  # what the outline leaves out is not lit either
                    over = share * eot.paste(
                        nothing, 255.0 * values, mask=like.mask, placements=now.places
                    )
                else:
                    paint = 255.0 * values * cover
                    over = eot.paste(nothing, paint, mask=like.mask, placements=now.places)
                logits = victim(eot.to_bytes(now.images * (1.0 - share) + over))
                gain = lead_of(now.labels, target=self.target)(logits)
                to_values, to_lengths = torch.autograd.grad(gain.mean(), (values, lengths))
                fall = 1.0 - 0.9 * (step - 1) / self.steps
                with torch.no_grad():
                    values = (values + fall * self.step_size * to_values.sign()).clamp(0.0, 1.0)
                    lengths = (lengths + fall * self.shape_rate * to_lengths.sign()).clamp(0.2, 3.0)
                if step % self.judged_every == 0 or step == self.steps:
                    mask = outline.mask(lengths).numpy() > 0.5
                    painted = as_bytes(values * torch.from_numpy(mask))
                    best.offer(painted, like=replace(like, mask=mask))
                told(1, best.told)
        return best.kept


class Outline:
    """A star-shaped outline of ``area_px`` pixels in a box of ``(h, w)``."""

    def __init__(self, box: tuple[int, int], area_px: int, *, rays: int) -> None:
        down, across = (torch.arange(side) + 0.5 - side / 2 for side in box)
        self.area_px = area_px
        self.distance = torch.hypot(down[:, None], across[None, :])
        turn = torch.atan2(down[:, None].expand(box), across[None, :].expand(box))
        at = (turn / (2 * math.pi) % 1.0) * rays
        self.before = at.floor().long() % rays
        self.after = (self.before + 1) % rays
        self.weight = at - at.floor()
        self.radius_px = math.sqrt(area_px / math.pi)

    def mask(self, lengths: Tensor) -> Tensor:
        """``(h, w)`` of 0 and 1, of ``area_px`` ones; differentiable in ``lengths (rays,)``."""
        reach = self.radius_px * torch.lerp(lengths[self.before], lengths[self.after], self.weight)
        inside = reach - self.distance
        lowest = inside.detach().flatten().sort(descending=True, stable=True)
        hard = torch.zeros(inside.numel())
        hard[lowest.indices[: self.area_px]] = 1.0
        edge = lowest.values[self.area_px - 1]
        soft = torch.sigmoid((inside - edge) / SOFTNESS_PX)
        return hard.view_as(inside) + (soft - soft.detach())


def _box(patch_px: tuple[int, int], image_px: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns that the outline has room in."""
    rows, columns = (
        min(outer, math.ceil(ROOM * inner)) for inner, outer in zip(patch_px, image_px, strict=True)
    )
    return rows, columns
