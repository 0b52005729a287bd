"""Tasks made of open splits, for tests of training."""

from __future__ import annotations

from collections.abc import Mapping

from avloc import Dataset, Encoder
from avloc.components import Component
from avloc.runner import Task, make_task
from avloc.suite import SuiteDataset
from helpers.world import Blocks


def task_of(splits: Mapping[str, Dataset], encoder: Encoder, name: str = "blocks") -> Task:
    """The task of these splits with this encoder; the default test split is that of the small world."""
    every = {"test": Blocks(None, split="test"), **splits}
    return make_task(SuiteDataset(name=name, encoder=Component(name="plain")), every, encoder)
