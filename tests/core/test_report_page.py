"""The page: its numbers are those of the folder, every section is there, nothing is fetched."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import reported
from qadtr_edge import files, runs
from qadtr_edge.report import document, evidence, page

pytest.importorskip("jinja2", reason="the page needs the extra report")
pytest.importorskip("matplotlib", reason="the figures need the extra report")

SECTIONS = [
    "verdict", "simulation", "asr", "transfer", "places", "gallery", "curves", "pareto", "truth",
    "checks", "analyses", "quoting", "provenance",
]  # fmt: skip


class Reader(HTMLParser):
    """Tables by caption, texts of sections, and every start tag of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._rows: list[list[str]] = []
        self._cell: list[str] | None = None
        self._section = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self._section = str(dict(attrs)["aria-labelledby"])
        if tag == "table":
            self._rows = []
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th", "caption"):
            self._cell = []

    def handle_endtag(self, tag: str) -> None:
        if self._cell is not None and tag in ("td", "th", "caption"):
            text, self._cell = "".join(self._cell), None
            if tag == "caption":
                self.tables[text] = self._rows
            else:
                self._rows[-1].append(text)

    def handle_data(self, data: str) -> None:
        self.texts[self._section] = self.texts.get(self._section, "") + data
        if self._cell is not None:
            self._cell.append(data)


def html(run: runs.Run) -> str:
    found = document.compose(evidence.read(run))
    return page.render("A page", page.sections(found, root=None))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[runs.Run, str]:
    """A run with attacks, latency and checks, and its page."""
    run = reported.folder(tmp_path_factory.mktemp("page") / "run")
    for bits, p50_ms in ((8, 0.2), (4, 0.1), (32, 0.5)):
        reported.timed(run, "ort", bits=bits, p50_ms=p50_ms)
    cell = {
        "engine": "ort", "bits": 8, "suite": "quick", "verdict": "not_converged",
        "engine_digest": files.digest(run.engine("ort", 8) / "model.onnx"),
        "reason": "Twice the queries found more.", "worst_case_asr": 0.75,
        "checks": [{"number": 12, "name": "converged", "status": "flag", "figure": "+3 points",
                    "interval": [0.01, 0.05], "remedy": "Search longer."}],
        "by_tier": {"T1": {"fooled": 3, "eligible": 4, "asr": 0.75, "asr_low": 0.3,
                           "asr_high": 0.95}, "T5": None},
        "by_threat": {},
    }  # fmt: skip
    files.write_json(run.folder / "verdict.json", {"schema": 1, "cells": [cell]})
    return run, html(run)


def test_numbers_are_those_of_results_jsonl(whole: tuple[runs.Run, str]) -> None:
    """Recomputed from the lines and label files alone, with formulas of its own."""
    run, text = whole
    lines = [json.loads(line) for line in run.results.read_text().splitlines()]
    expected = set()
    for line in lines:
        fooled, able = line["counts"]["fooled"], line["counts"]["eligible"]
        z, p = 1.959963984540054, fooled / able
        middle = (p + z * z / (2 * able)) / (1 + z * z / able)
        half = z * math.sqrt(p * (1 - p) / able + z * z / (4 * able**2)) / (1 + z * z / able)
        name = line["attack"] + (" (control)" if line["tier"] == "T0" else "")
        interval = f"[{100 * (middle - half):.1f}, {100 * (middle + half):.1f}]"
        expected.add((f"ort {line['bits']}-bit", name, f"{fooled} / {able}",
                      f"{100 * p:.1f} % {interval}"))  # fmt: skip
    head, *rows = Reader(text).tables["Attack success, all rows"]
    at = [head.index(name) for name in ("engine", "attack", "fooled / eligible", "ASR [95 %]")]
    assert {tuple(row[index] for index in at) for row in rows} == expected
    assert len(rows) == len(lines) == 10
    verdict = Reader(text).texts["verdict"]
    for bits in (8, 4):
        won, able = set(), set()
        for line in lines:
            if line["bits"] == bits and line["tier"] != "T0":
                with np.load(run.labels / f"{line['key']}.npz") as kept:
                    truth, clean = kept["truth"], kept["clean_label"]
                    able |= set(np.flatnonzero(clean == truth))
                    won |= set(np.flatnonzero((clean == truth) & (kept["patched_label"] != truth)))
        counted = f"{len(won)} of {len(able)} images fall to at least one of 3 attacks"
        assert f"{counted}, patches of 6 px" in verdict
        assert reported.union_by_hand(run, "ort", bits=bits) == (len(won), len(able))


