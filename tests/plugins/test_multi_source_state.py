"""What DSOL computes in its passes; and methods with views, tiles and phases resume after a kill."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from avloc import AvlocError, Batch, Context, Features, Method
from avloc.functional import l2_normalize
from avloc.suite import Train
from avloc.training import Fit, load_weights
from avloc_plugins.methods.attention10k import Attention10k
from avloc_plugins.methods.coarse_to_fine import CoarseToFine
from avloc_plugins.methods.dsol import DSOL, class_maps, dilated
from avloc_plugins.methods.mix_and_localize import MixAndLocalize
from avloc_plugins.methods.ots import OTS
from helpers.planted import CLASSES, LOOKS, D, N, build, canvases, total
from helpers.tasks import task_of
from helpers.world import Blocks, Plain

METHODS: list[type[Method]] = [OTS, Attention10k, CoarseToFine, DSOL, MixAndLocalize]


def _learn(kind: type[Method], folder: Path, **params: Any) -> Path:
    """A short training in the small world."""
    torch.manual_seed(0)
    encoder = Plain()
    splits = {split: Blocks(None, split=split, count=8) for split in ("train", "val", "test")}
    how = Train(epochs=2, batch_size=4, lr=0.01)
    method = kind(encoder.info, Blocks.classes, dim=8, **params)
    data = task_of(splits, encoder).training_data(method.needs, how)
    return Fit(
        method, data, how, seed=0, folder=folder, fabric=Fabric(accelerator="cpu", devices=1), save_every=0
    ).run()


@pytest.mark.parametrize(
    ("kind", "killed"), [*((kind, 3) for kind in METHODS), (CoarseToFine, 4), (DSOL, 4), (DSOL, 5), (DSOL, 6)]
)
def test_killed_and_resumed_it_learns_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Method], killed: int
) -> None:
    params = {"rounds": 1} if kind is DSOL else {}
    whole = load_weights(_learn(kind, tmp_path / "whole", **params))
    steps, original = [], Fit._step

    def step(self: Fit, *args: Any) -> None:
        steps.append(1)
        if len(steps) == killed:
            raise KeyboardInterrupt
        original(self, *args)

    monkeypatch.setattr(Fit, "_step", step)
    with pytest.raises(KeyboardInterrupt):
        _learn(kind, tmp_path / "killed", **params)
    again = load_weights(_learn(kind, tmp_path / "killed", **params))
    assert all(torch.equal(whole[name], again[name]) for name in whole)


class TestDSOL:
    @staticmethod
    def _pass(tiles: int = 1) -> Callable[[], Iterator[tuple[Features, Batch]]]:
        return lambda: (canvases(32, tiles, seed=seed)[:2] for seed in range(4))

    @pytest.mark.parametrize("tiles", [1, 2])
    @pytest.mark.parametrize("pseudo", ["kmeans", "label"])
    def test_the_dictionary_looks_like_the_classes(self, pseudo: str, tiles: int) -> None:
        method = build(DSOL, {"pseudo": pseudo})
        assert isinstance(method, DSOL)
        torch.manual_seed(0)
        method.before_phase("classification", self._pass(tiles))
        entries = l2_normalize(method.dictionary[method.cluster_of])
        assert (entries @ LOOKS.T).argmax(1).tolist() == list(range(N))
        assert sorted(method.cluster_of.tolist()) == list(range(N))
        if tiles == 1:  # an object times its own entry is about 1, whatever the encoder's scale
            features, batch, _ = canvases(16)
            own = (method.objects(features, batch)[:, 0] @ method.dictionary.T).amax(1)
            assert own.min() > 0.5 and own.max() < 2

    def test_clusters_depend_on_the_loops_random_numbers_alone(self) -> None:
        found = []
        for seed in (3, 3):
            method = build(DSOL)
            torch.manual_seed(seed)
            method.before_phase("classification", self._pass())
            found.append(method.state_dict())
        assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])

    def test_class_heads_are_reset_in_every_round(self) -> None:
        method = build(DSOL, {"rounds": 2})
        names = [phase.name for phase in method.phases()]
        assert names == ["location", "classification"] * 2 + ["mixed"]
        assert isinstance(method, DSOL)
        method.before_phase("classification", self._pass())
        for head in method.classify.values():
            torch.nn.init.ones_(head.weight)
        method.before_phase("classification", self._pass())
        assert max(head.weight.abs().max() for head in method.classify.values()) < 0.1

    def test_the_teacher_is_frozen_in_the_last_stage(self) -> None:
        method = build(DSOL)
        method.before_phase("mixed", self._pass())
        assert isinstance(method, DSOL)
        assert torch.equal(method.teacher.weight, method.classify["audio"].weight)
        trained = {p.name: {n for n, _ in method.named_parameters() if n.startswith(p.parameters)}
                   for p in method.phases()}  # fmt: skip
        assert not any(name.startswith("teacher") for names in trained.values() for name in names)
        assert not trained["location"] & trained["classification"]
        assert trained["mixed"] - trained["location"] == {"object_scale", "object_bias"}

    def test_maps_belong_to_names_whatever_their_order_and_number(self) -> None:
        method = build(DSOL)
        method.before_phase("classification", self._pass())
        features, batch, _ = canvases(6)

        def maps(names: tuple[str, ...]) -> list[dict[str, Any]]:
            every = replace(batch, classes=names, source_counts=torch.full((6,), len(names)), sources=None)
            found = method.localize(features, every)
            return [dict(zip(one.labels, one.maps, strict=True)) for one in found]

        for names in (CLASSES[::-1], CLASSES[2:]):
            for mine, whole in zip(maps(names), maps(CLASSES), strict=True):
                assert set(mine) == set(names)
                assert all(np.array_equal(mine[name], whole[name]) for name in names)

    def test_one_source_is_where_the_sound_is(self) -> None:
        method = build(DSOL)
        method.before_phase("classification", self._pass())
        assert isinstance(method, DSOL)
        features, batch, _ = canvases(3)
        where = method.locate(features.image_map, features.audio).sigmoid().detach().numpy()
        nothing = replace(batch, source_counts=None, sources=None, classes=())
        mixed = replace(batch, source_counts=torch.tensor([1, 2, 1]), sources=None, classes=CLASSES)
        for one, map in zip(method.localize(features, nothing), where, strict=True):
            assert one.labels == ()
            np.testing.assert_allclose(one.maps, map[None])
        first, second, third = method.localize(features, mixed)
        assert (len(first.labels), len(second.labels)) == (1, 2)
        np.testing.assert_allclose([first.maps[0], third.maps[0]], where[::2])
        assert not np.allclose(second.maps[0], where[1])

    def test_fewer_objects_than_classes(self) -> None:
        method = build(DSOL)
        features, batch, _ = canvases(2)
        method.before_phase("classification", lambda: iter([(features, batch)]))
        assert torch.isfinite(total(method.loss(features, batch, Context("classification"))))
        assert isinstance(method, DSOL)
        assert method.nearest(torch.randn(50, D))[:, 2:].sum() == 0

    def test_dilation_grows_inner_cells_only(self) -> None:
        mask = torch.zeros(1, 5, 5, dtype=torch.bool)
        mask[0, 1, 1] = True
        grown = dilated(mask)[0].int()
        assert grown.sum() == 3 and grown[1, 1] and grown[1, 2] and grown[2, 1]
        assert torch.equal(dilated(mask[:, :1, :2]), mask[:, :1, :2])

    def test_class_maps_are_low_where_nothing_sounds(self) -> None:
        torch.manual_seed(0)
        found = class_maps(torch.randn(1, D, 2, 2), torch.randn(N, D), torch.tensor([[[-99.0, 99], [99, -99]]]))
        assert found[0, :, 0, 0].abs().max() < 1e-6 < found[0, :, 0, 1].abs().min()

    def test_unknown_pseudo_labels_are_refused(self) -> None:
        with pytest.raises(AvlocError, match="guess"):
            build(DSOL, {"pseudo": "guess"})
