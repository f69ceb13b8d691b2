"""Every name a user can type, and the ``"module:attribute"`` it stands for.

Nothing is imported until a name is asked for, so a missing runtime costs nothing until then. To
add an engine, an attack, a defence, a model or a data set: one line here. Other packages add
engines, attacks and models through the entry points ``qadtr_edge.engines``, ``qadtr_edge.attacks``
and ``qadtr_edge.models``; a name of this file always wins over an entry point of the same name. A
model can also be named as ``module:function``, of the user's own file.

``export/`` and ``kernels/`` are reached from the rest of the package only through this file.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from .errors import BadInput, UnknownName

TABLES: dict[str, dict[str, str]] = {
    "engine": {  # (artefact, *, threads) -> types.Engine
        "ort": "qadtr_edge.export.ort:OrtEngine",
        "openvino": "qadtr_edge.export.openvino:OpenVinoEngine",
        "trt": "qadtr_edge.export.trt_engine:TrtEngine",
    },
    "builder": {  # (integer graph, folder, *, threads) -> artefact written into the folder
        "ort": "qadtr_edge.export.ort:build",
        "openvino": "qadtr_edge.export.openvino:build",
        "trt": "qadtr_edge.export.trt:build",
    },
    "float builder": {  # (float graph, folder, *, threads) -> the yardstick written into the folder
        "ort": "qadtr_edge.export.fp32:build_float",
        "openvino": "qadtr_edge.export.openvino:build_float",
        "trt": "qadtr_edge.export.trt:build_float",
    },
    "build options": {  # (what a user asks of a builder) -> its keyword ``options``
        "trt": "qadtr_edge.export.trt_options:options_of",
    },
    "builder on the device": {  # (folder of an exported engine): what must be built where it runs
        "trt": "qadtr_edge.export.trt_here:build_here",
    },
    "parity": {  # (integer graph, engine, *, images, model) -> types.Parity
        "ort": "qadtr_edge.export.parity:compare",
        "openvino": "qadtr_edge.export.openvino:compare",
        "trt": "qadtr_edge.export.trt:compare",
    },
    "kernel": {  # what must equal a reference: see kernels/README.md
        "paste": "qadtr_edge.kernels.paste:CudaPaste",
    },
    "kernel compiler": {  # () -> the path of what compiles kernels
        "cuda": "qadtr_edge.kernels.build:nvcc",
    },
    "device memory": {  # () -> kernels.memory.Device
        "cuda": "qadtr_edge.kernels.memory:open_device",
    },
    "artefact": {  # a file that ships: (path, *, preprocess, threads) -> engines.ArtefactEngine
        "ort": "qadtr_edge.export.artefact:OrtArtefact",
        "openvino": "qadtr_edge.export.openvino_artefact:OpenVinoArtefact",
        "litert": "qadtr_edge.export.litert:LiteRtEngine",
    },
    "artefact parity": {  # (path, *, images, preprocess, threads, trace, on_batch) -> types.Parity
        "ort": "qadtr_edge.export.artefact_parity:compare",
        "openvino": "qadtr_edge.export.openvino_artefact:compare",
        "litert": "qadtr_edge.export.litert:compare",
    },
    "reader": {  # a file made elsewhere: (path, *, preprocess, data) -> the integer graph
        "onnx": "qadtr_edge.export.reader:lower",
    },
    "requantization": {  # (integer graph, *, pixels) -> one that more engines can hold
        "symmetric": "qadtr_edge.export.symmetric:symmetric",
    },
    "tolerance": {  # of engines that are not exact: export.tolerance.Tolerance
        "openvino": "qadtr_edge.export.openvino:TOLERANCE",
    },
    "isa": {  # other CPUs, emulated: (integer graph, model, *, images, name) -> counts
        "avx2": "qadtr_edge.export.other_cpu:compare",
        "arm64": "qadtr_edge.export.other_cpu:compare",
    },
    "saturation": {  # (integer graph, images) -> pairs of products beyond int16, by layer
        "avx2": "qadtr_edge.export.isa:overflows",
    },
    "cure": {  # (folder of an engine): what --fix does about saturation
        "avx2": "qadtr_edge.export.other_cpu:cure",
    },
    "attack": {
        "gap": "qadtr_edge.attacks.gap:Gap",
        "lavan": "qadtr_edge.attacks.lavan:Lavan",
        "dpr": "qadtr_edge.attacks.dpr:Dpr",
        "controls": "qadtr_edge.attacks.controls:controls",
    },
    "per-image attack": {  # white-box, on the images that are scored: attacks.per_image.PerImage
        "adaptive": "qadtr_edge.attacks.adaptive:Adaptive",
        "loap": "qadtr_edge.attacks.loap:Loap",
        "pgd": "qadtr_edge.attacks.pgd:Pgd",
        "differential": "qadtr_edge.attacks.differential:Differential",
    },
    "search": {  # attacks that ask the engine itself: attacks.queries.Search
        "sweep": "qadtr_edge.attacks.sweep:Sweep",
        "patch_rs": "qadtr_edge.attacks.patch_rs:PatchRs",
        "label_search": "qadtr_edge.attacks.label_search:LabelSearch",
        "mpa": "qadtr_edge.attacks.mpa:Mpa",
        "patch_rs_differential": "qadtr_edge.attacks.patch_rs_differential:PatchRsDifferential",
    },
    "universal search": {  # one patch for all images, by asking the engine: class with craft
        "patch_rs_universal": "qadtr_edge.attacks.patch_rs_universal:PatchRsUniversal",
    },
    "defence": {
        "plain": "qadtr_edge.defences.plain:Plain",
        "plain-cycle": "qadtr_edge.defences.plain:PlainCycle",
        "pbat": "qadtr_edge.defences.pbat:Pbat",
        "pbat-fp": "qadtr_edge.defences.pbat:PbatFp",
        "dwq-pixel": "qadtr_edge.defences.dwq:DwqPixel",
        "dwq-patch": "qadtr_edge.defences.dwq:DwqPatch",
        "qadtr": "qadtr_edge.defences.qadtr:Qadtr",
        "triqdef": "qadtr_edge.defences.triqdef:Triqdef",
    },
    "model": {
        "resnet8": "qadtr_edge.models.resnet:resnet8",
        "resnet20": "qadtr_edge.models.resnet:resnet20",
        "resnet32": "qadtr_edge.models.resnet:resnet32",
        "resnet44": "qadtr_edge.models.resnet:resnet44",
        "resnet56": "qadtr_edge.models.resnet:resnet56",
        "vgg11": "qadtr_edge.models.vgg:vgg11",
        "vgg16": "qadtr_edge.models.vgg:vgg16",
        "resnet18": "qadtr_edge.models.resnet_imagenet:resnet18",
        "resnet34": "qadtr_edge.models.resnet_imagenet:resnet34",
        "resnet50": "qadtr_edge.models.resnet_imagenet:resnet50",
        "squeezenet1_1": "qadtr_edge.models.squeezenet:squeezenet1_1",
        "mobilenetv2": "qadtr_edge.models.mobilenet:mobilenetv2",
        "mobilenetv2_imagenet": "qadtr_edge.models.mobilenet:mobilenetv2_imagenet",
    },
    "dataset": {
        "signs": "qadtr_edge.data.signs:load",
        "cifar10": "qadtr_edge.data.cifar10:load",
        "imagenet": "qadtr_edge.data.imagenet:load",
    },
    "packaged model": {  # files of qadtr_edge/zoo, typed as zoo:NAME
        "plain-resnet8-signs": "plain-resnet8-signs.safetensors",
        "plain-resnet20": "plain-resnet20.safetensors",
        "pbat-resnet20": "pbat-resnet20.safetensors",
        "dwq-resnet20": "dwq-resnet20.safetensors",
        "qadtr-resnet20": "qadtr-resnet20.safetensors",
    },
}

ENTRY_POINTS = {
    "engine": "qadtr_edge.engines", "attack": "qadtr_edge.attacks", "model": "qadtr_edge.models",
}  # fmt: skip

OWN = ("model",)
"""Kinds of which a user can also name a function of an own file, as ``module:function``."""

DEFAULT_MODEL = "plain-resnet8-signs"
ZOO = "zoo:"
"""What the name of a packaged model is typed with."""


def names(kind: str) -> tuple[str, ...]:
    """The names of a ``kind``: the built-in ones first, then those other packages add."""
    built_in = TABLES[kind]
    return (*built_in, *(name for name in _added(kind) if name not in built_in))


def path_of(kind: str, name: str) -> str:
    """What ``name`` stands for, as written: ``"module:attribute"``, or a file name.

    Raises ``UnknownName`` with the nearest known name.
    """
    if name in TABLES[kind]:
        return TABLES[kind][name]
    added = _added(kind)
    if name in added:
        return added[name].value
    if is_own(kind, name):
        return name
    raise UnknownName(kind, name, (*TABLES[kind], *added))


def resolve(kind: str, name: str) -> object:
    """The class or function ``name`` stands for, imported now. The caller knows its role."""
    path = path_of(kind, name)
    if name in TABLES[kind]:
        return load(path)
    if is_own(kind, name):
        return _own(kind, name)
    try:
        return load(path)
    except (ImportError, AttributeError) as error:
        raise BadInput(
            f"The {kind} {name!r}, added by another package as {path}, cannot be loaded: {error}.",
            "Repair or uninstall that package.",
        ) from error


def is_own(kind: str, name: str) -> bool:
    """Whether ``name`` is a ``module:function`` of the user's own file."""
    module, _, function = name.partition(":")
    parts = (*module.split("."), function)
    return kind in OWN and not name.startswith(ZOO) and all(part.isidentifier() for part in parts)


def _own(kind: str, name: str) -> object:
    """What ``module:function`` names. Whatever the user's file raises is the user's to mend."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # last: a file of the user's never stands in for a package
    try:
        return load(name)
    except Exception as error:
        raise BadInput(
            f"The {kind} {name!r} cannot be loaded: {type(error).__name__}: {error}.",
            "Name a function of a module, as module:function, in the folder that holds it.",
        ) from error


def load(path: str) -> object:
    """The attribute that ``"module:attribute"`` names."""
    module, _, attribute = path.partition(":")
    found: object = getattr(import_module(module), attribute)
    return found


def _added(kind: str) -> dict[str, EntryPoint]:
    group = ENTRY_POINTS.get(kind)
    return {point.name: point for point in entry_points(group=group)} if group else {}
