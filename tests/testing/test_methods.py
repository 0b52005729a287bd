"""Every conformance check passes for a correct method and fails, with a sentence, for a method with its defect."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avloc import AvlocError, Batch, Context, EncoderInfo, Features, Method, Needs, Phase, Prediction
from avloc.functional import (
    cosine_map,
    gather_sources,
    identity_heads,
    l2_normalize,
    max_similarity,
    named_predictions,
    queried_sources,
    require_text,
    symmetric_cross_entropy,
    unnamed_predictions,
)
from avloc.registry import registry
from avloc.testing import CHECKS as ALL_CHECKS, CLASSES, ConformanceError, conformance, conformance_checks, scene

CHECKS = ALL_CHECKS["method"]


class Sound(Method):
    """A small correct method: it learns a head per modality."""

    title = "Sound"
    paper = "nobody, nowhere, never"

    def __init__(self, encoder: EncoderInfo, classes: Sequence[str], *, tau: float = 0.1) -> None:
        super().__init__()
        self.heads, self.tau, self.classes = identity_heads(encoder.dim), tau, tuple(classes)

    def maps(self, features: Features) -> Tensor:
        image_map, audio = self.heads(features.image_map, features.audio)
        return cosine_map(image_map, audio[:, None])

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        return {
            "match": symmetric_cross_entropy(max_similarity(*self.heads(features.image_map, features.audio)) / self.tau)
        }

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        return unnamed_predictions(batch, self.maps(features))


class Named(Sound):
    """Maps the disclosed or detected classes by their text."""

    needs = Needs(hints="vocabulary", text=True)

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        text = require_text(features)
        sources = queried_sources(batch, (l2_normalize(features.audio) @ l2_normalize(text).T / 0.1).softmax(1))
        queries = gather_sources(text, sources) + self.heads(features.image_map, features.audio)[1][:, None]
        return named_predictions(batch, sources, cosine_map(features.image_map, queries))


class Greedy(Sound):
    """Requires everything, in two phases; its statistics of the data are a buffer."""

    needs = Needs(labels=True, views=("augmented", "shifted_audio", "other_video", "neighbor"), tiles=2)
    known: Tensor

    def __init__(self, encoder: EncoderInfo, classes: Sequence[str]) -> None:
        super().__init__(encoder, classes)
        self.register_buffer("known", torch.zeros(0, encoder.dim))

    def phases(self) -> list[Phase]:
        return [Phase("look"), Phase("learn")]

    def before_phase(self, phase: str, dataset_pass: Callable[[], Iterator[tuple[Features, Batch]]]) -> None:
        self.known = torch.cat([features.audio for features, _ in dataset_pass()]).mean(0, keepdim=True)

    def neighbors(self, ids: Sequence[str], context: Context) -> tuple[Sequence[str], Sequence[str]]:
        return ids[::-1], ids

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        assert batch.labels is not None and features.text is None
        assert set(batch.labels.sum(1).tolist()) <= {1, 2}  # of the two clips of a canvas
        assert features.image_map.shape[2:] == (7, 14)
        assert set(features.views) == set(self.needs.views)
        return super().loss(features, batch, context)

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        assert not features.views and batch.labels is None
        away = features.audio - self.known if len(self.known) else features.audio
        return unnamed_predictions(batch, cosine_map(features.image_map, away[:, None]))


class AudioFree(Sound):
    """A control."""

    uses_audio, trainable = False, False

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        return unnamed_predictions(batch, features.image_map.norm(dim=1, keepdim=True))


SOUND = [Sound, Named, Greedy, AudioFree]


class Nameless(Sound):
    title = "Nameless"


class Positional(Sound):
    """Broken."""

    def __init__(self, encoder: EncoderInfo, classes: Sequence[str], tau: float = 0.1) -> None:
        super().__init__(encoder, classes, tau=tau)


class Undecided(Sound):
    """Broken."""

    def __init__(self, encoder: EncoderInfo, classes: Sequence[str], *, tau: float) -> None:
        super().__init__(encoder, classes, tau=tau)


class Activated(Sound):
    """Broken."""

    def __init__(self, encoder: EncoderInfo, classes: Sequence[str], *, act: Any = torch.relu) -> None:
        super().__init__(encoder, classes)


class Endless(Sound):
    """Broken."""

    def __init__(self, encoder: EncoderInfo, classes: Sequence[str], *, tau: float = float("inf")) -> None:
        super().__init__(encoder, classes)


class Demanding(Sound):
    """Broken."""

    needs = Needs(views=("smelled",))  # type: ignore[arg-type]


class Neighborless(Sound):
    """Broken."""

    needs = Needs(views=("neighbor",))


class Square(Sound):
    """Broken."""

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        return unnamed_predictions(batch, nn.functional.adaptive_avg_pool2d(self.maps(features), 7))


class Single(Named):
    """Broken."""

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        assert batch.sources is None or len(batch.sources)
        sources = None if batch.sources is None else batch.sources[:, :1]
        return super().localize(features, replace(batch, sources=sources))


class Forgetful(Sound):
    """Broken."""

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        return super().localize(features, batch)[::-1]


class Leaking(Named):
    """Broken: it declares hints `vocabulary`, but uses the sources."""

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        assert batch.sources is not None
        return super().localize(features, batch)


class Knowing(Sound):
    """Broken: it maps classes that were not disclosed."""

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        return [Prediction(p.clip, p.maps, (self.classes[0],)) for p in super().localize(features, batch)]


class Fixed(Named):
    """Broken: it looks names up in the list it was built with."""

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        return [
            Prediction(p.clip, p.maps, tuple(CLASSES[batch.classes.index(name)] for name in p.labels))
            for p in super().localize(features, batch)
        ]


class Social(Sound):
    """Broken: it subtracts the batch's mean."""

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        maps = self.maps(features)
        return unnamed_predictions(batch, maps - maps.mean(0))


