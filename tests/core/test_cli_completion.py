"""What a shell is offered, asked as bash asks: words and a cursor in the environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qadtr_edge import registry
from qadtr_edge.cli import completion
from qadtr_edge.cli.options import VICTIMS
from qadtr_edge.suite import SUITES

CODE = "import sys; from qadtr_edge.cli import main; sys.argv[0] = 'qadtr-edge'; main()"

ZOO = {f"zoo:{name}" for name in registry.names("packaged model")}


def offered(line: str) -> list[str]:
    """What bash would offer for the last word of ``line``, which may be empty."""
    environment = {
        **os.environ,
        "_QADTR_EDGE_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("qadtr-edge att", {"attack"}),
        ("qadtr-edge device pu", {"pull"}),
        ("qadtr-edge attack --max", {"--max-asr"}),
        ("qadtr-edge attack --engine ", {*registry.names("engine"), "litert", "all"}),
        ("qadtr-edge bench --engine ort,o", {"ort,openvino"}),
        ("qadtr-edge attack --attack patch",
         {"patch_rs", "patch_rs_universal", "patch_rs_differential"}),
        ("qadtr-edge attack --suite ", set(SUITES)),
        ("qadtr-edge attack --victim ", set(VICTIMS)),
        ("qadtr-edge export --model z", ZOO),
        ("qadtr-edge train --model vgg", {"vgg11", "vgg16"}),
        ("qadtr-edge train --recipe dwq", {"dwq-pixel", "dwq-patch"}),
        ("qadtr-edge analyze sp", {"spatial"}),
        ("qadtr-edge bench --scenario Of", {"Offline"}),
        ("qadtr-edge attack --engine nothing", set()),
    ],
)  # fmt: skip
def test_what_is_offered(line: str, expected: set[str]) -> None:
    assert set(offered(line)) == expected


def test_what_was_typed_with_commas_is_not_offered_again() -> None:
    assert completion.words(["8", "4", "2"])("8,2,") == ["8,2,4"]
    assert completion.names("dataset", also=["x"])("") == [*registry.names("dataset"), "x"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
@pytest.mark.parametrize(
    "set_up",
    ['eval "$(qadtr-edge --show-completion)"', "qadtr-edge --install-completion; . ~/.bashrc"],
    ids=["shown", "installed"],
)
def test_bash_completes_after_set_up(set_up: str, tmp_path: Path) -> None:
    """In a real bash that finds the program on its path, and a home of its own."""
    program = tmp_path / "qadtr-edge"
    program.write_text(f"#!{sys.executable}\n{CODE}\n")
    program.chmod(0o755)
    script = (
        f"{{ {set_up}; }} > /dev/null\n"
        "COMP_WORDS=(qadtr-edge attack --suite d); COMP_CWORD=3\n"
        '_qadtr_edge_completion qadtr-edge; echo "${COMPREPLY[@]}"\n'
        "complete -p qadtr-edge\n"
    )
    environment = {
        **os.environ, "HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env=environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.split() == [
        "default", "complete", "-o", "default", "-F", "_qadtr_edge_completion", "qadtr-edge",
    ], done.stderr  # fmt: skip
