"""How much faster avloc scores maps than scikit-learn and a plain loop over samples do.

Maps of 224 x 224 with one source each, min-maxed from random 7 x 7 maps, against random boxes. Both sides compute every
metric of the preset avloc for one source: pixel AP, CAP, permutation-invariant AP, cIoU success, mean cIoU and AUC.
There are two plain loops. One computes every metric by itself, three calls of scikit-learn and three cIoUs a map. The
other knows that with one source the three APs are one number, as are the cIoUs, and is as fast as a plain loop can be.
avloc's rows are computed by as many processes as there are cores. Chunks of clips keep memory bounded. All run on the
same chunks, and must agree::

    OMP_NUM_THREADS=1 python benchmarks/speed/scoring.py --clips 5158
"""

from __future__ import annotations

import argparse
import mmap
import multiprocessing
import os
import resource
import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

from avloc import Localization, Prediction, Truth, get_component
from avloc.scoring import Protocol, load_protocol

METRICS = ("pixel_ap", "cap", "permutation_ap", "ciou_success", "ciou_mean", "auc")
CHUNK, SIZE = 256, 224

Values = npt.NDArray[np.float64]


class Chunk:
    """Localized clips in memory that processes share."""

    def __init__(self) -> None:
        shape = (CHUNK, 1, SIZE, SIZE)
        maps, truths, masks = (mmap.mmap(-1, CHUNK * SIZE * SIZE * width) for width in (4, 4, 1))
        self.maps = np.frombuffer(maps, np.float32).reshape(shape)
        self.truths = np.frombuffer(truths, np.float32).reshape(shape)
        self.masks = np.frombuffer(masks, bool).reshape(shape)

    def pair(self, clip: int) -> tuple[Localization, Truth]:
        """A clip of the chunk."""
        found = Localization(self.maps[clip], self.masks[clip], np.ones(1), np.ones(1, bool))
        return found, Truth(self.truths[clip], ("it",))

    def fill(self, clips: int, rng: np.random.Generator, protocol: Protocol) -> None:
        """New clips."""
        for clip in range(clips):
            corner = rng.random(2) * 0.6
            box = np.concatenate([corner, corner + 0.1 + rng.random(2) * 0.3])[None]
            truth = Truth(np.zeros((1, 1, 1), np.float32), ("it",), (box,))
            found, truth = protocol.apply(Prediction("clip", rng.random((1, 7, 7)), ("it",)), truth)
            self.maps[clip], self.masks[clip], self.truths[clip] = found.scores, found.masks, truth.masks


chunk = Chunk()
metrics = [get_component("metric", name)() for name in METRICS]


def ours(clips: range) -> Values:
    """``(clips, metrics)``: the rows of every metric, as `avloc.scoring.score_run` asks for them."""
    return np.array([[metric.rows(*pair)[0, 0] for metric in metrics] for pair in map(chunk.pair, clips)])


def plain(clips: int, metrics: int) -> Values:
    """``(clips, 2)``: AP by scikit-learn and cIoU, clip by clip, each for as many metrics."""
    rows = []
    for clip in range(clips):
        score, mask, true = chunk.maps[clip, 0], chunk.masks[clip, 0], chunk.truths[clip, 0]
        for _ in range(metrics):
            ap = average_precision_score(true.ravel() > 0, score.ravel())
            ciou = (mask * true).sum() / (true.sum() + (mask * (true == 0)).sum())
        rows.append([ap, ciou])
    return np.array(rows)


def plain_values(rows: Values) -> list[float]:
    """What the metrics make of the plain loop's rows."""
    ap, ciou = rows[:, 0].mean(), rows[:, 1]
    rates = [np.mean(ciou >= 0.05 * n) for n in range(21)]
    return [ap, ap, ap, float(np.mean(ciou >= 0.5)), ciou.mean(), float(np.trapezoid(rates, dx=0.05))]


def sizes(clips: int) -> Iterator[int]:
    """Clips in each chunk."""
    for start in range(0, clips, CHUNK):
        yield min(CHUNK, clips - start)


def main() -> None:
    """Time both, compare their numbers, print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=5158)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    share = -(-CHUNK // arguments.processes)
    rng, protocol = np.random.default_rng(0), load_protocol({"preset": "avloc", "truth": "boxes_union"})
    spent, rows, theirs = np.zeros(3), [], []
    with multiprocessing.get_context("fork").Pool(arguments.processes) as pool:
        for clips in sizes(arguments.clips):
            chunk.fill(clips, rng, protocol)
            parts = [range(start, min(start + share, clips)) for start in range(0, clips, share)]
            start = time.perf_counter()
            rows += pool.map(ours, parts) if arguments.processes > 1 else [ours(part) for part in parts]
            middle = time.perf_counter()
            theirs.append(plain(clips, 1))
            end = time.perf_counter()
            plain(clips, 3)
            spent += [middle - start, end - middle, time.perf_counter() - end]
    start = time.perf_counter()
    mine = np.concatenate(rows)
    values = [metric.reduce(mine[:, n : n + 1]) for n, metric in enumerate(metrics)]
    spent[0] += time.perf_counter() - start
    np.testing.assert_allclose(values, plain_values(np.concatenate(theirs)), rtol=0, atol=1e-9)
    worst = np.abs(mine[:, 0] - np.concatenate(theirs)[:, 0]).max()
    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
    each = 1000 * spent / arguments.clips
    print(f"{arguments.clips} maps of {SIZE} x {SIZE}, {len(metrics)} metrics: {', '.join(METRICS)}")
    print(f"plain loop, metric by metric      {each[2]:7.3f} ms a map, {spent[2] / spent[0]:5.1f} times avloc's")
    print(f"plain loop, one AP and one cIoU   {each[1]:7.3f} ms a map, {spent[1] / spent[0]:5.1f} times avloc's")
    print(f"avloc, {arguments.processes} processes                {each[0]:7.3f} ms a map")
    print(f"largest difference of an AP {worst:.1e}; peak memory {peak:.0f} MB")


if __name__ == "__main__":
    main()
