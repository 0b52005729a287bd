"""Plugins that change or fail between two benches: what is kept is said, what failed is tried again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avloc import Metric, hookimpl
from avloc.progress import Event, receiving
from avloc.registry import registry
from avloc.runner import bench
from avloc.suite import Suite, load_suite
from helpers.world import World

EDITED = """
from helpers.world import {base}
from avloc_plugins.metrics.iou_success import CIoUMean
from avloc import hookimpl
class Edited({base}):
    key = "edited"
@hookimpl
def avloc_{kind}s():
    return {{"edited_{kind}": Edited}}
"""


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("kind", "base", "what"),
    [
        ("method", "Dot", "method 'edited_method'"),
        ("encoder", "Plain", "encoder 'edited_encoder'"),
        ("dataset", "Blocks", "data set 'edited_dataset'"),
        ("metric", "CIoUMean", "metric 'edited'"),
    ],
)
def test_an_edited_plugin_is_mentioned_and_its_results_are_kept(
    suite_file: Path, tmp_path: Path, kind: str, base: str, what: str
) -> None:
    plugin, said, tables = tmp_path / "edited.py", [], []
    text = EDITED.format(kind=kind, base=base)
    if kind == "metric":
        text = text.replace("from helpers.world import CIoUMean\n", "")
    name = f"edited_{kind}"
    data = {"name": name if kind == "dataset" else "blocks", "encoder": name if kind == "encoder" else "plain"}
    suite = load_suite(str(suite_file)).model_dump() | {
        "datasets": [data], "methods": [name if kind == "method" else "dot"], "seeds": [0],
        "metrics": [name if kind == "metric" else "cap"],
    }  # fmt: skip
    for line in ("", "", "# another day"):
        plugin.write_text(text + line)
        registry.cache_clear()
        registry().add_module("world", World())
        registry().add_file(plugin)
        events: list[Event] = []
        with receiving(events.append):
            tables.append(bench(Suite.model_validate(suite), results=tmp_path / "r").table())
        said.append([event[1] for event in events if event[0] == "say" and "was changed since" in event[1]])
    assert said[:2] == [[], []] and len(said[2]) == 1 and said[2][0].startswith(f"The file of the {what} was changed")
    assert tables[2].rows == tables[0].rows


class Often:
    """A plugin whose metric fails until it is mended."""

    broken = True

    @hookimpl
    def avloc_metrics(self) -> dict[str, Any]:
        def rows(metric: Any, found: Any, truth: Any) -> Any:
            return {}["nothing"] if self.broken else np.ones((len(truth.labels), 1))

        mended = {"key": "often", "title": "often", "rows": rows, "reduce": lambda metric, rows: float(rows.mean())}
        return {"often": type("Fails", (Metric,), mended)}


@pytest.mark.usefixtures("world")
def test_a_metric_that_fails_costs_its_own_column_and_is_tried_again(suite_file: Path, tmp_path: Path) -> None:
    plugin = Often()
    registry().add_module("often", plugin)
    suite = load_suite(str(suite_file)).model_dump() | {"metrics": ["often", "cap"], "methods": ["dot"], "seeds": [0]}
    found = []
    for broken in (True, False):
        plugin.broken = broken
        found.append(bench(Suite.model_validate(suite), results=tmp_path).table(intervals=True))
    (failed, cap), (mended, same) = (table.rows[0].cells[0] for table in found)
    assert failed.text == "—" and cap.value == same.value and mended.value == 100
    assert "a: the metric failed: on clip 'test0': KeyError: 'nothing'" in found[0].notes