class Restless(Sound):
    """Broken: dropout in eval mode."""

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        return unnamed_predictions(batch, nn.functional.dropout(self.maps(features), 0.5, training=True))


class Clockwork(Sound):
    """Broken: every instance continues the previous one's count."""

    built = 0

    def __init__(self, encoder: EncoderInfo, classes: Sequence[str]) -> None:
        super().__init__(encoder, classes)
        Clockwork.built += 1
        self.heads.audio.bias.data += Clockwork.built


class Messy(Sound):
    """Broken."""

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        features.image_map.sub_(1)
        return super().localize(features, batch)


class Careless(Sound):
    """Broken."""

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        features.audio.mul_(2)
        return super().loss(features, batch, context)


class Dividing(Sound):
    """Broken on silence."""

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        return unnamed_predictions(batch, self.maps(features) / features.audio.norm(dim=1)[:, None, None, None])


class Rooted(Sound):
    """Broken: the gradient of a root at 0."""

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        own = super().loss(features, batch, context)["match"]
        return {"match": own + 0 * (features.audio @ self.heads.audio.weight).norm(dim=1).sqrt().sum()}


class Infinite(Sound):
    """Broken."""

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        return {"match": super().loss(features, batch, context)["match"] / features.image_map.std()}


class Columned(Sound):
    """Broken: no scalar."""

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        return {"match": super().loss(features, batch, context)["match"][None]}


class Wordy(Sound):
    """Broken: it uses the text without declaring it."""

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        return unnamed_predictions(batch, self.maps(features) + features.text.sum())  # type: ignore[union-attr]


class Boneless(Sound):
    """Broken: it assumes a backbone map."""

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        return unnamed_predictions(batch, self.maps(features) * features.backbone_map.mean())  # type: ignore[union-attr]


class Amnesiac(Sound):
    """Broken: its statistics of the training data are not a buffer."""

    seen = 0.0

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        self.seen += self.training
        return super().loss(features, batch, context)

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        return unnamed_predictions(batch, self.maps(features) + self.seen)


class Frozen(Sound):
    """Broken: its loss trains no weight that affects its maps."""

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        return {"match": 0 * super().loss(features, batch, context)["match"]}


class Inverted(Sound):
    """Broken."""

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        return unnamed_predictions(batch, -self.maps(features))


class Blind(Sound):
    """Broken: its maps are unrelated to its loss."""

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        h, w = features.image_map.shape[2:]
        slope = torch.linspace(0, 1, w).expand(len(batch), 1, h, w)
        return unnamed_predictions(batch, slope + 1e-9 * self.maps(features))


class Mute(Sound):
    """Broken: it uses the sound only in its loss."""

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        return unnamed_predictions(batch, features.image_map.norm(dim=1, keepdim=True))


