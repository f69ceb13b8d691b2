"""The processes that train one network together: alone, or as ``torchrun`` started them.

Every process holds the whole network and all images, and takes its rows of each global batch.
Gradients are averaged after the backward pass; batch norm normalises by the statistics of the
global batch; what a defence remembers is averaged, its whole numbers are the first process's. So N
processes train what one would, up to the order of float sums and to what a defence does with a
batch as a whole (which rows it patches), which it does with each process's rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from .defences.defence import CONSTANT, Defence
from .errors import BadInput, UnknownName

_CPU = torch.device("cpu")
DEVICES = ("auto", "cpu", "cuda")
_SET_BY_TORCHRUN = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}


@dataclass(frozen=True)
class Group:
    """Process number ``rank`` of ``size``, computing on ``device``. Alone, nothing is exchanged."""

    rank: int = 0
    size: int = 1
    device: torch.device = _CPU

    @property
    def is_first(self) -> bool:
        """Whether this is the process that speaks and writes."""
        return self.rank == 0

    def own(self, rows: Tensor) -> Tensor:
        """This process's part of a global batch ``(B, ...)``: B / size rows in order of rank."""
        return rows.chunk(self.size)[self.rank]

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each floating-point tensor by its mean over the processes."""

        def mean(flat: Tensor) -> None:
            dist.all_reduce(flat)
            flat.div_(self.size)

        self._exchange(tensors, mean)

    def follow_first(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by the first process's."""
        self._exchange(tensors, lambda flat: dist.broadcast(flat, src=0))

    def average_gradients(self, net: nn.Module, loss: Tensor) -> Tensor:
        """Makes the gradients the processes' mean; returns the mean of their losses, 0-d.

        A weight that the step of no process uses has no gradient, in any of them; to one that only
        some use, the others give 0.
        """
        mean = loss.detach().clone()
        if self.size == 1:
            return mean
        weights = list(net.parameters())
        used = torch.tensor([float(weight.grad is not None) for weight in weights])
        gradients = [
            torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights
        ]
        self.average([mean, used, *gradients])
        for weight, gradient, share in zip(weights, gradients, used.tolist(), strict=True):
            weight.grad = gradient if share else None
        return mean

    def align(self, net: nn.Module, defence: Defence) -> None:
        """Makes alike what a step changed beside the weights: the defence, scales, statistics.

        A defence may have calibrated a width on rows of its own; what it remembers in fractions is
        averaged, in whole numbers the first process's. What it keeps as it was is alike already.
        """
        if self.size == 1:
            return
        scales = [weight for name, weight in net.named_parameters() if "scales" in name.split(".")]
        self.follow_first([*scales, *net.buffers()])
        state = {
            name: value for name, value in defence.state().items() if not name.startswith(CONSTANT)
        }
        self.average([value for value in state.values() if value.is_floating_point()])
        self.follow_first([value for value in state.values() if not value.is_floating_point()])
        defence.restore(state)

    def rows_of_all(self, rows: Tensor) -> Tensor:
        """The rows ``(B / size, ...)`` of every process as ``(B, ...)``: undoes ``own``."""
        if self.size == 1:
            return rows
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        dist.all_gather(parts, rows)
        return torch.cat(parts)

    def bytes_of_first(self, content: bytes) -> bytes:
        """The first process's ``content``, whatever this one's is."""
        if self.size == 1:
            return content
        length = torch.tensor([len(content)], device=self.device)
        dist.broadcast(length, src=0)
        sent = torch.zeros(int(length), dtype=torch.uint8)
        if self.is_first:
            sent = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else sent
        sent = sent.to(self.device)
        dist.broadcast(sent, src=0)
        return sent.cpu().numpy().tobytes()

    @torch.no_grad()
    def _exchange(self, tensors: Sequence[Tensor], exchange: Callable[[Tensor], None]) -> None:
        """``exchange`` on all tensors of a type at once, as one flat tensor."""
        if self.size == 1:
            return
        for kind in sorted({tensor.dtype for tensor in tensors}, key=str):
            alike = [tensor for tensor in tensors if tensor.dtype == kind]
            flat = torch.cat([tensor.reshape(-1).to(self.device) for tensor in alike])
            exchange(flat)
            parts = flat.split([tensor.numel() for tensor in alike])
            for tensor, part in zip(alike, parts, strict=True):
                tensor.copy_(part.view(tensor.shape))

    @contextmanager
    def shared_norms(self, net: nn.Module) -> Iterator[None]:
        """Inside, training-mode batch norm uses the statistics of the global batch."""
        norms = [each for each in net.modules() if type(each) is nn.BatchNorm2d]
        if self.size == 1:
            norms = []
        for norm in norms:  # parameters, buffers and their owner stay
            norm.__class__ = SharedNorm
        try:
            yield
        finally:
            for norm in norms:
                norm.__class__ = nn.BatchNorm2d


class SharedNorm(nn.BatchNorm2d):
    """Batch norm over the rows of all processes, each of which must run it, with as many rows.

    Means and variances of the processes are exchanged in one message and combined exactly
    (Chan, Golub, LeVeque 1983). ``torch.nn.SyncBatchNorm`` runs on CUDA alone.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            plain: Tensor = super().forward(input)
            return plain
        rank, size = dist.get_rank(), dist.get_world_size()
        variance, mean = torch.var_mean(input, dim=(0, 2, 3), correction=0)
        own = torch.stack([mean, variance])
        nothing = torch.zeros_like(own)
        message = torch.stack([own if each == rank else nothing for each in range(size)])
        means, variances = _Summed.apply(message).unbind(dim=1)  # type: ignore[no-untyped-call]
        mean = means.mean(dim=0)
        variance = variances.mean(dim=0) + (means - mean).square().mean(dim=0)
        self._remember(mean.detach(), variance.detach(), size * input.numel() // input.shape[1])
        gain = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * gain
        result: Tensor = input * gain.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)
        return result

    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Moves the running statistics; the running variance is the unbiased one, as in torch."""
        assert self.momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / max(1, count - 1), self.momentum)


class _Summed(torch.autograd.Function):
    """The sum over the processes; so is its gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, tensor: Tensor) -> Tensor:
        result = tensor.clone()
        dist.all_reduce(result)
        return result

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        result: Tensor = _Summed.apply(gradient.contiguous())  # type: ignore[no-untyped-call]
        return result


def current(device: torch.device) -> Group:
    """The group this process belongs to."""
    if dist.is_available() and dist.is_initialized():
        return Group(dist.get_rank(), dist.get_world_size(), device)
    return Group(device=device)


@contextmanager
def joined(device: str = "auto") -> Iterator[Group]:
    """The group that ``torchrun`` started, or this process alone, on ``auto``, ``cpu`` or ``cuda``.

    Raises ``BadInput`` for CUDA where torch finds none.
    """
    chosen = device_of(device)
    if not (dist.is_available() and os.environ.keys() >= _SET_BY_TORCHRUN):
        yield Group(device=chosen)
        return
    # Its functions' defaults are the group there is when it is imported. Imported later, by torch
    # itself, they would keep this one's threads, which then outlive the interpreter and abort.
    import_module("torch.distributed.nn.functional")
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield current(chosen)
    finally:
        dist.destroy_process_group()


def device_of(name: str) -> torch.device:
    """The device ``auto``, ``cpu`` or ``cuda`` stands for: of several GPUs, this process's own."""
    if name not in DEVICES:
        raise UnknownName("device", name, DEVICES)
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise BadInput("torch finds no CUDA device here.", "Give --device cpu, or leave it out.")
    if name == "cpu" or not has_cuda:
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device
