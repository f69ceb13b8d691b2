"""The page: one self-contained HTML file. The same evidence gives the same bytes."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from ..analysis import figure
from ..errors import MissingDependency
from .analysed import analysed
from .attacked import by_width, simulation
from .checks import checks
from .curves import curves
from .document import Document
from .gallery import gallery
from .headline import headline
from .origin import origin
from .pictures import sources
from .places import places
from .section import Figure, Picture, Section
from .speed import speed
from .transferred import transfer
from .truth import truth

TEMPLATE = "page.html.j2"
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_IDS = re.compile(r'(\bid="|href="#|url\(#)')
_CODE = re.compile(r"`([^`]*)`")
_SIZE = re.compile(r' (?:width|height)="[\d.]+pt"')
_INK, _PAPER = re.compile("#000000"), re.compile("#ffffff")


def sections(document: Document, *, root: Path | None) -> tuple[Section, ...]:
    """Every section of one run, always all of them. ``root``: the folder of the data sets."""
    found = sources(document.evidence, root=root)
    return (
        headline(document),
        simulation(document),
        by_width(document),
        transfer(document),
        places(document, found),
        gallery(document, found),
        curves(document, found),
        speed(document),
        truth(document),
        checks(document),
        analysed(document),
        Section("quoting", "Read before quoting", document.warnings),
        origin(document),
    )


def of_runs(parts: Sequence[tuple[str, Sequence[Section]]]) -> tuple[Section, ...]:
    """The sections of several runs on one page: titles name the run, names are told apart."""
    return tuple(
        replace(
            section,
            name=f"run{number}-{section.name}",
            title=f"{section.title}: {run}",
            figures=tuple(replace(one, name=f"run{number}-{one.name}") for one in section.figures),
        )
        for number, (run, found) in enumerate(parts, start=1)
        for section in found
    )


def render(title: str, sections: Sequence[Section]) -> str:
    """The HTML of ``sections`` under ``title``. Needs Jinja2 and, for figures, Matplotlib."""
    try:
        from jinja2 import Environment
        from markupsafe import Markup
    except ModuleNotFoundError as error:
        raise MissingDependency("jinja2", "report", purpose="Writing the page") from error
    figure.require()
    made = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    made.filters["data_uri"] = _data_uri
    made.filters["code"] = lambda text: Markup(_CODE.sub(r"<code>\1</code>", escape(text)))
    template = made.from_string(files(__package__).joinpath(TEMPLATE).read_text())
    drawn = {one.name: Markup(inline(one)) for part in sections for one in part.figures}
    return template.render(
        title=title, sections=sections, drawn=drawn, version=version("qadtr-edge")
    )


def inline(drawing: Figure) -> str:
    """A figure as an ``svg`` element: ids of its own, text and lines in the colours of the page."""
    text = figure.svg(drawing.draw, size_in=drawing.size_in).decode()
    text = _METADATA.sub("", text[text.index("<svg") :])
    text = _IDS.sub(rf"\g<1>{drawing.name}-", text)
    head, rest = text.split(">", 1)
    label = escape(f"{drawing.title}. {drawing.said}", quote=True)
    widest = f"max-width: {drawing.size_in[0] * 8:.1f}rem"
    head = f'{_SIZE.sub("", head)} role="img" aria-label="{label}" style="{widest}"'
    rest = _PAPER.sub("var(--paper)", _INK.sub("currentColor", rest))
    for number, colour in enumerate(figure.COLOURS):
        rest = re.sub(colour, f"var(--c{number})", rest, flags=re.IGNORECASE)
    return f"{head}>{rest}"


def _data_uri(picture: Picture) -> str:
    return f"data:{picture.kind};base64,{base64.b64encode(picture.content).decode()}"
