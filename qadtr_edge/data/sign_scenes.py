"""One photograph per sign: a scene behind it, a pose, the light, the lens and the sensor.

Every quantity of an image is drawn from (image id, name of the quantity) alone, so an image does
not depend on which others are made with it. The recipe is this project's definition. As in
``sign_faces``, only correctly rounded operations are used and sums are written out in order, so
the bytes do not depend on the machine.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..streams import uniform
from ..types import Pixels
from .sign_faces import CELLS, EXTENT, FACES, fields

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Step = tuple[int, int]

SIZE_PX = 32
_SEED = 0  # the data set is one fixed set, whatever the user's seed

_Y, _X = (
    axis.astype(np.float32) + 0.5
    for axis in np.meshgrid(np.arange(SIZE_PX), np.arange(SIZE_PX), indexing="ij")
)

_PAINT = {
    "red": (196, 34, 40),
    "white": (232, 232, 228),
    "blue": (24, 82, 172),
    "yellow": (242, 190, 24),
    "black": (26, 26, 30),
}
_SCENES = (  # colour above the horizon, colour below, strength of the texture
    ((150, 190, 230), (110, 110, 112), 24),  # sky, road
    ((205, 210, 214), (92, 96, 92), 20),  # overcast, road
    ((70, 104, 52), (90, 112, 60), 78),  # trees, grass
    ((160, 196, 228), (58, 92, 46), 62),  # sky, trees
    ((138, 92, 76), (120, 116, 112), 46),  # brick, pavement
    ((120, 124, 134), (84, 86, 92), 40),  # concrete, road
    ((226, 158, 110), (66, 58, 64), 28),  # dusk
)
_CLUTTER = (
    (70, 74, 82), (182, 178, 168), (150, 40, 38), (34, 80, 150), (214, 176, 60),
    (60, 88, 50), (236, 236, 234), (40, 38, 40), (128, 98, 72),
)  # fmt: skip


class Draws:
    """Uniform numbers of each image, by the name of what they decide: column k of ``name``."""

    def __init__(self, ids: Ids, name: str, *, count: int) -> None:
        drawn = uniform(_SEED, f"signs/{name}", indices=ids, draws=count)
        self._columns = iter(drawn.astype(np.float32).T[:, :, None, None])

    def between(self, low: float, high: float) -> Floats:
        """The next draw of every image, in [low, high): ``(n, 1, 1)``."""
        drawn: Floats = low + (high - low) * next(self._columns)
        return drawn

    def chance(self, probability: float) -> Floats:
        """1 where the next draw falls under ``probability``, else 0: ``(n, 1, 1)``."""
        hit: Floats = (next(self._columns) < probability).astype(np.float32)
        return hit

    def choice(self, count: int) -> NDArray[np.int64]:
        """The next draw as an integer in [0, count): ``(n,)``."""
        number: NDArray[np.int64] = (next(self._columns)[:, 0, 0] * count).astype(np.int64)
        return number

    def direction(self) -> tuple[Floats, Floats]:
        """A unit vector, from half-angle tangents: exact where a cosine would not be."""
        tangent, sign = self.between(-1, 1), 1 - 2 * self.chance(0.5)
        scale = sign / (1 + tangent * tangent)
        return (1 - tangent * tangent) * scale, 2 * tangent * scale


def photographs(ids: Ids, labels: NDArray[np.int64]) -> Pixels:
    """Images ``(n, 3, 32, 32) uint8`` of the signs ``labels``; image i depends on ids[i] alone."""
    image = _scene(ids)
    image = _sign(image, ids, labels=labels)
    image = _occluder(image, ids)
    image = _light(image, ids)
    image = _lens(image, ids)
    return _sensor(image, ids)


def _over(image: Floats, colour: Floats, *, cover: Floats) -> Floats:
    """``colour`` (n, 3, ...) painted on ``image`` (n, 3, H, W) where ``cover`` (n, H, W) is 1."""
    return image + (colour - image) * cover[:, None]


def _cover(distance_px: Floats) -> Floats:
    cover: Floats = np.clip(0.5 - distance_px, 0, 1)
    return cover


def _texture(ids: Ids, name: str, *, cells: int) -> Floats:
    """Smooth noise in [-1, 1], ``(n, 32, 32)``: a lattice of ``cells`` + 1 points, interpolated."""
    side = cells + 1
    drawn = uniform(_SEED, f"signs/{name}", indices=ids, draws=side * side)
    lattice: Floats = drawn.astype(np.float32).reshape(-1, side, side) * 2 - 1
    place = (np.arange(SIZE_PX, dtype=np.float32) + 0.5) * (cells / SIZE_PX)
    low = place.astype(np.int64)
    part = place - low.astype(np.float32)
    rows = lattice[:, low] + (lattice[:, low + 1] - lattice[:, low]) * part[:, None]
    result: Floats = rows[:, :, low] + (rows[:, :, low + 1] - rows[:, :, low]) * part
    return result


def _scene(ids: Ids) -> Floats:
    """What is behind the sign: two grounds, texture, and boxes of clutter; ``(n, 3, 32, 32)``."""
    draws = Draws(ids, "scene", count=48)
    kind = draws.choice(len(_SCENES))
    above, below = (
        np.array([scene[part] for scene in _SCENES], np.float32)[kind][:, :, None, None]
        for part in (0, 1)
    )
    strength = np.array([scene[2] for scene in _SCENES], np.float32)[kind][:, None, None]
    horizon = draws.between(4, 30) + draws.between(-0.4, 0.4) * (_X - SIZE_PX / 2)
    blend = np.clip((_Y - horizon) / draws.between(1, 9) + 0.5, 0, 1)
    ground = above + (below - above) * blend[:, None] + draws.between(-30, 30)[:, None]
    coarse, fine = _texture(ids, "coarse", cells=4), _texture(ids, "fine", cells=16)
    amount = strength * draws.between(0.3, 1.0)
    image: Floats = ground + (amount * (fine * 0.65 + coarse * 0.5))[:, None]
    palette: Floats = np.array(_CLUTTER, np.float32)
    for _ in range(3):
        x, y = draws.between(-2, 34), draws.between(-2, 34)
        cos, sin = draws.direction()
        along = (_X - x) * cos + (_Y - y) * sin
        across = (_Y - y) * cos - (_X - x) * sin
        length, width = draws.between(3, 14), draws.between(0.7, 6)
        distance = np.maximum(np.abs(along) - length, np.abs(across) - width)
        colour = palette[draws.choice(len(_CLUTTER))][:, :, None, None]
        image = _over(image, colour, cover=_cover(distance) * draws.chance(0.75))
    return image


def _sign(image: Floats, ids: Ids, *, labels: NDArray[np.int64]) -> Floats:
    """The sign on its pole, turned, sheared and seen in perspective."""
    draws = Draws(ids, "pose", count=16)
    radius = draws.between(7, 13)
    slack = SIZE_PX / 2 - radius + 2
    x = SIZE_PX / 2 + slack * draws.between(-1, 1)
    y = SIZE_PX / 2 + slack * draws.between(-1, 1)
    half = draws.between(-0.16, 0.16)  # tan of half the angle: up to 18 degrees either way
    cos, sin = (1 - half * half) / (1 + half * half), 2 * half / (1 + half * half)
    px, py = (_X - x) / radius, (_Y - y) / radius
    u, v = px * cos + py * sin, py * cos - px * sin
    u = (u + draws.between(-0.2, 0.2) * v) * draws.between(0.95, 1.5)
    depth = 1 + draws.between(-0.2, 0.2) * u + draws.between(-0.2, 0.2) * v
    u, v = u / depth, v / depth

    pole = np.maximum(np.abs(px) - draws.between(0.05, 0.11), -py)
    grey = draws.between(70, 170)[:, None]
    image = _over(image, grey, cover=_cover(pole * radius) * draws.chance(0.7))

    scale = CELLS / (2 * EXTENT)
    column, row = (
        np.clip((axis + EXTENT) * scale, 0, CELLS - 1).astype(np.int64) for axis in (u, v)
    )
    place = (labels[:, None, None] * CELLS + row) * CELLS + column
    paint = np.array([[_PAINT[name] for name in face.colours] for face in FACES], np.float32)
    fade, dirt = draws.between(0.0, 0.35)[:, None], draws.between(0.75, 1.08)[:, None]
    for layer, field in enumerate(fields()):
        colour = paint[labels, layer][:, :, None, None]
        colour = (colour + (150 - colour) * fade) * dirt
        image = _over(image, colour, cover=_cover(field[place] * radius))
    return image


def _occluder(image: Floats, ids: Ids) -> Floats:
    """Sometimes a branch, a post or a sticker hides part of the view."""
    draws = Draws(ids, "occluder", count=12)
    cos, sin = draws.direction()
    x, y = draws.between(5, 27), draws.between(5, 27)
    along = (_X - x) * cos + (_Y - y) * sin
    across = (_Y - y) * cos - (_X - x) * sin
    length, width = draws.between(2, 16), draws.between(0.6, 2.7)
    ragged = _texture(ids, "leaves", cells=12) * draws.between(0, 3)
    distance = np.maximum(np.abs(along) - length, np.abs(across) - width) + ragged
    colour = np.array(_CLUTTER, np.float32)[draws.choice(len(_CLUTTER))][:, :, None, None]
    return _over(image, colour, cover=_cover(distance) * draws.chance(0.3))


def _light(image: Floats, ids: Ids) -> Floats:
    """Exposure, contrast, a colour cast, sometimes a shadow edge or glare across the view."""
    draws = Draws(ids, "light", count=16)
    cos, sin = draws.direction()
    edge = (_X - draws.between(6, 26)) * cos + (_Y - draws.between(6, 26)) * sin
    shade = draws.between(0.3, 0.65) * draws.chance(0.35)
    dark = shade * np.clip(edge / draws.between(1, 5) + 0.5, 0, 1)
    image = image * (1 - dark)[:, None]
    glare = draws.between(0, 90) * draws.chance(0.2)
    image = image + (glare * np.clip(1 - np.abs(edge) / draws.between(4, 16), 0, 1))[:, None]
    cast = np.stack([draws.between(0.82, 1.18) for _ in range(3)], axis=1)
    contrast, brightness = draws.between(0.34, 1.15)[:, None], draws.between(-48, 46)[:, None]
    return (image * cast - 120) * contrast + 120 + brightness


def _moved(image: Floats, step: Step) -> Floats:
    """``image`` moved by whole pixels (down, right), its border repeated."""
    rows, columns = (np.clip(np.arange(SIZE_PX) - by, 0, SIZE_PX - 1) for by in step)
    return image[:, :, rows[:, None], columns[None, :]]


def _spread(image: Floats, step: Step) -> Floats:
    """The sum of ``image`` moved by ``step`` and by its opposite."""
    return _moved(image, step) + _moved(image, (-step[0], -step[1]))


def _lens(image: Floats, ids: Ids) -> Floats:
    """Defocus (a 3x3 tent, mixed in) and motion along one of four directions."""
    draws = Draws(ids, "lens", count=6)
    soft = draws.between(0.1, 1.0)[:, None]
    rows: Floats = _spread(image, (1, 0)) * 0.25 + image * 0.5
    tent: Floats = _spread(rows, (0, 1)) * 0.25 + rows * 0.5
    image = image + (tent - image) * soft
    way, reach = draws.choice(4), draws.between(0, 1.6)
    moves = draws.chance(0.5)[:, 0, 0] > 0
    near = (np.clip(reach, 0, 1) / (1 + 2 * reach))[:, None]
    far = (np.clip(reach - 1, 0, 1) / (1 + 2 * reach))[:, None]
    for number, (down, right) in enumerate(((0, 1), (1, 0), (1, 1), (1, -1))):
        at = np.flatnonzero(moves & (way == number))
        part = image[at]
        one, two = _spread(part, (down, right)), _spread(part, (2 * down, 2 * right))
        image[at] = part * (1 - 2 * near[at] - 2 * far[at]) + one * near[at] + two * far[at]
    return image


_GRAIN = 1 << 18


@cache
def _grain() -> Floats:
    """Sensor noise, about normal with deviation 1: sums of four uniforms (Irwin-Hall)."""
    drawn = uniform(_SEED, "signs/grain", indices=np.arange(_GRAIN), draws=4)
    total = drawn[:, 0] + drawn[:, 1] + drawn[:, 2] + drawn[:, 3]
    normal: Floats = ((total - 2) * 3.0**0.5).astype(np.float32)
    return normal


def _sensor(image: Floats, ids: Ids) -> Pixels:
    """Noise, clipping and rounding to bytes."""
    draws = Draws(ids, "sensor", count=2)
    amount = draws.between(1, 12)[:, None]
    count = 3 * SIZE_PX * SIZE_PX
    start = draws.choice(_GRAIN - count)
    noise = np.lib.stride_tricks.sliding_window_view(_grain(), count)[start]
    image = image + noise.reshape(image.shape) * amount
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8)
