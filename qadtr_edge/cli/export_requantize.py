"""``export --requantize``: other integers for a file made elsewhere, and what they change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, cast

from .. import registry
from ..types import Json, Labels, Pixels

if TYPE_CHECKING:
    from ..integer.graph import Float32, IntegerGraph


@dataclass(frozen=True)
class Change:
    """Counted on the judge, before and after, over the same ``images``.

    ``correct_before``, ``correct_after``: ``None`` where no data set is named.
    """

    form: str
    images: int
    data: str
    same_class: int
    correct_before: int | None
    correct_after: int | None

    def as_json(self) -> dict[str, Json]:
        return asdict(self)

    def told(self) -> str:
        """The change as a sentence without its full stop."""
        told = f"requantized to {self.form} scales: one class on {self.same_class}"
        if self.correct_before is not None and self.correct_after is not None:
            before, after = self.correct_before / self.images, self.correct_after / self.images
            told += f", accuracy {before:.2%} before and {after:.2%} after,"
        return f"{told} of {self.images} images of {self.data}"


def requantized(
    graph: IntegerGraph, form: str, *, pixels: Float32, images: Pixels, labels: Labels | None,
    data: str,
) -> tuple[IntegerGraph, Change | None]:  # fmt: skip
    """``graph`` in another form, its notes saying what that changed on ``images``.

    The same graph and ``None`` where it has that form already.
    ``pixels (3, 256)``: the reals that the network reads of each byte. ``labels``: of ``images``.
    """
    from ..integer import judge

    make = cast("Callable[..., IntegerGraph]", registry.resolve("requantization", form))
    made = make(graph, pixels=pixels)
    if made is graph:
        return graph, None
    before, after = judge.run(graph, images).argmax(1), judge.run(made, images).argmax(1)
    change = Change(
        form, len(images), data, int((before == after).sum()),
        None if labels is None else int((before == labels).sum()),
        None if labels is None else int((after == labels).sum()),
    )  # fmt: skip
    return replace(made, notes=(*made.notes, change.told())), change
