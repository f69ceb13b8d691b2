"""Which rails make up what a Jetson board draws: one total, named, or none.

Adding all rails would count some twice: most are parts of others. Boards with a rail at the input
have their total there; the others have a known set of rails that do not overlap. A board in
neither list, such as the Nano with 2 GB, which has no sensor, has no total, and none is made up.
"""

from __future__ import annotations

from collections.abc import Container

TOTALS: tuple[tuple[str, ...], ...] = (
    ("VDD_IN",),  # Orin Nano, Orin NX, Xavier NX, TX2
    ("POM_5V_IN",),  # Nano
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),  # AGX Orin
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),  # AGX Xavier
)


def total_of(rails: Container[str]) -> tuple[str, ...] | None:
    """The rails to add up among those a board has, or ``None`` when its total is not known."""
    return next((names for names in TOTALS if all(name in rails for name in names)), None)
