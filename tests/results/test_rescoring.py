"""Stored predictions under several protocols side by side: numbers, columns, errors and notes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from avloc import AvlocError, Prediction, cli
from avloc.cli.terminal import show_table
from avloc.results import LONGEST_NAME, load_results, rescore, score_external
from avloc.runner import bench
from avloc.scoring import Protocol
from avloc.store import Manifest
from avloc.suite import Suite, load_suite
from avloc.tables import load_scores, select, transposed

METRICS = ["pixel_ap", "ciou_mean"]
FIRST, SECOND = "blocks (defaults)", "blocks (count 8)"


@pytest.fixture
def suite(world: Any, suite_file: Path) -> Suite:
    """The small world's suite with a second data set and an absent one."""
    text = suite_file.read_text(encoding="utf-8").replace(
        "[{name: blocks, encoder: plain}]",
        "[{name: blocks, encoder: plain}, {name: blocks, count: 8, encoder: plain},"
        " {name: far, encoder: plain, obtain: fetch it, title: Far away}]",
    )
    suite_file.write_text(text, encoding="utf-8")
    return load_suite(str(suite_file)).override(seeds=[0])


@pytest.fixture
def results(suite: Suite, tmp_path: Path) -> Path:
    """Where the suite has run."""
    bench(suite, results=tmp_path / "r")
    return tmp_path / "r"


def test_every_dataset_has_a_group_of_columns_per_protocol(results: Path) -> None:
    found = rescore("blocks", results=results, protocol="avloc,ezvsl,lvs", metrics=METRICS)
    assert found.manifest.suite == "blocks.avloc+ezvsl+lvs"
    assert load_results(found.manifest.suite, results).manifest == found.manifest
    shown = found.table()
    groups = [group.title for group in shown.groups]
    assert [title.rpartition(", ")[2] for title in groups] == ["avloc", "ezvsl", "lvs"] * 2
    assert len({title.rpartition(", ")[0] for title in groups[:3]}) == 1
    assert len(shown.rows) == 2 and all(cell.value for row in shown.rows for cells in row.cells for cell in cells)
    assert {row.dataset for row in found.manifest.rows} == {entry.name for entry in found.manifest.datasets}
    assert "the same predictions under 3 protocols" in shown.title


def test_a_column_holds_what_its_protocol_alone_gives(results: Path) -> None:
    together = rescore("blocks", results=results, protocol="ezvsl,lvs", metrics=METRICS).manifest
    for name in ("ezvsl", "lvs"):
        alone = rescore("blocks", results=results, protocol=name, metrics=METRICS).manifest
        mine = [row for row in together.rows if row.dataset.endswith(f"({name})")]
        assert [row.score for row in mine] == [row.score for row in alone.rows if row.status == "done"]
        assert alone.protocol["preset"] == name and alone.suite == f"blocks.{name}"


def test_the_notes_describe_every_protocol_and_the_data_once(results: Path) -> None:
    found = rescore("blocks", results=results, protocol="avloc,tvsl_released", metrics=METRICS)
    notes = found.table(intervals=True).notes
    described = [note for note in notes if note.startswith("Protocol: ")]
    assert [note.split(":")[1] for note in described] == [" avloc", " tvsl_released"]
    assert described[1].endswith(found.manifest.datasets[1].protocol) and "inverted" in described[1]
    for words in ("12 clips listed", "8 clips listed", "only 12 videos", "Far away is absent"):
        assert sum(words in note for note in notes) == 1, (words, notes)


def test_intervals_marks_and_tests_are_of_each_protocol(results: Path) -> None:
    metrics = ["ciou_mean"]
    found = rescore("blocks", results=results, protocol="avloc,ezvsl", metrics=metrics)
    both = found.table(intervals=True, reference="dot")
    for place, name in ((0, "avloc"), (1, "ezvsl")):
        alone = rescore("blocks", results=results, protocol=name, metrics=metrics).table(intervals=True)
        for mine, theirs in zip(both.rows, alone.rows, strict=True):
            assert mine.cells[place][0].interval == theirs.cells[0][0].interval is not None
            assert mine.cells[place][0].rank == theirs.cells[0][0].rank
    assert [cell.p is not None for cells in both.rows[1].cells for cell in cells] == [True] * 4