def test_discordant_counts_and_exact_p(whole: tuple[runs.Run, str]) -> None:
    run, text = whole
    head, *rows = Reader(text).tables["Simulation against engine, attack by attack"]
    for line in map(json.loads, run.results.read_text().splitlines()):
        b, c = line["counts"]["sim_only"], line["counts"]["engine_only"]
        tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
        p = 1.0 if b == c else min(1.0, 2 * tail)
        name = line["attack"] + (" (control)" if line["tier"] == "T0" else "")
        row = next(r for r in rows if r[:2] == [f"ort {line['bits']}-bit", name])
        said = dict(zip(head, row, strict=True))
        assert (said["sim only"], said["engine only"], said["p"]) == (str(b), str(c), f"{p:.2g}")


def test_every_section_is_there_and_full(whole: tuple[runs.Run, str]) -> None:
    _, text = whole
    found = Reader(text)
    assert [attributes["id"] for tag, attributes in found.tags if tag == "h2"] == SECTIONS
    figures = re.findall(r'<svg[^>]*role="img"', text)
    assert len(figures) == 6  # by width, transfer, two sweeps, queries, latency
    assert "12" in [row[1] for row in found.tables["Checks"]]
    assert "not converged" in found.texts["verdict"]
    assert "FLAG" in str(found.tables["Checks"])
    assert ["ort 8-bit", "T5", "not run", "not run"] in found.tables["Success by tier and threat"]
    assert "2.000 mJ/image" in found.texts["verdict"]
    assert "ort 4-bit" in found.texts["pareto"]


def test_the_gallery_shows_the_images_that_were_attacked(whole: tuple[runs.Run, str]) -> None:
    _, text = whole
    found = Reader(text)
    pictures = [attributes for tag, attributes in found.tags if tag == "img"]
    assert len(pictures) >= 12
    assert all(str(one["src"]).startswith("data:image/png;base64,") for one in pictures)
    assert "Patch gallery" in text
    assert "1.50 logits ahead" in found.texts["gallery"]


def test_images_of_another_set_are_not_shown(tmp_path: Path) -> None:
    run = reported.folder(tmp_path / "run", widths=(8,))
    lines = run.results.read_text()
    digest = json.loads(lines.splitlines()[0])["data_digest"]
    run.results.write_text(lines.replace(digest, "0" * 64))
    found = Reader(html(run))
    assert "img" not in [tag for tag, _ in found.tags]
    assert "not those that were attacked" in found.texts["gallery"]


def test_nothing_is_fetched_and_the_page_is_small(whole: tuple[runs.Run, str]) -> None:
    _, text = whole
    for tag, attributes in Reader(text).tags:
        for name in ("src", "href", "xlink:href", "action", "data", "poster"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:")), (tag, value)
        assert tag not in {"script", "iframe", "object", "base"}
    assert not re.search(r"@import|url\((?!#)", text)
    assert len(text.encode()) < 5_000_000


def test_it_can_be_read_aloud(whole: tuple[runs.Run, str]) -> None:
    _, text = whole
    tags = Reader(text).tags
    counted = Counter(tag for tag, _ in tags)
    assert counted["h1"] == counted["main"] == counted["header"] == counted["nav"] == 1
    assert counted["h3"] == 0
    assert counted["caption"] == counted["table"]
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    linked = [str(a["href"])[1:] for t, a in tags if t == "a"]
    assert set(linked) <= set(ids)
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in tags if tag == "th")
    assert all(attributes.get("alt") for tag, attributes in tags if tag == "img")
    labels = [a.get("aria-label") for t, a in tags if t == "svg" and a.get("role") == "img"]
    assert labels
    assert all(labels)


