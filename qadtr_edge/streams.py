"""One user seed, many named random streams: adding a consumer never shifts another.

A stream is named by words and integers. ``generator`` is for sequential draws, ``uniform`` for
draws that are a pure function of (seed, name, index): the k-th draw of image i does not depend on
which other images are in the batch, nor on their order.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # SplitMix64 (Steele, Lea, Flood 2014)


def key(seed: int, *names: str | int) -> int:
    """A 64-bit key of the stream ``names`` under ``seed``; equal arguments, equal key."""
    text = "\x1f".join([str(int(seed)), *(f"{type(name).__name__}:{name}" for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator for the stream ``names``: independent of every other stream."""
    return np.random.Generator(np.random.PCG64(key(seed, *names)))


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def uniform(seed: int, name: str, *, indices: NDArray[np.int64], draws: int) -> NDArray[np.float64]:
    """Uniform in [0, 1), ``(len(indices), draws)``; row i depends on ``indices[i]`` alone."""
    with np.errstate(over="ignore"):
        base = _mix(
            np.uint64(key(seed, name)) + _GOLDEN * (indices.astype(np.uint64) + np.uint64(1))
        )
        steps = _GOLDEN * (np.arange(draws, dtype=np.uint64) + np.uint64(1))
        bits = _mix(base[:, None] + steps[None, :])
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
