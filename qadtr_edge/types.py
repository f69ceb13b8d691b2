"""The nouns. Values are frozen dataclasses, roles are protocols; there is no logic here.

Letters used in every docstring of the project: ``N`` images, ``C`` = 3, ``H W`` image rows and
columns, ``h w`` patch rows and columns, ``K`` classes. Pixels are RGB ``uint8``, ``(N, 3, H, W)``,
until they enter a model; a model owns its normalisation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

FLOAT_BITS = 32
"""The bit-width that means: not quantized."""


@dataclass(frozen=True)
class QuantSpec:
    """How a network is quantized. Part of every manifest; hashable.

    - ``bits``: width of weights and of the inputs of weighted layers, 2 to 8, or 32 for float.
    - ``activations``: ``signed`` uses codes [-128, 127] at 8 bits (so [0, 127] after ReLU), which
      every engine can hold; ``unsigned`` uses [0, 255] after ReLU, onnxruntime only.
    - ``scales``: ``tied``: the tensors of a residual sum share one scale, so the sum never rounds;
      ``strict``: tied, and every scale a power of two; ``free``: neither.
    - ``first_last_bits``: width of the first and last weighted layer and of their inputs.
    - ``residual_bits``: width of the tensors of a residual sum; ``None`` means ``bits``.
    - ``avx2_safe``: 8-bit weights that read a signed tensor stay within [-64, 64], so that no
      int16 pair overflows on x86 CPUs without VNNI.
    """

    bits: int = 8
    activations: Literal["signed", "unsigned"] = "signed"
    scales: Literal["tied", "strict", "free"] = "tied"
    first_last_bits: int = 8
    residual_bits: int | None = 8
    avx2_safe: bool = True


@dataclass(frozen=True, eq=False)
class Patch:
    """An adversarial patch, as the bytes that are printed, hashed, pasted and replayed.

    - ``pixels``: ``(3, h, w) uint8``.
    - ``mask``: ``(h, w) bool``; only masked pixels are pasted.
    - ``target``: class the patch pushes to, or ``None`` when untargeted.
    - ``origin``: attack, its parameters, seed, and digest of the victim it was crafted on.
    """

    pixels: Pixels
    mask: NDArray[np.bool_]
    target: int | None
    origin: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class PatchPerImage:
    """One patch for each image, all of one shape: a control drawn afresh, or a per-image attack.

    - ``pixels_of``: from ids ``(N,) int64`` to pixels ``(N, 3, h, w) uint8``; the pixels of an id
      do not depend on the other ids.
    - ``mask``, ``target``, ``origin``: as in ``Patch``; equal origins give equal pixels.
    """

    pixels_of: Callable[[Labels], Pixels]
    mask: NDArray[np.bool_]
    target: int | None
    origin: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Placements:
    """Where one patch lands on each of N images: row i places it on image i.

    - ``top``, ``left``: ``(N,) float64``, pixels; corner of the *unrotated, scaled* patch square.
    - ``degrees``: ``(N,) float64``, counter-clockwise about the patch centre.
    - ``scale``: ``(N,) float64``, 1 is the stored size.
    - ``corners``: ``(N, 4, 2) float64``, seen in perspective: by which shares of its height and
      width each corner of the patch stands further in, from the top left clockwise. All are below
      1/3, so that no corner is dented. ``None``: seen straight on.
    - ``contrast``, ``brightness``: ``(N,) float64``, the light on the patch: what its bytes are
      multiplied by, and what is added to them, in bytes. ``None``: 1, and 0.
    - ``more``: where further copies of the patch land on the same images, pasted in this order.
    """

    top: NDArray[np.float64]
    left: NDArray[np.float64]
    degrees: NDArray[np.float64]
    scale: NDArray[np.float64]
    corners: NDArray[np.float64] | None = None
    contrast: NDArray[np.float64] | None = None
    brightness: NDArray[np.float64] | None = None
    more: tuple[Placements, ...] = ()


@dataclass(frozen=True, eq=False)
class PlacedPatches:
    """One patch and one place for each of N images: what an attack on single images finds.

    - ``ids``: ``(N,) int64``, of the images, each once. Row i of all else belongs to ``ids[i]``.
    - ``pixels``: ``(N, 3, h, w) uint8``, or ``(3, h, w)``: one patch that all images share.
    - ``mask``, ``target``, ``origin``: as in ``Patch``.
    - ``placements``: of N rows.
    - ``queries``: ``(N,) int64``, images the engine was shown until the goal was first reached, or
      all it was shown when it never was; ``None`` when the engine was not asked.
    """

    ids: Labels
    pixels: Pixels
    mask: NDArray[np.bool_]
    placements: Placements
    target: int | None
    queries: Labels | None = None
    origin: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class EngineFacts:
    """What was *observed* of an engine after it was built, beside what was requested.

    - ``engine``: registry name; ``runtime``: package and version.
    - ``bits``: width of the values (32: float).
    - ``precision``: ``integer`` when every weighted layer, addition and pooling that ran between
      the first quantization and the last matrix product ran on integers, ``float`` when none did,
      otherwise ``mixed``; ``unknown`` when it was built but never run, or shows no kernels.
    - ``integer_kernels``: number of integer kernels that ran; ``float_layers``: names of those
      that ran in float.
    - ``digest``: SHA-256 of the engine file as it was run.
    - ``options``: every session option and thread count that was set, by name.
    - ``device``: CPU or GPU name and the instruction sets that matter.
    """

    engine: str
    runtime: str
    bits: int
    precision: Literal["integer", "mixed", "float", "unknown"]
    integer_kernels: int
    float_layers: tuple[str, ...]
    digest: str
    options: Mapping[str, Json]
    device: Mapping[str, Json]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerParity:
    """How one layer's output codes (or the logits) on an engine differ from the judge's."""

    layer: str
    elements: int
    mismatches: int
    max_abs_diff: float


@dataclass(frozen=True)
class Parity:
    """An engine's logits against the judge's, counted over all images, bit for bit.

    - ``layers``: in execution order, over a few images; empty when nothing was traced.
    - ``first_divergent_layer``: ``None`` when no traced layer differs.
    """

    images: int
    logits_compared: int
    logit_mismatches: int
    max_abs_diff: float
    argmax_mismatches: int
    first_divergent_layer: str | None = None
    layers: tuple[LayerParity, ...] = ()
    notes: tuple[str, ...] = ()


@runtime_checkable
class Engine(Protocol):
    """Something that classifies images; a context manager. After ``close`` a call is an error."""

    @property
    def facts(self) -> EngineFacts: ...

    def __call__(self, images: Pixels) -> NDArray[np.float32]:
        """Logits ``(N, K) float32`` of images ``(N, 3, H, W) uint8``."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Engine: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@dataclass(frozen=True)
