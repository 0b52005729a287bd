"""Formats of a table: CSV, sheet, JSON, Markdown, LaTeX."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from avloc.store import Manifest
from avloc.tables import Cell, Group, Row, Table, load_scores, printed_tables, transposed
from helpers.stored import Store

NASTY = ("=SUM(A1)", "+1", "-x", "@here", "50% & more_{}", "a^b~c\\d#$", "[bracket]", "* star", "x < y > z | `w`")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def nasty() -> Table:
    """A table whose every text needs escaping."""
    cells = (Cell("-1.5", 1, "a†", -1.5), Cell("— ± 3", 2, "‡"))
    rows = tuple(Row(NASTY[n % 2], text, (cells, cells[:1])) for n, text in enumerate(NASTY))
    rows = tuple(sorted(rows, key=lambda row: row.section))
    groups = (Group(NASTY[4], NASTY[:2]), Group("", (NASTY[5],)))
    return Table("Nasty 100 %", groups, rows, NASTY, NASTY[6], "tab:nasty")


def check_latex(text: str) -> list[list[str]]:
    """Parse what `Table.to_latex` writes as TeX would; returns the cells of every line of the tabular.

    Braces and environments must balance, special characters must be escaped, every line must fill the columns of the
    tabular, and no row may start with a text that the previous line's end would take as its argument.
    """
    assert re.sub(r"\\[{}]", "", text).count("{") == re.sub(r"\\[{}]", "", text).count("}")
    begun = re.findall(r"\\begin\{(\w+)\}", text)
    assert sorted(begun) == sorted(re.findall(r"\\end\{(\w+)\}", text))
    assert not re.search(r"(?<!\\)[%#_^~<>]", re.sub(r"\\label\{[^}]*\}", "", text))
    assert len(re.findall(r"(?<!\\)\$", text)) % 2 == 0
    spec, body = re.findall(r"\\begin\{tabular\}\{(\w+)\}\n(.*)\\end\{tabular\}", text, re.DOTALL)[0]
    lines = []
    for line in body.splitlines():
        if line.startswith(("\\toprule", "\\midrule", "\\bottomrule", "\\cmidrule")) or not line:
            continue
        assert line.endswith(r" \\")
        assert not line.startswith(("[", "*"))
        cells = re.split(r"(?<!\\)&", line.removesuffix(r" \\"))
        spans = [re.match(r" ?\\multicolumn\{(\d+)\}", cell) for cell in cells]
        assert sum(int(span[1]) if span else 1 for span in spans) == len(spec)
        lines.append([cell.strip() for cell in cells])
    for first, last in re.findall(r"\\cmidrule\(lr\)\{(\d+)-(\d+)\}", body):
        assert 2 <= int(first) <= int(last) <= len(spec)
    return lines


def test_csv_has_one_line_per_method_dataset_metric_and_seed(store: Store) -> None:
    store.row("a", 0.4123, params={"tau": 0.1})
    store.row("b", status="failed", reason="boom, said it")
    store.write()
    lines = list(csv.DictReader(io.StringIO(load_scores(Manifest.of(store.results, "s"), store.results).to_csv())))
    assert [(line["method"], line["metric"], line["status"]) for line in lines] == [
        ("a", "cap", "done"), ("a", "distance", "done"), ("b", "cap", "failed"), ("b", "distance", "failed")
    ]  # fmt: skip
    first = lines[0]
    assert (first["value"], first["run"], first["score"], first["scored"]) == ("0.4123", "run0", "score0", "10")
    assert json.loads(first["params"]) == {"tau": 0.1}
    assert (lines[2]["value"], lines[2]["reason"]) == ("", "boom, said it")


def test_markdown(store: Store) -> None:
    store.row("a|b", 0.5)
    store.row("c", 0.4, section="controls")
    store.row("d", status="skipped", reason="<why>")
    lines = store.table().to_markdown().splitlines()
    assert lines[0] == "**A 100% test**"
    assert lines[2] == "| Method | Toybox duet<br>CAP | Toybox duet<br>distance ↓ |"
    assert lines[4:9] == [
        "| *Methods* |  |  |",
        r"| A\|B | **50.0** | **5.0**<sup>‡</sup> |",
        "| D | —<sup>a</sup> | —<sup>a</sup> |",
        "| *Controls* |  |  |",
        "| C | <u>40.0</u> | **5.0** |",
    ]
    assert "- a: skipped: &lt;why&gt;" in lines


def test_latex_is_booktabs_and_escaped(store: Store) -> None:
    store.row("a_b", 0.5, seed=0)
    store.row("a_b", 0.52, seed=1)
    store.row("c", 0.4, section="controls")
    text = store.table().to_latex()
    for words in (
        r"\caption{A 100\% test}", r"\begin{tabular}{lcc}", r"\toprule", r"\cmidrule(lr){2-3}",
        r" & \multicolumn{2}{c}{Toybox duet} \\", r"Method & CAP & distance $\downarrow$ \\",
        r"\multicolumn{3}{l}{\textit{Controls}} \\",
        r"A\_B & \textbf{51.0 $\pm$ 1.4} & \textbf{5.0 $\pm$ 0.0}\textsuperscript{$\ddagger$} \\",
        r"C & \underline{40.0} & \textbf{5.0} \\", r"\bottomrule",
    ):  # fmt: skip
        assert words in text
    assert text.count("{") == text.count("}")
    assert text.isascii()


def test_latex_of_anything_is_sound(nasty: Table) -> None:
    for table in (nasty, transposed(nasty), *(printed.table() for printed in printed_tables().values())):
        check_latex(table.to_latex())
    assert r"\label{tab:nasty}" in nasty.to_latex()
    assert r"\textbf{-1.5}\textsuperscript{a$\dagger$}" in nasty.to_latex()


def test_the_parser_of_latex_would_notice(nasty: Table) -> None:
    text = nasty.to_latex()
    for before, after in ((r"\&", "&"), (r"\%", "%"), ("{}[", "["), (r"\textbf{", ""), (r"\end{minipage}", "")):
        assert before in text
        with pytest.raises(AssertionError):
            check_latex(text.replace(before, after, 1))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX is installed")
def test_latex_compiles(nasty: Table, tmp_path: Path) -> None:
    tables = [nasty, transposed(nasty), *(printed.table() for printed in printed_tables().values())]
    body = "\n".join(table.to_latex() for table in tables)
    head = "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs}\\begin{document}"
    (tmp_path / "t.tex").write_text(f"{head}\n{body}\n\\end{{document}}", encoding="utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_a_sheet_is_the_table_with_two_header_lines(store: Store) -> None:
    store.row("a", 0.5)
    store.row("c", 0.6, section="controls")
    lines = list(csv.reader(io.StringIO(store.table().to_csv())))
    assert lines[:4] == [
        ["", "", "Toybox duet", "Toybox duet"], ["", "Method", "CAP", "distance ↓"],
        ["Methods", "A", "50.0 ‡", "5.0 ‡"], ["Controls", "C", "60.0", "5.0"],
    ]  # fmt: skip
    assert lines[4:6] == [[], ["A 100% test"]]
    assert ["Made by: avloc bench --suite s"] in lines


def test_no_cell_of_a_sheet_or_a_csv_is_a_formula(nasty: Table, store: Store) -> None:
    for name in NASTY:
        store.row(name, 0.4, reason=name)
    store.write()
    long = load_scores(Manifest.of(store.results, "s"), store.results).to_csv()
    for text in (nasty.to_csv(), transposed(nasty).to_csv(), long):
        cells = [cell for line in csv.reader(io.StringIO(text)) for cell in line]
        risky = [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
        assert set(risky) <= {"+1"}  # a number
        assert "'=SUM(A1)" in cells
    assert "-1.5 a†" not in replace(nasty, rows=()).to_csv()


def test_json_holds_what_the_table_holds_unrounded(store: Store) -> None:
    for seed, cap in enumerate((0.40004, 0.42)):
        store.row("a", cap, seed=seed)
    store.row("b", status="skipped", reason="why")
    content = json.loads(replace(store.table(), label="tab:x").to_json())
    assert (content["title"], content["label"], content["corner"]) == ("A 100% test", "tab:x", "Method")
    assert content["columns"][0] == {"dataset": "duet", "title": "Toybox duet", "metric": "cap", "header": "CAP"}
    first, second = (row["cells"][0] for row in content["rows"])
    assert first["value"] == pytest.approx(41.002)
    assert first["deviation"] == pytest.approx(1.41, abs=0.01)
    assert first["text"] == "41.0 ± 1.4"
    assert (second["value"], second["text"], second["mark"]) == (None, "—", "a")
    assert "a: skipped: why" in content["notes"]


def test_columns_without_a_title_have_one_header_only() -> None:
    table = Table("T", (Group("", ("Venue",)), Group("D", ("AP",))), (Row("", "m", ((Cell("X"),), (Cell("1"),))),), ())
    assert "| Method | Venue | D<br>AP |" in table.to_markdown()
    assert r"\cmidrule(lr){3-3}" in table.to_latex()
    assert r"\cmidrule(lr){2-2}" not in table.to_latex()


def test_the_same_table_is_written_the_same_way(nasty: Table) -> None:
    for write in (nasty.to_csv, nasty.to_json, nasty.to_markdown, nasty.to_latex):
        assert write() == write()
