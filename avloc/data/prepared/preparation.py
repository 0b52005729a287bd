"""``avloc data prepare``: a folder of videos becomes one frame and one sound per clip, once.

What is there is never touched unless it is ours and damaged, what could not be made is tried again when its source has
changed or the reason may have passed, and everything that was made or failed has a line in the manifest. A line is
written before the file gets its name: ``kill -9`` leaves at worst a line without a file, which is made again, and never
a file whose line is unknown.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from avloc.data.extract import Job, Line, Spare, failure, make, transient
from avloc.data.prepared.inventory import Opened, dataset_class, open_splits
from avloc.data.prepared.recordings import FOLDERS, HasRecordings, Recording, Recordings, damage, find, listed
from avloc.data.prepared.sources import Index, Names, Source, search, unpack, walk
from avloc.progress import say, track
from avloc.store import data_folder, exclusive, replacing, writing
from avloc.types import AvlocError
from avloc.workers import Died, each

WORK = ".making"
"""The folder for files that have no line in the manifest yet."""
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
        found: Whether there is anything of any clip.
        seen: How many videos, frames and sounds there are.
        strays: Those among them that belong to no clip.
        meant: The first of `strays` whose name holds a clip's, and that; empty: none does.
        names: What a source of the first clip may be called, without suffix.
        apart: Images and sounds outside the folders that are looked into.
    """

    folder: Path
    copied: list[str] = field(default_factory=list)
    made: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    transient: dict[str, str] = field(default_factory=dict)
    kept: int = 0
    doubles: dict[str, str] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    found: bool = False
    seen: int = 0
    strays: list[str] = field(default_factory=list)
    meant: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    apart: list[str] = field(default_factory=list)


Plan = dict[Source, list[Job]]
"""Source -> what to make of it."""


