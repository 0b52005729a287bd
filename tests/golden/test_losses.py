"""Losses of the contrastive family, and their gradients, against the official values in float64."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avloc.functional import l2_normalize, pairwise_similarity, sigmoid_weighted_mean, update_average
from avloc_plugins.methods.alignment import alignment_loss, local_loss, whole_loss
from avloc_plugins.methods.ezvsl import ezvsl_loss
from avloc_plugins.methods.fnac import fnac_loss
from avloc_plugins.methods.lvs import lvs_loss
from avloc_plugins.methods.marginnce import marginnce_loss
from avloc_plugins.methods.slavc import slavc_loss

pytestmark = pytest.mark.golden

Pair = tuple[Tensor, Tensor]
near = partial(pytest.approx, rel=1e-9, abs=1e-12)


@dataclass(frozen=True)
class Record:
    """One official value: its key's parts, what was recorded, and its inputs by seed."""

    parts: tuple[str, ...]
    expected: dict[str, Any]
    pair: Callable[[int], Pair]


@pytest.fixture
def values(golden_folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((golden_folder / "losses/values.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture
def records(values: dict[str, Any], golden_module: Callable[[str], ModuleType]) -> Callable[[str], Iterator[Record]]:
    """Every record whose key matches a pattern, over all input shapes; at least one."""
    inputs = golden_module("losses/inputs.py")

    def pair(shape: dict[str, Any], seed: int) -> Pair:
        image_map, audio = (torch.tensor(x, requires_grad=True) for x in inputs.unit_pair(seed, **shape))
        return image_map, audio

    def matching(pattern: str) -> Iterator[Record]:
        count = 0
        for name, losses in values.items():
            case = re.fullmatch(r"B(\d+)_D(\d+)_gain([\d.]+)", name)
            for key, expected in losses.items() if case else ():
                if variant := re.fullmatch(pattern, key):
                    assert case is not None
                    shape = {"B": int(case[1]), "D": int(case[2]), "gain": float(case[3])}
                    count += 1
                    yield Record(tuple(part or "" for part in variant.groups()), expected, partial(pair, shape))
        assert count

    return matching


def check(loss: Tensor, expected: dict[str, Any], **inputs: Tensor) -> None:
    """The value, and the norm of the gradient to each of the inputs."""
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == near(expected["loss"])
    for name, x in inputs.items():
        assert x.grad is not None
        assert x.grad.norm().item() == near(expected[f"grad_{name}"]), name


Records = Callable[[str], Iterator[Record]]


def test_ezvsl(records: Records) -> None:
    for record in records(r"ezvsl(?:_tau([\d.]+))?"):
        v, a = record.pair(0)
        check(
            ezvsl_loss(v, a, **({"tau": float(record.parts[0])} if record.parts[0] else {})), record.expected, v=v, a=a
        )


def test_marginnce(records: Records) -> None:
    for record in records(r"marginnce_DERIVED_m(-?[\d.]+)_tau([\d.]+)"):
        v, a = record.pair(0)
        loss = marginnce_loss(v, a, margin=float(record.parts[0]), tau=float(record.parts[1]))
        check(loss, record.expected, v=v, a=a)
    for record in records("marginnce_DERIVED_m0_equals_ezvsl"):
        check(marginnce_loss(*record.pair(0), margin=0), record.expected)


LVS = {"lvs": {}, "lvs_no_trimap": {"epsilon_n": 0.65}, "lvs_no_hardneg": {"hard_negative": False}}


@pytest.mark.parametrize("key", LVS)
def test_lvs(records: Records, key: str) -> None:
    """The official code normalizes its inputs again, which removes the gradient's component along them."""
    params: dict[str, Any] = LVS[key]
    compared = 0
    for record in records(key):
        v, a = record.pair(0)
        own = sigmoid_weighted_mean(pairwise_similarity(v, a), 0.65, 0.03).diagonal()
        if own.min() > 0.03:  # there the official diagonal vanishes, and masking it is the same
            compared += 1
            check(lvs_loss(l2_normalize(v, dim=1), l2_normalize(a), **params), record.expected, v=v, a=a)
    assert compared


def test_lvs_as_another_repository_has_it(records: Records) -> None:
    for record in records("lvs_htf_crosscheck"):
        v, a = record.pair(0)
        check(lvs_loss(v, a), record.expected, v=v, a=a)


def test_fnac(records: Records) -> None:
    for record in records("fnac"):
        v, a = record.pair(0)
        terms = fnac_loss(v, a)
        check(torch.stack(list(terms.values())).sum(), record.expected, v=v, a=a)
        assert terms["contrastive"].item() == near(record.expected["ce"])
        for name, term in fnac_loss(v, a, fns1=1, tns=1, fns2=1).items():
            assert term.item() == near(record.expected.get(name, record.expected["ce"]))


def test_slavc(records: Records) -> None:
    for record in records(r"slavc\(on=seeds(\d+),(\d+);mom=seeds(\d+),(\d+)\)"):
        one, two, three, four = (record.pair(int(seed)) for seed in record.parts)
        loss = slavc_loss((one, two), (three, four))
        check(loss, record.expected, i1=one[0], i2=two[0], a1=one[1], a2=two[1])
        assert all(x.grad is None for x in (*three, *four))


def test_slavc_with_equal_heads(records: Records) -> None:
    for record in records(r"slavc\(all heads seed(\d+)\)"):
        pair = record.pair(int(record.parts[0]))
        check(slavc_loss((pair, pair), (pair, pair)), record.expected, i=pair[0], a=pair[1])


def test_moving_average(values: dict[str, Any]) -> None:
    checked = 0
    for key, expected in values.items():
        if case := re.fullmatch(r"slavc_ema\(p=([\d.]+),q=([\d.]+),m=([\d.]+)\)", key):
            student, teacher = (nn.Linear(1, 1, bias=False, dtype=torch.float64) for _ in range(2))
            nn.init.constant_(student.weight, float(case[1]))
            nn.init.constant_(teacher.weight, float(case[2]))
            update_average(teacher, student, float(case[3]))
            assert teacher.weight.item() == near(expected)
            checked += 1
    assert checked


def test_alignment(records: Records) -> None:
    pattern = r"alignment(?:\(seeds([\d,]+); identity projections on max-pooled v\)|_single_view\(seed(\d+)\))"
    for record in records(pattern):
        local = [record.pair(int(seed)) for seed in "".join(record.parts).split(",")]
        whole = [(l2_normalize(v.amax((2, 3))), a) for v, a in local]
        terms = [local_loss(i[0], j[1]) for i, j in product(local, repeat=2)]
        terms += [whole_loss(i[0], j[1]) for i, j in product(whole, repeat=2)]
        assert [term.item() for term in terms] == near(record.expected["terms"])
        summed = alignment_loss(local, whole)
        check(summed["local"] + summed["whole"], record.expected, v=local[0][0], a=local[0][1])
