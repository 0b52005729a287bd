"""The documentation works as printed: tutorials, commands, examples, links, and the names in the tour."""

from __future__ import annotations

import pkgutil
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import avloc
from avloc import cli
from avloc.data import write_video
from helpers import ROOT

PAGES = ["README.md", "CONTRIBUTING.md", "docs/python.md", "docs/why-numbers-disagree.md", "results/README.md"]
FILES = {"mine.py": "README.md", **dict.fromkeys(("lamps.py", "patches.py", "pointing.py"), "CONTRIBUTING.md")}
"""Complete plugins, and the page that contains each."""


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(name: str, title: str) -> str:
    """The text under a second-level heading."""
    return page(name).partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def commands(text: str) -> list[list[str]]:
    """The arguments of the avloc commands that are alone in a code block."""
    return [shlex.split(line) for line in re.findall(r"```\navloc (.*?)\n```", text)]


def python(text: str) -> str:
    """All Python blocks of a text, as one program."""
    return "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


def run(args: list[str]) -> Result:
    shown = CliRunner().invoke(cli.app, args)
    assert shown.exit_code == 0, shown.output
    return shown


def shipped(name: str, folder: Path) -> list[str]:
    """Write a page's plugin to the folder; returns the arguments of the command below it."""
    pattern = rf"```python\n(# {re.escape(name)}\n.*?)```\n+```\navloc (.*?)\n```"
    ((code, command),) = re.findall(pattern, page(FILES[name]), re.DOTALL)
    (folder / name).write_text(code)
    return shlex.split(command)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: Any) -> Path:
    """An empty working directory; plugins loaded there are forgotten afterwards."""
    for module in ("avloc_mine", *(Path(name).stem for name in FILES)):
        monkeypatch.setitem(sys.modules, module, sys)
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def steps() -> list[list[str]]:
    """The commands for a method, in order: new, check, bench."""
    return commands(page("CONTRIBUTING.md").partition("## The architecture")[0])


def test_the_method_runs_on_a_small_world(folder: Path, suite_file: Path) -> None:
    command = shipped("mine.py", folder)
    assert "Mine" in run([*command, "--suite", str(suite_file), "--seeds", "0"]).stdout


def test_the_method_passes_the_checks(folder: Path) -> None:
    shipped("mine.py", folder)
    run(["check", "mine", "--plugin", "mine.py"])


@pytest.mark.slow
def test_the_data_set_runs_as_printed(folder: Path) -> None:
    shown = run([*shipped("lamps.py", folder), "--jobs", "1"]).stdout
    assert "Lamps: 12 clips listed, 12 scored (12 sources)" in shown
    assert "Lamp pairs: 6 clips listed, 6 scored (12 sources)" in shown


def test_the_data_set_is_what_the_page_says(folder: Path) -> None:
    shipped("lamps.py", folder)
    run(["data", "status", "lamps", "--plugin", "lamps.py"])
    singles, pairs = (
        avloc.get_component("dataset", name)(folder, split="test", count=2) for name in ("lamps", "lamp_pairs")
    )
    pairs.prepare()
    single, pair = singles.load("test0"), pairs.load("test0+test1")
    height, width = single.clip.image.shape[:2]
    assert single.truth.masks.shape == (1, height, width) and single.clip.tiles == 1
    assert pair.clip.image.shape == (height, 2 * width, 3) and pair.clip.tiles == 2
    assert pair.truth.masks.shape == (2, height, 2 * width)
    left, _, right, _ = pair.truth.boxes[1][0]
    assert 0.5 <= left < right <= 1  # shares of the whole canvas
    (folder / "lamps" / "test1.mp4").unlink()
    status = singles.status()
    assert status.present == ("test0",) and "test1.mp4 is missing" in status.broken["test1"]


def test_the_encoder_runs_on_a_small_world(folder: Path, suite_file: Path) -> None:
    shown = run([*shipped("patches.py", folder), "--suite", str(suite_file), "--seeds", "0"]).stdout
    assert "encoder patches, weights random, seed 0" in shown and "EZ-VSL" in shown


def test_the_encoder_is_what_the_page_says(folder: Path) -> None:
    import torch

    shipped("patches.py", folder)
    run(["list", "encoders", "--plugin", "patches.py"])
    kind = avloc.get_component("encoder", "patches")
    one, other = kind(), kind()
    assert one.fingerprint() == other.fingerprint() != kind(seed=1).fingerprint()
    info = one.info
    tokens, pooled, backbone = one.encode_image(torch.rand(2, 3, info.image_size, 2 * info.image_size))
    assert tokens.shape == (2, info.dim, 7, 14) and pooled.shape == (2, info.dim)
    assert backbone.shape == (2, info.backbone_dim, 7, 14)
    cells, pooled = one.encode_audio(torch.rand(2, round(info.audio_rate * info.audio_seconds)))
    assert cells.shape == (2, info.dim, *info.audio_grid) and pooled.shape == (2, info.dim)


