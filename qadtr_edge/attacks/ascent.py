"""Ascent of one patch for each image: what LOAP, PGD-patch and training on them share.

LOAP is the location-optimized attack of Rao, Stutz and Schiele (arXiv 2005.02313), written from the
paper: uniform noise at a uniform place; sign steps on the loss; after each step the patch tries
places beside its own and goes where the loss is larger than it was before the step. When it moves
its contents move with it. (To ask for more than the step has made of it where it stands is no
better: CIFAR-10 ResNet-20, 96 images, 10 steps, mean loss 7.9 against 8.1 with random directions,
9.1 against 10.1 with all four.) Patches live in 0..1 here and are rounded to bytes where the victim
sees them, with the gradient passing straight through.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .. import streams
from ..patch.shape import RECTANGLE, mask_of
from ..types import Labels
from . import upright
from .victim import Victim

Moves = Literal["random", "full", "none"]
Loss = Literal["cross_entropy", "margin", "dlr"]
Gain = Callable[[Tensor], Tensor]
"""From logits ``(N, K)`` of all images to what the attacker wants large, ``(N,)``."""

DIRECTIONS = ((0, -1), (0, 1), (-1, 0), (1, 0))  # left, right, up, down


@dataclass(frozen=True)
class Ascent:
    """How to ascend.

    - ``patch_px``: rows and columns; ``shape``: as of ``patch/shape.py``. ``steps``: sign steps;
      ``step_size``: in units of 0..1.
    - ``moves``: after a step, ``random`` tries one direction, ``full`` all four, by ``stride``
      pixels, and the patch goes where its loss is largest; ``none``: it stays.
    - ``avoid_px``: side of the central square it must not touch, 0 for none. ``corner``: row and
      column of the one place it starts at; without, all places are equally likely. ``within``: the
      region, as text, that it must lie in; ``None``: the image.
    - ``attempts``: starts, of which each image keeps the best.
    """

    patch_px: tuple[int, int] = (6, 6)
    steps: int = 25
    step_size: float = 0.1
    moves: Moves = "random"
    stride: int = 2
    avoid_px: int = 0
    corner: tuple[int, int] | None = None
    within: str | None = None
    shape: str = RECTANGLE
    attempts: int = 1

    @property
    def mask(self) -> Tensor | None:
        """``(h, w) bool``, what is pasted of the rectangle; ``None`` for all of it."""
        mask = mask_of(self.shape, self.patch_px)
        return None if mask.all() else torch.from_numpy(mask)


KAPPAS = (0.0, 1.0, 3.0)
"""Leads, in logits, of which the first patch that reaches each is kept beside the best one."""


class First(NamedTuple):
    """The first patch of each image that led by some kappa; what the others hold says nothing."""

    reached: Tensor
    pixels: Tensor
    corners: Tensor


class Ascended(NamedTuple):
    """``pixels (N, 3, h, w) float32``: whole numbers 0..255; ``corners (N, 2) int64``: row, column.

    ``score (N,)``: of each image's patch at its place, the largest that was met. ``first``: for
    each of ``KAPPAS`` where a lead was given, else none.
    """

    pixels: Tensor
    corners: Tensor
    score: Tensor
    first: tuple[First, ...] = ()


def ascend(
    victim: Victim, images: Tensor, *, gain: Gain, how: Ascent, ids: Labels, seed: int,
    score: Gain | None = None, lead: Gain | None = None, told: Callable[[], None] = lambda: None,
) -> Ascended:  # fmt: skip
    """The patch and place of largest ``score`` met while ascending ``gain``, for each image.

    ``images (N, 3, H, W) float32`` in 0..255; ``score``: the gain unless given. ``lead``: in
    logits, above 0 exactly where the attack has won; with it the first patch to lead by each of
    ``KAPPAS`` is kept too. What is drawn for an image depends on (seed, its id) alone. ``told`` is
    called after each step. The victim must be as it is to be attacked: mode and parameters are the
    caller's.
    """
    walk = _Walk(victim, images, gain=gain, score=score or gain, lead=lead, how=how)
    for attempt in range(how.attempts):
        at = walk.start(ids, streams.key(seed, "ascent", attempt))
        for step in range(how.steps):
            at = walk.step(at, step)
            told()
        walk.look(at)
    assert walk.best is not None, "no attempt was made"
    return walk.best


def gain_of(loss: Loss, labels: Tensor, *, target: int | None = None) -> Gain:
    """The gain of each image: its cross-entropy, its margin, or its margin over the logits' spread.

    ``dlr`` is the difference of logits ratio of Croce and Hein (arXiv 2003.01690); it needs three
    classes, targeted four. Targeted gains are to be large for ``target``.
    """
    wanted = labels if target is None else torch.full_like(labels, target)

    def cross_entropy(logits: Tensor) -> Tensor:
        found = functional.cross_entropy(logits, wanted, reduction="none")
        return found if target is None else -found

    def margin(logits: Tensor) -> Tensor:
        named = logits.gather(1, wanted[:, None]).squeeze(1)
        others = logits.scatter(1, wanted[:, None], -torch.inf).amax(dim=1)
        return others - named if target is None else named - others

    def dlr(logits: Tensor) -> Tensor:
        top = logits.topk(3 if target is None else 4, dim=1).values
        if target is None:
            return margin(logits) / (top[:, 0] - top[:, 2]).clamp_min(1e-12)
        lead = logits[:, target] - logits.gather(1, labels[:, None]).squeeze(1)
        return lead / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2).clamp_min(1e-12)

    return {"cross_entropy": cross_entropy, "margin": margin, "dlr": dlr}[loss]


class _At(NamedTuple):
    """Where an attempt stands: contents ``(N, 3, h, w)`` in 0..1, corners, turns ``(N, steps)``."""

    values: Tensor
    corners: Tensor
    turns: Tensor


class _Walk:
    """The images, what is ascended on them, and the best patch that each has met."""

    def __init__(
        self, victim: Victim, images: Tensor, *, gain: Gain, score: Gain, lead: Gain | None,
        how: Ascent,
    ) -> None:  # fmt: skip
        self.victim, self.images, self.how = victim, images, how
        self.gain, self.score, self.lead = gain, score, lead
        image_px = (images.shape[2], images.shape[3])
        places = upright.corners_of(
            image_px, how.patch_px, avoid_px=how.avoid_px, within=how.within
        )
        self.places = places if how.corner is None else np.array([how.corner], np.int64)
        allowed = upright.allowed_at(
            image_px, how.patch_px, avoid_px=how.avoid_px, within=how.within
        )
        self.allowed = torch.from_numpy(allowed).to(images.device)
        self.mask = None if how.mask is None else how.mask.to(images.device)
        self.best: Ascended | None = None

    def start(self, ids: Labels, seed: int) -> _At:
        """Noise at a place that fits, all places equally likely."""
        shape = (len(ids), 3, *self.how.patch_px)
        noise = streams.uniform(seed, "noise", indices=ids, draws=int(np.prod(shape[1:])))
        place = streams.uniform(seed, "place", indices=ids, draws=1)[:, 0]
        corners = self.places[(place * len(self.places)).astype(np.int64)]
        turns = streams.uniform(seed, "turns", indices=ids, draws=max(1, self.how.steps))
        found = (noise.astype(np.float32).reshape(shape), corners, (4 * turns).astype(np.int64))
        return _At(*(torch.from_numpy(each).to(self.images.device) for each in found))

    def step(self, at: _At, number: int) -> _At:
        """One sign step, then the move."""
        shown = self._pasted(at.values, at.corners).requires_grad_(True)
        logits = self.victim(shown).float()
        gains = self.gain(logits)
        (gradient,) = torch.autograd.grad(gains.sum(), shown)
        self._offer(at.values, at.corners, logits=logits.detach())
        ascent = upright.read(gradient, at.corners, patch_px=self.how.patch_px).sign()
        values = (at.values + self.how.step_size * ascent).clamp(0.0, 1.0)
        if self.how.moves == "none":
            return at._replace(values=values)
        tried = [at.turns[:, number]] if self.how.moves == "random" else [*range(4)]
        largest, corners = gains.detach(), at.corners
        for turn in tried:
            there = self._neighbour(at.corners, turn)
            won = self.look(at._replace(values=values, corners=there))
            corners = torch.where((won > largest)[:, None], there, corners)
            largest = torch.maximum(won, largest)
        return at._replace(values=values, corners=corners)

    @torch.no_grad()
    def look(self, at: _At) -> Tensor:
        """The gain there, ``(N,)``, without a gradient."""
        logits = self.victim(self._pasted(at.values, at.corners)).float()
        self._offer(at.values, at.corners, logits=logits)
        return self.gain(logits)

    def _pasted(self, values: Tensor, corners: Tensor) -> Tensor:
        pixels = (255.0 * values).round()
        return upright.paste(self.images, pixels, corners=corners, mask=self.mask)

    def _neighbour(self, corners: Tensor, turn: Tensor | int) -> Tensor:
        """The corners a stride that way; those of them that are not allowed stay."""
        ways = torch.tensor(DIRECTIONS, device=corners.device)
        there = corners + self.how.stride * ways[turn]
        limit = torch.tensor(self.allowed.shape, device=corners.device) - 1
        inside = there.clamp_min(0).minimum(limit)
        fits = (inside == there).all(dim=1) & self.allowed[inside[:, 0], inside[:, 1]]
        return torch.where(fits[:, None], there, corners)

    def _offer(self, values: Tensor, corners: Tensor, *, logits: Tensor) -> None:
        """Keeps, for each image, what scores more than what was kept."""
        score, pixels = self.score(logits), (255.0 * values).round()
        leads = () if self.lead is None else self._reached(self.lead(logits))
        if self.best is None:
            first = tuple(First(reached, pixels, corners) for reached in leads)
            self.best = Ascended(pixels, corners, score, first)
            return
        kept = self.best
        better = score > kept.score
        self.best = Ascended(
            *_chosen(better, (pixels, corners), (kept.pixels, kept.corners)),
            torch.where(better, score, kept.score),
            tuple(
                First(
                    reached | first.reached,
                    *_chosen(first.reached, (first.pixels, first.corners), (pixels, corners)),
                )
                for reached, first in zip(leads, kept.first, strict=True)
            ),
        )

    @staticmethod
    def _reached(lead: Tensor) -> tuple[Tensor, ...]:
        """For each of ``KAPPAS``, the images won by that lead."""
        return tuple((lead > 0.0) & (lead >= kappa) for kappa in KAPPAS)


def _chosen(
    where: Tensor, yes: tuple[Tensor, Tensor], no: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Pixels and corners of the one or the other."""
    return (
        torch.where(where[:, None, None, None], yes[0], no[0]),
        torch.where(where[:, None], yes[1], no[1]),
    )
