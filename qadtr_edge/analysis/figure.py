"""Figures as SVG whose bytes depend on what is drawn alone: no date, no random ids, no user style.

Matplotlib comes with the extra ``report`` and is imported here, when something is drawn.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import MissingDependency

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[["Figure"], None]

COLOURS = ("#332288", "#117733", "#DDCC77", "#CC6677", "#88CCEE", "#AA4499", "#44AA99", "#882255")
"""Tol's muted scheme: told apart by the colour-blind too."""

GREY = "#888888"


def require() -> None:
    """Raises ``MissingDependency`` where Matplotlib is missing: said before the work, not after."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingDependency("matplotlib", "report", purpose="Drawing the figure") from error


def svg(draw: Draw, *, size_in: tuple[float, float]) -> bytes:
    """The SVG of what ``draw`` puts on a figure of ``size_in`` inches; equal calls, equal bytes."""
    require()
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a style of the user's own would change the bytes
        matplotlib.rcParams.update(
            {"svg.hashsalt": "qadtr-edge", "svg.fonttype": "none", "font.size": 8.0}
        )
        figure = Figure(figsize=size_in, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        target = io.BytesIO()
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": "qadtr-edge"})
    return target.getvalue()
