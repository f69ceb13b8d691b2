"""Exit codes, the two sentences, and the options verbs share."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qadtr_edge import cli, errors
from qadtr_edge.cli import options
from qadtr_edge.runs import Run


def main(
    monkeypatch: pytest.MonkeyPatch, *, raising: BaseException | None = None, args: str = ""
) -> object:
    """The exit code of ``main``; with ``raising``, of a verb that raises it."""

    def app(prog_name: str) -> None:
        raise raising or AssertionError

    if raising is not None:
        monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(sys, "argv", ["qadtr-edge", *args.split()])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code


def test_what_the_user_can_fix_is_two_sentences(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = errors.BadInput("The cup is empty.", "Fill it.")
    assert main(monkeypatch, raising=error) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "Error: The cup is empty.\nFill it.\n"


def test_a_bug_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(monkeypatch, raising=ZeroDivisionError()) == 70
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "ZeroDivisionError" in err


def test_a_missing_extra_is_two_sentences(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = ModuleNotFoundError("No module named 'scipy.stats'", name="scipy.stats")
    assert main(monkeypatch, raising=error) == 2
    assert "pip install 'qadtr-edge[train]'" in capsys.readouterr().err


def test_a_missing_module_of_our_own_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ModuleNotFoundError("No module named 'qadtr_edge.x'", name="qadtr_edge.x")
    assert main(monkeypatch, raising=error) == 70


def test_a_full_disk_is_two_sentences(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "results.jsonl")
    assert main(monkeypatch, raising=error) == 2
    assert capsys.readouterr().err.startswith("Error: The system refused results.jsonl: No space")


def test_another_refusal_of_the_system_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(monkeypatch, raising=OSError(errno.EBADF, "Bad file descriptor")) == 70


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(monkeypatch, raising=KeyboardInterrupt()) == 130


@pytest.mark.parametrize("args", ["docter", "doctor --jsno", "bench --threads 0"])
def test_usage_errors_exit_2_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], args: str
) -> None:
    assert main(monkeypatch, args=args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err


@pytest.mark.parametrize(("args", "near"), [("docter", "doctor"), ("doctor --jsno", "--json")])
def test_a_mistyped_word_is_answered_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], args: str, near: str
) -> None:
    main(monkeypatch, args=args)
    assert near in capsys.readouterr().err


def test_an_interrupted_verb_exits_130_and_says_how_to_go_on() -> None:
    code = (
        "import os, signal, sys, time, qadtr_edge.cli as cli\n"
        "@cli.app.command()\n"
        "def hang():\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)  # background: off\n"
        "    os.kill(os.getpid(), signal.SIGINT); time.sleep(60)\n"
        "sys.argv = ['qadtr-edge', 'hang']; cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert "To go on, run it again" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    assert main(monkeypatch, args=f"{verb} --help") == 0
    assert "Usage" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["9", "1", "0", "-4", "eight", "8;4", "", ",", "8,16"])
def test_strange_widths_are_refused(text: str) -> None:
    with pytest.raises(errors.BadInput, match="bit-width"):
        options.widths(text)


def test_widths_are_read_in_order_and_once() -> None:
    assert options.widths(" 8,2, 32,8 ") == (8, 2, 32)
    with pytest.raises(errors.BadInput):
        options.widths("8,32", allow_float=False)


def test_names_are_checked_against_the_registry() -> None:
    assert options.named("engine", "ort,ort") == ("ort",)
    assert "ort" in options.named("engine", "all")
    with pytest.raises(errors.UnknownName, match="Did you mean 'ort'"):
        options.named("engine", "oort")
    with pytest.raises(errors.BadInput):
        options.named("engine", " , ")


def test_subjects_are_what_was_exported(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with pytest.raises(errors.BadInput, match="holds no engine"):
        options.subjects(run, "all", bits=None)
    for bits in (8, 2, 32):
        run.engine("ort", bits).mkdir(parents=True)
    assert options.subjects(run, "ort", bits=None) == [("ort", 32), ("ort", 8), ("ort", 2)]
    assert options.subjects(run, "all", bits="2,8") == [("ort", 2), ("ort", 8)]
    with pytest.raises(errors.BadInput) as caught:
        options.subjects(run, "ort", bits="4")
    assert "--bits 4" in caught.value.remedy
