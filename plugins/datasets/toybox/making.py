"""Makes the clips that are not there yet, in several processes, one per core.

The processes are started as ``python -m``, not by multiprocessing: that would import the caller's script again in every
process, which hangs where the script has no ``__main__`` guard and fails where it comes from standard input.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue

from avloc import AvlocError, track
from avloc.data import exclusive, writing

from .files import Annotation, Job, drop_torn_line, name_of, read_log, write_clip
from .kinds import Kind
from .scene import Recipe


def make(folder: Path, recipes: Sequence[Recipe], entropy: Sequence[int], description: str) -> None:
    """Make the clips of a split that are not there yet.

    Args:
        folder: The split's folder.
        recipes: One per clip; the position is the clip's index.
        entropy: Seed, split and presentation; the index is appended.
        description: For the progress bar.

    Raises:
        AvlocError: The folder cannot be written.
    """
    if len(read_log(folder)) >= len(recipes):
        return
    with exclusive(folder, "the built-in clips"), writing(folder):
        done = read_log(folder)
        jobs = [
            (folder, index, recipe, (*entropy, index))
            for index, recipe in enumerate(recipes)
            if name_of(index) not in done
        ]
        _write_all(folder, jobs, description)


def _write_all(folder: Path, jobs: Sequence[Job], description: str) -> None:
    log = folder / "annotations.jsonl"
    drop_torn_line(log)
    count = min(os.cpu_count() or 1, len(jobs) // 8)
    annotations = make_clips(jobs, count) if count > 1 else map(write_clip, jobs)
    with log.open("a", encoding="utf-8") as file:
        for annotation in track(annotations, description, len(jobs)):
            file.write(json.dumps(annotation) + "\n")
            file.flush()
        os.fsync(file.fileno())


class Worker:
    """A process that makes the clips it is handed, one line of JSON per job, one per answer."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", f"{__package__}.making"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=environment,
        )  # fmt: skip

    def make(self, job: Job) -> Annotation:
        """Make a clip there.

        Raises:
            OSError: The files cannot be written.
            AvlocError: The process died.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        folder, index, recipe, entropy = job
        try:
            self._process.stdin.write(json.dumps([str(folder), index, asdict(recipe), list(entropy)]) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise AvlocError(f"A process that makes clips in {folder} died; run the same command again to go on.")
        annotation: Annotation = json.loads(answer)
        if "error" in annotation:
            raise OSError(annotation["errno"], annotation["error"])
        return annotation

    def close(self) -> None:
        """Let it finish and end."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def make_clips(jobs: Sequence[Job], count: int) -> Iterator[Annotation]:
    """Make clips in `count` processes; yields their annotations in the order of the jobs."""
    workers = [Worker() for _ in range(count)]
    idle: SimpleQueue[Worker] = SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def work(job: Job) -> Annotation:
        worker = idle.get()
        try:
            return worker.make(job)
        finally:
            idle.put(worker)

    threads = ThreadPoolExecutor(count)
    try:
        yield from threads.map(work, jobs)
    finally:
        threads.shutdown(cancel_futures=True)
        for worker in workers:
            worker.close()


def main() -> None:
    """Answer jobs until the caller closes the pipe, or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's business
    with open(1, "w", encoding="utf-8", closefd=False) as answers:  # the pipe
        for line in sys.stdin:
            answers.write(json.dumps(_answer(line)) + "\n")
            answers.flush()


def _answer(line: str) -> Annotation:
    folder, index, recipe, entropy = json.loads(line)
    recipe["kinds"] = tuple(Kind(*kind) for kind in recipe["kinds"])
    try:
        return write_clip((Path(folder), index, Recipe(**recipe), entropy))
    except OSError as error:
        return {"error": error.strerror, "errno": error.errno}


if __name__ == "__main__":
    main()
