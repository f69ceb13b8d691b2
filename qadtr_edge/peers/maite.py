"""An engine as a MAITE model, for test-and-evaluation tools that speak that protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..types import Engine


class Metadata(TypedDict):
    """``id``: engine, width and digest; ``index2label``: class names by number."""

    id: str
    index2label: dict[int, str]


class MaiteModel:
    """An ``Engine`` with the face of ``maite.protocols.image_classification.Model``."""

    def __init__(self, engine: Engine, *, class_names: Sequence[str]) -> None:
        facts = engine.facts
        self._engine = engine
        self.metadata = Metadata(
            id=f"{facts.engine}-{facts.bits}bit-{facts.digest[:16]}",
            index2label=dict(enumerate(class_names)),
        )

    def __call__(self, batch: Sequence[ArrayLike]) -> list[NDArray[np.float32]]:
        """Class probabilities ``(K,)`` of each image ``(3, H, W)`` of bytes: softmaxed logits."""
        logits = self._engine(np.stack([np.asarray(image, np.uint8) for image in batch]))
        exact = np.exp(logits - logits.max(axis=1, keepdims=True))
        return list(exact / exact.sum(axis=1, keepdims=True))