class Salient(Sound):
    """Broken: the sound only scales a saliency map."""

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        loudness = 1 + features.audio.norm(dim=1)[:, None, None, None]
        return unnamed_predictions(batch, features.image_map.std(1, keepdim=True) * loudness)


class Guessing(Sound):
    """Broken: one of its three maps, which depend only on the sound, always matches."""

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        h, w = features.image_map.shape[2:]
        waves = (1e3 * features.audio[:, :1] * torch.arange(3 * h * w)).sin()
        return unnamed_predictions(batch, waves.reshape(len(batch), 3, h, w))


class Late(Sound):
    """Broken: the gradient of a term that starts after a while is not finite on silence."""

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        terms = super().loss(features, batch, context)
        if self.training and context.epoch >= 1:
            terms["late"] = 0 * self.heads(features.image_map, features.audio)[1].norm(dim=1).sqrt().sum()
        return terms


class Unordered(Named):
    """Broken, once it has learned: its maps are in the order of the training classes."""

    needs = Needs(hints="oracle", text=True)

    def __init__(self, encoder: EncoderInfo, classes: Sequence[str], *, tau: float = 0.1) -> None:
        super().__init__(encoder, classes, tau=tau)
        self.offsets = torch.nn.Parameter(torch.zeros(len(classes)))

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        aims = torch.arange(len(self.offsets), dtype=torch.float32)
        return {**super().loss(features, batch, context), "offsets": 1e3 * (self.offsets - aims).square().sum()}

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        assert batch.sources is not None
        maps = self.maps(features) + self.offsets[batch.sources.clamp_min(0)][:, :, None, None]
        return named_predictions(batch, batch.sources, maps)


class Pretending(Sound):
    """Broken: a control that uses the audio."""

    uses_audio = False


BROKEN: list[tuple[type[Method], str, str]] = [
    (Nameless, "title, paper and docstring are there", "no docstring"),
    (Positional, "parameters are keyword-only JSON values with defaults", "'tau' must be keyword-only"),
    (Undecided, "parameters are keyword-only JSON values with defaults", "'tau' has no default"),
    (Activated, "parameters are keyword-only JSON values with defaults", "no JSON value"),
    (Endless, "parameters are keyword-only JSON values with defaults", "default inf, which is no JSON value"),
    (Demanding, "needs are possible", "needs.views has .'smelled'."),
    (Neighborless, "needs are possible", "no method 'neighbors'"),
    (Square, "one map per source on 7x7 and 7x14 for 1 to 4 sources", "on 7 x 14 tokens its maps are 7 x 7"),
    (Single, "one map per source on 7x7 and 7x14 for 1 to 4 sources", "2 sources .* it named .* name each given class"),
    (Forgetful, "one map per source on 7x7 and 7x14 for 1 to 4 sources", "one prediction per clip, in order"),
    (Leaking, "works with the hints it needs, and no more", "None is not None"),
    (Knowing, "works with the hints it needs, and no more", "did not disclose"),
    (Fixed, "works with the hints it needs, and no more", "order of batch.classes"),
    (Wordy, "works with the hints it needs, and no more", "NoneType"),
    (Social, "a clip does not depend on its batch", "clips must not mix"),
    (Restless, "one seed, one result", "different maps in eval mode"),
    (Clockwork, "one seed, one result", "builds different weights"),
    (Messy, "inputs are left as they are", r"localize\(\) changes image_map in place"),
    (Careless, "inputs are left as they are", r"loss\(\) changes audio in place"),
    (Dividing, "silence and constant images have maps", "localizing silence: .* not finite"),
    (Infinite, "loss and gradients are finite on degenerate features", "'match' of black images.* is inf"),
    (Rooted, "loss and gradients are finite on degenerate features", "gradient of .* not finite on silence"),
    (Columned, "loss and gradients are finite on degenerate features", "no scalar"),
    (Boneless, "an encoder without text or backbone map is no crash", "without text and backbone map it crashes"),
    (Amnesiac, "trains, and localizes the same from its checkpoint", "Loaded from its checkpoint"),
    (Frozen, "trains, and localizes the same from its checkpoint", "changed no weight"),
    (Inverted, "a planted source lights up", "does not light up"),
    (Blind, "a planted source lights up", "does not light up"),
    (Guessing, "a planted source lights up", "does not light up"),
    (Salient, "a planted source lights up", "above one of an object that is silent with 0.5"),
    (Salient, "another sound gives another map", "nothing in its maps but their scale"),
    (Late, "loss and gradients are finite on degenerate features", "not finite on silence, in phase .main., epoch 99"),
    (Unordered, "works with the hints it needs, and no more", "change with the order of batch.classes"),
    (Mute, "another sound gives another map", "declares uses_audio = False"),
    (Pretending, "another sound gives another map", "another clip's sound changes its maps"),
]


