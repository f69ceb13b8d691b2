"""What the paper table trains and judges at each scale: plain data, so that scales never mix."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Entry:
    """One trained network: a recipe and what is changed in it.

    ``epochs``: those of the scale times this factor, which is how defences of unlike cost are given
    like time. ``deep``: attacked from every surrogate and swept with its own patches too, and
    the simulation shown the same; else only with those of the undefended networks, at one size in
    the sweep and searched at the widest width alone.
    """

    name: str
    recipe: str
    settings: tuple[str, ...] = ()
    epochs: float = 1.0
    deep: bool = True
    bits: tuple[int, ...] | None = None


UNDEFENDED = Entry("undefended", "none", deep=False)
"""The float network that transferred patches come from, and its post-training 8 bits."""

MAIN = (
    Entry("plain", "plain-cycle"),
    Entry("qadtr", "qadtr"),
    Entry("pbat", "pbat", epochs=0.5),
    Entry("qadtr -gir", "qadtr", ("gir.variant=off",), deep=False),
    Entry("dwq-patch", "dwq-patch", deep=False),
    Entry("dwq-pixel", "dwq-pixel", deep=False),
)
"""``pbat`` has half the epochs, which take as long as those of ``qadtr``."""


ABLATIONS = (
    Entry("qadtr -gir, 4.5 epochs", "qadtr", ("gir.variant=off",), epochs=1.5, deep=False),
    Entry("qadtr gir B", "qadtr", ("gir.variant=B",), deep=False),
    Entry("qadtr gir C", "qadtr", ("gir.variant=C",), deep=False),
    Entry("qadtr -patches", "qadtr", ("patches=off",), deep=False),
    Entry("qadtr -gir, frozen fp32", "qadtr", ("gir.variant=off", "a_qapa.bits=frozen"),
          deep=False, bits=(32, 8, 4, 2)),
    Entry("qadtr -gir, own width", "qadtr", ("gir.variant=off", "a_qapa.bits=current"), deep=False),
    Entry("qadtr -gir, universal", "qadtr", ("gir.variant=off", "a_qapa.scope=universal"),
          deep=False),
    Entry("qadtr -gir, one place", "qadtr", ("gir.variant=off", "a_qapa.places=1"), deep=False),
    Entry("qadtr -gir, no pool", "qadtr", ("gir.variant=off", "a_qapa.pool=0"), deep=False),
    Entry("qadtr -gir, uniform", "qadtr", ("gir.variant=off", "a_qapa.bit_weights=uniform"),
          deep=False),
    Entry("qadtr -gir, random order", "qadtr", ("gir.variant=off", "dbwt.order=random"),
          deep=False),
    Entry("pbat whole", "pbat", deep=False),
    Entry("triqdef", "triqdef", deep=False, bits=(32, 8, 4, 2)),
)  # fmt: skip


WHOLE = tuple(
    replace(entry, deep=False)
    for entry in (
        *MAIN[:4],
        Entry("qadtr -gir, 75 % patched", "qadtr", ("gir.variant=off", "share=0.75")),
        MAIN[4],
    )
)
"""The same networks on all images, attacked from the undefended ones and by the search alone."""


@dataclass(frozen=True)
class Scale:
    """- ``limit``, ``epochs``: training images and passes over them; ``seeds``: of the training.
    - ``widths``: trained and judged; ``sizes``: of square patches, the first one seen in training;
      ``shapes``: unseen ones, ``HxW`` or ``circle:D``; ``patch_seeds``: patches of each kind.
    - ``images``: test images, at least 1,000 for a claim; ``steps``: of 128 images, of a crafting.
    - ``stride``, ``swept_px``: of the location sweep; ``queries``: of the engine search.
    """

    name: str
    data: str
    model: str
    widths: tuple[int, ...]
    entries: tuple[Entry, ...]
    limit: int | None
    epochs: float
    seeds: tuple[int, ...] = (0,)
    sizes: tuple[int, ...] = (6, 8, 10)
    shapes: tuple[str, ...] = ("4x12", "circle:8")
    patch_seeds: int = 5
    images: int = 1000
    craft_images: int = 2000
    steps: int = 94
    stride: int = 2
    swept_px: tuple[int, ...] = (8, 10)
    queries: int = 500
    float_epochs: float = 0


SCALES = {
    "smoke": Scale(
        "smoke", "signs", "resnet8", (32, 8, 2), (UNDEFENDED, *MAIN[:3]), 2000, 1, sizes=(6, 8),
        shapes=("4x12",), patch_seeds=2, images=64, craft_images=200, steps=4, stride=8,
        swept_px=(8,), queries=20, float_epochs=4,
    ),
    "cpu": Scale(
        "cpu", "cifar10", "resnet20", (8, 4, 2), (UNDEFENDED, *MAIN, *ABLATIONS), 10_000, 3
    ),
    "cpu-whole": Scale(
        "cpu-whole", "cifar10", "resnet20", (8, 4, 2), (UNDEFENDED, *WHOLE), None, 1.6
    ),
    "full": Scale(
        "full", "cifar10", "resnet20", (32, 8, 5, 4, 2), (UNDEFENDED, *MAIN, *ABLATIONS), None, 60,
        seeds=(0, 1, 2), craft_images=10_000, steps=800, images=7_980, stride=1, queries=10_000,
    ),
}  # fmt: skip