def test_colours_follow_the_page(whole: tuple[runs.Run, str]) -> None:
    drawn = "".join(re.findall(r"<svg.*?</svg>", whole[1], re.DOTALL))
    assert "currentColor" in drawn
    assert "var(--c0)" in drawn
    assert not re.search("#000000|#ffffff|#332288", drawn)


def test_the_same_folder_gives_the_same_bytes(whole: tuple[runs.Run, str]) -> None:
    run, text = whole
    assert html(run) == text


def test_an_empty_run_says_what_is_missing_in_every_section(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    text = html(runs.Run(tmp_path / "empty"))
    found = Reader(text)
    assert [attributes["id"] for tag, attributes in found.tags if tag == "h2"] == SECTIONS
    for name in SECTIONS:
        if name != "quoting":
            assert "Missing here" in found.texts[name], name
    assert "No attack was run" in found.texts["quoting"]
    assert not re.search(r"\d %", found.texts["verdict"])


def spoil_labels(run: runs.Run) -> None:
    shutil.rmtree(run.labels)


def spoil_one_label(run: runs.Run) -> None:
    (run.labels / "ort8gap.npz").write_bytes(b"torn")


def spoil_patches(run: runs.Run) -> None:
    for path in run.patches.glob("*.npz"):
        path.write_bytes(path.read_bytes()[:40])


def spoil_engines(run: runs.Run) -> None:
    shutil.rmtree(run.engines)


def spoil_schema(run: runs.Run) -> None:
    run.results.write_text(run.results.read_text().replace('{"schema":1', '{"schema":0'))


def spoil_columns(run: runs.Run) -> None:
    run.results.write_text(run.results.read_text().replace('"threat":"T-A",', ""))


def spoil_manifest(run: runs.Run) -> None:
    run.manifest.write_text('{"schema": 7}')


def spoil_graph(run: runs.Run) -> None:
    files.write_bytes(run.graph(8), b"no graph")


def cut_short(run: runs.Run) -> None:
    run.results.write_bytes(run.results.read_bytes()[:-50])


@pytest.mark.parametrize(
    ("spoil", "section", "said"),
    [
        (spoil_labels, "verdict", "worst-case ASR: not run (the labels"),
        (spoil_one_label, "verdict", "worst-case ASR: not run (the labels"),
        (spoil_patches, "gallery", "is not in the run folder"),
        (spoil_patches, "places", "are not in the run folder"),
        (spoil_engines, "verdict", "No engine was exported"),
        (spoil_engines, "quoting", "no longer stands"),
        (spoil_schema, "verdict", "has schema 0; this version reads 1"),
        (spoil_columns, "verdict", "lacks or adds columns: threat"),
        (spoil_manifest, "verdict", "has schema 7"),
        (spoil_manifest, "gallery", "does not say which images"),
        (spoil_graph, "gallery", "images cannot be read here"),
        (cut_short, "verdict", "images fall to at least one of"),
    ],
)
def test_a_spoilt_run_still_renders_and_says_so(
    tmp_path: Path, spoil: object, section: str, said: str
) -> None:
    run = reported.folder(tmp_path / "run", widths=(8,), attacks=("gap", "sweep"))
    assert callable(spoil)
    spoil(run)
    found = Reader(html(run))
    assert [attributes["id"] for tag, attributes in found.tags if tag == "h2"] == SECTIONS
    assert said in found.texts[section]


def test_text_of_a_run_is_not_markup(tmp_path: Path) -> None:
    run = reported.folder(tmp_path / "run", widths=(8,), attacks=("gap",))
    run.results.write_text(run.results.read_text().replace("twin-w8a8", "<script>x</script>"))
    assert "<script" not in html(run)
