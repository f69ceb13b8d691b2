"""What can change what an attack makes: all of its attributes, so that none can be forgotten.

Stored patches are found by the digest of these; a parameter left out would let one patch be taken
for another. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..types import Json

NOTHING: Mapping[str, Json] = {}


def parameters_of(attack: object, *, at_rest: Mapping[str, Json] = NOTHING) -> dict[str, Json]:
    """The attributes of ``attack`` by name, tuples as lists.

    ``at_rest``: options that came after patches were first stored, with the value that does what
    was done before; one that has it is left out, so that those patches are still found.
    """
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in vars(attack).items()
        if name not in at_rest or value != at_rest[name]
    }
