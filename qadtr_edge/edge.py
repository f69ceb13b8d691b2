"""What runs on a device: ``python3 FILE.pyz run --out DIR``, on NumPy and one runtime.

The folder holds what a run's does (``results.jsonl``, ``labels/``, ``bench.json``, ``engines/``,
and in ``patches/`` what was searched for) and ``device.json``: the machine, and what was observed
of each engine. Running it again goes on where it stopped. Lines of results hold no times, so two
devices that compute alike write the same lines.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from . import console
from .devices import background
from .errors import QadtrError

OK, USER_ERROR, BUG, INTERRUPTED = 0, 2, 70, 130


def main(words: Sequence[str] | None = None) -> int:
    """Runs one command of a bundle; its exit code. The bundle is the file Python was given."""
    chosen = _parser().parse_args(words)
    bundle = Path(sys.argv[0])
    try:
        if chosen.command == "run":
            from .devices.bundle import read  # a look at the work must not cost what the work does
            from .devices.worker import run

            with background.sole_worker(chosen.out):
                run(read(bundle), chosen.out, threads=chosen.threads)
        elif chosen.command == "start":
            console.print_json(background.start(bundle, chosen.out, threads=chosen.threads))
        elif chosen.command == "status":
            console.print_json(background.status(chosen.out, wait_s=chosen.wait))
        elif chosen.command == "send":
            background.send(chosen.out, sys.stdout.buffer)
        else:
            from .devices.probe import probe

            console.print_json(probe(Path.cwd()))
    except QadtrError as error:
        fact, remedy = background.spoken(error)
        console.say(f"Error: {fact}\n{remedy}")
        return USER_ERROR
    except KeyboardInterrupt:
        console.say("Interrupted. To go on, run it again with the same --out.")
        return INTERRUPTED
    except Exception:  # noqa: BLE001  (the outermost frame: what arrives here is a bug)
        traceback.print_exc()
        console.say("This is a bug in qadtr-edge: please report it with the lines above.")
        return BUG
    return OK


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python3 {Path(sys.argv[0]).name}",
        description="Replays adversarial patches on this machine's engines, and times them.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    told = {
        "run": "replay and time everything; run again to go on after an interruption",
        "start": "the same in the background, with a log in the folder",
        "status": "how far the folder's work is, as JSON",
        "send": "write the folder's results to stdout, as a tar file",
        "probe": "what this machine is, as JSON",
    }
    for name, text in told.items():
        command = commands.add_parser(name, help=text, description=text)
        if name != "probe":
            command.add_argument("--out", type=Path, required=True, help="folder of the results")
        if name in {"run", "start"}:
            command.add_argument(
                "--threads", type=_positive, default=1, help="threads of the engines"
            )
        if name == "status":
            command.add_argument("--wait", type=float, default=0.0, help="for news, in seconds")
    return parser
