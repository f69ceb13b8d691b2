"""``QuantNet``: a classifier that runs at several widths with one set of weights.

It executes the steps of a traced torch module. At width 32 it is the float model; at 2 to 8 bits
every quantization point of its plan rounds, with straight-through gradients. In evaluation mode it
is *the simulation*: what fake-quantized robustness papers measure. The integers themselves are the
judge's and the engines' business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import BadInput
from ..quant.codes import check_bits, weight_limit_for
from ..quant.fake import fake_quantize, power_of_two
from ..types import FLOAT_BITS, QuantSpec
from .plan import Plan, Site, plan
from .steps import MOVES, Step, trace
from .weighted import WeightedLayer


def module_name(name: str) -> str:
    """A step's name as a key of a ModuleDict, which admits no dot."""
    return name.replace(".", "/")


class QuantNet(nn.Module):
    """Pixels ``(N, 3, H, W)``, uint8 or float32 in 0..255, to logits ``(N, K) float32``.

    - ``spec``: how it is quantized (its ``bits`` field is ignored: the width is selected);
      ``widths``: the widths it holds, with 32 for float; ``bits``: the selected one.
    - ``classes``, ``image_px``: shape of output and input.
    - ``backward_noise``: of the gradients that come back through its quantizers, in training mode.
    - ``attack_precision``: of the passes that training spends on making patches against it.
    - ``notes``: what a reader of a report must know about how it was made.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        spec: QuantSpec,
        widths: Sequence[int],
        classes: int,
        image_px: int,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.widths = tuple(dict.fromkeys(check_bits(bits) for bits in widths))
        self.classes = classes
        self.image_px = image_px
        self.notes: tuple[str, ...] = ()
        self.backward_noise = 0.0
        self.attack_precision: Literal["float32", "bfloat16"] = "float32"
        self.steps: tuple[Step, ...] = trace(model)
        self.plans: dict[int, Plan] = {
            bits: plan(self.steps, spec, bits=bits) for bits in self.widths if bits != FLOAT_BITS
        }
        self._spent = _last_readers(self.steps)
        self.bits = self.widths[0]
        self.layers = nn.ModuleDict()
        self.scales = nn.ParameterDict()
        self.pixel_input = self.steps[0].module
        for step in self.steps:
            if step.op in ("conv", "linear"):
                self.layers[module_name(step.name)] = WeightedLayer(
                    step,
                    widths=self.widths,
                    weight_bits={b: p.weight_bits[step.name] for b, p in self.plans.items()},
                    limits={
                        b: weight_limit_for(
                            p.weight_bits[step.name], reads=p.reads(step).codes, spec=spec
                        )
                        for b, p in self.plans.items()
                    },
                    is_strict=spec.scales == "strict",
                )
        for bits, points in self.plans.items():
            for site in (*points.sites.values(), *points.narrow.values()):
                if site.fixed_scale is None:
                    self.scales[self._scale_key(site, bits)] = nn.Parameter(torch.ones(()))

    @staticmethod
    def _scale_key(site: Site, bits: int) -> str:
        return f"{module_name(site.group)}@{bits}"

    def select(self, bits: int) -> QuantNet:
        """Run at ``bits`` from now on; returns self. ``BadInput`` when that width is not held."""
        if bits not in self.widths:
            held = ", ".join(map(str, self.widths))
            raise BadInput(
                f"This checkpoint holds the widths {held}, not {bits}.",
                f"Quantize it with --bits {held.replace(' ', '')},{bits}, or choose one it holds.",
            )
        self.bits = bits
        return self

    def layer(self, step: Step) -> WeightedLayer:
        """The weighted layer of a step."""
        layer = self.layers[module_name(step.name)]
        assert isinstance(layer, WeightedLayer)
        return layer

    def scale(self, site: Site, bits: int) -> Tensor:
        """The scale of a quantization point at a width: 0-d float32, positive."""
        if site.fixed_scale is not None:
            return torch.tensor(site.fixed_scale, dtype=torch.float32)
        scale = self.scales[self._scale_key(site, bits)].abs().clamp_min(1e-8)
        return power_of_two(scale) if self.spec.scales == "strict" else scale

    @torch.no_grad()
    def set_scale(self, site: Site, bits: int, *, value: float) -> None:
        """Overwrite the scale of a quantization point (calibration)."""
        if site.fixed_scale is None:
            self.scales[self._scale_key(site, bits)].fill_(value)

    def forward(self, pixels: Tensor) -> Tensor:
        tensors: dict[str, Tensor] = {}
        for step in self.steps:
            tensors[step.name] = self._rounded(step, self._unrounded(step, pixels, tensors))
            for name in self._spent[step.name]:
                tensors.pop(name, None)
        return tensors[self.steps[-1].name]

    def run(self, pixels: Tensor, *, observe: bool = False) -> dict[str, Tensor]:
        """Every tensor by step name, and narrow copies under ``name:narrow``.

        With ``observe`` values are stored *before* rounding, which calibration needs.
        """
        tensors: dict[str, Tensor] = {}
        observed: dict[str, Tensor] = {}
        for step in self.steps:
            observed[step.name] = self._unrounded(step, pixels, tensors)
            tensors[step.name] = self._rounded(step, observed[step.name])
        return observed if observe else tensors

    def _unrounded(self, step: Step, pixels: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        """The step's output before its quantization point; may add a narrow copy to ``tensors``."""
        points = self.plans.get(self.bits)
        if points is not None and step.op in ("conv", "linear"):
            x = self._read(step, points, tensors)
            x_scale = self.scale(points.reads(step), self.bits)
            return self._clip(step, self._weighted(step, x, x_scale=x_scale))
        inputs = [pixels] if step.op == "input" else [tensors[name] for name in step.inputs]
        return self._clip(step, self._execute(step, inputs))

    def _rounded(self, step: Step, y: Tensor) -> Tensor:
        points = self.plans.get(self.bits)
        if points is None or step is self.steps[-1] or not _rounds(step):
            return y
        return self._quantize(y, points.sites[step.name])

    def _weighted(self, step: Step, x: Tensor, *, x_scale: Tensor | None = None) -> Tensor:
        noise = self.backward_noise if self.training else 0.0
        y: Tensor = self.layer(step)(x, self.bits, x_scale=x_scale, noise=noise)
        return y

    def _read(self, step: Step, points: Plan, tensors: dict[str, Tensor]) -> Tensor:
        """A weighted layer's input: the tensor itself or its narrow copy, made once."""
        source = step.inputs[0]
        if source not in points.narrow:
            return tensors[source]
        name = f"{source}:narrow"
        if name not in tensors:
            tensors[name] = self._quantize(tensors[source], points.narrow[source])
        return tensors[name]

    def _quantize(self, value: Tensor, site: Site) -> Tensor:
        noise = self.backward_noise if self.training else 0.0
        return fake_quantize(value, self.scale(site, self.bits), codes=site.codes, noise=noise)

    def _execute(self, step: Step, inputs: list[Tensor]) -> Tensor:
        x = inputs[0]
        y: Tensor
        match step.op:
            case "conv" | "linear":  # only the float network comes here
                y = self._weighted(step, x)
            case "add":
                y = x + inputs[1]
            case "mul":
                y = x * inputs[1]
            case "add_constant":
                y = x + step.constant
            case "rescale":
                y = x * step.constant
            case "sigmoid":
                y = torch.sigmoid(x)
            case "concat":
                y = torch.cat(inputs, dim=1)
            case "global_average_pool":
                y = x.mean(dim=(2, 3), keepdim=True)
            case "flatten":
                y = torch.flatten(x, 1)
            case "clip":
                y = x
            case _:
                assert step.module is not None
                y = step.module(x)
        return y

    def _clip(self, step: Step, y: Tensor) -> Tensor:
        points = self.plans.get(self.bits)
        if step.clip == "relu6" and step.op == "clip" and points is not None:
            scale = self.scale(points.sites[step.name], self.bits).detach()
            return torch.minimum(functional.relu(y), scale * (6.0 / scale).round())  # on the grid
        if step.clip == "relu6":
            return torch.clamp(y, 0.0, 6.0)
        if step.clip == "relu" and (self.bits == FLOAT_BITS or step.op == "clip"):
            return functional.relu(y)  # a quantized tensor's lowest code 0 is its ReLU
        return y


def _rounds(step: Step) -> bool:
    """Whether the step's output is rounded anew: moves, clamps and the raw input are not."""
    return step.op not in MOVES | {"input", "clip", "rescale"}


def _last_readers(steps: Sequence[Step]) -> dict[str, tuple[str, ...]]:
    """Tensors no later step reads, narrow copies included, by the name of the last that does."""
    last = {name: step.name for step in steps for name in step.inputs}
    return {
        step.name: tuple(
            copy for name in last if last[name] == step.name for copy in (name, f"{name}:narrow")
        )
        for step in steps
    }
