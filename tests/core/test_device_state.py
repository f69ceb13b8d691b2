"""The state of a machine, read from a made-up root."""

from __future__ import annotations

from pathlib import Path

import pytest

from qadtr_edge.devices import state


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")


def _frequencies(low: int, high: int) -> dict[str, str]:
    cpu, gpu = "sys/devices/system/cpu/cpu0/cpufreq", "sys/class/devfreq/17000000.ga10b"
    return {
        f"{cpu}/scaling_min_freq": "1510400", f"{cpu}/scaling_max_freq": "1510400",
        f"{gpu}/min_freq": str(low), f"{gpu}/max_freq": str(high),
    }  # fmt: skip


def test_clocks_are_locked_when_all_of_them_are(tmp_path: Path) -> None:
    assert state.clocks_locked(tmp_path) is None
    _write(tmp_path, _frequencies(624750000, 624750000))
    assert state.clocks_locked(tmp_path) is True
    _write(tmp_path, _frequencies(306000000, 624750000))
    assert state.clocks_locked(tmp_path) is False


def test_the_state_of_a_board(tmp_path: Path) -> None:
    _write(tmp_path, {
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3",
        "sys/class/thermal/thermal_zone0/temp": "53968",
        "sys/class/thermal/thermal_zone1/temp": "-256000",
        "sys/class/thermal/cooling_device0/type": "pwm-fan",
        "sys/class/thermal/cooling_device0/cur_state": "3",
        "sys/class/thermal/cooling_device1/type": "cpufreq-cpu0",
        "sys/class/thermal/cooling_device1/cur_state": "0",
    })  # fmt: skip
    found = state.state(tmp_path)
    assert found["l4t"] == "# R36 (release), REVISION: 4.3"
    assert found["temperature_c"] == 53.968
    assert found["throttled"] is False, "a fan that turns throttles nothing"
    _write(tmp_path, {"sys/class/thermal/cooling_device1/cur_state": "2"})
    assert state.state(tmp_path)["throttled"] is True


def test_a_machine_that_tells_nothing_is_told_as_nothing(tmp_path: Path) -> None:
    found = state.state(tmp_path)
    assert [found[name] for name in ("l4t", "clocks_locked", "temperature_c", "throttled")] == [
        None, None, None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("NV Power Mode: MAXN\n0\n", "MAXN"),
        ("NV Power Mode: 25W\n1\n", "25W"),
        ("NVPM VERB: Current mode: NV Power Mode: MODE_30W\n2\n", "MODE_30W"),
        ("NVPM ERROR: no permission", None),
    ],
)
def test_the_power_mode_of_what_nvpmodel_prints(text: str, mode: str | None) -> None:
    assert state.mode_named(text) == mode
