"""Downloads resume, are checked and appear whole; ``qadtr-edge data`` says what is where."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cifar_files import write_sheets
from qadtr_edge.cli import app
from qadtr_edge.data import cifar10_files
from qadtr_edge.data.download import fetch
from qadtr_edge.errors import BadInput, QadtrError

CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


@dataclass
class Server:
    """Serves CONTENT; ``stop_after`` cuts a reply short, ``resumes`` is whether it knows ranges."""

    url: str = ""
    content: bytes = CONTENT
    stop_after: int | None = None
    resumes: bool = True
    status: int = 200
    asked: list[str | None] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers["Range"]
            state.asked.append(wanted)
            start = int(wanted[6:-1]) if wanted and state.resumes else 0
            body = state.content[start:]
            self.send_response(206 if start else state.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.stop_after])

        def log_message(self, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as http_server:
        thread = threading.Thread(target=http_server.serve_forever, daemon=True)
        thread.start()
        state.url = f"http://127.0.0.1:{http_server.server_port}/file"
        yield state
        http_server.shutdown()
        thread.join()


def get(server: Server, path: Path) -> list[int]:
    """Fetches; returns what progress was told."""
    told: list[int] = []
    fetch(server.url, path, size_bytes=len(CONTENT), md5=MD5, progress=told.append)
    return told


def test_a_file_arrives_whole(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    told = get(server, path)
    assert path.read_bytes() == CONTENT
    assert sum(told) == len(CONTENT)
    assert [p.name for p in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("resumes", [True, False])
def test_an_interrupted_download_goes_on(server: Server, tmp_path: Path, resumes: bool) -> None:
    path, server.stop_after = tmp_path / "file", 300_000
    with pytest.raises(BadInput, match="connection ended after 300,000 of 1,024,000"):
        get(server, path)
    assert not path.exists()
    server.stop_after, server.resumes = None, resumes
    told = get(server, path)
    assert server.asked == [None, "bytes=300000-"]
    assert path.read_bytes() == CONTENT
    assert sum(told) == len(CONTENT)


def test_what_is_not_the_published_file_is_deleted(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[::-1]
    with pytest.raises(BadInput, match="has MD5"):
        get(server, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
    server.content = CONTENT
    get(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_server_that_has_no_such_file(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(BadInput, match="cannot be downloaded: Not Found"):
        get(server, tmp_path / "file")


def test_without_a_network_the_file_can_be_brought(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be downloaded") as caught:
        fetch("http://127.0.0.1:9/file", tmp_path / "file", size_bytes=1, md5="")
    assert str(tmp_path) in caught.value.remedy


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="Cannot write"):
        fetch("http://127.0.0.1:9/x", tmp_path / "file" / "x", size_bytes=1, md5="")


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.delenv("QADTR_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cifar10_files, "BATCH", 100)
    return CliRunner()


def test_data_lists_what_is_where(cli: CliRunner, tmp_path: Path) -> None:
    write_sheets(tmp_path / "cifar10", absent={})
    shown = cli.invoke(app, ["data", "--data-root", str(tmp_path)])
    assert shown.exit_code == 0
    for told in ("signs", "train 20,000", f"at {tmp_path / 'cifar10'}", "Krizhevsky", "imagenet"):
        assert told in shown.stdout


def test_data_as_json(cli: CliRunner, tmp_path: Path) -> None:
    shown = cli.invoke(app, ["data", "--json"])
    found = {entry["name"]: entry for entry in json.loads(shown.stdout)["datasets"]}
    assert {name: entry["found"] for name, entry in found.items()} == {
        "signs": True, "cifar10": False, "imagenet": False,
    }  # fmt: skip
    assert found["signs"]["images"]["test"] == 4_000
    assert found["cifar10"]["searched"] == str(tmp_path / "cache" / "qadtr-edge")


def test_data_checks_what_is_there(cli: CliRunner, tmp_path: Path) -> None:
    write_sheets(tmp_path / "cifar10", absent={"train": [1, 2], "test": [3]})
    arguments = ["data", "cifar10", "--json", "--data-root", str(tmp_path)]
    entry = json.loads(cli.invoke(app, arguments).stdout)
    assert entry["found"]
    (tmp_path / "cifar10" / "cifar10_test_batch.webp").write_bytes(b"")
    with pytest.raises(BadInput, match="cannot be read"):
        cli.invoke(app, arguments, catch_exceptions=False)


@pytest.mark.parametrize(
    ("name", "told"), [("cifar1", "Did you mean 'cifar10'"), ("imagenet", "cannot be downloaded")]
)
def test_data_refuses_other_names(cli: CliRunner, name: str, told: str) -> None:
    with pytest.raises(QadtrError, match=told):
        cli.invoke(app, ["data", name], catch_exceptions=False)
