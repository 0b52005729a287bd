"""Tables: from manifests and score files to frame, layout and terminal; intervals, tests, marks and columns."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from avloc import AvlocError, cli
from avloc.cli.terminal import show_table
from avloc.store import Counts, Manifest, read_json, write_json
from avloc.tables import Row, Table, load_scores, select, transposed
from avloc.tables.statistics import percentile_interval, replicate_means, sign_flip
from helpers.stored import COUNTS, METRICS, Store


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
    assert [texts(row) for row in table.rows] == [["41.0 ± 1.0", "5.0 ± 0.0"], ["30.1", "5.0"]]
    assert table.groups[0].headers == ("CAP", "distance ↓")
    assert "0, 1, 2" in note(table, "Mean ± sample standard deviation")


def test_best_and_second_follow_the_metrics_direction_and_ties_share(store: Store) -> None:
    for method, cap, distance in (("a", 0.5, 1.0), ("b", 0.50004, 2.0), ("c", 0.4, 3.0), ("d", 0.3, 0.5)):
        store.row(method, cap, distance)
    ranks = [[cell.rank for cell in row.cells[0]] for row in store.table().rows]
    assert ranks == [[1, 2], [1, 0], [2, 0], [0, 1]]


def test_a_single_number_is_not_marked_as_best(store: Store) -> None:
    store.row("a", 0.5)
    assert store.table().rows[0].cells[0][0].rank == 0


def test_rows_are_kept_in_sections_and_in_order(store: Store) -> None:
    for method, section in (
        ("z", "methods"),
        ("z", "shuffled_audio"),
        ("c", "controls"),
        ("a", "methods"),
        ("z", "untrained"),
    ):
        store.row(method, 0.5, section=section)
    rows = [(row.section, row.label) for row in store.table().rows]
    assert rows == [
        ("Methods", "Z"), ("Methods", "A"), ("Controls", "C"), ("Untrained", "Z"), ("Shuffled audio", "Z")
    ]  # fmt: skip


def test_labels_say_what_tells_rows_apart(store: Store) -> None:
    store.row("a", 0.5, hints="oracle")
    store.row("a", 0.4, hints="vocabulary")
    store.row("b", 0.3, params={"gate": "clamp", "cond": False})
    store.row("b", 0.3)
    assert [row.label for row in store.table().rows] == [
        "A (hints: oracle)",
        "A (hints: vocabulary)",
        "B (cond=false, gate=clamp, hints: oracle)",
        "B (hints: oracle)",
    ]
    assert note(store.table(), "Hints vocabulary: methods are given the dataset's class names.")


def test_what_two_rows_of_a_method_share_is_not_in_their_labels(store: Store) -> None:
    store.row("a", 0.5, params={"train": {"lr": 0.1}})
    store.row("a", 0.4, params={"length": False, "train": {"lr": 0.1}})
    store.row("c", 0.4)
    table = store.table()
    assert [row.label for row in table.rows] == ["A", "A (length=false)", "C"]
    assert "train" in note(table, "Parameters that differ")


def test_parameters_of_a_lone_row_are_in_a_note(store: Store) -> None:
    store.row("a", 0.5, params={"tau": 0.1})
    table = store.table()
    assert table.rows[0].label == "A"
    assert note(table, "Parameters that differ").endswith("A tau=0.1.")


def test_failed_and_skipped_rows_are_dashes_with_footnotes(store: Store) -> None:
    store.row("a", 0.4, seed=0)
    store.row("a", seed=1, status="failed", reason="RuntimeError: no memory")
    store.row("b", status="skipped", reason="needs the hints oracle")
    store.row("c", status="skipped", reason="needs the hints oracle")
    store.row("d", status="")
    table = store.table()
    assert [(row.cells[0][0].text, row.cells[0][0].mark) for row in table.rows] == [
        ("40.0", "a"), ("—", "b"), ("—", "b"), ("—", "c")
    ]  # fmt: skip
    assert note(table, "a: ") == "a: seed 1 failed: RuntimeError: no memory (see runs/run1/error.txt)"
    assert note(table, "b: ") == "b: skipped: needs the hints oracle"
    assert "resume with: avloc bench --suite s" in note(table, "c: ")


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
    assert [group.name for group in table.groups] == ["duet"]
    assert texts(table.rows[0]) == ["40.0", "5.0"]
    assert note(table, "Far away") == "Far away is absent: no plugin reads it. Get it with: avloc data prepare far"


def test_a_table_whose_datasets_are_all_absent_still_says_so(store: Store) -> None:
    store.manifest.datasets[0].status = "absent"
    store.row("a", reason="duet: not here")
    table = store.table()
    assert table.groups == () and [row.cells for row in table.rows] == [()]
    for text in (table.to_markdown(), table.to_latex(), table.to_csv(), table.to_json()):
        assert "Toybox duet is absent" in text
    assert transposed(table).rows == ()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("/home/jo/My Data/clip one.mp4: the file is missing.", "clip one.mp4: the file is missing."),
        ("[Errno 2] No such file: '/tmp/x y/z.wav'", "[Errno 2] No such file: 'z.wav'"),
        ("avloc score --predictions '/home/jo/my maps' --data ~/d/x --results=../r", None),
        ("C:\\Users\\jo\\c.mp4: broken", "c.mp4: broken"),
        ("see runs/run0/scores/score0.json and https://host/a/b; 1/2 of it", "unchanged"),
    ],
)
def test_no_note_names_a_path_of_this_machine(store: Store, text: str, wanted: str | None) -> None:
    wanted = {None: "avloc score --predictions 'my maps' --data x --results=r", "unchanged": text}.get(wanted, wanted)
    store.manifest.command = text
    counts = COUNTS.model_copy(update={"broken": {"x": text}})
    store.dataset("far", "Far away", status="absent", reason=text, command="fetch it")
    store.row("a", 0.4, counts=counts, remark=text)
    store.row("b", status="failed", reason=text)
    table = store.table()
    assert f"Made by: {wanted}" in table.notes
    assert sum(wanted in sentence for sentence in table.notes) == 5
    found = load_scores(Manifest.of(store.results, "s"), store.results).to_csv()
    assert not any(part in found for part in ("/home/jo", "/tmp/x", "Users"))


def test_what_must_be_known_about_a_row_marks_it(store: Store) -> None:
    store.row("a", 0.4, remarks=["12 of 12 maps have two values"])
    store.row("b", 0.4, remark="the loss never fell", remarks=["12 of 12 maps have two values"])
    store.row("b", 0.4, seed=1)
    store.row("c", 0.4)
    store.row("d", status="failed", reason="no memory")
    table = store.table()
    assert [row.mark for row in table.rows] == ["b", "c", "", ""]
    assert table.rows[3].cells[0][0].mark == "a"
    assert note(table, "b: ") == "b: Toybox duet: 12 of 12 maps have two values"
    assert note(table, "c: ") == "c: Toybox duet, seed 0: the loss never fell; 12 of 12 maps have two values"
    assert "| A<sup>b</sup> |" in table.to_markdown() and r"A\textsuperscript{b} &" in table.to_latex()
    assert "Methods,A b,40.0" in table.to_csv() and json.loads(table.to_json())["rows"][0]["mark"] == "b"
    assert transposed(table).groups[0].headers[0] == "A b"
    out = Console(file=io.StringIO(), width=100, color_system=None)
    show_table(table, out)
    assert isinstance(out.file, io.StringIO) and "A (b)" in out.file.getvalue()


def test_a_metric_that_failed_or_is_undefined_says_why_in_its_own_cell(store: Store) -> None:
    store.manifest.metrics = [METRICS[0], METRICS[1].model_copy(update={"undefined": "no image has two sounds"})]
    store.row("a", 0.4, distance=float("nan"))
    store.row("b", float("nan"), failed={"cap": "on clip 'x': KeyError: 'y'"})
    table = store.table()
    assert [texts(row) for row in table.rows] == [["40.0", "—"], ["—", "5.0"]]
    assert note(table, "a: ") == "a: the metric failed: on clip 'x': KeyError: 'y'"
    assert note(table, "b: ") == "b: has no value: no image has two sounds"


def test_counts_protocol_and_command_are_below_the_table(store: Store) -> None:
    broken = {f"clip{n}": f"clip{n}.mp4 is truncated" for n in range(7)}
    counts = Counts(listed=10, scored=2, missing={"x": "no file"}, broken=broken)
    store.manifest.datasets[0].notes = ["18 boxes are degenerate."]
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
    assert "cap of A (methods) on duet, seed 0: 3" in note(table, "Sources left out")
    assert note(table, "Protocol: ") == "Protocol: avloc: maps bilinear to 224."
    assert note(table, "Heads are trained") == "Heads are trained with epochs 20."
    assert note(table, "Made by: ") == "Made by: avloc bench --suite s"
    assert note(table, "Hints ") == "Hints oracle: methods are given which classes sound in each clip."


def test_rows_scored_on_different_clips_are_noted(store: Store) -> None:
    store.row("a", 0.4)
    store.row("b", 0.4, counts=COUNTS.model_copy(update={"scored": 9}))
    assert "A (methods, seed 0) 10, B (methods, seed 0) 9" in note(store.table(), "ATTENTION, Toybox duet")


def test_one_dataset_through_two_encoders_has_two_groups(store: Store) -> None:
    store.dataset("duet", "Toybox duet", encoder="big")
    store.row("a", 0.4)
    store.row("a", 0.6, encoder="big")
    assert texts(store.table().rows[0]) == ["40.0", "5.0", "60.0", "5.0"]


def test_the_terminal_shows_all_groups_however_narrow(store: Store) -> None:
    store.dataset("scene", "Toybox scene")
    store.dataset("far", "Far away", status="absent", reason="not here", command="fetch it")
    for dataset in ("duet", "scene"):
        store.row("a", 0.4, dataset=dataset)
        store.row("b", 0.6, dataset=dataset, section="controls")
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


def test_a_suite_that_was_never_run(store: Store) -> None:
    with pytest.raises(AvlocError, match="avloc bench --suite other"):
        load_scores(Manifest.of(store.results, "other"), store.results)


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
    store.write()
    path = Manifest.path(store.results, "s")
    content = read_json(path)
    del content["rows"][0]["method"]
    write_json(path, content)
    with pytest.raises(AvlocError, match=r"s\.json is not the manifest.*rows\.0\.method"):
        load_scores(Manifest.of(store.results, "s"), store.results)


def test_the_same_files_give_the_same_table(store: Store) -> None:
    for method in "cab":
        store.row(method, 0.4)
    assert store.table() == store.table()
    assert [row.label for row in store.table().rows] == ["C", "A", "B"]


VIDEOS = [f"v{number // 2}" for number in range(80)]


def quality(mean: float, seed: int = 0) -> list[float]:
    """80 values of 40 videos."""
    return list(np.random.default_rng(seed).uniform(mean - 0.1, mean + 0.1, 80))


def test_intervals_come_from_the_stored_rows_over_all_seeds(store: Store) -> None:
    seeds = [quality(0.4, 1), quality(0.5, 2)]
    store.rows("a", seeds, VIDEOS)
    assert store.table().rows[0].cells[0][0].interval is None
    table = store.table(intervals=True)
    cell = table.rows[0].cells[0][0]
    codes = np.unique(VIDEOS, return_inverse=True)[1]
    low, high = percentile_interval(replicate_means(np.array(seeds).T, codes).mean(1))
    assert cell.interval == pytest.approx((100 * low, 100 * high))
    assert cell.text.endswith(f" [{100 * low:.1f}, {100 * high:.1f}]")
    assert "percentile intervals of a bootstrap over videos" in note(table, "In brackets")


def test_a_metric_that_is_no_mean_needs_its_own_reduce(store: Store) -> None:
    store.rows("a", [quality(0.4)], VIDEOS)
    table = store.table(intervals=True)
    assert table.rows[0].cells[0][1].interval is None
    assert note(table, "No intervals").endswith("distance.")
    counted = store.table(intervals=True, reducer=lambda metric: lambda rows: len(rows) / 100)
    assert counted.rows[0].cells[0][1].interval == pytest.approx((80, 80))


def test_rows_that_differ_from_the_reference_are_marked(store: Store) -> None:
    better, equal, base = quality(0.5, 1), quality(0.4, 2), quality(0.4, 3)
    store.rows("a", [base], VIDEOS)
    store.rows("b", [better, better], VIDEOS)
    store.rows("c", [equal], VIDEOS)
    assert not any("†" in cell.mark for row in store.table().rows for cell in row.cells[0])
    table = store.table(reference="a")
    cells = [row.cells[0][0] for row in table.rows]
    assert ["†" in cell.mark for cell in cells] == [False, True, False]
    codes = np.unique(VIDEOS, return_inverse=True)[1]
    apart = np.stack([np.array(better) - base, np.array(equal) - base], axis=1)
    p_better, p_equal = sign_flip(apart, codes)
    assert [cell.p for cell in cells] == [None, pytest.approx(2 * p_better), pytest.approx(max(2 * p_better, p_equal))]
    assert table.rows[1].cells[0][1].p is None
    assert "over the 2 tests of this table" in note(table, "† differs from A")
    assert note(table, "Not tested, since they are not means").endswith("distance.")


def test_the_suite_may_name_the_reference_and_the_command_may_refuse_it(store: Store) -> None:
    store.manifest.reference = "A"
    store.rows("a", [quality(0.4)], VIDEOS)
    store.rows("b", [quality(0.6)], VIDEOS)
    assert store.table().rows[1].cells[0][0].mark == "†"
    assert store.table(reference="").rows[1].cells[0][0].mark == ""


def test_a_reference_is_one_with_the_same_hints(store: Store) -> None:
    for hints in ("oracle", "none"):
        store.rows("a", [quality(0.4)], VIDEOS, hints=hints)
    store.rows("b", [quality(0.6)], VIDEOS, hints="none")
    store.rows("c", [quality(0.6)], VIDEOS, hints="count")
    p_values = {row.label: row.cells[0][0].p for row in store.table(reference="a").rows}
    assert [name for name, p in p_values.items() if p is not None] == ["B (hints: none)"]


def test_a_reference_that_is_not_there_or_there_twice(store: Store) -> None:
    store.rows("a", [quality(0.4)], VIDEOS)
    store.rows("a", [quality(0.6)], VIDEOS, params={"tau": 1})
    with pytest.raises(AvlocError, match="Known: a"):
        store.table(reference="b")
    with pytest.raises(AvlocError, match=r"choose one of 'A', 'A \(tau=1\)'"):
        store.table(reference="a")
    assert store.table(reference="A (tau=1)").rows[0].cells[0][0].p is not None


def test_rows_scored_on_other_sources_are_not_tested(store: Store) -> None:
    store.rows("a", [quality(0.4)], VIDEOS)
    store.rows("b", [quality(0.6)[:78]], VIDEOS[:78])
    table = store.table(reference="a")
    assert table.rows[1].cells[0][0].p is None
    assert note(table, "Not tested, since scored on other sources than A").endswith("row 2 on Toybox duet.")


def test_few_videos_and_shared_videos_are_noted(store: Store) -> None:
    store.rows("a", [quality(0.4)], [f"v{number % 4}+w{number % 5}" for number in range(80)])
    table = store.table(intervals=True)
    assert "only 20 videos; with fewer than 30" in note(table, "ATTENTION, Toybox duet")
    assert "9 of 9 videos are in more than one mixture" in note(table, "Toybox duet: 9")


@pytest.mark.parametrize("damage", ["gone", "garbage"])
def test_rows_that_cannot_be_read_are_named(store: Store, damage: str) -> None:
    store.rows("a", [quality(0.4)], VIDEOS)
    path = store.results / "runs" / "run0" / "scores" / "score0.parquet"
    path.unlink() if damage == "gone" else path.write_bytes(b"PAR1")
    store.table()
    with pytest.raises(AvlocError, match=r"score0\.parquet"):
        store.table(intervals=True)


def test_methods_that_do_not_beat_the_best_control_without_audio_are_marked(store: Store) -> None:
    store.row("a", 0.5, distance=0.04)
    store.row("b", 0.30001, distance=0.06)
    store.row("quiet", 0.2, uses_audio=False)
    store.row("c", 0.3, section="controls")
    store.row("d", 0.1, section="controls", distance=0.05)
    store.row("b", 0.1, section="untrained")
    table = store.table()
    marks = [[cell.mark for cell in row.cells[0]] for row in table.rows]
    assert marks == [["", ""], ["‡", "‡"], ["", ""], ["", ""], ["", ""], ["", ""]]
    assert note(table, "‡ does not beat the best control in its column")


def test_controls_that_use_the_audio_and_other_hints_do_not_count(store: Store) -> None:
    store.row("a", 0.2)
    store.row("c", 0.3, section="controls", uses_audio=True)
    store.row("d", 0.9, section="controls", hints="none")
    assert all(cell.mark == "" for row in store.table().rows for cell in row.cells[0])


@pytest.mark.parametrize(
    ("cap", "digits", "text"),
    [
        (0.41234, 1, "40"), (0.41234, 2, "41"), (0.41234, 3, "41.2"), (0.41234, 5, "41.234"), (0.0041234, 3, "0.412"),
        (0.9996, 3, "100"), (0.9996, 4, "99.96"), (0.0996, 2, "10"), (1.0, 3, "100"), (0.4, 3, "40.0"),
        (0.0, 3, "0.00"),
    ],
)  # fmt: skip
def test_digits_are_significant_ones(store: Store, cap: float, digits: int, text: str) -> None:
    store.row("a", cap, distance=12.345)
    written = texts(store.table(digits=digits).rows[0])
    assert written == [text, {1: "1000", 2: "1200", 3: "1230", 4: "1234", 5: "1234.5"}[digits]]


def test_deviation_and_interval_have_the_decimals_of_their_mean(store: Store) -> None:
    seeds = [quality(0.4, 1), quality(0.5, 2)]
    store.rows("a", seeds, VIDEOS)
    cell = store.table(digits=4, intervals=True).rows[0].cells[0][0]
    assert cell.interval is not None and cell.value is not None
    low, high = cell.interval
    assert cell.text == f"{cell.value:.2f} ± {cell.deviation:.2f} [{low:.2f}, {high:.2f}]"


def test_numbers_that_print_alike_share_a_rank(store: Store) -> None:
    for method, cap in (("a", 0.5004), ("b", 0.4996), ("c", 0.49)):
        store.row(method, cap)
    ranks = {d: [row.cells[0][0].rank for row in store.table(digits=d).rows] for d in (1, 2, 3, 4)}
    assert ranks == {1: [1, 1, 1], 2: [1, 1, 2], 3: [1, 1, 2], 4: [1, 2, 0]}


def test_columns_are_chosen_by_dataset_metric_or_both_and_keep_their_order(store: Store) -> None:
    store.dataset("scene", "Toybox scene")
    for dataset, cap in (("duet", 0.4), ("scene", 0.6)):
        store.row("a", cap, dataset=dataset)
    table = store.table()

    def chosen(*wanted: str) -> tuple[list[tuple[str, tuple[str, ...]]], Sequence[str]]:
        small = select(table, wanted)
        return [(group.title, group.headers) for group in small.groups], texts(small.rows[0])

    distance = "distance ↓"
    assert chosen("scene") == ([("Toybox scene", ("CAP", distance))], ["60.0", "5.0"])
    assert chosen("scene", "cap") == (
        [("Toybox duet", ("CAP",)), ("Toybox scene", ("CAP", distance))], ["40.0", "60.0", "5.0"]
    )  # fmt: skip
    assert chosen("Toybox scene/CAP", "duet/distance")[1] == ["5.0", "60.0"]
    with pytest.raises(AvlocError, match="Did you mean 'scene'"):
        select(table, ["scne"])


def test_a_transposed_table_has_methods_side_by_side(store: Store) -> None:
    store.row("a", 0.4)
    store.row("b", 0.5)
    store.row("c", 0.3, section="controls")
    table = transposed(store.table())
    assert [(group.title, group.headers) for group in table.groups] == [("Methods", ("A", "B")), ("Controls", ("C",))]
    assert [(row.section, row.label, texts(row)) for row in table.rows] == [
        ("Toybox duet", "CAP", ["40.0", "50.0", "30.0"]),
        ("Toybox duet", "distance ↓", ["5.0", "5.0", "5.0"]),
    ]
    assert [cell.rank for cells in table.rows[0].cells for cell in cells] == [2, 1, 0]
    lone = transposed(select(store.table(), ["cap"]))
    assert [(row.section, row.label) for row in lone.rows] == [("", "Toybox duet CAP")]


def test_intervals_and_tests_of_a_suite_that_really_ran(world: type, suite_file: Path) -> None:
    """From the command line, on the rows that the bench itself stores; other metrics are asked how they reduce."""
    place = ["--suite", str(suite_file), "--results", str(suite_file.parent / "out")]
    assert CliRunner().invoke(cli.app, ["bench", *place]).exit_code == 0
    CliRunner().invoke(cli.app, ["score", *place, "--protocol", "avloc", "--metrics", "cap,auc"])
    place[1] = f"{suite_file.stem}.avloc"
    shown = CliRunner().invoke(cli.app, ["table", *place, "--intervals", "--reference", "dot", "--format", "json"])
    assert shown.exit_code == 0, shown.stderr
    content = json.loads(shown.stdout)
    done = [cell for row in content["rows"] for cell in row["cells"] if cell["value"] is not None]
    assert done
    assert all(cell["interval"][0] - 1e-9 <= cell["value"] <= cell["interval"][1] + 1e-9 for cell in done)
    keys = [column["metric"] for column in content["columns"]]
    tested = {key for row in content["rows"] for key, cell in zip(keys, row["cells"], strict=True) if cell["p"]}
    assert tested == {"cap"}
    assert "Not tested, since they are not means of per-source rows: AUC." in content["notes"]
