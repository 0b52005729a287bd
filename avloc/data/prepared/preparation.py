"""``avloc data prepare``: a folder of videos becomes one frame and one sound per clip, once.

What is there is never touched unless it is ours and damaged, what could not be made is tried again when its source has
changed or the reason may have passed, and everything that was made or failed has a line in the manifest. A line is
written before the file gets its name: ``kill -9`` leaves at worst a line without a file, which is made again, and never
a file whose line is unknown.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from avloc.data.extract import Job, Kind, Line, Output, failure, make, transient
from avloc.data.prepared.inventory import Opened, dataset_class, open_splits
from avloc.data.prepared.recordings import HasRecordings, Recording, Recordings, State, damage, listed
from avloc.data.prepared.sources import Index, Names, Source, search, unpack, walk
from avloc.progress import say, track
from avloc.store import data_folder, exclusive, writing
from avloc.types import AvlocError
from avloc.workers import Died, each

KINDS: dict[str, Kind] = {"frames": "frame", "audio": "sound", "masks": "mask"}
WORK = ".making"
"""The folder for files that have no line in the manifest yet."""
LONGEST = 1800.0
"""Seconds after which a decoder that does not come to an end is killed."""
CRASHES = {signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV}
"""What a decoder does to itself; any other end of its process comes from outside and says nothing about the file."""


@dataclass(slots=True)
class Prepared:
    """What was done.

    Attributes:
        folder: Where the prepared media are.
        copied: Annotation files that were copied.
        made: How many files were made.
        broken: Files that could not be made -> source and reason.
        transient: Files that could not be made for a reason that may pass -> source and reason; tried again next time.
        kept: How many files failed before and were not tried again, since their source is the same.
        doubles: Files that have several sources of one name -> the one taken: the first in alphabetical order, and for
            a mask an array before a picture.
        damaged: Shards that cannot be read to their end -> reason.
    """

    folder: Path
    copied: list[str] = field(default_factory=list)
    made: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    transient: dict[str, str] = field(default_factory=dict)
    kept: int = 0
    doubles: dict[str, str] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Plan:
    """What is to be made.

    Attributes:
        outputs: Source -> what to make of it.
        damaged: Files to make -> the damaged one of ours that each takes the place of.
        kept: See `Prepared`.
        doubles: See `Prepared`.
    """

    outputs: dict[Source, list[Output]] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    kept: int = 0
    doubles: dict[str, str] = field(default_factory=dict)


def prepare(
    name: str,
    source: Path,
    *,
    annotations: Path | None = None,
    data: Path | None = None,
    jobs: int | None = None,
    settings: Sequence[str] = (),
) -> Prepared:
    """Copy a data set's annotation files, and make the frames, sounds and masks of its clips that are not there yet.

    Args:
        name: Of the data set.
        source: The folder to look through.
        annotations: Another one to look for annotation files in.
        data: What ``--data`` says.
        jobs: Processes; ``None``: one per core.
        settings: ``"parameter=value"`` of the data set.

    Raises:
        AvlocError: An unknown data set, one with nothing to prepare, or without any annotations; a folder that is not
            there; a full disk.
    """
    cls = dataset_class(name)
    if not issubclass(cls, HasRecordings):
        raise AvlocError(
            f"{name} has nothing to prepare: its media are made by avloc, or read from where you keep them."
        )
    folder = data_folder(data) / cls.family
    made_here = [folder / name for name in (*KINDS, WORK)]
    index = search(source, wanted_files=cls.annotations, skip=made_here, memory=folder / "shards.json")
    done = Prepared(folder, damaged=index.damaged)
    done.copied = _copy_annotations(cls, folder / "annotations", index, annotations)
    recordings = _recordings(name, open_splits(name, data, settings))
    plan = _plan(recordings, index, folder)
    if plan.outputs:
        with exclusive(folder, f"the media of {cls.family}"):
            plan = _plan(recordings, index, folder)  # another process may have made some while this one waited
            _make(plan, index, done, jobs or os.cpu_count() or 1)
    done.kept, done.doubles = plan.kept, plan.doubles
    return done


def _recordings(name: str, opened: Opened) -> list[Recording]:
    """The recordings of all splits, each once."""
    if not opened.splits:
        reasons = " ".join(dict.fromkeys(opened.failed.values()))
        others = [f" {file} is published at {place}." for file, place in opened.absent.items() if file not in reasons]
        raise AvlocError(f"No split of {name} can be opened. {reasons}{''.join(others)}")
    return list(
        dict.fromkeys(
            one for data in opened.splits.values() if isinstance(data, HasRecordings) for one in data.recordings()
        )
    )


def _copy_annotations(cls: type[HasRecordings], to: Path, index: Index, more: Path | None) -> list[str]:
    """Copy the annotation files that are not there yet; of several of one name, the first in alphabetical order."""
    found: dict[str, list[Path]] = {}
    if more is not None:
        if not more.is_dir():
            raise AvlocError(f"{more} is not a folder; name the one that holds the annotation files (--annotations).")
        for path in (more / name for name in walk(more)):
            if path.name in cls.annotations:
                found.setdefault(path.name, []).append(path)
    for file, names in index.files.items():
        found.setdefault(file, []).extend(index.root / name for name in names)
    copied = []
    for file, paths in found.items():
        kept = to / file
        if not kept.is_file():
            with exclusive(to.parent, f"the media of {cls.family}"), writing(kept):
                to.mkdir(exist_ok=True)
                temporary = to / f".{file}.{os.getpid()}"
                shutil.copyfile(paths[0], temporary)
                temporary.replace(kept)
            copied.append(file)
        content = kept.read_bytes()
        for path in paths:
            if path.read_bytes() != content:
                say(f"{path} differs from {kept}, which is used; delete that one to change it.")
    return copied


def _plan(recordings: Iterable[Recording], index: Index, folder: Path) -> Plan:
    """What is not there or no longer as it was written, has a source, and did not fail with that very source before."""
    manifest = Recordings(folder).manifest()
    there = {kind: listed(folder / kind) for kind in KINDS}
    plan, planned = Plan(), set()
    for recording in recordings:
        for kind, stem, ends in recording.files:
            file = f"{kind}/{stem}{ends[0]}"
            if file in planned:
                continue
            name = next((stem + end for end in ends if stem + end in there[kind]), None)
            here = f"{kind}/{name}"
            if name is not None and not damage(folder, here, there[kind][name], manifest.get(here)):
                continue
            planned.add(file)
            found = _source(recording, kind, index)
            if found is None:
                continue
            source, double = found
            line = manifest.get(file)
            if line is not None and line.failed_for_good and line[:3] == (source.name, *index.stamp(source)):
                plan.kept += 1
                continue
            if kind == "frames" and source.suffix == ".png":
                file = f"{kind}/{stem}.png"
            if name is not None:
                plan.damaged[file] = here
            if double:
                plan.doubles[file] = source.name
            plan.outputs.setdefault(source, []).append(Output(file, KINDS[kind], recording.at))
    return plan


def _source(recording: Recording, kind: str, index: Index) -> tuple[Source, bool] | None:
    """Where a file of a recording can come from, and whether another one has the same name: videos come first."""
    choices: list[tuple[Names, tuple[str, ...]]]
    if kind == "masks":
        choices = [(index.masks, (recording.id,))]
    elif kind == "frames":
        alone = recording.at is None  # the one frame of its source may carry the source's name
        names = (recording.id, *recording.sources) if alone else (recording.id,)
        choices = [(index.videos, recording.sources), (index.frames, names)]
    else:
        choices = [(index.videos, recording.sources), (index.sounds, (recording.sound, *recording.sources))]
    for known, names in choices:
        found = known.find(names)
        if found is not None:
            return found[1], found[0] in known.doubles
    return None


def _make(plan: Plan, index: Index, done: Prepared, jobs: int) -> None:
    """Make what is planned; every output leaves its line and, where it worked, its file."""
    folder, total = done.folder, sum(map(len, plan.outputs.values()))
    stamps = {source.name: index.stamp(source) for source in plan.outputs}
    work = folder / WORK
    with ExitStack() as stack:
        stack.enter_context(writing(folder))
        shutil.rmtree(work, ignore_errors=True)  # of a process that was killed
        for name in (*KINDS, WORK):
            (folder / name).mkdir(parents=True, exist_ok=True)
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        manifest = stack.enter_context(_appending(folder / "manifest.jsonl"))
        made = stack.enter_context(closing(_made(plan, index, work, jobs)))
        for job, line in track(made, f"prepare {folder.name}", total):
            _keep(job, line, stamps[job.name], plan.damaged.get(job.output.file), manifest, done)
        os.fsync(manifest.fileno())


def _made(plan: Plan, index: Index, work: Path, jobs: int) -> Generator[tuple[Job, Line], None, None]:
    """Make what is planned, in processes; a copy out of a shard is deleted once all is made of it."""
    running: dict[int, Job] = {}
    left = Counter({source.name: len(outputs) for source, outputs in plan.outputs.items() if source.member})

    def started() -> Iterator[Job]:
        for number, job in enumerate(_jobs(plan, index, work)):
            running[number] = job
            yield job

    for number, found in each(make, started(), jobs, reuse=True, threads=1, limit=LONGEST):
        job = running.pop(number)
        yield job, _crash(found) if isinstance(found, Died) else found
        left[job.name] -= 1
        if left[job.name] == 0 and job.path is not None:
            job.path.unlink(missing_ok=True)


def _crash(end: Died) -> Line:
    """What the end of a process says about the file that it read."""
    if end.error is not None:  # the new file cannot be written
        raise end.error
    reason = signal.strsignal(-end.code) if end.code < 0 else f"status {end.code}"
    return failure(f"the decoder crashed ({reason})", -end.code not in CRASHES)


def _jobs(plan: Plan, index: Index, work: Path) -> Iterator[Job]:
    """Files first, then the shards, each read once from its start."""
    shards: dict[str, dict[str, Source]] = {}
    for source in plan.outputs:
        if source.member:
            shards.setdefault(source.file, {})[source.member] = source
            continue
        for output in plan.outputs[source]:
            yield Job(source.name, index.root / source.file, output, _temporary(work, output), {})
    for shard, members in shards.items():
        for member, path in unpack(index.root / shard, members, work):
            there = path if isinstance(path, Path) else None
            lost = {} if isinstance(path, Path) else failure(str(path), transient(path))
            for output in plan.outputs[members[member]]:
                yield Job(members[member].name, there, output, _temporary(work, output), lost)


def _temporary(work: Path, output: Output) -> Path:
    return work / output.file.replace("/", "-")


def _appending(path: Path) -> IO[bytes]:
    """Open a log whose last line may be half-written; that one is ended, so that it spoils none of the next."""
    file = path.open("ab+")
    if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) >= 0 and file.read() != b"\n":
        file.write(b"\n")
    return file


def _keep(job: Job, line: Line, stamp: State, damaged: str | None, manifest: IO[bytes], done: Prepared) -> None:
    """Write the line of a file, then move it in place; a damaged one in its stead goes, whatever its suffix."""
    file = job.output.file
    broken = line.get("broken")
    if broken is not None:
        file = str(PurePosixPath(file).with_suffix(".jpg")) if job.output.kind == "frame" else file
        failures = done.transient if line.get("transient") else done.broken
        failures[file] = f"{job.name}: {broken}"
    if damaged is not None and (broken is not None or damaged != file):
        (done.folder / damaged).unlink(missing_ok=True)
    about = {"file": file, "source": job.name, "source_bytes": stamp[0], "source_time": stamp[1]}
    manifest.write(json.dumps({**about, **line}).encode() + b"\n")
    manifest.flush()
    if broken is None:
        job.temporary.replace(done.folder / file)
        done.made += 1
