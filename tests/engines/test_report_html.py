"""The page in a real browser: nothing fetched, nothing on the console, nothing cut off."""

from __future__ import annotations

import json
import os
import re
import subprocess
from html import unescape
from pathlib import Path

import pytest

import reported
from qadtr_edge.cli.report import report
from qadtr_edge.types import Json

pytest.importorskip("jinja2", reason="the page needs the extra report")
pytest.importorskip("matplotlib", reason="the figures need the extra report")

pytestmark = pytest.mark.needs("chromium")

QUIET = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update",
         "--disable-default-apps")  # fmt: skip
OWN = (".google.com", ".googleapis.com", ".gvt1.com")
"""Where Chromium looks for updates, the time and accounts, whatever page it shows."""

PHONE, DESKTOP = "390,844", "1280,900"
SECONDS = 120


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two runs with every kind of table, figure and picture."""
    folder = tmp_path_factory.mktemp("browser")
    runs = [reported.folder(folder / name, seed=at) for at, name in enumerate(("before", "after"))]
    for bits, p50_ms in ((8, 0.2), (4, 0.1)):
        reported.timed(runs[1], "ort", bits=bits, p50_ms=p50_ms)
    report([one.folder for one in runs], html=folder / "both.html")
    return folder / "both.html"


def browse(page: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Chromium on a file, with a profile of its own."""
    profile = page.parent / "profile"
    command = ["chromium", *QUIET, f"--user-data-dir={profile}", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS)


def fetched(log: Path) -> set[str]:
    """Hosts that were asked for anything, but those Chromium asks by itself."""
    hosts = set(re.findall(r'"url":"(?:https?|wss?|ftp)://([^/:"]+)', log.read_text()))
    return {host for host in hosts if not host.endswith(OWN)}


def probed(page: Path, script: str, *flags: str, style: str = "") -> Json:
    """What ``script`` leaves in ``answer`` on a copy of the page that may run scripts."""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    assert "Content-Security-Policy" not in text
    write = (
        "const out = document.createElement('pre'); out.id = 'probe';"
        "out.textContent = JSON.stringify(answer); document.body.replaceChildren(out);"
    )
    body = (
        f"<style>{style}</style><script>{{{script}}}; function leave(answer) {{{write}}}</script>"
    )
    copy = page.with_name("probe.html")
    copy.write_text(text.replace("</body>", f"{body}</body>"))
    seen = browse(copy, "--virtual-time-budget=30000", "--dump-dom", *flags)
    found = re.search(r'<pre id="probe">(.*?)</pre>', seen.stdout, re.DOTALL)
    assert found is not None, seen.stderr[-2000:]
    value: Json = json.loads(unescape(found[1]))
    return value


def test_no_request_leaves_and_the_console_is_empty(page: Path) -> None:
    log = page.with_name("net.json")
    seen = browse(page, f"--log-net-log={log}", "--enable-logging=stderr", "--dump-dom")
    assert "before against after" in seen.stdout
    assert "CONSOLE" not in seen.stderr
    assert fetched(log) == set()


def test_the_probe_sees_console_and_requests(page: Path) -> None:
    """The test above can fail: a page that does both is caught doing so."""
    bad, log = page.with_name("bad.html"), page.with_name("bad.json")
    bad.write_text("<img src='http://127.0.0.1:9/x.png'><script>console.error('no')</script>")
    seen = browse(bad, f"--log-net-log={log}", "--enable-logging=stderr", "--dump-dom")
    assert "CONSOLE" in seen.stderr
    assert fetched(log) == {"127.0.0.1"}


WIDEST = """
const wide = [...document.querySelectorAll('SELECTOR')]
  .filter(one => one.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map(one => one.tagName + ' ' + (one.innerText || '').slice(0, 60));
leave({wide, page: document.documentElement.scrollWidth > document.documentElement.clientWidth})
"""


@pytest.mark.parametrize("size", [PHONE, DESKTOP])
def test_the_page_is_never_wider_than_the_window(page: Path, size: str) -> None:
    """Tables scroll within their frames; nothing else sticks out."""
    script = WIDEST.replace("SELECTOR", "p, li, figure, img, .scroll")
    assert probed(page, script, f"--window-size={size}") == {"wide": [], "page": False}


def test_printed_tables_are_not_cut_off(page: Path) -> None:
    """With the rules of print on the width of A4 less its margins, 186 mm, no table sticks out."""
    copy = page.with_name("print.html")
    copy.write_text(page.read_text().replace("@media print", "@media all"))
    script = WIDEST.replace("SELECTOR", "table, svg, img")
    style = "html { width: 186mm }"
    script = script.replace("document.documentElement.clientWidth", "703")  # 186 mm in CSS pixels
    found = probed(copy, script, f"--window-size={DESKTOP}", style=style)
    assert isinstance(found, dict)
    assert found["wide"] == []


def test_it_prints_to_pdf(page: Path) -> None:
    out = page.with_name("page.pdf")
    browse(page, f"--print-to-pdf={out}", "--no-pdf-header-footer")
    content = out.read_bytes()
    assert content.startswith(b"%PDF")
    boxes = set(re.findall(rb"/MediaBox\s*\[0 0 (\d+)[.\d]* (\d+)", content))
    assert boxes <= {(b"594", b"841"), (b"595", b"841"), (b"595", b"842")}
    assert boxes


@pytest.mark.parametrize("scheme", [0, 1], ids=["dark", "light"])
def test_axe_finds_no_serious_violation(page: Path, scheme: int) -> None:
    """Needs axe.min.js of the npm package axe-core, named by QADTR_AXE."""
    axe = os.environ.get("QADTR_AXE")
    if axe is None:
        pytest.skip("QADTR_AXE is unset: point it at axe.min.js (npm pack axe-core)")
    script = Path(axe).read_text() + "; axe.run().then(seen => leave(seen.violations))"
    found = probed(page, script, f"--blink-settings=preferredColorScheme={scheme}")
    assert isinstance(found, list)
    grave = [one["id"] for one in found if isinstance(one, dict)
             and one["impact"] in ("serious", "critical")]  # fmt: skip
    assert grave == []