def prepare(
    name: str,
    source: Path,
    *,
    annotations: Path | None = None,
    data: Path | None = None,
    jobs: int | None = None,
    settings: Sequence[str] = (),
    longest: float = 1800.0,
) -> Prepared:
    """Copy a data set's annotation files, and make the frames, sounds and masks of its clips that are not there yet.

    Args:
        name: Of the data set.
        source: The folder to look through.
        annotations: Another one to look for annotation files in.
        data: What ``--data`` says.
        jobs: Processes; ``None``: one per core.
        settings: ``"parameter=value"`` of the data set.
        longest: Seconds after which a decoder that does not come to an end is killed.

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
    made_here = [folder / name for name in (*FOLDERS, WORK)]
    index = search(source, wanted_files=cls.annotations, skip=made_here, memory=folder / "shards.json")
    done = Prepared(folder, damaged=index.damaged, apart=index.apart)
    done.copied = _copy_annotations(cls, folder / "annotations", index, annotations)
    recordings = _recordings(name, open_splits(name, data, settings))
    _account(recordings, index, done)
    if _plan(recordings, index, done):
        with exclusive(folder, f"the media of {cls.family}"):
            plan = _plan(recordings, index, done)  # another process may have made some while this one waited
            _make(plan, index, done, jobs or os.cpu_count() or 1, longest)
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
            with exclusive(to.parent, f"the media of {cls.family}"), replacing(kept) as temporary:
                shutil.copyfile(paths[0], temporary)
            copied.append(file)
        content = kept.read_bytes()
        for path in paths:
            if path.read_bytes() != content:
                say(f"{path} differs from {kept}, which is used; delete that one to change it.")
    return copied


def _account(recordings: Sequence[Recording], index: Index, done: Prepared) -> None:
    """Which of the media that there are belong to a clip."""
    there = listed(done.folder)
    used: set[Source] = set()
    for recording in recordings:
        for names in recording.files:
            used.update(source for source, _ in _sources(recording, names[0], index))
            done.found |= find(names, there) is not None
    media = [source for known in (index.videos, index.frames, index.sounds) for source in known]
    strays = [source for source in media if source not in used]
    done.found, done.seen, done.strays = done.found or bool(used), len(media), [source.name for source in strays]
    done.names = recordings[0].sources if recordings else ()
    ids = {recording.id for recording in recordings}
    lengths = {len(id) for id in ids}
    for source in strays:
        name = re.sub(r"[\[\]()]", "", PurePosixPath(source.name).name)
        parts = (name[start : start + length] for length in lengths for start in range(len(name) - length + 1))
        if meant := next((part for part in parts if part in ids), None):
            done.meant = source.name, meant
            return


def _plan(recordings: Iterable[Recording], index: Index, done: Prepared) -> Plan:
    """What is not there or no longer as it was written, has a source, and did not fail with that very source before."""
    manifest, there = Recordings(done.folder).manifest(), listed(done.folder)
    plan: Plan = {}
    planned: set[str] = set()
    done.kept, done.doubles = 0, {}
    for recording in recordings:
        for names in recording.files:
            file, here = names[0], find(names, there)
            if file in planned or (here and not damage(done.folder, here, there[here], manifest.get(here))):
                continue
            planned.add(file)
            sources = _sources(recording, file, index)
            if not sources:
                continue
            (source, double), (last, _) = sources[0], sources[-1]
            line = manifest.get(file)
            if line is not None and line.failed_for_good and line[:3] == (last.name, *index.stamp(last)):
                done.kept += 1
                continue
            if file.startswith("frames/") and source.suffix == ".png":
                file = names[1]
            if double:
                done.doubles[file] = source.name
            temporary = done.folder / WORK / file.replace("/", "-")
            path, stamp = index.root / source.file, index.stamp(source)
            job = Job(file, source.name, stamp, temporary, path, recording.at, recording.lasts, here)
            if last is not source:
                job = job._replace(spare=Spare(last.name, index.stamp(last), index.root / last.file))
            plan.setdefault(source, []).append(job)
    return plan


def _sources(recording: Recording, file: str, index: Index) -> list[tuple[Source, bool]]:
    """Where a file of a recording can come from, and whether others have the same name.

    Videos come first; a sound has a second source where there is a sound file too: for videos without sound.
    """
    choices: list[tuple[Names, tuple[str, ...]]]
    if file.startswith("masks/"):
        choices = [(index.masks, (recording.id,))]
    elif file.startswith("frames/"):
        alone = recording.at is None  # the one frame of its source may carry the source's name
        names = (recording.id, *recording.sources) if alone else (recording.id,)
        choices = [(index.videos, recording.sources), (index.frames, names)]
    else:
        choices = [(index.videos, recording.sources), (index.sounds, (recording.sound, *recording.sources))]
    found = [(pair, known.doubles) for known, names in choices if (pair := known.find(names)) is not None]
    sources = [(source, name in doubles) for (name, source), doubles in found]
    return sources if file.startswith("audio/") else sources[:1]


def _make(plan: Plan, index: Index, done: Prepared, jobs: int, longest: float) -> None:
    """Make what is planned; every output leaves its line and, where it worked, its file."""
    folder, work = done.folder, done.folder / WORK
    with ExitStack() as stack:
        stack.enter_context(writing(folder))
        shutil.rmtree(work, ignore_errors=True)  # of a process that was killed
        for name in (*FOLDERS, WORK):
            (folder / name).mkdir(parents=True, exist_ok=True)
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        manifest = stack.enter_context(_appending(folder / "manifest.jsonl"))
        made = stack.enter_context(closing(_made(plan, index, work, jobs, longest)))
        for job, line in track(made, f"prepare {folder.name}", sum(map(len, plan.values()))):
            _keep(job, line, manifest, done)
        os.fsync(manifest.fileno())


def _made(plan: Plan, index: Index, work: Path, jobs: int, longest: float) -> Generator[tuple[Job, Line], None, None]:
    """Make what is planned, in processes; a copy out of a shard is deleted once all is made of it."""
    running: dict[int, Job] = {}
    left = Counter({source.name: len(wanted) for source, wanted in plan.items() if source.member})

    def started() -> Iterator[Job]:
        for number, job in enumerate(_jobs(plan, index, work)):
            running[number] = job
            yield job

    for number, found in each(make, started(), jobs, reuse=True, threads=1, limit=longest):
        job = running.pop(number)
        yield job, _crash(found) if isinstance(found, Died) else found
        left[job.source] -= 1
        if left[job.source] == 0 and isinstance(job.path, Path):
            job.path.unlink(missing_ok=True)


def _crash(end: Died) -> Line:
    """What the end of a process says about the file that it read."""
    if end.error is not None:  # the new file cannot be written
        raise end.error
    reason = signal.strsignal(-end.code) if end.code < 0 else f"status {end.code}"
    return failure(f"the decoder crashed ({reason})", -end.code not in CRASHES)


def _jobs(plan: Plan, index: Index, work: Path) -> Iterator[Job]:
    """Files first, then the shards, each read once from its start."""
    shards: dict[str, dict[str, list[Job]]] = {}
    for source, wanted in plan.items():
        if source.member:
            shards.setdefault(source.file, {})[source.member] = wanted
        else:
            yield from wanted
    for shard, members in shards.items():
        for member, found in unpack(index.root / shard, members, work):
            path = found if isinstance(found, Path) else failure(str(found), transient(found))
            yield from (job._replace(path=path) for job in members[member])


def _appending(path: Path) -> IO[bytes]:
    """Open a log whose last line may be half-written; that one is ended, so that it spoils none of the next."""
    file = path.open("ab+")
    if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) >= 0 and file.read() != b"\n":
        file.write(b"\n")
    return file


def _keep(job: Job, line: Line, manifest: IO[bytes], done: Prepared) -> None:
    """Write the line of a file, then move it in place; a damaged one in its stead goes, whatever its suffix."""
    file, made = job.file, "broken" not in line
    if not made:
        file = str(PurePosixPath(file).with_suffix(".jpg")) if file.startswith("frames/") else file
        failures = done.transient if line.get("transient") else done.broken
        failures[file] = f"{line.get('source', job.source)}: {line['broken']}"
    if job.damaged is not None and not (made and job.damaged == file):
        (done.folder / job.damaged).unlink(missing_ok=True)
    about = {"file": file, "source": job.source, "source_bytes": job.stamp[0], "source_time": job.stamp[1]}
    manifest.write(json.dumps({**about, **line}).encode() + b"\n")
    manifest.flush()
    if made:
        job.temporary.replace(done.folder / file)
        done.made += 1
