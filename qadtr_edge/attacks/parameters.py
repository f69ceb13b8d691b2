"""What an attack says of itself, and what can change what it makes: all of its attributes.

Stored patches are found by the digest of these; a parameter left out would let one patch be taken
for another. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ..types import Json

NOTHING: Mapping[str, Json] = {}


class Described(Protocol):
    """What every attack says of itself.

    ``name`` and ``parameters`` are part of the key of what it makes or finds. ``tier``, ``threat``:
    as in ``Result``. ``placement``: what the rows call its places.
    """

    @property
    def name(self) -> str: ...
    @property
    def tier(self) -> str: ...
    @property
    def threat(self) -> str: ...
    @property
    def placement(self) -> str: ...
    @property
    def parameters(self) -> dict[str, Json]: ...


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