def test_the_metric_scores_a_small_bench(folder: Path, suite_file: Path) -> None:
    run(["bench", "--suite", str(suite_file), "--methods", "dot", "--seeds", "0"])
    shown = run([*shipped("pointing.py", folder), "--suite", suite_file.stem]).stdout
    assert "pointing above chance @0.5" in shown


def test_the_metric_is_what_the_page_says(folder: Path) -> None:
    shipped("pointing.py", folder)
    run(["list", "metrics", "--plugin", "pointing.py"])
    masks = np.zeros((3, 4, 4), np.float32)
    masks[0, 0, 0] = masks[1, 3, 3] = 1  # the first is hit, the second missed, the third is empty
    truth = avloc.Truth(masks, ("a", "b", "c"))
    prediction = avloc.Prediction("x", np.stack([masks[0], masks[0], masks[0]]), ("a", "b", "c"))
    protocol = avloc.load_protocol({"preset": "avloc", "size": 4})
    metric = avloc.get_component("metric", "pointing")()
    rows = metric.rows(*protocol.apply(prediction, truth))
    np.testing.assert_allclose(rows, [[1, 1 / 16], [0, 1 / 16], [np.nan, np.nan]])
    assert metric.reduce(rows) == pytest.approx((0.5 - 1 / 16) / (1 - 1 / 16))
    values = avloc.evaluate({"x": prediction}, {"x": truth}, protocol, ["pointing@0.7"]).values
    assert values == {"pointing@0.7": pytest.approx(metric.reduce(rows))}
    assert metric.rows(*protocol.apply(prediction, avloc.Truth(masks[:0], ()))).shape == (0, 2)


def test_new_fill_in_check_bench(steps: list[list[str]], folder: Path, suite_file: Path) -> None:
    assert [step[0] for step in steps] == ["new", "check", "bench"]
    new, check, bench = steps
    run(new)
    assert "FILL IN" in (folder / "mine" / "avloc_mine.py").read_text()
    assert "mine passes." in run(check).stdout
    assert "Mine" in run([*bench, "--suite", str(suite_file), "--seeds", "0"]).stdout


def test_the_first_screen_has_every_step() -> None:
    screen = "\n".join(page("CONTRIBUTING.md").splitlines()[:40])
    places = [screen.index(word) for word in ("avloc new method", "**Fill in**", "avloc check", "avloc bench")]
    assert places == sorted(places)


def test_the_tour_names_every_package_and_only_functions_that_exist() -> None:
    tour = section("CONTRIBUTING.md", "The architecture")
    packages = {path.stem for path in (ROOT / "avloc").iterdir() if path.stem[0] not in "_."}
    assert packages - {"__pycache__"} <= set(re.findall(r"\[`(\w+)`\]", tour))
    names = re.findall(r"`(avloc\.[\w.]+)`", tour)
    assert len(names) > 15
    for name in names:
        pkgutil.resolve_name(name)


@pytest.fixture
def examples(folder: Path, suite_file: Path) -> dict[str, str]:
    """Names in the pages' examples -> their replacements in a small world."""
    frames = np.full((10, 64, 64, 3), 90, np.uint8)
    write_video(folder / "dog.mp4", frames, 10, np.sin(np.arange(16_000, dtype=np.float32)), 16_000)
    suite, blocks = repr(str(suite_file)), 'load_results("blocks")'
    return {'"smoke"': suite, 'load_results("smoke")': blocks, "toybox_single": "blocks"}


@pytest.mark.parametrize("name", ["README.md", "docs/python.md"])
def test_the_python_examples_run_on_a_small_world(name: str, examples: dict[str, str]) -> None:
    code = python(section(name, "From Python") if name == "README.md" else page(name))
    assert all(f"{function}(" in code for function in ("bench", "load_results", "evaluate", "load"))
    for printed, small in sorted(examples.items(), key=lambda pair: -len(pair[0])):
        code = code.replace(printed, small)
    exec(compile(code, name, "exec"), {})


def test_the_python_page_has_every_public_name() -> None:
    text = page("docs/python.md")
    assert [name for name in avloc.__all__ if f"`{name}`" not in text and f"`avloc.{name}`" not in text] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mine.py", "patches.py"])
def test_the_commands_run_as_printed(name: str, folder: Path) -> None:
    assert "Smoke test" in run(shipped(name, folder)).stdout


@pytest.mark.slow
def test_the_steps_run_as_printed(steps: list[list[str]], folder: Path) -> None:
    *_, last = [run(step) for step in steps]
    assert "Mine" in last.stdout


@pytest.mark.parametrize("name", PAGES)
def test_every_file_that_the_pages_link_to_exists(name: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)[^)]*\)", page(name)):
        assert ((ROOT / name).parent / target).exists(), f"{name} links to {target}"
