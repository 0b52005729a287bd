"""OTS, Attention10k, CoarsetoFine, DSOL and Mix-and-Localize: shared properties, and the details of each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avloc import AvlocError, Batch, Context, Features, Method, Needs
from avloc.functional import l2_normalize, split_tiles
from avloc_plugins.methods.attention10k import Attention10k, attend, attention10k_loss
from avloc_plugins.methods.coarse_to_fine import CoarseToFine, by_class, fine_loss, pair_loss
from avloc_plugins.methods.dsol import DSOL
from avloc_plugins.methods.mix_and_localize import MixAndLocalize, cycle_loss
from avloc_plugins.methods.ots import OTS, ots_loss
from helpers.planted import CLASSES, D, build, canvases, changed, total

METHODS: list[type[Method]] = [OTS, Attention10k, CoarseToFine, DSOL, MixAndLocalize]
NAMED = (CoarseToFine, DSOL)
QUICK: dict[type[Method], dict[str, Any]] = {CoarseToFine: {"fine_lr": 1.0}, DSOL: {"rounds": 1}}
LR: dict[type[Method], float] = {OTS: 0.02, Attention10k: 0.005, MixAndLocalize: 0.005}
STEPS: dict[type[Method], int] = {OTS: 120, Attention10k: 150, MixAndLocalize: 120}


def tiles_of(kind: type[Method]) -> int:
    return kind.needs.tiles or 1


def maps(method: Method, features: Features, batch: Batch) -> list[Any]:
    return [prediction.maps for prediction in method.localize(features, batch)]


def train(method: Method, lr: float, steps: int) -> Method:
    """All phases on fresh batches of the planted world."""
    tiles = tiles_of(type(method))

    def dataset_pass() -> Iterator[tuple[Features, Batch]]:
        for seed in range(4):
            yield canvases(16, tiles, seed=100 + seed)[:2]

    for phase in method.phases():
        torch.manual_seed(1)
        method.before_phase(phase.name, dataset_pass)
        chosen = [p for name, p in method.named_parameters() if name.startswith(phase.parameters)]
        optimizer = torch.optim.Adam(chosen, lr=lr)
        for step in range(steps):
            optimizer.zero_grad()
            terms = method.train().loss(*canvases(24, tiles, seed=step)[:2], Context(phase.name, step=step))
            total(terms).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return method.eval()


def phases(method: Method) -> list[Context]:
    return [Context(name) for name in dict.fromkeys(phase.name for phase in method.phases())]


@pytest.fixture(scope="module")
def trained() -> dict[type[Method], Method]:
    found: dict[type[Method], Method] = {}
    for kind in METHODS:
        found[kind] = train(build(kind, QUICK.get(kind)), LR.get(kind, 0.01), STEPS.get(kind, 60))
    return found


@pytest.mark.parametrize("kind", METHODS)
class TestEveryMethod:
    @pytest.mark.parametrize("tiles", [1, 2])
    def test_trained_it_finds_the_source(
        self, kind: type[Method], tiles: int, trained: dict[type[Method], Method]
    ) -> None:
        features, batch, where = canvases(24, tiles, seed=999)
        hits = []
        for found, mask in zip(maps(trained[kind], features, batch), where.numpy(), strict=True):
            assert found.shape[1:] == (7, 7 * tiles)
            if kind in NAMED:  # the map of each disclosed class peaks on its object
                hits += [one[true].max() >= one.max() - 1e-6 for one, true in zip(found, mask, strict=True)]
            else:  # every map peaks on some object
                hits += [mask.any(0).ravel()[one.argmax()] for one in found]
        assert np.mean(hits) > 0.6  # by chance, 0.2

    @pytest.mark.parametrize("shape", [(7, 7), (7, 14), (3, 5)])
    def test_a_clip_does_not_depend_on_its_batch_mates(
        self, kind: type[Method], shape: tuple[int, int], trained: dict[type[Method], Method]
    ) -> None:
        features, batch, _ = canvases(4, 2, views=False)
        features = replace(features, image_map=features.image_map[..., : shape[0], : shape[1]])
        together = maps(trained[kind], features, batch)
        for n, id in enumerate(batch.ids):
            assert batch.sources is not None
            alone = Batch((id,), batch.tiles[n : n + 1], (id,), CLASSES, sources=batch.sources[n : n + 1])
            found = maps(trained[kind], changed(features, lambda x, n=n: x[n : n + 1]), alone)[0]
            assert found.shape == (2 if kind in (*NAMED, MixAndLocalize) else 1, *shape)
            np.testing.assert_allclose(found, together[n], atol=1e-5)

    def test_the_map_uses_the_audio_and_needs_no_views(
        self, kind: type[Method], trained: dict[type[Method], Method]
    ) -> None:
        features, batch, _ = canvases(6, views=False)
        shuffled = replace(features, audio=features.audio.roll(1, 0), audio_map=features.audio_map.roll(1, 0))
        pairs = zip(*(maps(trained[kind], f, batch) for f in (features, shuffled)), strict=True)
        assert max(np.abs(one - other).max() / np.abs(one).max() for one, other in pairs) > 0.01

    @pytest.mark.parametrize("count", [1, 2, 5])
    @pytest.mark.parametrize("broken", ["nothing", "black", "silence", "equal", "opposed"])
    def test_degenerate_features_leave_everything_finite(self, kind: type[Method], count: int, broken: str) -> None:
        features, batch, _ = canvases(count, tiles_of(kind))
        features = changed(features, {
            "nothing": torch.zeros_like,
            "black": lambda x: x * (x.dim() == 2),
            "silence": lambda x: x * (x.dim() == 4),
            "equal": lambda x: x[:1].expand_as(x),
            "opposed": lambda x: torch.ones_like(x) * (1 if x.dim() == 4 else -1),
        }[broken])  # fmt: skip
        method = build(kind)
        for context in phases(method):
            value = total(method.loss(features, batch, context))
            assert torch.isfinite(value)
            value.backward()  # type: ignore[no-untyped-call]
        for name, parameter in method.named_parameters():
            assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
        assert all(np.isfinite(found).all() for found in maps(method, features, batch))

    def test_the_order_of_the_batch_does_not_matter(
        self, kind: type[Method], trained: dict[type[Method], Method]
    ) -> None:
        features, batch, _ = canvases(5, tiles_of(kind))
        order = torch.tensor([3, 0, 4, 2, 1])
        assert batch.labels is not None
        turned = changed(features, lambda x: x[order]), replace(batch, labels=batch.labels[order])
        for context in phases(trained[kind]):
            expected, found = (trained[kind].loss(*given, context) for given in ((features, batch), turned))
            for name, term in expected.items():
                torch.testing.assert_close(found[name], term, rtol=1e-4, atol=1e-5)

    def test_half_precision_stays_near(self, kind: type[Method], trained: dict[type[Method], Method]) -> None:
        features, batch, _ = canvases(6, tiles_of(kind))
        for context in phases(trained[kind]):
            expected = trained[kind].loss(features, batch, context)
            with torch.autocast("cpu", torch.bfloat16):
                found = trained[kind].loss(features, batch, context)
            for name, term in expected.items():
                torch.testing.assert_close(found[name].float(), term, rtol=0.1, atol=0.1)

    def test_inputs_are_not_modified(self, kind: type[Method]) -> None:
        features, batch, _ = canvases(3, tiles_of(kind))
        before = changed(features, torch.clone)
        method = build(kind)
        for context in phases(method):
            method.loss(features, batch, context)
        method.localize(features, batch)
        for name in ("image_map", "image", "audio_map", "audio"):
            assert torch.equal(getattr(features, name), getattr(before, name))


class TestOTS:
    def test_against_a_reference_implementation(self) -> None:
        torch.manual_seed(0)
        own, others = (l2_normalize(torch.randn(4, 8, 3, 3).double(), 1) for _ in range(2))
        audio = l2_normalize(torch.randn(4, 8).double())
        scores = [torch.stack([(5 * torch.einsum("dhw,d->hw", v[n], audio[n]) - 1).max().sigmoid() for n in range(4)])
                  for v in (own, others)]  # fmt: skip
        expected = F.binary_cross_entropy(torch.cat(scores), torch.tensor([1.0] * 4 + [0.0] * 4).double())
        torch.testing.assert_close(ots_loss(own, others, audio, bias=-1), expected)


class TestAttention10k:
    def test_without_temperature_it_is_nearly_uniform(self) -> None:
        torch.manual_seed(0)
        image_map, audio = torch.randn(3, D, 7, 7), torch.randn(3, D)
        image_map[:, :, 2, 2] = audio
        plain, sharp = (attend(image_map, audio, tau=tau)[0] for tau in (1.0, 0.03))
        assert (plain.amax((1, 2)) / plain.amin((1, 2))).max() < math.e + 1e-4
        assert sharp[:, 2, 2].min() > 0.9
        torch.testing.assert_close(plain.sum((1, 2)), torch.ones(3))

    def test_nearer_is_better(self) -> None:
        torch.manual_seed(0)
        own, others = torch.randn(4, D), torch.randn(4, D)
        losses = [attention10k_loss(own + share * (others - own), own, others) for share in (0, 0.5, 1)]
        assert losses == sorted(losses)
        torch.testing.assert_close(losses[1].item(), 0.25, atol=1e-5, rtol=0)

    def test_the_sounds_it_is_compared_with_are_fixed(self) -> None:
        features, batch, _ = canvases(3)
        others = features.views["other_video"].audio.requires_grad_()
        total(build(Attention10k).loss(features, batch, Context())).backward()  # type: ignore[no-untyped-call]
        assert others.grad is None


class TestMixAndLocalize:
    def test_against_walks_in_probabilities(self) -> None:
        torch.manual_seed(0)
        v, (one, two) = (
            l2_normalize(torch.randn(2, 3, 8, 4, 5).double(), 2),
            l2_normalize(torch.randn(2, 2, 3, 8).double()),
        )
        expected = []
        for g in range(2):
            to_sound = torch.einsum("idhw,kd->ikhw", v[g], one[g]).amax((2, 3)).div(0.1).softmax(1)
            to_image = torch.einsum("idhw,kd->kihw", v[g], two[g]).amax((2, 3)).div(0.1).softmax(1)
            expected.append(-(to_image @ to_sound).diagonal().log().mean())
        torch.testing.assert_close(cycle_loss(v, one, two, tau=0.1), torch.stack(expected).mean())

    def test_heads_may_be_permuted_and_chance_is_log_k(self) -> None:
        torch.manual_seed(0)
        v, one, two = (
            l2_normalize(torch.randn(2, 3, 8, 4, 5), 2),
            l2_normalize(torch.randn(2, 3, 8)),
            l2_normalize(torch.randn(2, 3, 8)),
        )
        order = torch.tensor([2, 0, 1])
        torch.testing.assert_close(cycle_loss(v, one[:, order], two[:, order]), cycle_loss(v, one, two))
        torch.testing.assert_close(cycle_loss(v * 0, one, two).item(), math.log(3))

    def test_clips_of_another_number_of_tiles_are_refused(self) -> None:
        with pytest.raises(AvlocError, match="canvases of 2 tiles"):
            build(MixAndLocalize).loss(*canvases(2, 3)[:2], Context())

    def test_as_many_heads_as_tiles(self) -> None:
        class Trio(MixAndLocalize):
            needs = Needs(views=("shifted_audio",), tiles=3)

        features, batch, _ = canvases(4, 3)
        method = build(Trio)
        assert torch.isfinite(method.loss(features, batch, Context())["cycle"])
        assert {prediction.maps.shape for prediction in method.localize(features, batch)} == {(3, 7, 21)}

    def test_tiles(self) -> None:
        x = torch.arange(12.0).view(1, 1, 2, 6)
        torch.testing.assert_close(split_tiles(x, 3)[0, 1], x[0, :, :, 2:4])
        with pytest.raises(AvlocError, match="6 cells wide"):
            split_tiles(x, 4)


class TestCoarseToFine:
    def test_the_coarse_stage_lacks_the_fine_terms(self) -> None:
        features, batch, _ = canvases(4)
        method = build(CoarseToFine)
        coarse, fine = (set(method.loss(features, batch, Context(phase))) for phase in ("coarse", "fine"))
        assert coarse == {"pairs", "image", "audio"} and fine == coarse | {"attract", "repel"}

    def test_official_roots_and_ours(self) -> None:
        """They agree while no two vectors of different classes are equal; then theirs is NaN."""
        torch.manual_seed(0)
        sources = torch.tensor([[0, 1], [1, -1]])

        def official(image: Tensor, audio: Tensor) -> Tensor:
            real = sources >= 0
            d = 2 - 2 * image[real] @ audio[real].T
            same = torch.eye(3)
            repel = (1.4 - d.sqrt()).relu().square()
            return (d * same).sum() / 3 + (repel * (1 - same)).sum() / 6

        def ours(image: Tensor, audio: Tensor) -> Tensor:
            return total(fine_loss(image, audio, sources, sources))

        for equal in (False, True):
            image = F.normalize(torch.randn(2, 2, 8), dim=-1)
            audio = torch.zeros_like(image) if equal else F.normalize(torch.randn(2, 2, 8), dim=-1)
            if equal:
                image = torch.eye(8)[:1].expand(2, 2, 8).clone()
                audio = image.clone()
            gradients = []
            for loss in (official, ours):
                x = image.clone().requires_grad_()
                loss(x, audio).backward()  # type: ignore[no-untyped-call]
                gradients.append(x.grad)
            assert gradients[1] is not None and torch.isfinite(gradients[1]).all()
            if equal:
                assert gradients[0] is not None and gradients[0].isnan().any()
            else:
                torch.testing.assert_close(gradients[0], gradients[1])
                torch.testing.assert_close(official(image, audio), ours(image, audio))

    def test_vectors_are_of_labelled_classes_first_and_never_too_many(self) -> None:
        method = build(CoarseToFine, {"most": 3})
        assert isinstance(method, CoarseToFine)
        logits = torch.tensor([[9.0, -9, 8, 7, 6], [-9, -9, -9, -9, 0]])
        labels = torch.tensor([[0.0, 1, 0, 0, 0], [0, 0, 0, 0, 0]])
        assert method.present(logits, labels).tolist() == [[1, 0, 2], [4, -1, -1]]

    def test_pairs_against_cross_entropy(self) -> None:
        torch.manual_seed(0)
        logits = torch.randn(4, 4, 2)
        off = ~torch.eye(4).bool()
        expected = (F.cross_entropy(logits[~off], torch.ones(4).long())
                    + F.cross_entropy(logits[off], torch.zeros(12).long())) / 2  # fmt: skip
        torch.testing.assert_close(pair_loss(logits), expected)

    def test_class_vectors_use_only_tokens_that_activate_the_class(self) -> None:
        feature = torch.tensor([[[1.0, 0], [3, 0], [0, 5], [-1, 0]]])
        found = by_class(feature, torch.eye(2), torch.tensor([[0, 1]]))
        torch.testing.assert_close(found, torch.tensor([[[2.5, 0], [0, 5.0]]]))

    def test_it_detects_if_given_only_the_vocabulary(self, trained: dict[type[Method], Method]) -> None:
        features, batch, _ = canvases(20, seed=7)
        found = trained[CoarseToFine].localize(features, replace(batch, sources=None))
        assert batch.sources is not None
        right = [CLASSES[k] in p.labels for p, (k,) in zip(found, batch.sources.tolist(), strict=True)]
        assert np.mean(right) > 0.9
