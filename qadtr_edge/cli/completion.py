"""What a shell offers for the value of an option, after ``qadtr-edge --install-completion``."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .. import registry

Offer = Callable[[str], list[str]]


def words(known: Iterable[str]) -> Offer:
    """Offers these words; where some were typed with commas, those that are left."""
    return _offer(lambda: known)


def names(*kinds: str, also: Iterable[str] = (), prefix: str = "") -> Offer:
    """Offers the names of these tables of the registry, read when a shell asks, and ``also``."""
    return _offer(
        lambda: (*(prefix + name for kind in kinds for name in registry.names(kind)), *also)
    )


def _offer(known: Callable[[], Iterable[str]]) -> Offer:
    def offered(incomplete: str) -> list[str]:
        typed, comma, begun = incomplete.rpartition(",")
        left = (word for word in dict.fromkeys(known()) if word not in typed.split(","))
        return [f"{typed}{comma}{word}" for word in left if word.startswith(begun)]

    return offered
