"""``avloc data`` as a user sees it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

from avloc import DataError, hookimpl
from avloc.data.prepared import ChecksAnnotations, list_hash, prepare, reasons
from avloc.interfaces import Dataset
from avloc.registry import registry
from avloc.store import data_folder
from helpers import SHARED, commands
from helpers.films import Cinema, Films, annotate, film, put
from helpers.folders import PICTURED, photograph, table

COMMANDS = ("list", "prepare", "status", "check")
IDS = [f"v_{n:06}" for n in range(4)]


class Linter(ChecksAnnotations, Films):
    """Reads files that no other data set does."""

    family = ""
    checks = (".films",)

    @classmethod
    def check(cls, file: Path, parameters: Mapping[str, Any]) -> list[str]:
        return [line for line in file.read_text().splitlines() if "wrong" in line]


class Lint:
    """The plugin module of `Linter`."""

    @hookimpl
    def avloc_datasets(self) -> dict[str, str | type]:
        return {"linter": Linter}


@pytest.fixture(autouse=True)
def cinema(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("AVLOC_DATA", raising=False)
    registry.cache_clear()
    registry().add_module("cinema", Cinema())
    yield
    registry.cache_clear()


def run(*arguments: object) -> Result:
    return commands.run("data", *map(str, arguments))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two videos of four, one of them broken."""
    annotate(tmp_path / "in", IDS)
    put(tmp_path / "in" / f"{IDS[0]}.mp4", film())
    put(tmp_path / "in" / f"{IDS[1]}.mp4", b"")
    return tmp_path / "in"


def test_prepare_and_status_end_with_the_same_verdict(source: Path, tmp_path: Path) -> None:
    done = run("prepare", "films", "--from", source, "--data", tmp_path, "--jobs", 1)
    hash = hashlib.sha256(f"{IDS[0]}\n".encode()).hexdigest()[:12]
    verdict = f"1 of 4 test clips, list hash {hash}"
    assert done.exit_code == 0 and verdict in done.output
    assert "Copied films.csv." in done.output and "2 files made in" in done.output and "2 failures" in done.output
    assert f"frames/{IDS[1]}.jpg: {IDS[1]}.mp4: the file is empty" in done.output
    again = run("prepare", "films", "--from", source, "--data", tmp_path)
    assert "0 files made" in again.output and "2 files failed before and were not tried again" in again.output
    status = run("status", "films", "--data", tmp_path, "--split", "test")
    assert status.exit_code == 0 and status.output.splitlines() == [
        "films, test: 1 present, 2 missing, 1 broken",
        f"  2 missing: no video found ({IDS[2]}, {IDS[3]})",
        f"  1 broken: the file is empty (zero length) ({IDS[1]})",
        verdict,
    ]


@pytest.mark.parametrize("prepared", [True, False])
def test_status_counts_clips_that_are_others_once_more(prepared: bool, tmp_path: Path) -> None:
    if prepared:
        annotate(tmp_path / "in", IDS)
        for id in IDS[:3]:
            put(tmp_path / "in" / f"{id}.mp4", film(90 if id == IDS[2] else 0))
        assert run("prepare", "films", "--from", tmp_path / "in", "--data", tmp_path, "--jobs", 1).exit_code == 0
        shown = run("status", "films", "--data", tmp_path, "--split", "test").output
        first, count = f"{IDS[1]} is {IDS[0]}", 3
    else:
        rows = [photograph(tmp_path, "a"), photograph(tmp_path, "bb"), photograph(tmp_path, "b", split="train")]
        for name, source in {"copy": "a", "leak": "b"}.items():
            rows.append(photograph(tmp_path, name))
            for suffix in ("png", "wav"):
                (tmp_path / f"{name}.{suffix}").write_bytes((tmp_path / f"{source}.{suffix}").read_bytes())
        path = table(tmp_path, rows, PICTURED)
        shown = run("status", "folder", "--set", f"csv={path}").output
        first, count = "copy is a", 4
        leak = "have the image and sound of a clip that is trained or validated on under another name, the first:"
        assert f"ATTENTION: 1 of {count} test clips {leak} leak is b." in shown
    twin = "have the image and sound of another test clip, the first:"
    assert f"ATTENTION: 1 of {count} test clips {twin} {first}." in shown


def test_check_reads_masks_by_the_values_that_it_is_told(tmp_path: Path) -> None:
    import PIL.Image

    PIL.Image.fromarray(np.array([[0, 7], [255, 0]], np.uint8)).save(tmp_path / "mask.png")
    path = table(tmp_path, [photograph(tmp_path, "a", boxes="", mask="mask.png")], (*PICTURED, "mask"))
    assert "the mask has 3 values (0, 7, 255)" in run("check", path).output
    told = run("check", path, "--set", "mask_values={inside: [7], ignore: [255]}")
    assert told.exit_code == 0 and "no problems" in told.output
    assert "Did you mean 'mask_values'?" in run("check", path, "--set", "mask_value=1").output


