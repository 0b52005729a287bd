"""The built-in methods and controls, through their public interface, on features made by hand.

A *planted* clip has one block of image tokens per source that points to the class's text vector, and a few audio
tokens that do; everything else is noise.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avloc import AvlocError, Batch, Context, EncoderInfo, Features, Method, Prediction
from avloc.components import parameters
from avloc.functional import l2_normalize
from avloc.registry import Registry
from avloc_plugins.methods.audioclip import AudioCLIP
from avloc_plugins.methods.avgn import AVGN, localization_loss
from avloc_plugins.methods.controls import Center, Random, Saliency, TextOnly, Whole
from avloc_plugins.methods.ezvsl import EZVSL, ezvsl_loss
from avloc_plugins.methods.tvsl import TVSL
from helpers.planted import CLASSES, D, N, build, plant, rows

PRINTED = {"variant": "printed"}
CLAMPED = {**PRINTED, "gate": "clamp", "map": "dot"}
LEARNED: list[tuple[type[Method], dict[str, Any]]] = [
    (EZVSL, {"dim": 16}),
    (AudioCLIP, {}),
    (AudioCLIP, {"query": "text"}),
    (AVGN, {"dim": 16, "depth": 1, "heads": 2}),
    (TVSL, {}),
    (TVSL, {"variant": "released"}),
    (TVSL, PRINTED),
    (TVSL, {**CLAMPED, "prompt_length": 4, "projector": "gated_mlp", "cls_temperature": 0.05}),
]
CONTROLS: list[tuple[type[Method], dict[str, Any]]] = [(c, {}) for c in (Center, Whole, Random, Saliency, TextOnly)]
NAMED = [item for item in LEARNED if item[0] not in (EZVSL,) and item != (AudioCLIP, {})]


def of_clip(features: Features, batch: Batch, n: int) -> tuple[Features, Batch]:
    """One clip alone."""
    names = ("image_map", "image", "audio_map", "audio", "backbone_map")
    alone = replace(features, **{name: getattr(features, name)[n : n + 1] for name in names})
    sources = None if batch.sources is None else batch.sources[n : n + 1]
    sources = None if sources is None else sources[:, : int((sources >= 0).sum())]
    counts = None if batch.source_counts is None else batch.source_counts[n : n + 1]
    labels = None if batch.labels is None else batch.labels[n : n + 1]
    ids, tiles = (batch.ids[n],), batch.tiles[n : n + 1]
    return alone, replace(batch, ids=ids, groups=ids, tiles=tiles, sources=sources, source_counts=counts, labels=labels)


def hits(found: list[Prediction], where: Tensor) -> float:
    """Share of sources whose map peaks on them; an unnamed map stands for every source of its clip."""
    peaks = []
    for prediction, truth in zip(found, where.numpy(), strict=True):
        real = [mask for mask in truth if mask.any()]
        maps = prediction.maps if prediction.labels else np.repeat(prediction.maps, len(real), 0)
        assert len(maps) == len(real)
        peaks += [mask.flat[map.argmax()] for map, mask in zip(maps, real, strict=True)]
    return float(np.mean(peaks))


World = Callable[[int], tuple[Features, Batch, Tensor]]


def lift(found: list[Prediction], where: Tensor) -> float:
    """By how many of its standard deviations a named or only map is higher on its source than elsewhere."""
    values = []
    for prediction, truth in zip(found, where.numpy(), strict=True):
        for map, mask in zip(prediction.maps, truth, strict=True):
            values.append((map[mask].mean() - map[~mask].mean()) / map.std())
    return float(np.mean(values))


def train(method: Method, steps: int, world: World, lr: float = 1e-2) -> None:
    optimizer = torch.optim.Adam(method.parameters(), lr=lr)
    for step in range(steps):
        features, batch, _ = world(step)
        optimizer.zero_grad()
        torch.stack(list(method.train().loss(features, batch, Context()).values())).sum().backward()
        optimizer.step()
    method.eval()


def fresh(most: int, **world: float) -> World:
    """Every step sees new clips, whose sources all differ."""

    def draw(step: int) -> tuple[Features, Batch, Tensor]:
        sources = torch.randperm(N, generator=torch.Generator().manual_seed(step)).reshape(-1, most)
        return plant(sources, 14, seed=100 + step, **world)

    return draw


def untold(batch: Batch, **changes: Any) -> Batch:
    return replace(batch, sources=None, labels=None, **changes)


PAIRS = rows(*((n, (n + step) % N) for n in range(N) for step in (1, 3, 6)))
SINGLES = rows(*((n % N,) for n in range(3 * N)))
MIXED = rows((0,), (1, 2, 3), (4, 5), (2, 1), (3,))


class TestEveryMethod:
    def test_the_plugin_names_them(self) -> None:
        registry = Registry()
        known = {registry.get("method", name) for name in registry.entries("method")}
        assert known >= {kind for kind, _ in LEARNED + CONTROLS}
        for kind in known:
            assert isinstance(kind, type) and issubclass(kind, Method)
            assert kind.title and kind.paper
            json.dumps(parameters(kind))

    @pytest.mark.parametrize(("kind", "params"), LEARNED + CONTROLS)
    @pytest.mark.parametrize("width", [7, 14])
    def test_a_clip_does_not_depend_on_its_batch_mates(self, kind: type[Method], params: Any, width: int) -> None:
        features, batch, _ = plant(MIXED, width)
        method = build(kind, params)
        together = method.localize(features, batch)
        for n, expected in enumerate(together):
            (alone,) = method.localize(*of_clip(features, batch, n))
            assert alone.clip == expected.clip and alone.labels == expected.labels
            assert alone.maps.shape[1:] == (7, width)
            np.testing.assert_allclose(alone.maps, expected.maps, atol=1e-4)

    @pytest.mark.parametrize(("kind", "params"), LEARNED)
    @pytest.mark.parametrize("broken", ["silence", "black", "constant", "nothing"])
    def test_degenerate_features(self, kind: type[Method], params: Any, broken: str) -> None:
        features, batch, _ = plant(MIXED)
        changes = {
            "silence": {"audio_map": torch.zeros(5, D, 5, 4), "audio": torch.zeros(5, D)},
            "black": {"image_map": torch.zeros(5, D, 7, 7), "image": torch.zeros(5, D)},
            "constant": {"image_map": torch.ones(5, D, 7, 7), "audio_map": torch.ones(5, D, 5, 4)},
            "nothing": {n: torch.zeros_like(getattr(features, n)) for n in ("image_map", "audio_map", "audio", "text")},
        }
        features = replace(features, **changes[broken])
        method = build(kind, params)
        terms = method.loss(features, batch, Context())
        torch.stack(list(terms.values())).sum().backward()
        for name, parameter in method.named_parameters():
            if parameter.grad is not None:
                assert torch.isfinite(parameter.grad).all(), name
        method.localize(features, batch)  # Prediction refuses what is not finite
        method.localize(features, untold(batch))

    @pytest.mark.parametrize(("kind", "params"), LEARNED)
    def test_the_order_of_the_batch_does_not_matter_to_the_loss(self, kind: type[Method], params: Any) -> None:
        features, batch, _ = plant(MIXED)
        method, order = build(kind, params), torch.tensor([3, 0, 4, 2, 1])
        turned = replace(features, **{
            n: getattr(features, n)[order] for n in ("image_map", "image", "audio_map", "audio", "backbone_map")
        })  # fmt: skip
        assert batch.labels is not None
        expected = method.loss(features, batch, Context())
        found = method.loss(turned, replace(batch, labels=batch.labels[order]), Context())
        for name, term in expected.items():
            torch.testing.assert_close(found[name], term, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(("kind", "params"), LEARNED)
    def test_clips_without_any_label(self, kind: type[Method], params: Any) -> None:
        features, batch, _ = plant(MIXED)
        for labels in (torch.zeros(5, N), torch.eye(5, N) * torch.tensor([[1.0], [0], [0], [1], [0]])):
            terms = build(kind, params).loss(features, replace(batch, labels=labels), Context())
            assert all(torch.isfinite(term) for term in terms.values())

    @pytest.mark.parametrize(("kind", "params"), LEARNED)
    def test_training_is_deterministic(self, kind: type[Method], params: Any) -> None:
        found = []
        for _ in range(2):
            method = build(kind, params)
            train(method, 3, fresh(2))
            found.append(torch.cat([p.detach().flatten() for p in method.parameters()]))
        assert torch.equal(*found)


class TestPlantedSources:
    @pytest.mark.parametrize(
        ("kind", "params"),
        [(AudioCLIP, {"query": "text"}), (TVSL, {}), (TVSL, PRINTED), (TVSL, CLAMPED),
         (TVSL, {"variant": "released"}), (TextOnly, {})],
    )  # fmt: skip
    @pytest.mark.parametrize("width", [7, 14])
    @pytest.mark.parametrize("most", [1, 2, 3])
    def test_untrained_methods_that_compare_tokens(
        self, kind: type[Method], params: Any, width: int, most: int
    ) -> None:
        sources = rows(*itertools.islice(itertools.permutations(range(N), most), 0, None, 4))
        features, batch, where = plant(sources, width, strength=8)
        assert hits(build(kind, params).localize(features, batch), where) > 0.9

    @pytest.mark.parametrize("width", [7, 14])
    def test_audioclip_finds_the_only_source(self, width: int) -> None:
        features, batch, where = plant(SINGLES, width, strength=8)
        assert hits(build(AudioCLIP, {}).localize(features, batch), where) > 0.9

    @pytest.mark.parametrize(("kind", "params"), [(EZVSL, {"dim": D}), (AudioCLIP, {})])
    def test_training_closes_a_gap_between_the_modalities(self, kind: type[Method], params: Any) -> None:
        features, batch, where = plant(SINGLES, 14, strength=8, gap=3.0)
        method = build(kind, params)
        if isinstance(method, EZVSL):  # its heads start at random, where a maximum over 98 cells learns slowly
            method.heads.image.weight.data = torch.eye(D)[:, :, None, None]
            method.heads.audio.weight.data = torch.eye(D)
        before = hits(method.localize(features, batch), where)
        train(method, 60, fresh(1, strength=8, gap=3.0), lr=3e-3)
        assert hits(method.localize(features, batch), where) > before + 0.1

    def test_avgn_learns_from_random_weights(self) -> None:
        features, batch, where = plant(SINGLES, 7, strength=8, noise=0.3)
        method = build(AVGN, {"dim": 32, "depth": 1, "heads": 4, "tau": 0.3})
        before = lift(method.localize(features, batch), where)
        train(method, 60, fresh(1, strength=8, noise=0.3))
        assert lift(method.localize(features, batch), where) > before + 0.4


class TestTold:
    @pytest.mark.parametrize(("kind", "params"), NAMED)
    def test_oracle_maps_the_disclosed_classes(self, kind: type[Method], params: Any) -> None:
        features, batch, _ = plant(MIXED)
        found = build(kind, params).localize(features, batch)
        assert [p.labels for p in found] == [tuple(CLASSES[k] for k in row if k >= 0) for row in MIXED.tolist()]
        for prediction in found:
            assert prediction.scores is not None
            assert ((prediction.scores >= 0) & (prediction.scores <= 1)).all()

    @pytest.mark.parametrize(("kind", "params"), NAMED)
    def test_count_maps_as_many_classes(self, kind: type[Method], params: Any) -> None:
        features, batch, _ = plant(MIXED)
        found = build(kind, params).localize(features, untold(batch, source_counts=torch.tensor([1, 3, 2, 0, 6])))
        assert [len(p.labels) for p in found] == [1, 3, 2, 0, 6]
        assert all(len(set(p.labels)) == len(p.labels) for p in found)

    @pytest.mark.parametrize(("kind", "params"), NAMED)
    def test_vocabulary_maps_at_least_one(self, kind: type[Method], params: Any) -> None:
        features, batch, _ = plant(MIXED)
        found = build(kind, params).localize(features, untold(batch))
        assert all(1 <= len(p.labels) <= N for p in found)

    @pytest.mark.parametrize(("kind", "params"), [*NAMED, (TextOnly, {})])
    def test_no_hints_is_an_error(self, kind: type[Method], params: Any) -> None:
        features, batch, _ = plant(MIXED)
        with pytest.raises(AvlocError, match=r"hints"):
            build(kind, params).localize(replace(features, text=None), untold(batch, classes=()))

    @pytest.mark.parametrize(("kind", "params"), [(EZVSL, {}), (AudioCLIP, {})])
    def test_audio_queries_need_nothing(self, kind: type[Method], params: Any) -> None:
        features, batch, _ = plant(MIXED)
        found = build(kind, params).localize(replace(features, text=None), untold(batch, classes=()))
        assert all(p.labels == () and len(p.maps) == 1 for p in found)

    @pytest.mark.parametrize(
        ("kind", "params"),
        [(TVSL, {}), (TVSL, {**PRINTED, "cls_temperature": 0.05}), (TVSL, {"variant": "released"})],
    )  # fmt: skip
    def test_trained_detectors_find_the_sources(self, kind: type[Method], params: Any) -> None:
        method = build(kind, params)
        train(method, 150, fresh(2, strength=8))
        features, batch, _ = plant(PAIRS, 14, strength=8)
        truth = [{CLASSES[k] for k in row} for row in PAIRS.tolist()]
        counted = method.localize(features, untold(batch, source_counts=torch.full((len(PAIRS),), 2)))
        assert np.mean([set(p.labels) == names for p, names in zip(counted, truth, strict=True)]) > 0.8
        detected = method.localize(features, untold(batch))
        assert np.mean([set(p.labels) == names for p, names in zip(detected, truth, strict=True)]) > 0.6

    def test_avgn_maps_its_own_classes_only(self) -> None:
        features, batch, _ = plant(MIXED)
        method = build(AVGN, {"dim": 16, "depth": 1, "heads": 2})
        with pytest.raises(AvlocError, match="class 99"):
            method.localize(features, replace(batch, classes=(*CLASSES, "class 99")))

    def test_avgn_follows_the_order_of_the_vocabulary(self) -> None:
        features, batch, _ = plant(MIXED)
        method = build(AVGN, {"dim": 16, "depth": 1, "heads": 2})
        expected = method.localize(features, batch)
        turned = torch.where(MIXED >= 0, N - 1 - MIXED, -1)
        found = method.localize(features, replace(batch, classes=CLASSES[::-1], sources=turned))
        for one, other in zip(found, expected, strict=True):
            assert one.labels == other.labels
            np.testing.assert_allclose(one.maps, other.maps, atol=1e-4)


class TestEZVSL:
    def test_loss_against_loops(self) -> None:
        torch.manual_seed(0)
        image_map, audio = l2_normalize(torch.randn(4, 5, 3, 3), 1), l2_normalize(torch.randn(4, 5))
        logits = torch.tensor([[max((image_map[n, :, y, x] @ audio[m]).item() for y in range(3) for x in range(3))
                                for m in range(4)] for n in range(4)]) / 0.1  # fmt: skip
        expected = F.cross_entropy(logits, torch.arange(4)) + F.cross_entropy(logits.T, torch.arange(4))
        torch.testing.assert_close(ezvsl_loss(image_map, audio, tau=0.1), expected)

    def test_aligned_pairs_leave_almost_no_loss(self) -> None:
        audio = torch.eye(4)
        image_map = torch.zeros(4, 4, 3, 3)
        image_map[:, :, 1, 1] = audio
        assert ezvsl_loss(image_map, audio) < 1e-6


class TestAudioCLIP:
    def test_untrained_is_zero_shot(self) -> None:
        features, batch, _ = plant(MIXED)
        for query in ("audio", "text"):
            tuned = build(AudioCLIP, {"query": query}).localize(features, batch)
            plain = build(AudioCLIP, {"query": query, "trained": False}).localize(features, batch)
            for one, other in zip(tuned, plain, strict=True):
                np.testing.assert_allclose(one.maps, other.maps, atol=1e-6)

    def test_zero_shot_has_nothing_to_train(self) -> None:
        features, batch, _ = plant(MIXED)
        method = build(AudioCLIP, {"trained": False})
        assert method.loss(features, batch, Context()) == {}
        assert not method.phases() and not list(method.parameters())

    def test_the_audio_map_is_the_cosine(self) -> None:
        features, batch, _ = plant(MIXED)
        found = build(AudioCLIP, {}).localize(features, batch)
        expected = F.cosine_similarity(features.image_map, features.audio[:, :, None, None])
        np.testing.assert_allclose(np.stack([p.maps[0] for p in found]), expected, atol=1e-5)

    def test_unknown_query(self) -> None:
        with pytest.raises(AvlocError, match="smell"):
            build(AudioCLIP, {"query": "smell"})


class TestAVGN:
    def test_one_source_per_clip_is_the_released_loss(self) -> None:
        torch.manual_seed(0)
        image_map, queries = l2_normalize(torch.randn(5, 8, 3, 3), 1), torch.randn(5, 1, 8)
        found = localization_loss(image_map, queries, torch.zeros(5, 1).long(), tau=0.1)
        torch.testing.assert_close(found, ezvsl_loss(image_map, queries[:, 0], tau=0.1))

    def test_several_sources_against_loops(self) -> None:
        torch.manual_seed(0)
        image_map, queries, sources = (
            l2_normalize(torch.randn(3, 8, 3, 3), 1),
            torch.randn(3, 2, 8),
            rows((0, 1), (2,), (1, 3)),
        )
        pairs = [(b, k) for b in range(3) for k in range(2) if sources[b, k] >= 0]

        def logit(image: int, pair: tuple[int, int]) -> Tensor:
            return torch.einsum("dhw,d->hw", image_map[image], queries[pair]).max() / 0.1

        expected = torch.zeros(())
        for own in pairs:
            rivals = [other for other in pairs if other == own or other[0] != own[0]]
            to_sound = torch.stack([logit(own[0], other) for other in rivals])
            to_image = torch.stack([logit(other[0], own) for other in rivals])
            expected = expected + to_sound.logsumexp(0) + to_image.logsumexp(0) - 2 * logit(own[0], own)
        torch.testing.assert_close(localization_loss(image_map, queries, sources, tau=0.1), expected / len(pairs))

    def test_stochastic_depth_is_off_when_localizing(self) -> None:
        features, batch, _ = plant(MIXED)
        method = build(AVGN, {"dim": 16, "depth": 2, "heads": 2, "drop_path": 0.5})
        one, other = method.localize(features, batch), method.localize(features, batch)
        np.testing.assert_array_equal(one[0].maps, other[0].maps)
        torch.manual_seed(0)
        method.train()
        first, second = (method.loss(features, batch, Context())["image"] for _ in range(2))
        assert first != second


def scrambled(params: dict[str, Any], seed: int = 3) -> TVSL:
    """A T-VSL whose every parameter has moved."""
    method = build(TVSL, params)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    assert isinstance(method, TVSL)
    return method


def cosine(x: Tensor, y: Tensor) -> Tensor:
    return F.cosine_similarity(x, y, dim=-1)


def phi(x: Tensor, q: Tensor) -> Tensor:
    """Equation (6) as printed, written out: tokens ``(n, D)`` and one query."""
    return cosine(x, q)[:, None] * x


class TestTVSL:
    def test_losses_and_maps_against_the_equations(self) -> None:
        features, batch, _ = plant(MIXED, 14)
        assert features.text is not None and batch.labels is not None
        method = scrambled(PRINTED)
        head, text = method.head, features.text
        detection, image, audio, found, asked, maps = [], [], [], [], [], []
        for b, chosen in enumerate(MIXED.tolist()):
            visual = head.p_v(features.image_map[b].flatten(1).T)
            sound = head.p_a(features.audio_map[b].flatten(1).T)
            fused = head.p_f(torch.cat([sound.mean(0), visual.mean(0)]))
            logits = cosine(fused, text)
            detection.append(F.binary_cross_entropy_with_logits(logits, batch.labels[b], reduction="sum"))
            for k in (k for k in chosen if k >= 0):
                seen, heard, label = phi(visual, text[k]), phi(sound, text[k]), torch.tensor(k)
                image.append(F.cross_entropy(cosine(head.p_vc(seen.mean(0)), text), label))
                audio.append(F.cross_entropy(cosine(head.p_ac(heard.mean(0)), text), label))
                query = head.p_av(heard.mean(0))
                agreed = phi(seen, query)
                asked.append(query)
                found.append(head.p_va(agreed.mean(0)))
                maps.append(cosine(agreed, query))
                torch.testing.assert_close(
                    maps[-1], cosine(visual, query).abs(), atol=1e-5, rtol=0
                )  # the sign identity
        contrast = l2_normalize(torch.stack(found)) @ l2_normalize(torch.stack(asked)).T / 0.07
        target = torch.arange(len(found))
        expected = {
            "detection": torch.stack(detection).mean(),
            "image": torch.stack(image).sum() / len(MIXED),
            "audio": torch.stack(audio).sum() / len(MIXED),
            "correspondence": (F.cross_entropy(contrast, target) + F.cross_entropy(contrast.T, target)) / 2,
        }
        terms = method.loss(features, batch, Context())
        assert terms.keys() == expected.keys()
        for name, term in terms.items():
            torch.testing.assert_close(term, expected[name], rtol=1e-4, atol=1e-5)
        drawn = np.concatenate([p.maps for p in method.localize(features, batch)])
        np.testing.assert_allclose(drawn.reshape(len(maps), -1), torch.stack(maps).detach(), atol=1e-5)

    def test_clamp_equals_the_printed_form_where_cosines_are_positive(self) -> None:
        features, batch, _ = plant(MIXED)
        assert features.text is not None
        cone = replace(
            features, image_map=features.image_map.abs(), audio_map=features.audio_map.abs(), text=features.text.abs()
        )
        for printed, clamped in zip(
            build(TVSL, PRINTED).localize(cone, batch),
            build(TVSL, {**PRINTED, "gate": "clamp"}).localize(cone, batch),
            strict=True,
        ):
            np.testing.assert_allclose(printed.maps, clamped.maps, atol=1e-5)

    def test_clamped_gates_remove_tokens_that_do_not_match_the_name(self) -> None:
        features, batch, _ = plant(MIXED)
        assert features.text is not None
        fits = torch.einsum("bdhw,d->bhw", features.image_map, features.text[0]) > 0
        (found, *_) = build(TVSL, CLAMPED).localize(features, batch)
        assert (found.maps[0][~fits[0]] == 0).all()
        assert (found.maps >= 0).all()

    def test_dot_keeps_the_gates(self) -> None:
        features, batch, _ = plant(MIXED)
        assert features.text is not None
        (found, *_) = build(TVSL, {**PRINTED, "map": "dot"}).localize(features, batch)
        visual, sound = features.image_map[0].flatten(1).T, features.audio_map[0].flatten(1).T
        query = phi(sound, features.text[0]).mean(0)
        expected = phi(phi(visual, features.text[0]), query) @ l2_normalize(query)
        np.testing.assert_allclose(found.maps[0].ravel(), expected, atol=1e-4)

    def test_untrained_prompts_and_gated_projectors_change_nothing(self) -> None:
        features, batch, _ = plant(MIXED)
        plain = build(TVSL, PRINTED).localize(features, batch)
        for params in ({"prompt_length": 8}, {"projector": "gated_mlp"}):
            for one, other in zip(plain, build(TVSL, {**PRINTED, **params}).localize(features, batch), strict=True):
                np.testing.assert_allclose(one.maps, other.maps, atol=1e-5)

    def test_prompts_learn(self) -> None:
        features, batch, _ = plant(MIXED)
        method = build(TVSL, {**PRINTED, "prompt_length": 8})
        before = method.localize(features, batch)[0].maps
        train(method, 5, fresh(2))
        assert isinstance(method, TVSL)
        assert method.head.prompts.output.weight.abs().max() > 0
        assert np.abs(method.localize(features, batch)[0].maps - before).max() > 0

    def test_ablations_drop_their_terms(self) -> None:
        features, batch, _ = plant(MIXED)
        names = {
            (True, True, True): {"detection", "image", "audio", "correspondence"},
            (False, True, True): {"detection", "image", "correspondence"},
            (True, False, True): {"detection", "audio", "correspondence"},
            (True, True, False): {"detection", "image", "audio"},
            (False, False, False): {"detection"},
        }
        for (audio, image, correspondence), expected in names.items():
            method = build(TVSL, {
                **PRINTED, "audio_conditioning": audio, "image_conditioning": image, "correspondence": correspondence
            })  # fmt: skip
            assert method.loss(features, batch, Context()).keys() == expected
            method.localize(features, batch)

    def test_without_any_conditioning_the_map_is_the_plain_cosine(self) -> None:
        features, batch, _ = plant(MIXED)
        off = {**PRINTED, "audio_conditioning": False, "image_conditioning": False, "correspondence": False}
        found = build(TVSL, off).localize(features, batch)
        expected = F.cosine_similarity(features.image_map, features.audio_map.mean((2, 3))[:, :, None, None])
        for n, prediction in enumerate(found):
            for map in prediction.maps:
                np.testing.assert_allclose(map, expected[n], atol=1e-5)


class TestControls:
    @pytest.mark.parametrize(("kind", "params"), CONTROLS)
    def test_they_neither_train_nor_use_the_audio(self, kind: type[Method], params: Any) -> None:
        features, batch, _ = plant(MIXED)
        method = build(kind, params)
        assert not method.trainable and not method.uses_audio and not list(method.parameters())
        assert method.loss(features, batch, Context()) == {}
        deaf = replace(features, audio=features.audio + 1, audio_map=-features.audio_map)
        for one, other in zip(method.localize(features, batch), method.localize(deaf, batch), strict=True):
            np.testing.assert_array_equal(one.maps, other.maps)

    def test_center_peaks_in_the_middle_of_every_tile(self) -> None:
        features, batch, _ = plant(rows((0, 1)), 14)
        (found,) = build(Center, {}).localize(features, batch)
        left, right = found.maps[0, :, :7], found.maps[0, :, 7:]
        np.testing.assert_allclose(left, right)
        np.testing.assert_allclose(left, left[::-1, ::-1])
        assert np.unravel_index(left.argmax(), left.shape) == (3, 3)

    def test_center_of_a_single_tile(self) -> None:
        features, batch, _ = plant(rows((0, 1)), 14)
        (found,) = build(Center, {}).localize(features, replace(batch, tiles=torch.ones(1).long()))
        assert found.maps[0, 3].argmax() in (6, 7)

    def test_random_depends_on_the_clip_and_the_seed_alone(self) -> None:
        features, batch, _ = plant(MIXED)
        one, two = (
            build(Random, {}).localize(features, batch),
            build(Random, {"seed": 1}, seed=5).localize(features, batch),
        )
        again = build(Random, {}, seed=5).localize(replace(features, image_map=-features.image_map), batch)
        np.testing.assert_array_equal(one[0].maps, again[0].maps)
        assert not np.array_equal(one[0].maps, two[0].maps)
        assert not np.array_equal(one[0].maps, one[1].maps)

    def test_whole_is_flat(self) -> None:
        features, batch, _ = plant(MIXED)
        assert (build(Whole, {}).localize(features, batch)[0].maps == 1).all()

    def test_saliency_is_the_mean_magnitude_of_the_backbone(self) -> None:
        features, batch, _ = plant(MIXED)
        assert features.backbone_map is not None
        found = build(Saliency, {}).localize(features, batch)
        np.testing.assert_allclose(found[2].maps[0], features.backbone_map[2].abs().mean(0), rtol=1e-5)

    def test_saliency_needs_a_backbone_map(self) -> None:
        with pytest.raises(AvlocError, match="backbone map"):
            Saliency(EncoderInfo(D), CLASSES)
