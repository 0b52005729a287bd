"""The sentences below a table: why a cell is empty, what was scored, by which protocol, knowing what, over which seeds.

A table without them is a picture of numbers. Nothing here is optional for a caller, and nothing is left out in
silence: what is too long to name is counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from avloc.hints import IN_WORDS

Json = dict[str, Any]

NAMED = 5
"""How many broken clips, or the like, a note names before it counts the others."""


@dataclass(slots=True)
class Footnotes:
    """Reasons and their letters, in order of appearance."""

    letters: dict[str, str] = field(default_factory=dict)

    def mark(self, reason: str) -> str:
        """The letter of a reason; equal reasons share one."""
        turn, place = divmod(len(self.letters), 26)
        return self.letters.setdefault(reason, chr(ord("a") + place) * (turn + 1))

    def sentences(self) -> list[str]:
        """The reasons, each after its letter."""
        return [f"{letter}: {reason}" for reason, letter in self.letters.items()]


def where(frame: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """The lines whose columns have these values."""
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    return frame


def listing(values: Iterable[Any]) -> str:
    """``0, 1, 2`` out of values with repetitions."""
    return ", ".join(str(value) for value in dict.fromkeys(values))


def named(items: Iterable[str], more: str) -> str:
    """The first items, and how many others there are and where to find them."""
    items = list(items)
    rest = f"; and {len(items) - NAMED} more, {more}" if len(items) > NAMED else ""
    return "; ".join(items[:NAMED]) + rest


def sentences(manifest: Json, frame: pd.DataFrame, files: Mapping[str, Json]) -> list[str]:
    """Everything that holds for a table as a whole, most important first.

    Args:
        manifest: What the bench did.
        frame: The long frame of `avloc.tables.layout`.
        files: Score id -> the score file.
    """
    found: list[str] = []
    for columns in _by_data(manifest["datasets"]):
        found += _dataset(columns, frame, files)
    if manifest.get("limit"):
        found.append(f"ATTENTION: only the first {manifest['limit']} clips of every split were used (--limit).")
    texts = dict.fromkeys(protocol_text(manifest, column) for column in manifest["datasets"])
    found += [f"Protocol: {text}" for text in texts if text]
    levels = list(dict.fromkeys(frame.hints))
    found += [f"Methods are told {IN_WORDS[level]} ({level})." for level in levels]
    found.append(f"Heads are trained with {manifest['train_text']}.")
    found += _parameters(frame)
    found += _dropped(frame)
    found.append(_seeds(frame))
    found.append(f"Made by: {manifest['command']}")
    return found


def protocol_text(manifest: Json, column: Json) -> str:
    """What a column was scored under: where protocols stand side by side its own, otherwise that of the table."""
    return str(column.get("protocol_text", manifest["protocol_text"]))


def data_of(column: Json) -> Json:
    """Name and title of a column's data; where protocols stand side by side, the column's own name one as well."""
    data: Json = column.get("data", column)
    return data


def _by_data(columns: Sequence[Json]) -> list[list[Json]]:
    """Columns of the same data seen through the same encoder together, whatever their protocols."""
    found: dict[tuple[str, str], list[Json]] = {}
    for column in columns:
        found.setdefault((data_of(column)["name"], column["encoder"]), []).append(column)
    return list(found.values())


def _dataset(columns: Sequence[Json], frame: pd.DataFrame, files: Mapping[str, Json]) -> Iterator[str]:
    dataset, title = columns[0], data_of(columns[0])["title"]
    lines = frame[frame.dataset.isin([column["name"] for column in columns]) & (frame.encoder == dataset["encoder"])]
    if dataset["status"] == "absent":
        command = f" Get it with: {dataset['command']}" if dataset["command"] else ""
        yield f"{title} is absent: {dataset['reason'].rstrip('.')}.{command}"
        return
    weights = listing(lines.weights[lines.weights != ""])
    encoder = f"encoder {dataset['encoder']}" + (f", weights {weights}" if weights else "")
    done = lines[lines.status == "done"].drop_duplicates("score")
    if done.empty:
        yield f"{title}: nothing was scored; {encoder}."
        return
    if len(done.drop_duplicates(["listed", "scored", "sources"])) > 1:
        scored = listing(f"{row.label} ({row.section}, seed {row.seed}) {row.scored}" for row in done.itertuples())
        yield f"ATTENTION, {title}: the rows were not scored on the same clips and do not compare: {scored}."
    first = files[done.score.iloc[0]]
    counts, path = first["counts"], f"runs/{first['run']}/scores/{first['score']}.json"
    parts = [f"{counts['listed']} clips listed", f"{counts['scored']} scored ({first['sources']} sources)"]
    parts += [f"{counts['unread']} not read (--limit)"] if counts.get("unread") else []
    for kind in ("missing", "broken"):
        reasons = [f"{clip} ({reason})" for clip, reason in counts[kind].items()]
        parts.append(f"{len(reasons)} {kind}" + (f": {named(reasons, f'see {path}')}" if reasons else ""))
    yield f"{title}: {', '.join(parts)}; {encoder}."
    yield from dataset["notes"]


def _parameters(frame: pd.DataFrame) -> Iterator[str]:
    """Parameters that were set; the rest is at its defaults."""
    rows = frame[frame.params != "{}"].drop_duplicates(["label", "params"])
    if len(rows):
        changed = "; ".join(f"{row.label} {spell(str(row.params))}" for row in rows.itertuples())
        yield f"Parameters that differ from their defaults: {changed}."


def spell(params: str) -> str:
    """``{"tau": 0.1, "gate": "clamp"}`` as ``tau=0.1, gate=clamp``."""
    plain = {key: value if isinstance(value, str) else json.dumps(value) for key, value in json.loads(params).items()}
    return ", ".join(f"{key}={value}" for key, value in plain.items())


def _dropped(frame: pd.DataFrame) -> Iterator[str]:
    lines = frame[frame.dropped > 0]
    if len(lines):
        lost = (
            f"{line.metric} of {line.label} ({line.section}) on {line.dataset}, seed {line.seed}: {line.dropped}"
            for line in lines.itertuples()
        )
        yield f"Sources that a metric is not defined for and leaves out: {named(lost, 'see the CSV')}."


def _seeds(frame: pd.DataFrame) -> str:
    seeds = list(dict.fromkeys(frame.seed))
    if len(seeds) == 1:
        return f"One seed ({seeds[0]}): differences may be chance."
    return f"Mean ± sample standard deviation over the seeds {listing(seeds)}; without ± there is one seed."