class Counts:
    """What one unit of work counted. Counts, never ratios.

    Attack success is ``fooled / eligible``; eligible images are right on *this* engine without the
    patch and, when the attack is targeted, do not belong to the target class.

    - ``n``: images; ``clean_correct``: of these, right without the patch; ``patched_correct``:
      right with it; ``changed``: label differs with and without it; ``target_hits``: labelled as
      the target with it, images of the target class included (``None``: untargeted).
    - ``sim_eligible``, ``sim_fooled``: the same counts on the simulation, same bytes;
      ``both_eligible``: images eligible on both, which split into ``both_fooled``, ``sim_only``,
      ``engine_only`` and neither. All ``None`` when no simulation ran.
    - ``differential_eligible``: images eligible on the engine and right on the float model;
      ``differential_fooled``: of these, won on the engine and still right on the float model, same
      bytes. ``None`` when no float model was shown them.
    """

    n: int
    clean_correct: int
    eligible: int
    fooled: int
    patched_correct: int
    changed: int
    target_hits: int | None = None
    sim_eligible: int | None = None
    sim_fooled: int | None = None
    both_eligible: int | None = None
    both_fooled: int | None = None
    sim_only: int | None = None
    engine_only: int | None = None
    differential_eligible: int | None = None
    differential_fooled: int | None = None


@dataclass(frozen=True)
class Result:
    """The counts of one unit of work: engine x patch x image subset x placement policy.

    - ``key``: digest of everything that can change the counts.
    - ``engine``, ``bits``, ``precision``, ``engine_digest``: as observed, from ``EngineFacts``.
    - ``attack``: registry name of the attack, or of the control. ``victim``: what the patch was
      crafted on; ``knowledge``: what its maker knew (none, surrogate, simulation, labels, scores,
      both). ``patch_seed``: seed of the crafting; ``patch_digest``: of the bytes.
    - ``tier``: T0 to T8 of the attack suite. ``threat``: T-A one patch for all images at places the
      attacker does not choose, T-B at places he chooses, T-C one patch per image.
    - ``patch_rows_px``, ``patch_columns_px``: its height and width; ``patch_size_px``: the longer;
      ``mask_digest``: of its shape and of which of its pixels are pasted.
    - ``placement``, ``seed``: policy of the places and their seed.
    - ``queries_median``: median over eligible images of the queries the search needed, those of an
      image never fooled being all it was given; ``None`` when the engine was not asked.
    - ``kappa``: each image's patch is the first that led by this many logits on its victim, the
      best where none did; ``None``: the best of all.
    """

    key: str
    engine: str
    bits: int
    precision: str
    attack: str
    knowledge: str
    victim: str
    goal: Literal["untargeted", "targeted"]
    target: int | None
    tier: str
    threat: str
    patch_size_px: int
    patch_rows_px: int
    patch_columns_px: int
    mask_digest: str
    patch_seed: int | None
    placement: str
    seed: int
    counts: Counts
    queries_median: float | None
    engine_digest: str
    patch_digest: str
    data_digest: str
    simulation_digest: str | None
    kappa: float | None = None
