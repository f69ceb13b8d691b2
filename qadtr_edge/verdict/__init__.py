"""The automatic checks of an attack suite on one engine, and the verdict that follows from them."""

from .case import Check, Verdict
from .ruling import judge
from .unions import record, white_box_leaves_headline

__all__ = ["Check", "Verdict", "judge", "record", "white_box_leaves_headline"]