def test_prepare_fails_where_nothing_is_of_a_clip(source: Path, tmp_path: Path) -> None:
    lists, other = ("--annotations", source), tmp_path / "other"
    assert run("prepare", "films", "--from", source, "--data", tmp_path / "a", "--jobs", 1).exit_code == 0
    put(other / f"{IDS[0]}.f137.mp4", film())
    done = run("prepare", "films", "--from", other, *lists, "--data", tmp_path / "b", "--jobs", 1)
    example = f"{IDS[0]}.f137.mp4 (did you mean {IDS[0]}?)"
    assert done.exit_code == 1
    assert f"1 media file seen, 1 of no clip, such as {example}. Files of a clip may be called {IDS[0]}" in done.output
    (tmp_path / "empty").mkdir()
    for code in (0, 1):  # the first time, annotations are copied
        done = run("prepare", "films", "--from", tmp_path / "empty", *lists, "--data", tmp_path / "c")
        assert done.exit_code == code


def test_status_counts_classes(source: Path, tmp_path: Path) -> None:
    run("prepare", "films", "--from", source, "--data", tmp_path)
    lines = run("status", "films", "--data", tmp_path, "--split", "test", "--classes").output.splitlines()
    assert [line.split() for line in lines if line.startswith(("a ", "b "))] == [
        ["a", "1", "1", "0"], ["b", "0", "1", "1"],
    ]  # fmt: skip


def test_status_of_what_is_absent_built_in_or_a_folder(tmp_path: Path) -> None:
    absent = run("status", "films", "--data", tmp_path)
    assert absent.exit_code == 0 and "films, test: cannot be opened." in absent.output
    built_in = run("status", "toybox_single", "--set", "test=3", "--split", "test", "--data", tmp_path)
    assert built_in.exit_code == 0 and "0 of 3 test clips, list hash" in built_in.output
    put(tmp_path / "one.mp4", film())
    rows = 'id,media,label,split,boxes\none,one.mp4,dog,test,"[[0,0,1,1]]"\ntwo,two.mp4,dog,test,"[[0,0,1,1]]"\n'
    (tmp_path / "mine.csv").write_text(rows)
    folder = run("status", "folder", "--data", tmp_path, "--set", "csv=mine.csv", "--classes")
    assert folder.exit_code == 0 and f"1 of 2 test clips, list hash {list_hash(['one'])}" in folder.output
    assert "0 of 0 train clips" in folder.output


def test_list_says_what_is_present(source: Path, tmp_path: Path) -> None:
    def state() -> str:
        lines = run("list", "--data", tmp_path).output.splitlines()
        return next(line for line in lines if line.startswith("films "))

    assert "films.csv; videos" in state() and "absent" in state()
    run("prepare", "films", "--from", source, "--data", tmp_path)
    assert "partly: 1 of 4 test clips" in state()
    annotate(tmp_path / "films" / "annotations", IDS[:1])
    assert "present: 1 of 1 test clips" in state()
    assert "built in" in run("list").output and "yours" in run("list").output


def test_list_prints_license_and_citation() -> None:
    shown = run("list").output
    assert "vggsound_single: license: VGGSound CC BY 4.0, VGG-SS Apache-2.0; citation: Chen et al." in shown
    assert "; url: https://www.robots.ox.ac.uk/~vgg/data/vggsound/" in shown
    assert "films: license" not in shown  # it does not say


def test_check_prints_every_problem(tmp_path: Path) -> None:
    registry().add_module("lint", Lint())
    good, bad = put(tmp_path / "good.films", b"fine\n"), put(tmp_path / "bad.films", b"wrong 1\nfine\nwrong 2\n")
    assert run("check", good).exit_code == 0 and "no problems" in run("check", good).output
    assert run("check", bad).exit_code == 1
    assert run("check", bad).stdout.splitlines() == ["wrong 1", "wrong 2", f"{bad}: 2 problems."]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("status", "flims"), "There is no dataset 'flims'. Did you mean 'films'?"),
        (("status", "films", "--set", "att=3"), "'att'. Did you mean 'at'?"),
        (("status", "films", "--set", "at"), "write parameter=value"),
        (("status", "films", "--set", "at=[")  , "is not YAML"),
        (("prepare", "films", "--from", "nowhere"), "nowhere is not a folder"),
        (("check", "nowhere.csv"), "the file is missing"),
        (("check", __file__), "no data set reads such files"),
    ],
)  # fmt: skip
def test_mistakes_get_a_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2 and sentence in " ".join(result.output.split())


