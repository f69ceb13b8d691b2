"""What can change what an attack makes: all of its attributes, so that none can be forgotten.

Stored patches are found by the digest of these; a parameter left out would let one patch be taken
for another. Needs no torch.
"""

from __future__ import annotations

from ..types import Json


def parameters_of(attack: object) -> dict[str, Json]:
    """The attributes of ``attack`` by name, tuples as lists."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in vars(attack).items()
    }
