"""Printed numbers: complete, reproduced cell by cell, and beside ours only on request."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from avloc import AvlocError, cli
from avloc.tables import DASH, Printed, Table, printed_tables, transposed
from helpers import SHARED
from helpers.stored import Store, small_manifest

FILE = files("avloc_benchmarks") / "published" / "tvsl_cvpr2024.csv"
LINES = list(csv.DictReader(FILE.read_text(encoding="utf-8").splitlines()))
TABLES = {f"T-VSL, Table {number}": [ln for ln in LINES if ln["table"] == str(number)] for number in range(1, 7)}
SHARED = SHARED / "published" / "tvsl_cvpr2024.csv"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def note(table: Table, start: str) -> str:
    return next(sentence for sentence in table.notes if sentence.startswith(start))


@pytest.mark.skipif(not SHARED.is_file(), reason="no shared/published beside this checkout")
def test_every_number_of_the_six_tables_is_here() -> None:
    assert FILE.read_text(encoding="utf-8") == SHARED.read_text(encoding="utf-8")


def test_all_tables_are_known_and_every_line_is_in_one_cell_of_one_table() -> None:
    assert list(printed_tables()) == list(TABLES)
    assert sum(map(len, TABLES.values())) == len(LINES)
    for lines in TABLES.values():
        cells = Counter((ln["group"], ln["method"], ln["label"], ln["dataset"], ln["metric"]) for ln in lines)
        assert set(cells.values()) == {1}


def test_a_printed_table_has_the_papers_cells_rows_and_columns() -> None:
    for paper, lines in TABLES.items():
        printed = Printed.of(paper)
        table = printed.table() if not printed.transposed else transposed(printed.table())
        numbers = [line["percent"] or DASH for line in sorted(lines, key=lambda ln: order(lines, ln))]
        shown = [cell.text for row in table.rows for cells in row.cells for cell in cells if is_number(cell.text)]
        assert shown == numbers, paper


def order(lines: list[dict[str, str]], line: dict[str, str]) -> tuple[int, int]:
    """The position of a line of the CSV: its row and column, each in order of first appearance."""
    rows = list(dict.fromkeys((ln["group"], ln["method"], ln["label"]) for ln in lines))
    columns = list(dict.fromkeys((ln["dataset"], ln["metric"]) for ln in lines))
    return rows.index((line["group"], line["method"], line["label"])), columns.index((line["dataset"], line["metric"]))


def is_number(text: str) -> bool:
    return text == DASH or "." in text


def test_printed_numbers_appear_only_when_asked_for_and_marked(store: Store) -> None:
    store.manifest.paper = "T-VSL, Table 2"
    store.dataset("vggsound_duet", "vggsound_duet", status="absent", reason="not here", command="fetch it")
    store.row("tvsl", 0.4)
    store.row("tvsl", 0.3, section="untrained")
    store.row("mine", 0.3)
    assert not any("printed" in group.title for group in store.table().groups)
    table = store.table(published=True)
    assert [group.title for group in table.groups] == ["Toybox duet", "vggsound_duet (printed)"]
    assert table.groups[1].headers == ("CAP", "CIoU@0.3", "AUC")
    printed = {(row.section, row.label): [cell.text for cell in row.cells[1]] for row in table.rows}
    assert printed["Methods", "TVSL"] == ["35.7", "40.1", "37.9"]
    assert printed["Methods", "MINE"] == printed["Untrained", "TVSL"] == ["—"] * 3
    assert all(cell.rank == 0 for row in table.rows for cell in row.cells[1])
    assert "tvsl_cvpr2024.csv" in note(table, "Columns marked (printed)")


def test_printed_ablations_match_by_their_switches(store: Store) -> None:
    store.manifest.paper = "T-VSL, Table 6"
    store.manifest.datasets[0].name = "vggsound_duet"
    for length in (8, 2):
        store.row("tvsl", 0.4, dataset="vggsound_duet", params={"prompt_length": length})
    store.row("tvsl", 0.4, dataset="vggsound_duet")
    printed = [row.cells[1][0].text for row in store.table(published=True).rows]
    assert printed == ["37.1", "36.0", "—", "35.7", "36.8", "37.4", "37.1"]  # ours, then the lengths we did not run


def test_printed_numbers_of_no_known_paper(store: Store) -> None:
    store.row("a", 0.4)
    for paper in ("", "Somebody, Table 1"):
        store.manifest.paper = paper
        with pytest.raises(AvlocError, match="No printed numbers"):
            store.table(published=True)


def test_every_table_of_the_paper_beside_ours_for_all_its_rows(store: Store) -> None:
    """Our suite has one method of the paper; the other rows of the paper are there as well, without our numbers."""
    for number, (paper, lines) in enumerate(TABLES.items()):
        fresh = Store(store.results / str(number))
        fresh.manifest = small_manifest(paper=paper)
        for name in dict.fromkeys(line["dataset"] for line in lines):
            fresh.dataset(name, name.upper())
            label = lines[0]["label"]
            params = dict(pair.split("=") for pair in label.split(";")) if "=" in label else {}
            fresh.row(lines[0]["method"], 0.4, dataset=name, params={key: int(value) for key, value in params.items()})
        table = fresh.table(published=True)
        rows = list(dict.fromkeys((ln["group"], ln["method"], ln["label"]) for ln in lines))
        assert len(table.rows) == len(rows)
        assert [row.section for row in table.rows] == ["Methods"] + ["Printed only"] * (len(rows) - 1)
        shown = [
            cell.text
            for row in table.rows
            for group, cells in zip(table.groups, row.cells, strict=True)
            if group.title.endswith("(printed)")
            for cell in cells
        ]
        assert shown == [line["percent"] or DASH for line in sorted(lines, key=lambda ln: order(lines, ln))], paper


def test_a_dataset_may_say_what_its_printed_numbers_are_called(store: Store) -> None:
    store.manifest.paper = "T-VSL, Table 5"
    store.manifest.datasets[0].printed = "vggsound_3_sources"
    store.row("tvsl", 0.4)
    table = store.table(published=True)
    assert table.rows[0].cells[1][0].text == "35.7"
    assert [row.label for row in table.rows] == ["TVSL", "AVGN", "Alignment", "FNAC"]


def test_the_papers_layout() -> None:
    first = Printed.of("T-VSL, Table 1").table()
    assert [group.title for group in first.groups] == ["", "VGGSound-Single", "VGGSound-Instruments", "MUSIC-Solo"]
    assert first.groups[2].headers == ("AP", "IoU@0.3", "AUC")
    assert [section for section, _ in first.sections] == ["Current SOTA Based Methods", "CLIP-Based Baseline Methods"]
    assert [cell.text for cell in first.rows[0].cells[0]] == ["ECCV18"]
    ablation = Printed.of("T-VSL, Table 3").table()
    assert (ablation.corner, ablation.groups[0].headers) == (
        "Audio conditioning", ("Image conditioning", "Correspondence")
    )  # fmt: skip
    assert [ablation.rows[2].label, *(cell.text for cell in ablation.rows[2].cells[0])] == ["✓", "✗", "✓"]
    assert [row.label for row in Printed.of("T-VSL, Table 6").table().rows] == ["0", "2", "4", "8", "16", "32"]
    more = Printed.of("T-VSL, Table 5").table()
    assert more.groups[0].headers == ("T-VSL", "AVGN", "Alignment", "FNAC")
    assert more.rows[0].label == "VGGSound, 2 sources CIoU@0.3"


def run(*args: str) -> Result:
    return CliRunner().invoke(cli.app, ["table", *args])


def test_the_command_writes_a_papers_table_in_every_format(tmp_path: Path) -> None:
    paper = ["--published-only", "T-VSL, Table 2"]
    assert r"\multicolumn{3}{c}{VGGSound-Instruments-Duet}" in run(*paper, "--format", "latex").output
    assert "| T-VSL | CVPR24 | 35.7 | 40.1 | 37.9 |" in run(*paper, "--format", "markdown").output
    assert "MUSIC-Duet" in run(*paper).output
    chosen = run(*paper, "--columns", "music_duet/CAP", "--transpose", "--format", "json", "--caption", "C")
    content = json.loads(chosen.output)
    assert content["title"] == "C"
    assert [row["label"] for row in content["rows"]] == ["MUSIC-Duet CAP"]
    shown = run(*paper, "--format", "csv").output
    lines = list(csv.reader(io.StringIO(shown)))
    assert lines[0][2:6] == ["", "VGGSound-Duet", "VGGSound-Duet", "VGGSound-Duet"]
    assert lines[-4][:6] == ["CLIP-Based Baseline Methods", "T-VSL", "CVPR24", "35.7", "40.1", "37.9"]
    file = tmp_path / "t.csv"
    assert run(*paper, "--format", "csv", "--output", str(file)).output == ""
    assert file.read_bytes() == b"\xef\xbb\xbf" + shown.encode()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--published-only", "T-VSL, Table 9"], "Did you mean 'T-VSL, Table 6'"),
        (["--published-only", "T-VSL, Table 1", "--intervals"], "--intervals is about a suite's numbers"),
        (["--published-only", "T-VSL, Table 1", "--columns", "music_sol"], "Did you mean 'music_solo'"),
        (["--published-only", "T-VSL, Table 1", "--label", "x"], "--label is for --format latex or json"),
        (["--published-only", "T-VSL, Table 1", "--label", "a b"], "should be letters"),
        (["--format", "csv", "--transpose"], "--transpose does not fit the CSV"),
    ],
)
def test_what_does_not_go_together_is_a_sentence(args: list[str], words: str) -> None:
    shown = run(*args)
    assert shown.exit_code == 2
    assert words in " ".join(shown.stderr.replace("│", " ").split())
