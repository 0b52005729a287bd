"""The notes below a table: why a cell is empty, what was scored, by which protocol, with which hints and seeds.

They are part of every table. Lists that are too long are counted, never silently cut.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from avloc.hints import IN_WORDS
from avloc.store import DatasetEntry
from avloc.tables.scores import Scores, data_of, protocol_text

NAMED = 5
"""How many broken clips, or the like, a note names before it counts the others."""


def listing(values: Iterable[Any]) -> str:
    """``0, 1, 2`` out of values with repetitions."""
    return ", ".join(str(value) for value in dict.fromkeys(values))


def named(items: Iterable[str], more: str) -> str:
    """The first items, and how many others there are and where to find them."""
    items = list(items)
    rest = f"; and {len(items) - NAMED} more, {more}" if len(items) > NAMED else ""
    return "; ".join(items[:NAMED]) + rest


def sentences(scores: Scores) -> list[str]:
    """Everything that holds for a table as a whole, most important first."""
    manifest, frame = scores.manifest, scores.frame
    by_data: dict[tuple[str, str], list[DatasetEntry]] = {}  # whatever their protocols
    for entry in manifest.datasets:
        by_data.setdefault((data_of(entry)[0], entry.encoder), []).append(entry)
    found = [sentence for entries in by_data.values() for sentence in _dataset(entries, scores)]
    if manifest.limit:
        found.append(f"ATTENTION: only the first {manifest.limit} clips of every split were used (--limit).")
    texts = dict.fromkeys(protocol_text(manifest, entry) for entry in manifest.datasets)
    found += [f"Protocol: {text}" for text in texts if text]
    found += [f"Hints {level}: methods are given {IN_WORDS[level]}." for level in dict.fromkeys(frame.hints)]
    found.append(f"Heads are trained with {manifest.train_text}.")
    rows = frame[frame.params != "{}"].drop_duplicates(["label", "params"])
    if len(rows):
        changed = "; ".join(f"{row.label} {spell(str(row.params))}" for row in rows.itertuples())
        found.append(f"Parameters that differ from their defaults: {changed}.")
    lost = [
        f"{line.metric} of {line.label} ({line.section}) on {line.dataset}, seed {line.seed}: {line.dropped}"
        for line in frame[frame.dropped > 0].itertuples()
    ]
    if lost:
        found.append(f"Sources left out because the metric is undefined there: {named(lost, 'see the CSV')}.")
    seeds = listing(frame.seed)
    if frame.seed.nunique() == 1:
        found.append(f"One seed ({seeds}): differences may be due to chance.")
    else:
        found.append(f"Mean ± sample standard deviation over the seeds {seeds}; numbers without ± have one seed.")
    found.append(f"Made by: {manifest.command}")
    return found


def _dataset(entries: Sequence[DatasetEntry], scores: Scores) -> Iterator[str]:
    """What was scored of the data of these columns."""
    entry, title, frame = entries[0], data_of(entries[0])[1], scores.frame
    if entry.status == "absent":
        command = f" Get it with: {entry.command}" if entry.command else ""
        yield f"{title} is absent: {entry.reason.rstrip('.')}.{command}"
        return
    lines = frame[frame.dataset.isin([entry.name for entry in entries]) & (frame.encoder == entry.encoder)]
    weights = listing(lines.weights[lines.weights != ""])
    encoder = f"encoder {entry.encoder}" + (f", weights {weights}" if weights else "")
    done = lines[lines.status == "done"].drop_duplicates("score")
    if done.empty:
        yield f"{title}: nothing was scored; {encoder}."
        return
    if len(done.drop_duplicates(["listed", "scored", "sources"])) > 1:
        scored = listing(f"{row.label} ({row.section}, seed {row.seed}) {row.scored}" for row in done.itertuples())
        yield f"ATTENTION, {title}: rows were scored on different clips and cannot be compared: {scored}."
    first = scores.files[done.score.iloc[0]]
    counts, path = first.counts, f"runs/{first.run}/scores/{first.score}.json"
    parts = [f"{counts.listed} clips listed", f"{counts.scored} scored ({first.sources} sources)"]
    parts += [f"{counts.unread} not read (--limit)"] if counts.unread else []
    for kind, clips in (("missing", counts.missing), ("broken", counts.broken)):
        reasons = [f"{clip} ({reason})" for clip, reason in clips.items()]
        parts.append(f"{len(reasons)} {kind}" + (f": {named(reasons, f'see {path}')}" if reasons else ""))
    yield f"{title}: {', '.join(parts)}; {encoder}."
    yield from entry.notes


def spell(params: str) -> str:
    """``{"tau": 0.1, "gate": "clamp"}`` as ``tau=0.1, gate=clamp``."""
    plain = {key: value if isinstance(value, str) else json.dumps(value) for key, value in json.loads(params).items()}
    return ", ".join(f"{key}={value}" for key, value in plain.items())
