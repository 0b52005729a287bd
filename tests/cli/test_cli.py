"""The command line: options to library calls, exit statuses, sentences instead of tracebacks, progress."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn
from typer.testing import CliRunner, Result

import avloc
from avloc import AvlocError, cli, track
from avloc.cli.terminal import Bars, Lines
from avloc.progress import reporting, say
from avloc.runner import Options
from avloc.suite import Suite


def run(*args: str | Path, **options: Any) -> Result:
    return CliRunner().invoke(cli.app, [str(arg) for arg in args], prog_name="avloc", **options)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Suite, Options]]:
    """What `avloc.runner.bench` was called with; it does nothing but leave the manifest of one failed row."""
    calls = []

    def fake(suite: Suite, options: Options) -> dict[str, Any]:
        calls.append((suite, options))
        rows = [
            {"method": "m", "label": "M", "section": "methods", "params": {}, "dataset": "d", "hints": "oracle",
             "encoder": "e", "weights": "", "seed": 0, "status": "failed", "reason": "boom", "run": "", "score": ""}
        ]  # fmt: skip
        dataset = {"name": "d", "title": "D", "encoder": "e", "status": "ran", "reason": "", "command": "", "notes": []}
        manifest = {
            "suite": suite.name, "title": "T", "paper": "", "command": options.command, "protocol_text": "avloc",
            "train_text": "epochs 3",
            "metrics": [{"key": "k", "title": "K", "unit": "%", "higher_is_better": True}],
            "datasets": [dataset], "rows": rows,
        }  # fmt: skip
        (options.results / "suites").mkdir(parents=True)
        (options.results / "suites" / f"{suite.name}.json").write_text(json.dumps(manifest))
        return manifest

    monkeypatch.setattr("avloc.runner.bench", fake)
    return calls


def test_version_and_help() -> None:
    assert run("--version").output == f"avloc {avloc.__version__}\n"
    shown = run("--help")
    assert shown.exit_code == 0
    for command in ("bench", "list", "table", "score", "pretrain"):
        assert command in shown.output


def test_list_shows_every_kind_and_one_kind() -> None:
    everything = run("list").output
    for word in ("methods", "tvsl", "encoders", "tiny", "datasets", "folder", "cap", "multi_source", "tvsl_released"):
        assert word in everything
    assert "tvsl" not in run("list", "suites").output.replace("T-VSL", "")
    assert run("list", "nonsense").exit_code == 2


def test_bench_passes_its_options_on(bench: list[tuple[Suite, Options]], world: Any, suite_file: Path) -> None:
    results = suite_file.parent / "out"
    run(
        "bench", "--suite", suite_file, "--methods", "dot, hinted", "--seeds", "3,4", "--hints", "vocabulary,oracle",
        "--limit", "7", "--set", "dot.dropout=0.5", "--set", "train.epochs=2", "--results", results, "--data", "d",
        "--device", "cpu", "--force",
    )  # fmt: skip
    suite, options = bench[0]
    assert [entry.name for entry in suite.methods] == ["dot", "hinted"]
    assert suite.methods[0].params == {"dropout": 0.5}
    assert (suite.seeds, suite.hints, suite.limit, suite.train.epochs) == ((3, 4), ("vocabulary", "oracle"), 7, 2)
    assert (options.results, options.data, options.device, options.force) == (results, Path("d"), "cpu", True)


def test_results_and_data_come_from_the_environment_too(bench: list[Any], world: Any, suite_file: Path) -> None:
    places = {"AVLOC_RESULTS": str(suite_file.parent / "there"), "AVLOC_DATA": "here"}
    run("bench", "--suite", suite_file, env=places)
    assert bench[0][1].results == suite_file.parent / "there"
    assert bench[0][1].data == Path("here")


def test_a_failed_row_is_in_the_table_and_in_the_exit_status(bench: list[Any], world: Any, suite_file: Path) -> None:
    shown = run("bench", "--suite", suite_file, "--results", suite_file.parent / "out")
    assert shown.exit_code == 1
    assert "failed: boom" in shown.stdout


def test_the_command_is_what_the_user_typed(
    bench: list[Any], world: Any, suite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = ["bench", "--suite", str(suite_file), "--results", str(suite_file.parent / "my results")]
    monkeypatch.setattr(sys, "argv", ["/somewhere/__main__.py", *typed])
    with pytest.raises(SystemExit):
        cli.main()
    command = bench[0][1].command
    assert command.startswith("avloc bench --suite")
    assert "my results'" in command


@pytest.mark.parametrize(
    "args",
    [["bench", "--seeds", "one"], ["bench", "--device", "gpu"], ["bench", "--limit", "0"], ["table", "--format", "pdf"],
     ["bench", "--sweet", "x"], ["benhc"]],
)  # fmt: skip
def test_bad_usage_is_2(args: list[str]) -> None:
    assert run(*args).exit_code == 2


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["bench", "--suite", "multi_sorce"], "Did you mean 'multi_source'"),
        (["bench", "--suite", "nowhere.yaml"], "does not exist"),
        (["bench", "--suite", "multi_source", "--methods", "tvls"], "Did you mean 'tvsl'"),
        (["bench", "--suite", "multi_source", "--set", "tvsl.gte=clamp"], "Did you mean 'gate'"),
        (["bench", "--suite", "multi_source", "--set", "nonsense"], "method.parameter=value"),
        (["bench", "--plugin", "nowhere.py"], "nowhere.py does not exist"),
        (["table", "--suite", "other"], "avloc bench --suite other"),
        (["score", "--suite", "other"], "avloc bench"),
        (["pretrain", "tinny"], "Did you mean 'tiny'"),
    ],
)
def test_what_the_user_can_solve_is_one_sentence(tmp_path: Path, args: list[str], words: str) -> None:
    shown = run(*args, env={"AVLOC_RESULTS": str(tmp_path)})
    assert shown.exit_code == 2
    assert shown.stderr.startswith("avloc: ")
    assert words in shown.stderr
    assert "Traceback" not in shown.output
    assert shown.stdout == ""


def test_a_dry_run_prints_the_plan_and_makes_nothing(world: Any, suite_file: Path) -> None:
    results = suite_file.parent / "out"
    shown = run("bench", "--suite", suite_file, "--results", results, "--hints", "none,oracle", "--dry-run")
    assert shown.exit_code == 0
    assert "0, 1" in shown.stdout
    assert "needs the hints oracle" in shown.stdout
    assert "6 runs: 5 todo, 1 skipped" in shown.stdout
    assert not results.exists()


def test_a_bench_a_table_and_new_scores(world: Any, suite_file: Path) -> None:
    place = ["--suite", suite_file, "--results", suite_file.parent / "out"]
    benched = run("bench", *place, "--seeds", "0")
    assert benched.exit_code == 0, benched.output
    assert "fit dot on blocks, seed 0" in benched.stderr
    again = run("table", *place)
    assert again.exit_code == 0
    assert again.stdout == benched.stdout
    for words in ("Blocks", "Dot", "12 clips listed, 12 scored", "0 broken"):
        assert words in again.stdout
    assert "| Dot | " in run("table", *place, "--format", "markdown").stdout
    assert r"\toprule" in run("table", *place, "--format", "latex").stdout
    assert run("table", *place, "--format", "csv").stdout.startswith("suite,section,method")
    scored = run("score", *place, "--protocol", "as_written", "--metrics", "ciou_mean")
    assert scored.exit_code == 0, scored.output
    assert "as_written" in scored.stdout
    rescored = ["table", "--suite", "blocks.as_written", "--results", suite_file.parent / "out"]
    assert run(*rescored).stdout == scored.stdout


@pytest.mark.parametrize("format", ["terminal", "csv", "latex", "markdown"])
def test_a_table_in_a_file(bench: list[Any], world: Any, suite_file: Path, format: str) -> None:
    place = ["--suite", suite_file, "--results", suite_file.parent / "out"]
    run("bench", *place)
    file = suite_file.parent / "table"
    shown = run("table", *place, "--format", format, "--output", file)
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert file.read_text() == run("table", *place, "--format", format).stdout
    nowhere = run("table", *place, "--format", format, "--output", file / "below")
    assert nowhere.exit_code == 2
    assert "Cannot write" in nowhere.stderr


def test_printed_numbers_stay_out_of_the_csv(bench: list[Any], world: Any, suite_file: Path) -> None:
    place = ["--suite", suite_file, "--results", suite_file.parent / "out"]
    run("bench", *place)
    shown = run("table", *place, "--format", "csv", "--published")
    assert shown.exit_code == 2
    assert "our own numbers only" in shown.stderr


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_disk_that_cannot_be_written_is_a_sentence(
    world: Any, suite_file: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(suite: Suite, options: Options) -> None:
        raise OSError(number, os.strerror(number), "results/runs/x/maps.f16")

    monkeypatch.setattr("avloc.runner.bench", fail)
    shown = run("bench", "--suite", suite_file)
    assert shown.exit_code == 2
    assert "results/runs/x/maps.f16" in shown.stderr
    assert os.strerror(number) in shown.stderr


def test_a_defect_of_ours_keeps_its_traceback(world: Any, suite_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avloc.runner.bench", lambda suite, options: 1 / 0)
    assert isinstance(run("bench", "--suite", suite_file).exception, ZeroDivisionError)


def test_stopping_prints_the_command_that_goes_on(
    world: Any, suite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(suite: Suite, options: Options) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("avloc.runner.bench", stop)
    monkeypatch.setattr(sys, "argv", ["avloc", "bench", "--suite", str(suite_file)])
    shown = run("bench", "--suite", suite_file)
    assert shown.exit_code == 130
    assert f"Go on with: avloc bench --suite {suite_file}" in shown.stderr


SLOW = """
import time
from avloc import Dataset, Status, hookimpl
class Slow(Dataset):
    classes = ("a",)
    def __init__(self, root, *, split): pass
    def prepare(self):
        print("ready", flush=True)
        time.sleep(60)
    def ids(self): return []
    def status(self): return Status(())
    def load(self, id): raise NotImplementedError
    def fingerprint(self): return ""
