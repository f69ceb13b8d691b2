"""The command line: ``app`` holds one verb per file, ``main`` turns outcomes into exit codes.

0 done; 1 a threshold the user set was broken; 2 something the user can fix, in two sentences;
70 a bug, with its traceback; 130 interrupted.
"""

from __future__ import annotations

import sys
import traceback
from importlib import import_module
from typing import Annotated, NoReturn

import typer

from .. import console
from ..errors import BadInput, MissingDependency, QadtrError
from ..files import REMEDIES
from .options import example

OK, BROKEN_THRESHOLD, USER_ERROR, BUG, INTERRUPTED = 0, 1, 2, 70, 130

VERBS = {
    "train": "qadtr-edge train --recipe qadtr --epochs 2 --bits 32,8,4",
    "quantize": "qadtr-edge quantize --weights resnet20.th --data cifar10 --bits 8,4",
    "export": "qadtr-edge export --engine ort --bits 8,4",
    "verify": "qadtr-edge verify --engine ort --bits 8 --images 100",
    "attack": "qadtr-edge attack --bits 8 --attack gap,patch_rs --images 200",
    "bench": "qadtr-edge bench --engine ort --batch 1,8 --max-p99-ms 50",
    "analyze": "qadtr-edge analyze spatial --bits 8 --images 100",
    "report": "qadtr-edge report --html report.html",
    "bundle": "qadtr-edge bundle --bits 8 --images 200 --out edge.pyz",
    "data": "qadtr-edge data cifar10 --data-root data",
    "doctor": "qadtr-edge doctor --json",
}
"""In the order of ``--help``, with the example at its end; each is the function of that name in the
file of that name."""

EXTRAS = {
    "torch": "train", "safetensors": "train", "scipy": "train", "PIL": "train", "onnx": "onnx",
    "onnxruntime": "ort", "tensorrt": "trt", "pycuda": "cuda", "openvino": "openvino",
    "jinja2": "report", "matplotlib": "report", "ray": "scale",
}  # fmt: skip
"""Package a command may find missing -> the extra it comes with."""

app = typer.Typer(
    name="qadtr-edge",
    help="What an adversarial patch does to a quantized classifier on the engine that runs it.",
    no_args_is_help=True,
    epilog=example("qadtr-edge export && qadtr-edge attack && qadtr-edge report"),
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for verb, line in VERBS.items():
    function = getattr(import_module(f"{__name__}.{verb}"), verb)
    app.command(verb, epilog=example(line))(function)
app.add_typer(import_module(f"{__name__}.device").device, name="device")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        console.answer(f"qadtr-edge {version('qadtr-edge')}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What an adversarial patch does to a quantized classifier on the engine that runs it."""


def main() -> None:
    """Runs the command line and ends the process with one of the exit codes above."""
    console.spare_stdout()
    try:
        app(prog_name="qadtr-edge")
    except QadtrError as error:
        _tell(error)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            _bug()
        _tell(MissingDependency(package, EXTRAS[package], purpose="This command"))
    except OSError as error:
        if error.errno not in REMEDIES:
            _bug()
        name = error.filename or "a file"
        _tell(BadInput(f"The system refused {name}: {error.strerror}.", REMEDIES[error.errno]))
    except (KeyboardInterrupt, SystemExit) as end:  # Typer makes an exit of most interrupts
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:
            raise
        console.say("Interrupted. To go on, run it again with the same --run.")
        sys.exit(INTERRUPTED)
    except Exception:  # noqa: BLE001  (the outermost frame: what arrives here is a bug)
        _bug()


def _tell(error: QadtrError) -> NoReturn:
    console.say(f"Error: {error.fact}\n{error.remedy}")
    sys.exit(USER_ERROR)


def _bug() -> NoReturn:
    traceback.print_exc()
    console.say("This is a bug in qadtr-edge: please report it with the lines above.")
    sys.exit(BUG)
