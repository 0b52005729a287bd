"""Tables: from manifests and score files to frame, layout, Markdown, LaTeX, CSV and the terminal."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from avloc import AvlocError, render
from avloc.tables import Row, Table, layout, load
from avloc.terminal import show_table

METRICS = [
    {"key": "cap", "title": "CAP", "unit": "%", "higher_is_better": True},
    {"key": "distance", "title": "distance", "unit": "px", "higher_is_better": False},
]
COUNTS: dict[str, Any] = {"listed": 10, "scored": 10, "missing": {}, "broken": {}}


class Store:
    """Writes what a bench would have written."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.manifest: dict[str, Any] = {
            "suite": "s", "title": "A 100% test", "paper": "", "command": "avloc bench --suite s", "written": "now",
            "protocol": {"preset": "avloc"}, "protocol_text": "avloc: maps bilinear to 224.",
            "train_text": "epochs 20", "metrics": METRICS, "datasets": [], "rows": [],
        }  # fmt: skip
        self.dataset("duet", "Toybox duet")

    def dataset(self, name: str, title: str, **changes: Any) -> None:
        plain = {"encoder": "small", "status": "ran", "reason": "", "command": "", "notes": []}
        self.manifest["datasets"].append({"name": name, "title": title, **plain, **changes})

    def row(self, method: str, cap: float | None = None, distance: float = 5.0, **changes: Any) -> Path:
        """A row; with `cap` it is done. `counts` and `dropped` go to the score file, the rest to the manifest."""
        number = len(self.manifest["rows"])
        file = {"sources": 20, "counts": changes.pop("counts", COUNTS), "dropped": changes.pop("dropped", {})}
        row = {
            "method": method, "label": method.upper(), "block": "methods", "params": {}, "dataset": "duet",
            "told": "oracle", "encoder": "small", "weights": "small-1", "seed": 0,
            "status": "skipped" if cap is None else "done", "reason": "", "run": f"run{number}", "fit": "",
            "score": "" if cap is None else f"score{number}", **changes,
        }  # fmt: skip
        self.manifest["rows"].append(row)
        path = self.results / "runs" / row["run"] / "scores" / f"{row['score']}.json"
        if cap is not None:
            file |= {"score": row["score"], "run": row["run"], "values": {"cap": cap, "distance": distance}}
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(file))
        return path

    def table(self, *, published: bool = False) -> Table:
        self.write()
        return layout(load(self.results, "s"), published=published)

    def write(self) -> None:
        (self.results / "suites").mkdir(exist_ok=True)
        (self.results / "suites" / "s.json").write_text(json.dumps(self.manifest))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def texts(row: Row) -> list[str]:
    return [cell.text for cells in row.cells for cell in cells]


def note(table: Table, start: str) -> str:
    found = [sentence for sentence in table.notes if sentence.startswith(start)]
    assert len(found) == 1, table.notes
    return found[0]


def test_seeds_become_mean_and_sample_deviation(store: Store) -> None:
    for seed, cap in enumerate((0.40, 0.41, 0.42)):
        store.row("a", cap, seed=seed)
    store.row("b", 0.301)
    table = store.table()
    assert [texts(row) for row in table.rows] == [["41.0 ± 1.0", "5.00 ± 0.00"], ["30.1", "5.00"]]
    assert table.groups[0].headers == ("CAP", "distance [px] ↓")
    assert "0, 1, 2" in note(table, "Mean ± sample standard deviation")


def test_best_and_second_follow_the_metrics_direction_and_ties_share(store: Store) -> None:
    for method, cap, distance in (("a", 0.5, 1.0), ("b", 0.50004, 2.0), ("c", 0.4, 3.0), ("d", 0.3, 0.5)):
        store.row(method, cap, distance)
    ranks = [[cell.rank for cell in row.cells[0]] for row in store.table().rows]
    assert ranks == [[1, 2], [1, 0], [2, 0], [0, 1]]


