"""Sources of power on made-up machines: a folder for /sys, a script for tegrastats."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qadtr_edge.devices import power
from qadtr_edge.devices.energy import measure
from qadtr_edge.devices.integrate import Integral
from qadtr_edge.errors import Unsupported
from tegrastats_lines import LINES


class World:
    """A clock that moves when somebody works or sleeps, and a meter that knows the power."""

    name = "made up"

    def __init__(self, *, idle_w: float, busy_w: float) -> None:
        self.now_s = 0.0
        self.drawn_j = 0.0
        self.idle_w, self.busy_w = idle_w, busy_w

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.drawn_j += self.idle_w * seconds

    def call(self) -> None:
        self.now_s += 0.01
        self.drawn_j += self.busy_w * 0.01

    def joules(self) -> float:
        return self.drawn_j

    def close(self) -> None: ...


def test_energy_per_image_with_and_without_what_is_drawn_at_rest() -> None:
    world = World(idle_w=2.0, busy_w=5.0)
    found = measure(world, world.call, batch=4, window_s=2.0, clock=world.clock, sleep=world.sleep)
    assert found.idle_w == pytest.approx(2.0)
    assert found.busy_w == pytest.approx(5.0)
    assert found.mj_per_image == pytest.approx(1000 * 5.0 * 0.01 / 4)
    assert found.mj_per_image_above_idle == pytest.approx(1000 * 3.0 * 0.01 / 4)


def test_an_integral_holds_each_sample_until_the_next() -> None:
    now = [0.0]
    found = Integral("made up", clock=lambda: now[0])
    found.told(3.0)
    now[0] = 2.0
    found.told(1.0)
    now[0] = 5.0
    assert found.joules() == pytest.approx(3.0 * 2 + 1.0 * 3)


def _monitor(folder: Path, rails: dict[str, tuple[int, int]]) -> None:
    folder.mkdir(parents=True)
    (folder / "name").write_text("ina3221\n")
    for number, (name, (millivolts, milliamperes)) in enumerate(rails.items(), start=1):
        (folder / f"in{number}_label").write_text(name + "\n")
        (folder / f"in{number}_input").write_text(f"{millivolts}\n")
        (folder / f"curr{number}_input").write_text(f"{milliamperes}\n")


def test_ina3221_adds_the_rails_of_the_total_over_all_monitors(tmp_path: Path) -> None:
    hwmon = tmp_path / "class" / "hwmon"
    _monitor(hwmon / "hwmon1", {"VDD_GPU_SOC": (19000, 100), "VDD_CPU_CV": (19000, 50)})
    _monitor(hwmon / "hwmon2", {"VIN_SYS_5V0": (5000, 200), "VDDQ_VDD2_1V8AO": (1800, 999)})
    with power.meter(tmp_path) as meter:
        assert meter.name == "INA3221 VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0"
        assert isinstance(meter, Integral)
        assert meter._watts == pytest.approx(1.9 + 0.95 + 1.0)


def test_a_board_without_a_known_total_has_none(tmp_path: Path) -> None:
    _monitor(tmp_path / "class" / "hwmon" / "hwmon1", {"VDD_CPU": (5000, 100)})
    with pytest.raises(Unsupported, match="VDD_CPU make up the total is unknown"):
        power.ina3221(tmp_path)


def _package(sys_folder: Path, *, counted: int, wraps_at: int = 1000_000_000) -> Path:
    zone = sys_folder / "class" / "powercap" / "intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0\n")
    (zone / "max_energy_range_uj").write_text(f"{wraps_at}\n")
    (zone / "energy_uj").write_text(f"{counted}\n")
    return zone / "energy_uj"


def test_rapl_counts_on_when_its_counter_starts_again(tmp_path: Path) -> None:
    counter = _package(tmp_path, counted=999_000_000)
    meter = power.rapl(tmp_path)
    counter.write_text("1000000\n")
    assert meter.joules() == pytest.approx(2.0)
    counter.write_text("4000000\n")
    assert meter.joules() == pytest.approx(5.0)


def test_rapl_without_the_right_to_read_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = _package(tmp_path, counted=1)
    usual = Path.read_text

    def refused(path: Path) -> str:
        if path == counter:
            raise PermissionError(13, "Permission denied")
        return usual(path)

    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(Unsupported, match="cannot be read: Permission denied"):
        power.rapl(tmp_path)


def test_a_machine_without_a_source_is_told_every_reason(tmp_path: Path) -> None:
    with pytest.raises(Unsupported) as said, power.meter(tmp_path):
        pass
    for name in ("INA3221", "tegrastats", "RAPL"):
        assert name in str(said.value)


@pytest.mark.parametrize("works", [True, False])
def test_what_an_engine_does_not_support_is_not_taken_for_a_missing_meter(
    works: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def meter() -> Iterator[power.Meter]:
        if not works:
            raise Unsupported("No sensor.", "Use a plug.")
        yield World(idle_w=2.0, busy_w=5.0)

    monkeypatch.setattr(power, "meter", meter)
    told = []

    def work() -> None:
        with power.source(True) as source:
            told.append(source.said)
            raise Unsupported("Refused by the work.", "Do otherwise.")

    with pytest.raises(Unsupported, match="by the work"):
        work()
    assert told == ["made up" if works else "No sensor. Use a plug."]


def _program(folder: Path, lines: list[str], *, then: str = "time.sleep(60)") -> str:
    path = folder / "tegrastats"
    path.write_text(
        f"#!{sys.executable}\nimport time\n"
        f"for line in {lines!r}:\n    print(line, flush=True)\n{then}\n"
    )
    path.chmod(0o755)
    return str(path)


def test_tegrastats_is_started_read_and_ended(tmp_path: Path) -> None:
    meter = power.tegrastats(_program(tmp_path, [LINES["agx_orin_jp7"]]))
    assert meter.name == "tegrastats VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0"
    assert isinstance(meter, Integral)
    assert meter._watts == pytest.approx(13.907)
    meter.close()


@pytest.mark.parametrize("lines", [[], [LINES["thor"]], ["not permitted"]])
def test_tegrastats_without_a_known_total_is_no_source(tmp_path: Path, lines: list[str]) -> None:
    with pytest.raises(Unsupported, match="names no rail whose total is known"):
        power.tegrastats(_program(tmp_path, lines, then=""))