def test_columns_can_be_chosen_and_transposed(results: Path) -> None:
    shown = rescore("blocks", results=results, protocol="avloc,ezvsl", metrics=METRICS, datasets=[SECOND]).table()
    assert [group.name for group in shown.groups] == [f"{SECOND} (avloc)", f"{SECOND} (ezvsl)"]
    assert not any("12 clips" in note or "Far away" in note for note in shown.notes)
    assert [group.name for group in select(shown, [f"{SECOND} (ezvsl)"]).groups] == [f"{SECOND} (ezvsl)"]
    blocks = [row.section for row in transposed(shown).rows]
    assert [section.rpartition(", ")[2] for section in blocks] == ["avloc", "avloc", "ezvsl", "ezvsl"]
    out = Console(file=io.StringIO(), width=60, color_system=None)
    show_table(shown, out)
    assert isinstance(out.file, io.StringIO) and "ezvsl" in out.file.getvalue()


def test_the_csv_says_under_which_protocol_every_line_is(results: Path) -> None:
    rescore("blocks", results=results, protocol="avloc,ezvsl", metrics=METRICS)
    frame = load_scores(Manifest.of(results, "blocks.avloc+ezvsl"), results).frame
    frame = frame[frame.status == "done"]
    under = frame.dataset.str.extract(r" \((\w+)\)$", expand=False)
    assert (under == frame.protocol.str.partition(":")[0]).all() and set(under) == {"avloc", "ezvsl"}


def test_a_protocol_that_cannot_be_applied_says_so_in_its_cells(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apply = Protocol.apply

    def picky(self: Protocol, prediction: Prediction, *args: Any) -> Any:
        if self.preset == "lvs":
            raise AvlocError(f"Clip {prediction.clip!r} has no consensus.")
        return apply(self, prediction, *args)

    monkeypatch.setattr(Protocol, "apply", picky)
    shown = rescore("blocks", results=results, protocol="lvs,ezvsl", metrics=METRICS, datasets=[FIRST]).table()
    for row in shown.rows:
        assert [cell.text for cell in row.cells[0]] == ["—", "—"] and row.cells[0][0].mark == "a"
        assert all(cell.value is not None for cell in row.cells[1])
    assert "a: skipped: the protocol lvs cannot be applied: Clip 'test0' has no consensus." in shown.notes
    with pytest.raises(AvlocError, match="has no consensus"):
        rescore("blocks", results=results, protocol="lvs", metrics=METRICS)


def test_a_source_without_a_pixel_is_counted_as_left_out(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from helpers.world import Blocks

    truth = Blocks.truth

    def unseen(self: Blocks, id: str) -> Any:
        found = truth(self, id)
        found.masks[:] *= id != "test3"
        return found

    monkeypatch.setattr(Blocks, "truth", unseen)
    found = rescore("blocks", results=results, protocol="ezvsl", metrics=["pixel_ap"], datasets=[FIRST])
    shown = found.table()
    (note,) = [note for note in shown.notes if note.startswith("Sources left out")]
    assert f"pixel_ap of Dot (methods) on {FIRST}, seed 0: 1" in note
    rows = found.scores()
    mean = np.nanmean(rows.pixel_ap[rows.method == "dot"])
    assert shown.rows[0].cells[0][0].value == pytest.approx(100 * mean)


def test_a_long_list_of_protocols_still_names_a_file(results: Path) -> None:
    many = "ezvsl,fnac,lvs,slavc,slavc_absolute,sslalignment,sslalignment_adaptive,sslalignment_lvs,acl,acl_median"
    names = {
        rescore("blocks", results=results, protocol=p, metrics=METRICS).manifest.suite for p in (many, f"{many},avloc")
    }
    assert len(names) == 2
    assert all(len(name) <= LONGEST_NAME and "protocols" in name for name in names)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"protocol": "avloc,ezvls"}, "Did you mean 'ezvsl'"),
        ({"protocol": "avloc,avloc"}, "'avloc' is listed twice"),
        ({"datasets": ["blocks (cuont 8)"]}, "Did you mean 'blocks"),
    ],
)
def test_what_cannot_be_asked_for(results: Path, wanted: dict[str, Any], words: str) -> None:
    with pytest.raises(AvlocError, match=words):
        rescore("blocks", results=results, **wanted)