def test_a_lone_number_is_not_called_the_best(store: Store) -> None:
    store.row("a", 0.5)
    assert store.table().rows[0].cells[0][0].rank == 0


def test_rows_are_kept_in_blocks_and_in_order(store: Store) -> None:
    for method, block in (("z", "methods"), ("z", "shuffled"), ("c", "controls"), ("a", "methods"), ("z", "untrained")):
        store.row(method, 0.5, block=block)
    rows = [(row.block, row.label) for row in store.table().rows]
    assert rows == [
        ("Methods", "Z"), ("Methods", "A"), ("Controls", "C"), ("Untrained", "Z"), ("Shuffled audio", "Z")
    ]  # fmt: skip


def test_labels_say_what_tells_rows_apart(store: Store) -> None:
    store.row("a", 0.5, told="oracle")
    store.row("a", 0.4, told="vocabulary")
    store.row("b", 0.3, params={"gate": "clamp", "cond": False})
    store.row("b", 0.3)
    assert [row.label for row in store.table().rows] == [
        "A (told: oracle)",
        "A (told: vocabulary)",
        "B (cond=false, gate=clamp, told: oracle)",
        "B (defaults, told: oracle)",
    ]
    assert note(store.table(), "Methods are told the dataset's class names (vocabulary)")


def test_parameters_of_a_lone_row_are_in_a_note(store: Store) -> None:
    store.row("a", 0.5, params={"tau": 0.1})
    table = store.table()
    assert table.rows[0].label == "A"
    assert note(table, "Parameters that differ").endswith("A tau=0.1.")


def test_failed_and_skipped_rows_are_dashes_with_footnotes(store: Store) -> None:
    store.row("a", 0.4, seed=0)
    store.row("a", seed=1, status="failed", reason="RuntimeError: no memory")
    store.row("b", status="skipped", reason="needs to be told oracle")
    store.row("c", status="skipped", reason="needs to be told oracle")
    store.row("d", status="")
    table = store.table()
    assert [(row.cells[0][0].text, row.cells[0][0].mark) for row in table.rows] == [
        ("40.0", "a"), ("—", "b"), ("—", "b"), ("—", "c")
    ]  # fmt: skip
    assert note(table, "a: ") == "a: seed 1 failed: RuntimeError: no memory (see runs/run1/error.txt)"
    assert note(table, "b: ") == "b: skipped: needs to be told oracle"
    assert "go on with: avloc bench --suite s" in note(table, "c: ")


def test_a_metric_without_any_value_is_a_dash_that_says_so(store: Store) -> None:
    store.row("a", float("nan"))
    cell = store.table().rows[0].cells[0][0]
    assert (cell.text, cell.mark) == ("—", "a")
    assert "no value" in note(store.table(), "a: ")


def test_absent_datasets_say_why_and_how_to_get_them(store: Store) -> None:
    store.dataset("far", "Far away", status="absent", reason="no plugin reads it", command="avloc data prepare far")
    store.row("a", 0.4)
    store.row("a", dataset="far", reason="far: no plugin reads it")
    table = store.table()
    assert table.groups[1].headers == ("absent",)
    assert texts(table.rows[0])[-1] == "—"
    assert note(table, "Far away") == "Far away is absent: no plugin reads it. Get it with: avloc data prepare far"


