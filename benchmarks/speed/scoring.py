"""How much faster avloc scores maps than scikit-learn and a plain loop over samples do.

Maps of 224 x 224 with one source each, min-maxed from random 7 x 7 maps, against random boxes. Both sides compute every
metric of the preset avloc for one source: pixel AP, CAP, permutation-invariant AP, cIoU success, mean cIoU and AUC. The
plain loop calls scikit-learn once a map, since these APs are one and the same number there. Chunks of clips keep memory
bounded. Both sides run in one process, on the same chunks, and must agree::

    OMP_NUM_THREADS=1 python benchmarks/speed/scoring.py --clips 5158
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

from avloc import Localization, Metric, Prediction, Truth, lookup
from avloc.protocol import load_protocol

METRICS = ("pixel_ap", "cap", "permutation_ap", "ciou_success", "ciou_mean", "auc")
CHUNK = 16

Values = npt.NDArray[np.float64]
Pair = tuple[Localization, Truth]


def pairs(clips: int) -> Iterator[list[Pair]]:
    """Localized clips, a chunk at a time."""
    rng, protocol = np.random.default_rng(0), load_protocol("avloc")
    for start in range(0, clips, CHUNK):
        chunk = []
        for clip in range(start, min(start + CHUNK, clips)):
            corner = rng.random(2) * 0.6
            box = np.concatenate([corner, corner + 0.1 + rng.random(2) * 0.3])[None]
            truth = Truth(np.zeros((1, 1, 1), np.float32), ("it",), (box,))
            prediction = Prediction(str(clip), rng.random((1, 7, 7)), ("it",))
            chunk.append(protocol.model_copy(update={"truth": "boxes_union"}).apply(prediction, truth))
        yield chunk


def plain(chunk: list[Pair]) -> Values:
    """``(n, 2)``: AP by scikit-learn and cIoU, clip by clip."""
    rows = []
    for found, truth in chunk:
        score, mask, true = found.scores[0], found.masks[0], truth.masks[0]
        ap = average_precision_score(true.ravel() > 0, score.ravel())
        rows.append([ap, (mask * true).sum() / (true.sum() + (mask * (true == 0)).sum())])
    return np.array(rows)


def plain_values(rows: Values) -> list[float]:
    """What the metrics make of the plain loop's rows."""
    ap, ciou = rows[:, 0].mean(), rows[:, 1]
    rates = [np.mean(ciou >= 0.05 * n) for n in range(21)]
    return [ap, ap, ap, float(np.mean(ciou >= 0.5)), ciou.mean(), float(np.trapezoid(rates, dx=0.05))]


def ours(chunk: list[Pair], metrics: list[Metric], pool: ThreadPoolExecutor, threads: int) -> list[Values]:
    """The rows of every metric, the clips of a chunk dealt to the threads."""

    def work(part: list[Pair]) -> list[list[Values]]:
        return [[metric.rows(*pair) for metric in metrics] for pair in part]

    parts = [rows for done in pool.map(work, [chunk[n::threads] for n in range(threads)]) for rows in done]
    return [np.concatenate([part[n] for part in parts]) for n in range(len(metrics))]


def now() -> Values:
    """Seconds on the clock, and of all cores' work, which other programs on the machine do not lengthen much."""
    return np.array([time.perf_counter(), time.process_time()])


def main() -> None:
    """Time both, compare their numbers, print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=5158)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    metrics = [lookup("metric", name)() for name in METRICS]
    spent, theirs, rows = np.zeros((2, 2)), [], []
    with ThreadPoolExecutor(arguments.threads) as pool:
        for chunk in pairs(arguments.clips):
            start = now()
            rows.append(ours(chunk, metrics, pool, arguments.threads))
            middle = now()
            theirs.append(plain(chunk))
            spent += [middle - start, now() - middle]
    start = now()
    values = [metric.reduce(np.concatenate([part[n] for part in rows])) for n, metric in enumerate(metrics)]
    spent[0] += now() - start
    wanted = plain_values(np.concatenate(theirs))
    np.testing.assert_allclose(values, wanted, rtol=0, atol=1e-6)
    aps = np.concatenate([part[0] for part in rows])[:, 0]
    worst = np.abs(np.sort(aps) - np.sort(np.concatenate(theirs)[:, 0])).max()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (wall, work), (their_wall, their_work) = 1000 * spent / arguments.clips
    print(f"{arguments.clips} maps of 224 x 224, {len(metrics)} metrics: {', '.join(METRICS)}")
    print(f"scikit-learn and a loop  {their_wall:7.3f} ms a map, {their_work:7.3f} ms of work")
    print(f"avloc, {arguments.threads} threads         {wall:7.3f} ms a map, {work:7.3f} ms of work")
    print(f"ratio {their_wall / wall:.1f}, of work {their_work / work:.1f}")
    print(f"largest difference of an AP {worst:.1e}; peak memory {peak:.0f} MB")


if __name__ == "__main__":
    main()
