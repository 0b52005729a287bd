"""What is on disk: append-only logs of arrays, and one folder per finished piece of work.

::

    results/runs/<id>/  run.json        written last, atomically: its presence means complete
                        samples.jsonl   commit log, one line per finished clip
                        maps.f16        raw arrays, appended; bytes count only once their log line is there
                        scores/<score id>.parquet + .json
                        checkpoint.safetensors, train.jsonl, error.txt; resume.safetensors while it trains

``kill -9`` at any moment loses at most what was not committed; what remains is a prefix of the uninterrupted
log. Runs are independent folders: two machines merge by copying.
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from avloc.store.disk import writing
from avloc.types import AvlocError

Record = dict[str, Any]
"""One log line: ``id``, ``arrays`` (name, shape, offset, scale), ``end`` of their bytes, and what the writer adds."""


class ArrayLog:
    """Named half-precision arrays by id, appended and committed like a database's log.

    Args:
        folder: Where ``samples.jsonl`` and ``maps.f16`` lie; made when first written to.
    """

    def __init__(self, folder: Path) -> None:
        self._log, self._blob = folder / "samples.jsonl", folder / "maps.f16"
        self._folder = folder
        self._pending: list[tuple[Record, list[npt.NDArray[np.float16]]]] = []
        self._memory: np.memmap[Any, np.dtype[np.float16]] | None = None
        self.records = Records()
        self._log_size = self._blob_size = 0
        self._read_log()

    def _read_log(self) -> None:
        """Take every line that is whole and whose bytes are there; the first that is not ends the log."""
        if not self._log.is_file():
            return
        blob_bytes = self._blob.stat().st_size if self._blob.is_file() else 0
        with self._log.open("rb") as file:
            for line in file:
                record = _parse(line)
                if record is None or record["end"] > blob_bytes:
                    return
                self.records.remember(record["id"], self._log_size, len(line))
                self._log_size += len(line)
                self._blob_size = record["end"]
        self._map()

    def _map(self) -> None:
        """Map both files at once: what is mapped stays readable, and the same, when another process clears it."""
        if self._log_size:
            self.records.map(self._log)
        if self._blob_size:
            self._memory = np.memmap(self._blob, np.float16, mode="r", shape=(self._blob_size // 2,))

    def append(self, id: str, arrays: Mapping[str, npt.NDArray[Any]], **extra: Any) -> None:
        """Remember a record until `commit`. Arrays keep 11 significant bits; their scale is stored apart.

        Raises:
            AvlocError: An array has a value that is not finite.
        """
        described, halves = [], []
        for name, array in arrays.items():
            peak = float(np.abs(array).max()) if array.size else 0.0
            if not math.isfinite(peak):
                raise AvlocError(f"{id!r}: the array {name!r} has values that are not finite.")
            half, scale = _halved(array, peak)
            described.append({"name": name, "shape": list(array.shape), "scale": scale})
            halves.append(half)
        self._pending.append(({"id": id, "arrays": described, **extra}, halves))

    def commit(self) -> None:
        """Make everything appended durable: first the bytes, then the lines that make them count."""
        if not self._pending:
            return
        lines, blob, end = [], [], self._blob_size
        for record, halves in self._pending:
            for described, half in zip(record["arrays"], halves, strict=True):
                described["offset"] = end
                blob.append(half.tobytes())
                end += half.nbytes
            record["end"] = end
            lines.append((json.dumps(record, ensure_ascii=False) + "\n").encode())
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            _append(self._blob, self._blob_size, blob)
            _append(self._log, self._log_size, lines)
        for (record, _), line in zip(self._pending, lines, strict=True):
            self.records.remember(record["id"], self._log_size, len(line))
            self._log_size += len(line)
        self._blob_size = end
        self._map()
        self._pending.clear()

    def read(self, id: str) -> dict[str, npt.NDArray[np.float32]]:
        """The committed arrays of one id."""
        found = {}
        for described in self.records[id]["arrays"]:
            shape = described["shape"]
            start, size = described["offset"] // 2, math.prod(shape)
            half = self._memory[start : start + size] if self._memory is not None else np.empty(0, np.float16)
            found[described["name"]] = half.astype(np.float32).reshape(shape) * np.float32(described["scale"])
        return found


def round_to_half(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """An array as a log would return it: 11 significant bits."""
    half, scale = _halved(array, float(np.abs(array).max()) if array.size else 0.0)
    return half.astype(np.float32) * np.float32(scale)


def _halved(array: npt.NDArray[Any], peak: float) -> tuple[npt.NDArray[np.float16], float]:
    scale = 2.0 ** math.frexp(peak)[1]  # a power of two: exact, and no scale over- or underflows
    return (array / scale).astype(np.float16), scale


class Records(Mapping[str, Record]):
    """The records of a log by id, in order. Only where each line stands is in memory; a line is read when asked for."""

    def __init__(self) -> None:
        self._lines: dict[str, tuple[int, int]] = {}
        self._bytes: mmap.mmap | None = None

    def remember(self, id: str, start: int, length: int) -> None:
        """Know a line of the log; it can be read once the log is mapped."""
        self._lines[id] = (start, length)

    def map(self, log: Path) -> None:
        """Map the log as it is now."""
        with log.open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __getitem__(self, id: str) -> Record:
        start, length = self._lines[id]
        assert self._bytes is not None  # whoever remembers a line maps the log
        record: Record = json.loads(self._bytes[start : start + length])
        return record

    def __contains__(self, id: object) -> bool:
        return id in self._lines

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)


def _append(path: Path, size: int, parts: Sequence[bytes]) -> None:
    """Make the parts follow the first `size` bytes of a file, and wait until they are on the disk."""
    with path.open("ab") as file:
        file.truncate(size)
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())


def _parse(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and {"id", "end"} <= record.keys() and line.endswith(b"\n") else None