def test_counts_protocol_and_command_are_below_the_table(store: Store) -> None:
    broken = {f"clip{n}": f"clip{n}.mp4 is truncated" for n in range(7)}
    counts = {"listed": 10, "scored": 2, "missing": {"x": "no file"}, "broken": broken}
    store.manifest["datasets"][0]["notes"] = ["18 boxes are degenerate."]
    store.row("a", 0.4, counts=counts, dropped={"cap": 3})
    table = store.table()
    data = note(table, "Toybox duet")
    for words in ("10 clips listed", "2 scored (20 sources)", "1 missing: x (no file)", "7 broken: clip0 (clip0.mp4"):
        assert words in data
    assert "clip4 (" in data
    assert "clip5 (" not in data
    assert "and 2 more, see runs/run0/scores/score0.json" in data
    assert "encoder small, weights small-1" in data
    assert "18 boxes are degenerate." in table.notes
    assert "cap of A (methods) on duet, seed 0: 3" in note(table, "Sources that a metric")
    assert note(table, "Protocol: ") == "Protocol: avloc: maps bilinear to 224."
    assert note(table, "Heads are trained") == "Heads are trained with epochs 20."
    assert note(table, "Made by: ") == "Made by: avloc bench --suite s"
    assert note(table, "Methods are told ") == "Methods are told which classes sound in each clip (oracle)."


def test_rows_scored_on_different_clips_are_called_out(store: Store) -> None:
    store.row("a", 0.4)
    store.row("b", 0.4, counts={**COUNTS, "scored": 9})
    assert "A (methods, seed 0) 10, B (methods, seed 0) 9" in note(store.table(), "ATTENTION, Toybox duet")


def test_one_dataset_through_two_encoders_has_two_groups(store: Store) -> None:
    store.dataset("duet", "Toybox duet", encoder="big")
    store.row("a", 0.4)
    store.row("a", 0.6, encoder="big")
    assert texts(store.table().rows[0]) == ["40.0", "5.00", "60.0", "5.00"]


def test_csv_has_one_line_per_method_dataset_metric_and_seed(store: Store) -> None:
    store.row("a", 0.4123, params={"tau": 0.1})
    store.row("b", status="failed", reason="boom, said it")
    store.write()
    lines = list(csv.DictReader(io.StringIO(render.csv(load(store.results, "s")))))
    assert [(line["method"], line["metric"], line["status"]) for line in lines] == [
        ("a", "cap", "done"), ("a", "distance", "done"), ("b", "cap", "failed"), ("b", "distance", "failed")
    ]  # fmt: skip
    first = lines[0]
    assert (first["value"], first["run"], first["score"], first["scored"]) == ("0.4123", "run0", "score0", "10")
    assert json.loads(first["params"]) == {"tau": 0.1}
    assert (lines[2]["value"], lines[2]["reason"]) == ("", "boom, said it")


def test_markdown(store: Store) -> None:
    store.row("a|b", 0.5)
    store.row("c", 0.4, block="controls")
    store.row("d", status="skipped", reason="<why>")
    lines = render.markdown(store.table()).splitlines()
    assert lines[0] == "**A 100% test**"
    assert lines[2] == "| method | Toybox duet<br>CAP | Toybox duet<br>distance [px] ↓ |"
    assert lines[4:9] == [
        "| *Methods* |  |  |",
        r"| A\|B | **50.0** | **5.00** |",
        "| D | —<sup>a</sup> | —<sup>a</sup> |",
        "| *Controls* |  |  |",
        "| C | <u>40.0</u> | **5.00** |",
    ]
    assert "- a: skipped: &lt;why&gt;" in lines


def test_latex_is_booktabs_and_escaped(store: Store) -> None:
    store.row("a_b", 0.5, seed=0)
    store.row("a_b", 0.52, seed=1)
    store.row("c", 0.4, block="controls")
    text = render.latex(store.table())
    for words in (
        r"\caption{A 100\% test}", r"\begin{tabular}{lcc}", r"\toprule", r"\cmidrule(lr){2-3}",
        r" & \multicolumn{2}{c}{Toybox duet} \\", r"Method & CAP & distance [px] $\downarrow$ \\",
        r"\multicolumn{3}{l}{\textit{Controls}} \\", r"A\_B & \textbf{51.0 $\pm$ 1.4} & \textbf{5.00 $\pm$ 0.00} \\",
        r"C & \underline{40.0} & \textbf{5.00} \\", r"\bottomrule",
    ):  # fmt: skip
        assert words in text
    assert text.count("{") == text.count("}")
    assert text.isascii()