def test_reasons_are_grouped_whatever_file_or_number_they_name() -> None:
    clips = {"a": "x/a.mp4: 1.5 s of 10 s", "b": "b.mp4: empty", "c": "c.mp4: 2 s of 10.25 s", "d": "no colon"}
    found = reasons(clips)
    assert found == {"1.5 s of 10 s": ["a", "c"], "empty": ["b"], "no colon": ["d"]} and next(iter(found))[0] == "1"


def test_the_list_hash_is_of_the_set() -> None:
    assert list_hash(["b", "a"]) == list_hash(["a", "b"]) != list_hash(["a"]) and len(list_hash([])) == 12


def test_help_needs_no_torch() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom avloc.cli import app\n"
        "codes = [CliRunner().invoke(app, ['data', name, '--help']).exit_code for name in sys.argv[1:]]\n"
        "sys.exit('torch' in sys.modules or any(codes))"
    )
    assert subprocess.run([sys.executable, "-c", code, *COMMANDS], check=False).returncode == 0


@pytest.mark.slow
def test_real_videos_of_vggsound(tmp_path: Path) -> None:
    shared = SHARED
    media = Path(os.environ.get("AVLOC_REALMINI", shared / "realmini"))
    lists = Path(os.environ.get("AVLOC_ANNOTATIONS", shared / "annotations"))
    for folder in (media, lists):
        if not folder.is_dir():
            pytest.skip(f"no {folder} (AVLOC_REALMINI, AVLOC_ANNOTATIONS)")
    done = run("prepare", "vggsound_single", "--from", media, "--annotations", lists, "--data", tmp_path)
    assert done.exit_code == 0 and "20 files made" in done.output and "0 failures" in done.output
    assert "10 of 5,158 test clips, list hash" in run("status", "vggsound_single", "--data", tmp_path).output
    cls = registry().get("dataset", "vggsound_single")
    assert issubclass(cls, Dataset)
    dataset = cls(tmp_path, split="test")  # type: ignore[call-arg]
    for id in dataset.status().present:
        sample = dataset.load(id)
        seconds = len(sample.clip.audio) / sample.clip.rate
        assert sample.truth is not None and 9 < seconds < 11 and len({dataset.content(id)}) == 1
        assert sample.truth.masks.shape[1:] == sample.clip.image.shape[:2]


def test_a_misspelled_split_is_named() -> None:
    shown = run("status", "folder", "--split", "tset")
    assert shown.exit_code == 2
    assert "Did you mean 'test'" in shown.output


class Trailers(Films):
    """The training list has two forms, and the test split needs neither."""

    annotations = {  # noqa: RUF012
        "films.csv": "https://example.org/films",
        "long.txt": "https://example.org/long",
        "short.txt": "https://example.org/short",
    }

    def __init__(self, root: Path | None, *, split: str) -> None:
        super().__init__(root, split=split)
        if split != "test" and not (data_folder(root) / "films" / "annotations" / "short.txt").is_file():
            raise DataError("short.txt: the annotation file is missing.")


class Premiere:
    """The plugin module of `Trailers`."""

    @hookimpl
    def avloc_datasets(self) -> dict[str, str | type]:
        return {"trailers": Trailers}


def test_annotation_files_that_open_splits_do_without_are_optional(source: Path, tmp_path: Path) -> None:
    registry().add_module("premiere", Premiere())
    done = run("prepare", "trailers", "--from", source, "--data", tmp_path)
    optional = [line for line in done.output.splitlines() if line.startswith("Optional")]
    assert optional == ["Optional: long.txt, which test can do without. It is published at https://example.org/long."]
    assert "trailers, train: cannot be opened. short.txt" in done.output and "Not found" not in done.output
    assert optional[0] in run("status", "trailers", "--data", tmp_path).output
    put(source / "short.txt", b"")
    assert "Optional: long.txt, which train, val, test" in run(
        "prepare", "trailers", "--from", source, "--data", tmp_path
    ).output  # fmt: skip


def test_prepare_names_what_the_next_run_tries_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avloc.data.prepared.prepare", partial(prepare, longest=0.0))
    output = run("prepare", "films", "--from", source, "--data", tmp_path, "--jobs", 1).output
    assert "4 files failed for a temporary reason; the next run tries again:" in output
    assert f"  frames/{IDS[0]}.jpg: {IDS[0]}.mp4: the decoder crashed (Killed)" in output
    monkeypatch.undo()
    assert "2 files made in" in run("prepare", "films", "--from", source, "--data", tmp_path).output


def test_status_survives_a_link_that_leads_nowhere(source: Path, tmp_path: Path) -> None:
    run("prepare", "films", "--from", source, "--data", tmp_path)
    (tmp_path / "films" / "frames" / f"{IDS[0]}.jpg").unlink()
    (tmp_path / "films" / "frames" / f"{IDS[0]}.jpg").symlink_to(tmp_path / "gone.jpg")
    status = run("status", "films", "--data", tmp_path)
    assert status.exit_code == 0 and "it is a broken link" in status.output
