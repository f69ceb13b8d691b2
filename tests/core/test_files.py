"""Files are written whole or not at all, and what the system refuses becomes a sentence."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qadtr_edge import files
from qadtr_edge.errors import BadInput


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    files.write_json(path, {"a": [1, None, "é"]})
    files.write_json(path, {"b": 0.1})
    assert json.loads(path.read_text()) == {"b": 0.1}
    assert os.listdir(path.parent) == ["a.json"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(TypeError), files.replacing(path) as temporary:
        temporary.write_text(b"half")  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_the_temporary_file_keeps_the_suffix(tmp_path: Path) -> None:
    with files.replacing(tmp_path / "a.npz") as temporary:
        assert temporary.suffix == ".npz"
    assert (tmp_path / "a.npz").exists()


def test_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", float("nan"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_what_the_system_refuses_is_two_sentences(tmp_path: Path, code: int) -> None:
    with pytest.raises(BadInput) as caught, files.replacing(tmp_path / "a"):
        raise OSError(code, os.strerror(code))
    assert os.strerror(code) in caught.value.fact
    assert caught.value.remedy.endswith(".")
    assert "resumes" not in caught.value.remedy, "true only of some verbs"
    assert os.listdir(tmp_path) == []


def test_a_name_that_is_too_long_is_explained(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"Cannot write .*too long") as caught:
        files.write_text(tmp_path / ("x" * 300) / "a", "text")
    assert "shorter" in caught.value.remedy


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
def test_links_in_a_circle_are_explained(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(BadInput, match="Cannot write"):
        files.write_text(tmp_path / "loop" / "run" / "a", "text")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc")
def test_a_folder_that_holds_no_new_files_is_explained() -> None:
    with pytest.raises(BadInput, match="Cannot write /proc"):
        files.write_text(Path("/proc/qadtr-edge/a"), "text")


def test_a_full_disk_is_explained(tmp_path: Path) -> None:
    """A real refusal by the system: the process may write no more than 4 kB to a file."""
    code = (
        "import resource, signal, sys; from pathlib import Path; from qadtr_edge import files\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "files.write_bytes(Path(sys.argv[1]), bytes(10_000))"
    )
    path = tmp_path / "a"
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=False
    )
    assert "BadInput: Cannot write" in done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_what_is_not_json_is_bad_input(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="not valid JSON"):
        files.read_json(path)


def test_a_missing_file_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="There is no file"):
        files.read_json(tmp_path / "a.json")