def test_the_terminal_shows_all_groups_however_narrow(store: Store) -> None:
    store.dataset("scene", "Toybox scene")
    store.dataset("far", "Far away", status="absent", reason="not here", command="fetch it")
    for dataset in ("duet", "scene"):
        store.row("a", 0.4, dataset=dataset)
        store.row("b", 0.6, dataset=dataset, block="controls")
    store.row("a", dataset="far")
    table = store.table()
    for width, headers in ((40, 2), (160, 1)):
        out = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
        show_table(table, out)
        assert isinstance(out.file, io.StringIO)
        text = out.file.getvalue()
        assert text.count("Methods\n") + text.count("Methods ") >= headers
        for words in ("Toybox duet", "Toybox scene", "Far away is absent", "60.0", "40.0", "Controls"):
            assert words in text


def test_printed_numbers_appear_only_when_asked_for_and_marked(store: Store) -> None:
    store.manifest["paper"] = "T-VSL, Table 2"
    store.dataset("vggsound_duet", "vggsound_duet", status="absent", reason="not here", command="fetch it")
    store.row("tvsl", 0.4)
    store.row("tvsl", 0.3, block="untrained")
    store.row("mine", 0.3)
    assert not any("printed" in group.title for group in store.table().groups)
    table = store.table(published=True)
    assert [group.title for group in table.groups] == ["Toybox duet", "vggsound_duet", "vggsound_duet (printed)"]
    assert table.groups[2].headers == ("CAP", "CIoU@0.3", "AUC")
    printed = {(row.block, row.label): [cell.text for cell in row.cells[2]] for row in table.rows}
    assert printed["Methods", "TVSL"] == ["35.7", "40.1", "37.9"]
    assert printed["Methods", "MINE"] == printed["Untrained", "TVSL"] == ["—"] * 3
    assert all(cell.rank == 0 for row in table.rows for cell in row.cells[2])
    assert "tvsl_cvpr2024.csv" in note(table, "Columns marked (printed)")


def test_printed_ablations_match_by_their_switches(store: Store) -> None:
    store.manifest["paper"] = "T-VSL, Table 6"
    store.manifest["datasets"][0]["name"] = "vggsound_duet"
    for length in (8, 2):
        store.row("tvsl", 0.4, dataset="vggsound_duet", params={"prompt_length": length})
    store.row("tvsl", 0.4, dataset="vggsound_duet")
    printed = [row.cells[1][0].text for row in store.table(published=True).rows]
    assert printed == ["37.1", "36.0", "—"]


def test_printed_numbers_of_no_known_paper(store: Store) -> None:
    store.row("a", 0.4)
    for paper in ("", "Somebody, Table 1"):
        store.manifest["paper"] = paper
        with pytest.raises(AvlocError, match="No printed numbers"):
            store.table(published=True)


def test_a_suite_that_was_never_run(store: Store) -> None:
    with pytest.raises(AvlocError, match="avloc bench --suite other"):
        load(store.results, "other")


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"values": {"cap": 0.1}}', '{"sources": "many", "counts": {}, "values": {}, "dropped": {}}'],
)
def test_malformed_score_files_are_named(store: Store, content: str) -> None:
    path = store.row("a", 0.4)
    path.write_text(content)
    with pytest.raises(AvlocError, match=r"runs.run0.scores.score0\.json"):
        store.table()


def test_a_malformed_manifest_is_named(store: Store) -> None:
    store.row("a", 0.4)
    del store.manifest["rows"][0]["status"]
    with pytest.raises(AvlocError, match=r"s\.json is not the manifest.*rows\.status"):
        store.table()


def test_the_same_files_give_the_same_table(store: Store) -> None:
    for method in "cab":
        store.row(method, 0.4)
    assert store.table() == store.table()
    assert [row.label for row in store.table().rows] == ["C", "A", "B"]