@hookimpl
def avloc_datasets(): return {"slow": Slow}
"""


@pytest.mark.slow
def test_ctrl_c_stops_a_real_bench(tmp_path: Path) -> None:
    (tmp_path / "slow_plugin.py").write_text(SLOW)
    args = ["--suite", "smoke", "--datasets", "slow", "--plugin", "slow_plugin.py"]
    with subprocess.Popen(
        [sys.executable, "-m", "avloc", "bench", *args], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "Stopped. Go on with: avloc bench " + " ".join(args)
    assert "Traceback" not in errors


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["list"], ["table", "--suite", "never"]])
def test_looking_around_imports_no_torch(args: list[str], tmp_path: Path) -> None:
    code = f"import sys; sys.argv[1:] = {args}\nfrom avloc.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    check = code + "assert 'torch' not in sys.modules and 'avloc_plugins.methods' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True, cwd=tmp_path, capture_output=True)


def test_the_module_equals_the_script() -> None:
    module = subprocess.run([sys.executable, "-m", "avloc", "list"], check=True, capture_output=True, text=True)
    script = Path(sys.executable).with_name("avloc")
    if not script.exists():
        pytest.skip("the console script is not installed beside this Python")
    assert subprocess.run([script, "list"], check=True, capture_output=True, text=True).stdout == module.stdout


def test_pretraining_calls_the_encoders_own_recipe(world: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = []

    def pretrain(output: Path, *, seed: int, device: str) -> Path:
        calls.append((output, seed, device))
        return output

    encoder = avloc.registry.registry().get("encoder", "plain")
    monkeypatch.setattr(encoder, "pretrain", pretrain, raising=False)
    shown = run("pretrain", "plain", "--output", tmp_path / "w.safetensors", "--seed", "3", "--device", "cpu")
    assert shown.stdout == f"Wrote {tmp_path / 'w.safetensors'}\n"
    assert calls == [(tmp_path / "w.safetensors", 3, "cpu")]


def test_an_encoder_without_a_recipe_says_so(world: Any) -> None:
    shown = run("pretrain", "plain")
    assert shown.exit_code == 2
    assert "no pre-training recipe" in shown.stderr


class Clock:
    """Seconds that pass when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_progress_lines_at_start_now_and_then_and_at_the_end() -> None:
    clock, out = Clock(), io.StringIO()
    with reporting(Lines(Console(file=out, width=100, highlight=False), clock)):
        for _ in track(range(30), "encode toybox", 30):
            clock.now += 1
        say("waiting")
        with pytest.raises(AvlocError):
            for _ in track(range(9), "score", 9):
                raise AvlocError
    assert out.getvalue().splitlines() == [
        "encode toybox: 30 to do",
        "encode toybox: 10/30, 0:20 left",
        "encode toybox: 20/30, 0:10 left",
        "encode toybox: 30/30 in 0:30",
        "waiting",
        "score: 9 to do",
        "score: 0/9 in 0:00",
    ]


def test_bars_come_and_go_with_their_loops() -> None:
    shown = []
    out = Console(file=io.StringIO(), width=100, force_terminal=True)
    with Progress(TextColumn("{task.description} {task.completed}/{task.total}"), console=out) as bars:
        with reporting(Bars(bars)):
            for _ in track(range(2), "outer", 2):
                for _ in track(range(3), "inner", 3):
                    shown.append([(task.description, task.completed) for task in bars.tasks])
        assert shown[-1] == [("outer", 1), ("inner", 2)]
        assert not bars.tasks
