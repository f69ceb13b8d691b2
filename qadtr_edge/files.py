"""Writing files so that a crash, a full disk or a second reader never sees half of one.

A file is written beside its final place, flushed to the disk, and renamed. What the operating
system refuses is answered with the sentence a user needs, not a traceback.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import BadInput
from .types import Json

REMEDIES = {  # what the operating system may refuse -> what the user can do about it
    errno.ENOSPC: "Free some space on that disk, then run the same command again.",
    errno.EDQUOT: "Free some of your disk quota, then run the same command again.",
    errno.EFBIG: "Raise the limit on file sizes (ulimit -f), then run the command again.",
    errno.EACCES: "Choose a folder you may write to (--run, --runs, --data-root, --out).",
    errno.EPERM: "Choose a folder you may write to (--run, --runs, --data-root, --out).",
    errno.EROFS: "Choose a folder on a writable disk (--run, --runs, --data-root, --out).",
    errno.ENOTDIR: "A parent of that path is a file; choose another folder.",
    errno.EEXIST: "Something else stands at that path; choose another folder.",
    errno.ENOENT: "No new file can lie there; choose another (--run, --runs, --data-root, --out).",
    errno.ELOOP: "Links on that path lead in a circle; choose another folder.",
    errno.ENAMETOOLONG: "Choose a shorter name (--run, --runs, --data-root, --out).",
    errno.EISDIR: "A folder stands at that path; remove it or choose another.",
}


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what the operating system refuses about ``path`` into a sentence for the user."""
    try:
        yield
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        reason = os.strerror(error.errno)
        raise BadInput(f"Cannot write {path}: {reason}.", REMEDIES[error.errno]) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder; when the block ends well it becomes ``path``.

    For libraries that insist on a path of their own. The temporary name keeps the suffix. When the
    block fails, ``path`` is as it was and nothing is left behind.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=f".tmp{path.suffix}")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
            _flush_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes ``content`` whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Writes ``text`` (UTF-8) whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: object) -> None:
    """Writes ``value`` as indented JSON, whole or not at all. NaN is refused: it is not JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Json:
    """The JSON document in ``path``. Raises ``BadInput`` when it is absent or not JSON."""
    try:
        value: Json = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise BadInput(f"There is no file {path}.", "Run the step that writes it first.") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{path} is not valid JSON: {error}.",
            "Delete it and run the step that writes it again.",
        ) from error
    return value


def digest(path: Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _flush_folder(folder: Path) -> None:
    """A rename survives a power cut only once its folder is on the disk too (POSIX)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
