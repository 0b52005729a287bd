"""What is on disk: append-only logs of arrays, and one folder per finished piece of work.

::

    results/runs/<id>/  run.json        written last, atomically: its presence means complete
                        samples.jsonl   commit log, one line per finished clip
                        arrays.bin      raw arrays, appended; bytes count only once their log line is there
                        scores/<score id>.parquet + .json
                        checkpoint.safetensors, train.jsonl, error.txt; resume.safetensors while it trains

``kill -9`` at any moment loses at most what was not committed; what remains is a prefix of the uninterrupted
log. Every line has its number and a CRC-32 of itself and of its arrays' bytes: what was changed, lost or doubled on
the disk is named, and a log goes as far as it is whole. Runs are independent folders: two machines merge by copying.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from avloc.progress import say
from avloc.store.disk import writing
from avloc.types import AvlocError

Record = dict[str, Any]
"""One log line: ``id``, its number ``n``, ``arrays`` (name, type, shape, offset, scale), ``end`` and ``crc`` of their
bytes, and what the writer adds."""
Half = npt.NDArray[np.float16]


class ArrayLog:
    """Named arrays by id, appended and committed like a database's log.

    Args:
        folder: Where ``samples.jsonl`` and ``arrays.bin`` lie; made when first written to.
    """

    def __init__(self, folder: Path) -> None:
        self._log, self._blob = folder / "samples.jsonl", folder / "arrays.bin"
        self._folder = folder
        self._pending: list[tuple[Record, list[npt.NDArray[Any]]]] = []
        self._memory: mmap.mmap | bytes = b""
        self.records = Records()
        self._log_size = self._blob_size = 0
        self._read_log()

    def _read_log(self) -> None:
        """Take every line that is whole and whose bytes are there; the first that is not ends the log."""
        if not self._log.is_file():
            return
        blob_bytes = self._blob.stat().st_size if self._blob.is_file() else 0
        with self._log.open("rb") as file:
            for number, line in enumerate(file):
                record = _parse(line)
                if record is None or record["n"] != number or record["end"] > blob_bytes:
                    if line.endswith(b"\n"):  # else a kill tore it
                        self._say(f"line {number + 1} of {self._log.name}")
                    break
                self.records.remember(record["id"], self._log_size, len(line))
                self._log_size += len(line)
                self._blob_size = record["end"]
        self._map()

    def _say(self, what: str) -> None:
        say(f"{self._folder} is damaged from {what} on; what follows is made again.")

    def _map(self) -> None:
        """Map both files at once: what is mapped stays readable, and the same, when another process clears it."""
        if self._log_size:
            self.records.map(self._log)
        if self._blob_size:
            with self._blob.open("rb") as file:
                self._memory = mmap.mmap(file.fileno(), self._blob_size, access=mmap.ACCESS_READ)

    def append(self, id: str, arrays: Mapping[str, npt.NDArray[Any]], *, half: bool, **extra: Any) -> None:
        """Remember a record until `commit`.

        Args:
            id: Its name.
            arrays: Of floating-point numbers.
            half: Keep 11 significant bits of an array's largest value, its scale apart; else single precision.
            extra: What else the record says, as JSON.

        Raises:
            AvlocError: An array has a value that is not finite.
        """
        described, kept = [], []
        for name, array in arrays.items():
            peak = float(np.abs(array).max()) if array.size else 0.0
            if not math.isfinite(peak):
                raise AvlocError(f"{id!r}: the array {name!r} has values that are not finite.")
            values, scale = _halved(array, peak) if half else (np.ascontiguousarray(array, np.float32), 1.0)
            described.append({"name": name, "type": values.dtype.str, "shape": list(array.shape), "scale": scale})
            kept.append(values)
        self._pending.append(({"id": id, "arrays": described, **extra}, kept))

    def commit(self) -> None:
        """Make everything appended durable: first the bytes, then the lines that make them count."""
        if not self._pending:
            return
        lines, blob, end = [], [], self._blob_size
        for number, (record, arrays) in enumerate(self._pending, start=len(self.records)):
            content = b"".join(array.tobytes() for array in arrays)
            offset = end
            for described, array in zip(record["arrays"], arrays, strict=True):
                described["offset"] = offset
                offset += array.nbytes
            end += len(content)
            blob.append(content)
            lines.append(_line({**record, "n": number, "end": end, "crc": zlib.crc32(content)}))
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
        """The committed arrays of one id.

        Raises:
            AvlocError: Their bytes were changed on the disk.
        """
        record = self.records[id]
        if not self._whole(record):
            raise AvlocError(
                f"The arrays of {id!r} in {self._blob} are damaged: their checksum differs. Run the same avloc bench "
                "again; it makes them again."
            )
        return {described["name"]: self._array(described) for described in record["arrays"]}

    def _array(self, described: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        kind, shape = np.dtype(described["type"]), described["shape"]
        stored = np.frombuffer(self._memory, kind, math.prod(shape), described["offset"])
        return stored.reshape(shape).astype(np.float32) * np.float32(described["scale"])

    def _whole(self, record: Record) -> bool:
        start = record["arrays"][0]["offset"] if record["arrays"] else record["end"]
        return zlib.crc32(memoryview(self._memory)[start : record["end"]]) == int(record["crc"])

    def verify(self) -> None:
        """Check the bytes of every record: the log ends before the first that was changed on the disk."""
        for id in self.records:
            if not self._whole(self.records[id]):
                self._say(f"the arrays of {id!r}")
                self._log_size, self._blob_size = self.records.cut(id)
                return


def round_to_half(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """An array as a log would return it: 11 significant bits of its largest value."""
    half, scale = _halved(array, float(np.abs(array).max()) if array.size else 0.0)
    return half.astype(np.float32) * np.float32(scale)


def _halved(array: npt.NDArray[Any], peak: float) -> tuple[Half, float]:
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

    def cut(self, id: str) -> tuple[int, int]:
        """Forget a record and those after it; returns where the log, and where its arrays, end now."""
        ids = list(self)
        place = ids.index(id)
        start, end = self._lines[id][0], self[ids[place - 1]]["end"] if place else 0
        for other in ids[place:]:
            del self._lines[other]
        return start, end

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


def _line(record: Record) -> bytes:
    """A record as JSON, its last value the checksum of what stands before it."""
    text = json.dumps(record, ensure_ascii=False)[:-1].encode()
    return text + b', "check": "%08x"}\n' % zlib.crc32(text)


def _parse(line: bytes) -> Record | None:
    """The record of a line; ``None`` where it was torn or changed."""
    text, _, check = line.rpartition(b', "check": ')
    if check != b'"%08x"}\n' % zlib.crc32(text):
        return None
    record: Record = json.loads(line)
    return record
