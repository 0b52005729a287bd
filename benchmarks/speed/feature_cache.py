"""How much faster a T-VSL epoch is with cached features than with AudioCLIP in every step.

Random weights and random clips of AudioCLIP's shapes (two tiles of 224 pixels side by side, 5 s of sound at 44.1 kHz).
Both epochs run in one process, on the same clips, with the same batches::

    python benchmarks/speed/feature_cache.py --clips 16 --batch 8
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from avloc import Clip, Dataset, Encoder, Sample, Status, get_component
from avloc.components import Component
from avloc.runner import make_task
from avloc.suite import SuiteDataset, Train
from avloc.training import Fit

CLASSES = ("dog barking", "playing violin, fiddle", "airplane", "people eating")
RATE, SECONDS = 44_100, 5


class Noise(Dataset):
    """Canvases and sounds of noise, two classes each."""

    classes = CLASSES

    def __init__(self, split: str, count: int) -> None:
        self.split, self.count = split, count

    def ids(self) -> Sequence[str]:
        return [f"{self.split}{n}" for n in range(self.count)]

    def status(self) -> Status:
        return Status(tuple(self.ids()))

    def load(self, id: str) -> Sample:
        number = int(id.removeprefix(self.split))
        rng = np.random.default_rng(number)
        image = rng.integers(0, 256, (224, 448, 3), dtype=np.uint8)
        audio = rng.uniform(-1, 1, RATE * SECONDS).astype(np.float32)
        labels = (CLASSES[number % 4], CLASSES[(number + 1) % 4])
        return Sample(Clip(id, image, audio, RATE, tiles=2, group=id), None, labels)

    def content(self, id: str) -> str:
        return id

    def fingerprint(self) -> str:
        return f"{self.split} {self.count}"


def epoch(encoder: Encoder, clips: int, batch: int, *, live: bool) -> tuple[float, float]:
    """Seconds of what comes before the first epoch, and of one epoch (the second: the first one warms up)."""
    started = time.perf_counter()
    splits = {"train": Noise("train", clips), "val": Noise("val", 0), "test": Noise("test", 0)}
    task = make_task(SuiteDataset(name="noise", encoder=Component(name="audioclip")), splits, encoder)
    method = get_component("method", "tvsl")
    train = Train(epochs=2, batch_size=batch, cache=not live)
    data = task.training_data(method.needs, train)
    before = time.perf_counter() - started
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        fit = Fit(
            method(encoder.info, CLASSES), data, train, seed=0, folder=Path(folder),
            fabric=Fabric(accelerator="cpu", devices=1), on_epoch=lambda line: ends.append(line["seconds"]),
        )  # fmt: skip
        fit.run()
    return before, ends[1]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--clips", type=int, default=16)
    options.add_argument("--batch", type=int, default=8)
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AVLOC_CACHE"] = folder
        encoder = get_component("encoder", "audioclip")(weights="random").eval().requires_grad_(False)
        _, live = epoch(encoder, chosen.clips, chosen.batch, live=True)
        filling, cached = epoch(encoder, chosen.clips, chosen.batch, live=False)
        size = sum(file.stat().st_size for file in Path(folder).rglob("maps.f16")) / chosen.clips
    print(f"{chosen.clips} clips, batches of {chosen.batch}, {chosen.threads} threads, T-VSL on AudioCLIP:")
    print(f"  encoding in every step  {live:8.2f} s an epoch")
    print(f"  cached features         {cached:8.2f} s an epoch, after {filling:.2f} s to fill the cache once")
    print(f"  ratio                   {live / cached:8.1f}")
    print(f"  cache                   {size / 1e6:8.2f} MB a clip")


if __name__ == "__main__":
    main()
