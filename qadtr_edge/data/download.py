"""Fetches one published file: resumed when it was interrupted, checked, and renamed when whole."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from ..errors import BadInput
from ..files import explained

_BLOCK = 1 << 18
_TIMEOUT_S = 30


def fetch(
    url: str,
    path: Path,
    *,
    size_bytes: int,
    md5: str,
    progress: Callable[[int], None] = lambda count: None,
) -> None:
    """Writes the file at ``url`` to ``path``, which exists afterwards only if it is the right one.

    An interrupted download stays beside it as ``.part`` and is continued by the next call.
    ``progress`` is told the number of bytes that arrived. Raises ``BadInput`` when the server
    cannot be reached, the disk refuses, or what arrived is not the published file.
    """
    part = path.with_name(f"{path.name}.part")
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _receive(url, part, size_bytes=size_bytes, progress=progress)
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            ConnectionError,
            TimeoutError,
        ) as e:
            raise BadInput(
                f"{url} cannot be downloaded: {getattr(e, 'reason', None) or e}.",
                "Check the network and run the same command again: it goes on where it stopped. "
                f"Or put {path.name}, fetched elsewhere, into {path.parent}.",
            ) from e
        if part.stat().st_size < size_bytes:
            raise BadInput(
                f"The connection ended after {part.stat().st_size:,} of {size_bytes:,} bytes.",
                "Run the same command again: it goes on where it stopped.",
            )
        found = md5_of(part)
        if found != md5:
            part.unlink()
            raise BadInput(
                f"What {url} sent has MD5 {found}, not {md5}; it was deleted.",
                "Run the same command again; if it recurs, the network changes downloads.",
            )
        part.replace(path)


def md5_of(path: Path) -> str:
    """MD5 of a file: the checksum the publisher gives. It guards against accidents, not forgery."""
    state = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            state.update(block)
    return state.hexdigest()


def _receive(url: str, part: Path, *, size_bytes: int, progress: Callable[[int], None]) -> None:
    """Appends to ``part`` what it lacks; starts over when the server cannot continue."""
    have = part.stat().st_size if part.exists() else 0
    if have == size_bytes:
        return
    if have > size_bytes:
        part.unlink()
        have = 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as reply:
        resumed = reply.status == http.client.PARTIAL_CONTENT
        with part.open("ab" if resumed else "wb") as file:
            progress(have if resumed else 0)
            while block := reply.read(_BLOCK):
                file.write(block)
                progress(len(block))