def test_a_table_of_several_protocols_is_no_suite(results: Path, tmp_path: Path) -> None:
    name = rescore("blocks", results=results, protocol="avloc,ezvsl", metrics=METRICS).manifest.suite
    with pytest.raises(AvlocError, match="table of several protocols"):
        rescore(name, results=results, protocol="avloc")
    with pytest.raises(AvlocError, match="table of several protocols"):
        score_external(tmp_path, "blocks (avloc)", suite=name, results=results)


def test_printed_numbers_are_shown_once_after_the_last_protocol(results: Path) -> None:
    found = rescore("blocks", results=results, protocol="avloc,ezvsl", metrics=METRICS, datasets=[SECOND])
    assert [entry.printed for entry in found.manifest.datasets] == [None, SECOND]


def test_the_command(results: Path) -> None:
    place = ["--results", str(results)]
    asked = ["score", "--suite", "blocks", "--protocol", "avloc, ezvsl", "--metrics", "ciou_mean", *place]
    done = CliRunner().invoke(cli.app, [*asked, "--datasets", SECOND])
    assert done.exit_code == 0, done.output
    again = CliRunner().invoke(cli.app, ["table", "--suite", "blocks.avloc+ezvsl", "--format", "markdown", *place])
    assert "8), ezvsl<br>mean cIoU" in again.stdout and "- Protocol: ezvsl: " in again.stdout, again.output
    wrong = CliRunner().invoke(cli.app, ["score", "--predictions", "x", "--dataset", "blocks", "--datasets", "blocks"])
    assert wrong.exit_code == 2 and "--datasets and --exponent are about a suite" in wrong.stderr
    none = CliRunner().invoke(cli.app, ["table", "--suite", "blocks.avloc+ezvsl", "--digits", "0", *place])
    assert none.exit_code == 2


def test_exponents_of_the_stored_maps_stand_side_by_side(results: Path) -> None:
    found = rescore("blocks", results=results, exponents=[0.25, 1, 4], metrics=["pixel_ap", "ciou_success@0.3"])
    assert found.manifest.suite == "blocks.avloc^0.25+avloc+avloc^4"
    assert load_results(found.manifest.suite, results).manifest == found.manifest
    titles = [group.title.rpartition(", ")[2] for group in found.table().groups[:3]]
    assert titles == ["avloc^0.25", "avloc", "avloc^4"]
    scores = found.scores()
    by_exponent = [scores[scores["dataset"] == f"{FIRST} ({title})"].reset_index() for title in titles]
    for other in (by_exponent[0], by_exponent[2]):
        np.testing.assert_allclose(other["pixel_ap"], by_exponent[1]["pixel_ap"], atol=1e-6)
    assert not np.allclose(by_exponent[0]["ciou_success@0.3"], by_exponent[2]["ciou_success@0.3"])
    alone = rescore("blocks", results=results, protocol="ezvsl", exponents=[0.5], metrics=METRICS).manifest
    assert alone.suite == "blocks.ezvsl^0.5" and alone.protocol["exponent"] == 0.5


@pytest.mark.parametrize(("given", "words"), [("0", "exponent"), ("half", "numbers with commas")])
def test_an_exponent_that_is_none_is_refused(results: Path, given: str, words: str) -> None:
    command = ["score", "--suite", "blocks", "--exponent", given, "--results", str(results)]
    wrong = CliRunner().invoke(cli.app, command)
    assert wrong.exit_code == 2 and words in wrong.stderr