@pytest.mark.parametrize("kind", SOUND)
def test_a_sound_method_passes(kind: type[Method]) -> None:
    for _, run in conformance_checks(kind):
        run()


@pytest.mark.parametrize(("kind", "title", "words"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_method_fails(kind: type[Method], title: str, words: str) -> None:
    with pytest.raises((ConformanceError, AssertionError, AttributeError), match=words):
        dict(conformance_checks(kind))[title]()


def test_every_check_can_fail() -> None:
    assert {title for _, title, _ in BROKEN} == set(CHECKS)


def test_an_encoder_that_lacks_something_may_be_refused_in_a_sentence() -> None:
    class Picky(Sound):
        """Wants a backbone map and says so."""

        def __init__(self, encoder: EncoderInfo, classes: Sequence[str]) -> None:
            super().__init__(encoder, classes)
            if not encoder.backbone_dim:
                raise AvlocError("Picky needs a backbone map.")

    dict(conformance_checks(Picky))["an encoder without text or backbone map is no crash"]()


def test_parameters_are_passed_on() -> None:
    with pytest.raises(TypeError, match="loudness"):
        dict(conformance_checks(Sound, loudness=3))["parameters are keyword-only JSON values with defaults"]()


def test_names_and_what_is_no_method(world: Any) -> None:
    assert len(conformance_checks("dot")) == len(CHECKS)
    with pytest.raises(AvlocError, match="Did you mean 'dot'"):
        conformance_checks("dott")
    with pytest.raises(AvlocError, match=r"derive the class from avloc\.Encoder, Method"):
        conformance_checks(dict)  # type: ignore[arg-type]


def test_the_callers_random_numbers_stay_as_they_are() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    dict(conformance_checks(Sound))["one seed, one result"]()
    assert torch.equal(torch.rand(3), expected)


def test_nothing_remains_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("AVLOC_CACHE", str(tmp_path))
    dict(conformance_checks(Sound))["trains, and localizes the same from its checkpoint"]()
    assert not list(tmp_path.iterdir())
    monkeypatch.delenv("AVLOC_CACHE")
    dict(conformance_checks(Greedy))["trains, and localizes the same from its checkpoint"]()


def test_conformance_gives_one_case_per_check() -> None:
    (mark,) = conformance(Sound).pytestmark  # type: ignore[attr-defined]
    assert [case.id for case in mark.args[1]] == list(CHECKS)


test_conformance = conformance(Sound)


@pytest.mark.parametrize("tiles", [1, 2])
def test_the_planted_world_is_what_it_says(tiles: int) -> None:
    world = scene(8, sources=(1, 2, 3, 4), tiles=tiles)
    assert world.features.image_map.shape[2:] == (7, 7 * tiles)
    assert world.batch.source_counts is not None and world.batch.sources is not None and world.features.text is not None
    assert world.batch.source_counts.tolist() == [1, 2, 3, 4] * 8
    maps = cosine_map(world.features.image_map, gather_sources(world.features.text, world.batch.sources))
    heard = l2_normalize(world.features.audio) @ l2_normalize(world.features.text).T
    for row, truth in enumerate(world.truths):
        own = [CLASSES.index(name) for name in truth.labels]
        assert world.batch.sources[row, : len(own)].tolist() == own
        assert heard[row, own].min() > 3 * max(heard[row, [n for n in range(8) if n not in own]])
        for map, mask in zip(maps[row], truth.masks, strict=False):
            cells = torch.from_numpy(mask[::4, ::4] > 0)
            assert cells.sum() == 4
            assert map[cells].min() > map[~cells].max() + 0.2


def test_every_registered_method_can_be_looked_up() -> None:
    for name in registry().entries("method"):
        assert len(conformance_checks(name, "method")) == len(CHECKS)
