"""What was run under a suite's name, and what a run scored: the two kinds of JSON that tables are made of.

::

    results/suites/<name>.json                   Manifest: the table's columns (DatasetEntry) and rows (Row)
    results/runs/<run>/scores/<score>.json       Score: a run's numbers, and what became of every clip
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from avloc.store.disk import read_json, write_json
from avloc.store.hashing import file_digest
from avloc.types import AvlocError


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the JSON file.

        Raises:
            AvlocError: It cannot be read, or is no such file; says which key is wrong.
        """
        try:
            return cls.model_validate(read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"])) or "it"
            raise AvlocError(
                f"{path} is not the {cls.__name__.lower()} of a bench ({key}: {first['msg'].lower()}). Delete it and "
                "run the same avloc bench again."
            ) from error

    def save(self, path: Path) -> None:
        """Write the JSON file, so that a reader sees the old one or the new one."""
        write_json(path, self.model_dump())


class MetricEntry(_Stored):
    """A metric of a table.

    Attributes:
        key: Name with parameters, such as ``ciou_success@0.3``.
        title: As tables print it.
        higher_is_better: Whether a higher value is a better one.
        undefined: Why it may have no value.
        name, params: The component, as a suite writes it.
    """

    key: str
    title: str
    higher_is_better: bool = True
    undefined: str = "no source could be scored"
    name: str
    params: dict[str, Any] = Field(default_factory=dict)


class DatasetEntry(_Stored):
    """The columns of one data set in a table.

    Attributes:
        name: Unique in the table.
        title: As tables print it.
        encoder: The encoder's name.
        status: ``ran``, ``absent`` or ``failed``.
        reason: Why it is absent or failed.
        command: What puts it on the machine.
        notes: Sentences about its annotation and its clips.
        printed: What it is called in the files of printed numbers, where that is not `name`; ``None``: printed numbers
            stand beside another column of the same data.
        protocol: What it was scored under, in words, where that is not the table's own protocol.
        data: Name and title of the data, where columns of the same data stand side by side.
    """

    name: str
    title: str
    encoder: str
    status: Literal["ran", "absent", "failed"] = "ran"
    reason: str = ""
    command: str = ""
    notes: list[str] = Field(default_factory=list)
    printed: str | None = ""
    protocol: str = ""
    data: tuple[str, str] | None = None


class Row(_Stored):
    """A run in a table: one method on one data set with one seed.

    Attributes:
        method, label: The method's name, and its title.
        section: Of the table: ``methods``, ``controls``, ``untrained`` or ``shuffled_audio``.
        uses_audio: Whether the method reads the sound.
        params: What the suite sets, with ``train`` where that differs from the suite's.
        dataset, encoder: Which `DatasetEntry`.
        hints: What was disclosed to the method.
        train: How it was trained, every setting.
        limit: Only the first clips of every split.
        weights: Of the encoder.
        seed: Of everything random.
        status: ``done``, ``skipped``, ``failed``, or empty as long as it has not run.
        reason: Why it was skipped, or how it failed.
        remark: What must be known of its training.
        fit, run, score: Ids of the training, the predictions and the scores.
    """

    method: str
    label: str
    section: Literal["methods", "controls", "untrained", "shuffled_audio"] = "methods"
    uses_audio: bool = True
    params: dict[str, Any] = Field(default_factory=dict)
    dataset: str
    encoder: str
    hints: str
    train: dict[str, Any] = Field(default_factory=dict)
    limit: int | None = None
    weights: str = ""
    seed: int = 0
    status: Literal["", "todo", "done", "skipped", "failed"] = ""
    reason: str = ""
    remark: str = ""
    fit: str = ""
    run: str = ""
    score: str = ""


class Counts(_Stored):
    """What became of the clips of a test list.

    Attributes:
        listed: Clips of the official list.
        scored: Clips with scores.
        unread: Clips left out by a limit.
        missing, broken: Clip -> why it could not be scored.
    """

    listed: int
    scored: int = 0
    unread: int = 0
    missing: dict[str, str] = Field(default_factory=dict)
    broken: dict[str, str] = Field(default_factory=dict)


class Score(_Stored):
    """What a run scored; the rows per true source lie beside it in a ``.parquet`` file.

    Attributes:
        score, run: Ids.
        rows: A digest of the ``.parquet`` file.
        protocol: Every key of it.
        values: Metric key -> a fraction; NaN where the metric is undefined or failed.
        dropped: Metric key -> sources that it is not defined for.
        failed: Metric key -> how it failed.
        remarks: What must be known about the numbers.
        sources: True sources of all scored clips.
        counts: What became of the clips.
        code: Plugin -> a digest of the file that it stood in.
    """

    score: str
    run: str
    rows: str
    protocol: dict[str, Any]
    values: dict[str, float]
    dropped: dict[str, int] = Field(default_factory=dict)
    failed: dict[str, str] = Field(default_factory=dict)
    remarks: list[str] = Field(default_factory=list)
    sources: int
    counts: Counts
    code: dict[str, str] = Field(default_factory=dict)

    def require_rows(self, path: Path) -> None:
        """Check the file with the rows.

        Raises:
            AvlocError: It is gone, or was changed since it was written.
        """
        if not path.is_file() or file_digest(path) != self.rows:
            raise AvlocError(
                f"{path} is gone or damaged: it does not hold the rows that {self.score} was made of. Run the same "
                "avloc bench again; it scores the run again."
            )


class Manifest(_Stored):
    """What was run under a suite's name.

    Attributes:
        suite, title, paper: Of the table.
        command: What the user typed.
        written: When, in UTC.
        protocol: Every key of it; empty where columns have protocols of their own.
        protocol_text: The same in words.
        train_text: How methods were trained, in words.
        limit: Only the first clips of every split.
        reference: The method that the others are tested against.
        metrics, datasets, rows: Of the table.
    """

    suite: str
    title: str
    paper: str = ""
    command: str
    written: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    protocol: dict[str, Any]
    protocol_text: str
    train_text: str
    limit: int | None = None
    reference: str = ""
    metrics: list[MetricEntry]
    datasets: list[DatasetEntry]
    rows: list[Row]

    @staticmethod
    def path(results: Path, suite: str) -> Path:
        """Where the manifest of a suite's name lies."""
        return results / "suites" / f"{suite}.json"

    @classmethod
    def of(cls, results: Path, suite: str) -> Self:
        """What was run under a suite's name.

        Raises:
            AvlocError: Nothing was, or the file is damaged.
        """
        path = cls.path(results, suite)
        if not path.is_file():
            raise AvlocError(f"There are no results of suite {suite!r} in {results}. Run: avloc bench --suite {suite}")
        return cls.load(path)

    def changed(self, **changes: Any) -> Self:
        """A new manifest, written now, with other values."""
        kept = {key: value for key, value in self if key != "written"}
        return type(self)(**{**kept, **changes})


def score_path(results: Path, run: str, score: str) -> Path:
    """Where a score lies; its rows have the same name and the suffix ``.parquet``."""
    return results / "runs" / run / "scores" / f"{score}.json"
