"""``qadtr-edge device``: bundles on machines reached by ssh, their results back in the run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from .. import console
from ..devices import bundle as bundles
from ..devices import listing, merge, remote
from ..devices.listing import FOLDER, Device
from ..devices.remote import Limits, Order
from ..errors import BadInput, QadtrError
from ..runs import DEFAULT_ROOT, Run, open_run, record
from ..types import Json
from . import options

device = typer.Typer(
    help="Run a bundle on devices reached by ssh.",
    no_args_is_help=True,
    epilog=options.example("qadtr-edge device run --all --bundle edge.pyz"),
)

USER_ERROR = 2
DEFAULTS = Limits()

Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]…", help="Devices by name; or --all.")
]
All = Annotated[bool, typer.Option("--all", help="Every device that was added.")]
Bundle = Annotated[Path, typer.Option(help="The file `qadtr-edge bundle` wrote.")]
Into = Annotated[
    Path | None, typer.Option("--run", help="Run to merge into. Default: the bundle's own.")
]
Timeout = Annotated[
    float, typer.Option(min=1.0, metavar="S", help="Seconds to wait for a command's answer.")
]
Patience = Annotated[
    float, typer.Option(min=0.0, metavar="S", help="Seconds to wait for a lost device's return.")
]


@dataclass(frozen=True)
class Row:
    """How it went on one device. ``fact``, ``remedy``: why not, where it failed."""

    device: str
    units: int = 0
    new: int = 0
    fact: str | None = None
    remedy: str | None = None

    def as_json(self) -> dict[str, Json]:
        return {
            "device": self.device,
            "state": "done" if self.fact is None else "failed",
            "units": self.units,
            "new": self.new,
            "fact": self.fact,
            "remedy": self.remedy,
        }


@device.command(
    "add",
    epilog=options.example("qadtr-edge device add jetson1 user@jetson1.local --python python3.11"),
)
def add(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    target: Annotated[str, typer.Argument(metavar="USER@HOST", help="What ssh is given.")],
    *,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of ssh there.")] = None,
    python: Annotated[
        str, typer.Option(help="Python 3.10 or newer there, with NumPy and a runtime.")
    ] = "python3",
    identity: Annotated[str | None, typer.Option(help="File of the key to use.")] = None,
    folder: Annotated[str, typer.Option(help="What is kept there, from the home on.")] = FOLDER,
    json: options.JsonFlag = False,
) -> None:
    """Name a device, or change the one of that name."""
    made = Device(name, target, port, python, identity, folder)
    listing.add(made)
    if json:
        console.print_json({**_described(made), "listing": str(listing.listing())})
    else:
        console.answer(f"{name}: {target}, kept in {listing.listing()}")


@device.command("list", epilog=options.example("qadtr-edge device list"))
def show(*, json: options.JsonFlag = False) -> None:
    """The devices there are."""
    known = listing.devices().values()
    if json:
        console.print_json({"devices": [_described(each) for each in known]})
        return
    console.print_table(
        ["device", "target", "port", "python", "folder"],
        [
            [each.name, each.target, str(each.port or ""), each.python, each.folder]
            for each in known
        ],
    )


@device.command("remove", epilog=options.example("qadtr-edge device remove jetson1"))
def remove(
    name: Annotated[str, typer.Argument(help="Its name.")], *, json: options.JsonFlag = False
) -> None:
    """Forget a device; what is on it stays there."""
    listing.remove(name)
    if json:
        console.print_json({"removed": name})
    else:
        console.answer(f"{name} is forgotten.")


@device.command("run", epilog=options.example("qadtr-edge device run jetson1 --bundle edge.pyz"))
def run(
    names: Names = None,
    *,
    every: All = False,
    bundle: Bundle,
    into: Into = None,
    runs: options.RunsRoot = DEFAULT_ROOT,
    threads: options.Threads = 1,
    timeout: Timeout = DEFAULTS.call_s,
    patience: Patience = DEFAULTS.patience_s,
    json: options.JsonFlag = False,
) -> None:
    """Run a bundle on devices, all at once, and merge what they find into the run."""
    limits = Limits(call_s=timeout, patience_s=patience)
    order = _order(bundle, threads=threads)

    def work(one: Device, told: remote.Told, stop: threading.Event) -> bytes:
        return remote.work(one, order, limits=limits, told=told, stop=stop)

    _on_all(_chosen(names, every), work, bundle=bundle, opened=_run(bundle, into, runs), json=json)


@device.command("pull", epilog=options.example("qadtr-edge device pull --all --bundle edge.pyz"))
def pull(
    names: Names = None,
    *,
    every: All = False,
    bundle: Bundle,
    into: Into = None,
    runs: options.RunsRoot = DEFAULT_ROOT,
    timeout: Timeout = DEFAULTS.call_s,
    patience: Patience = DEFAULTS.patience_s,
    json: options.JsonFlag = False,
) -> None:
    """Bring back what devices have finished of a bundle so far; nothing is started."""
    limits = Limits(call_s=timeout, patience_s=patience)
    order = _order(bundle, threads=1)

    def fetch(one: Device, _: remote.Told, stop: threading.Event) -> bytes:
        return remote.pull(remote.place_of(one, order, limits=limits), limits=limits, stop=stop)

    _on_all(_chosen(names, every), fetch, bundle=bundle, opened=_run(bundle, into, runs), json=json)


def _described(one: Device) -> dict[str, Json]:
    return {
        "name": one.name, "target": one.target, "port": one.port,
        "python": one.python, "identity": one.identity, "folder": one.folder,
    }  # fmt: skip


def _chosen(names: list[str] | None, every: bool) -> list[Device]:
    known = listing.devices()
    if not known:
        raise BadInput("No device was added.", "Add one: qadtr-edge device add NAME USER@HOST.")
    if bool(names) == every:
        raise BadInput("Which devices is not said.", "Give their names, or --all and no name.")
    return listing.chosen(known, known if every else dict.fromkeys(names or ()))


def _order(bundle: Path, *, threads: int) -> Order:
    """What is sent. Raises ``BadInput`` for a file that is no bundle."""
    bundles.digest_of(bundle)
    return Order.of(bundle, threads=threads)


def _run(bundle: Path, into: Path | None, runs: Path) -> Run:
    """The run to merge into: the one named, else that of the bundle."""
    return open_run(Path(bundles.digest_of(bundle)[1]) if into is None else into, runs)


def _on_all(
    chosen: list[Device],
    work: Callable[[Device, remote.Told, threading.Event], bytes],
    *,
    bundle: Path,
    opened: Run,
    json: bool,
) -> None:
    """Does ``work`` on every device at once, merges in turn, tells; exits 2 when one failed."""
    stop = threading.Event()

    def attempt(one: Device) -> bytes | QadtrError:
        try:
            return work(one, lambda text: console.say(f"{one.name}: {text}"), stop)
        except QadtrError as error:
            console.say(f"{one.name}: {error.fact}")
            return error

    with ThreadPoolExecutor(len(chosen)) as pool:
        futures = [pool.submit(attempt, one) for one in chosen]
        try:
            found = [future.result() for future in futures]
        except BaseException:
            stop.set()
            raise
    rows = [_row(opened, one.name, got) for one, got in zip(chosen, found, strict=True)]
    record(opened, "device", options={"devices": [one.name for one in chosen],
           "plan_digest": bundles.digest_of(bundle)[0]}, inputs=(bundle,))  # fmt: skip
    if json:
        console.print_json({"run": opened.name, "devices": [row.as_json() for row in rows]})
    else:
        console.print_table(
            ["device", "state", "units", "new", "why"],
            [
                [row.device, "done" if row.fact is None else "FAILED", str(row.units),
                 str(row.new), "" if row.fact is None else f"{row.fact} {row.remedy}"]
                for row in rows
            ],
            title=f"Merged into {opened.folder}",
        )  # fmt: skip
    if any(row.fact for row in rows):
        raise typer.Exit(USER_ERROR)


def _row(opened: Run, name: str, got: bytes | QadtrError) -> Row:
    if isinstance(got, QadtrError):
        return Row(name, fact=got.fact, remedy=got.remedy)
    try:
        units = merge.keep(opened, name, tar=got)
        return Row(name, units, merge.merge(opened, name))
    except BadInput as error:
        return Row(name, fact=error.fact, remedy=error.remedy)
