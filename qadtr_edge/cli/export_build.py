"""What ``export`` asks of a builder beside the graph: today, of TensorRT alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, cast

import typer

from .. import registry
from ..errors import BadInput
from . import options

ENGINE = "trt"

Capabilities = Annotated[
    str | None,
    typer.Option(
        "--compute-capability", metavar="N.N[,…]",
        help="TensorRT-RTX: GPUs to build for ahead of time, such as 8.6,8.9.",
    ),
]  # fmt: skip
Workspace = Annotated[
    int | None,
    typer.Option(
        "--workspace", min=1, max=1 << 20,
        help="TensorRT: scratch memory in MiB. Default: 1024.",
    ),
]  # fmt: skip
Hardware = Annotated[
    str | None,
    typer.Option(
        "--hardware-compatible", metavar="LEVEL",
        help="TensorRT: GPUs beyond this one: ampere+ or same-compute-capability.",
    ),
]  # fmt: skip
VersionCompatible = Annotated[
    bool,
    typer.Option(
        "--version-compatible", help="TensorRT: an engine that later versions can load too."
    ),
]
Batches = Annotated[
    str | None,
    typer.Option(
        "--batch-profile", metavar="MIN,USUAL,MAX",
        help="TensorRT: images of one call. Default: 1,64,256.",
    ),
]  # fmt: skip
TimingCache = Annotated[
    Path | None,
    typer.Option("--timing-cache", help="TensorRT: file that keeps kernel timings over builds."),
]
DlaCore = Annotated[
    int | None,
    typer.Option("--dla-core", min=0, help="TensorRT: this accelerator, the rest on the GPU."),
]


@dataclass(frozen=True)
class Asked:
    """The options as typed; ``None`` and ``False`` leave the builder its own."""

    compute_capability: str | None = None
    workspace: int | None = None
    hardware_compatible: str | None = None
    version_compatible: bool = False
    batch_profile: str | None = None
    timing_cache: Path | None = None
    dla_core: int | None = None

    def by_engine(self, engines: Sequence[str]) -> dict[str, object]:
        """What each builder is handed, by engine; nothing for one that is asked nothing.

        Raises ``BadInput`` for an option whose engine is not among ``engines``, and for values that
        make no sense; ``Unsupported`` for what the installed version does not have.
        """
        told = [item.name for item in fields(self) if getattr(self, item.name) != item.default]
        if not told:
            return {}
        if ENGINE not in engines:
            option = "--" + told[0].replace("_", "-")
            raise BadInput(f"{option} is of TensorRT.", f"Add --engine trt, or leave {option} out.")
        capabilities = options.split(self.compute_capability or "")
        if self.compute_capability is not None and not capabilities:
            raise BadInput(
                "--compute-capability names none.", "Give numbers such as 8.6, with commas."
            )
        make = cast(Callable[..., object], registry.resolve("build options", ENGINE))
        batches = None if self.batch_profile is None else _sizes(self.batch_profile)
        made = make(
            compute_capabilities=capabilities,
            workspace_mebibytes=self.workspace, hardware=self.hardware_compatible,
            is_version_compatible=self.version_compatible, batch=batches,
            timing_cache=self.timing_cache, dla_core=self.dla_core,
        )  # fmt: skip
        return {ENGINE: made}


def _sizes(text: str) -> list[int]:
    """The numbers of a batch profile, which may be equal: 8,8,8 is a fixed batch."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) for word in words):
        raise BadInput(
            f"--batch-profile {text!r} is not a list of counts.", "Give three, such as 1,64,256."
        )
    return [int(word) for word in words]
