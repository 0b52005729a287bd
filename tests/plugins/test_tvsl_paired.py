"""T-VSL's paired variant against its equations, term by term in plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avloc import AvlocError, Batch, Context, EncoderInfo, Features, get_component
from avloc_plugins.methods.tvsl import TVSL

D, NAMES = 6, ("bell", "drum", "horn", "pipe", "rattle")
SOURCES = ((0, 1), (2,), (1, 3, 4))


def clips() -> tuple[Features, Batch]:
    drawn = torch.Generator().manual_seed(0)
    image, audio = torch.randn(3, D, 3, 4, generator=drawn), torch.randn(3, D, 2, 3, generator=drawn)
    features = Features(image, image.mean((2, 3)), audio, audio.mean((2, 3)), text=torch.randn(5, D, generator=drawn))
    sources, labels = torch.full((3, 3), -1), torch.zeros(3, 5)
    for b, row in enumerate(SOURCES):
        sources[b, : len(row)] = torch.tensor(row)
        labels[b, list(row)] = 1
    ids = ("a", "b", "c")
    return features, Batch(ids, ids, torch.ones(3).long(), NAMES, sources=sources, labels=labels)


def built(**parameters: Any) -> TVSL:
    """With weights that are no identities, so that no projection can be missing unnoticed."""
    torch.manual_seed(0)
    method: TVSL = get_component("method", "tvsl")(EncoderInfo(D), NAMES, **parameters)
    drawn = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=drawn))
    return method


def cosine(x: Tensor, y: Tensor) -> Tensor:
    return F.cosine_similarity(x, y, dim=-1)


class Loops:
    """The equations of the class docstring's module, one clip, class and token at a time."""

    def __init__(self, method: TVSL, features: Features, *, audio_on: bool = True, image_on: bool = True) -> None:
        assert features.text is not None
        self.head: Any = method.head
        self.names = F.normalize(features.text, dim=1)
        self.image = [self.head.p_v(x.flatten(1).T) for x in features.image_map]
        self.audio = [self.head.p_a(x.flatten(1).T) for x in features.audio_map]
        self.audio_on, self.image_on = audio_on, image_on

    def detection(self, labels: Tensor) -> Tensor:
        terms = []
        for b, (v, a) in enumerate(zip(self.image, self.audio, strict=True)):
            fused = self.head.p_f(torch.cat([a.mean(0), v.mean(0)]))
            for n, name in enumerate(self.names):
                logit = (cosine(fused, name) + self.head.bias) / 0.07
                terms.append(F.binary_cross_entropy_with_logits(logit, labels[b, n]))
        return torch.stack(terms).mean()

    def classification(self, tokens: list[Tensor], projection: Any) -> Tensor:
        terms = []
        for b, row in enumerate(SOURCES):
            unit = F.normalize(tokens[b], dim=1)
            logits = []
            for name in self.names:
                pooled = torch.stack([cosine(u, name).clamp_min(0) * u for u in unit]).mean(0)
                logits.append(projection(pooled) @ name / 0.01)
            for k in row:
                kept = [n for n in range(len(NAMES)) if n == k or n not in row]
                terms.append(torch.stack([logits[n] for n in kept]).logsumexp(0) - logits[k])
        return torch.stack(terms).mean()

    def query(self, b: int, k: int) -> Tensor:
        gated = [a * cosine(a, self.names[k]).clamp_min(0) if self.audio_on else a for a in self.audio[b]]
        return self.head.p_av(torch.stack(gated).mean(0))

    def correspondence(self) -> Tensor:
        terms = []
        for b, row in enumerate(SOURCES):
            for k in row:
                q, logits = self.query(b, k), {}
                for other, classes in enumerate(SOURCES):
                    if other != b and k in classes:
                        continue
                    gated = []
                    for u in F.normalize(self.image[other], dim=1):
                        text = cosine(u, self.names[k]).clamp_min(0) if self.image_on else 1.0
                        gated.append(text * cosine(u, q).clamp_min(0) * u)
                    found = self.head.p_va(torch.stack(gated).mean(0))
                    logits[other] = found @ F.normalize(q, dim=0) / 0.01
                terms.append(torch.stack(list(logits.values())).logsumexp(0) - logits[b])
        return torch.stack(terms).mean()

    def map(self, b: int, k: int, *, length: bool = True) -> Tensor:
        q = F.normalize(self.query(b, k), dim=0)
        v = self.image[b] if length else F.normalize(self.image[b], dim=1)
        fits = (v @ q).clamp_min(0)
        return (fits * (v @ self.names[k]).clamp_min(0)) ** 0.25 if self.image_on else fits**0.5


def test_every_term_is_its_equation() -> None:
    features, batch = clips()
    method = built()
    assert batch.labels is not None
    loops = Loops(method, features)
    expected = {
        "detection": loops.detection(batch.labels),
        "image": loops.classification(loops.image, loops.head.p_vc),
        "audio": loops.classification(loops.audio, loops.head.p_ac),
        "correspondence": loops.correspondence(),
    }
    found = method.loss(features, batch, Context())
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("image_on", [True, False])
@pytest.mark.parametrize("audio_on", [True, False])
def test_the_map_is_its_equation(length: bool, image_on: bool, audio_on: bool) -> None:
    features, batch = clips()
    method = built(length=length, image_conditioning=image_on, audio_conditioning=audio_on)
    loops = Loops(method, features, audio_on=audio_on, image_on=image_on)
    for b, found in enumerate(method.localize(features, batch)):
        assert found.labels == tuple(NAMES[k] for k in SOURCES[b])
        for k, drawn in zip(SOURCES[b], found.maps, strict=True):
            expected = loops.map(b, k, length=length).detach()
            np.testing.assert_allclose(drawn.ravel(), expected, rtol=1e-4, atol=1e-5)


def test_without_conditioning_the_correspondence_is_gated_by_the_query_alone() -> None:
    features, batch = clips()
    method = built(image_conditioning=False, audio_conditioning=False)
    expected = Loops(method, features, audio_on=False, image_on=False).correspondence()
    torch.testing.assert_close(
        method.loss(features, batch, Context())["correspondence"], expected, rtol=1e-4, atol=1e-5
    )


def test_its_map_parameters_leave_the_loss_alone() -> None:
    features, batch = clips()
    for name in TVSL.map_parameters:
        one, two = (built(**{name: value}).loss(features, batch, Context()) for value in (True, False))
        assert one == two


@pytest.mark.parametrize("variant", ["paired", "printed", "released"])
@pytest.mark.parametrize(
    ("switch", "gone"),
    [("image_conditioning", "image"), ("audio_conditioning", "audio"), ("correspondence", "correspondence")],
)
def test_every_variant_has_the_three_switches(variant: str, switch: str, gone: str) -> None:
    features, batch = clips()
    whole, part = built(variant=variant), built(variant=variant, **{switch: False})
    terms = whole.loss(features, batch, Context()).keys()
    assert terms - part.loss(features, batch, Context()).keys() == {gone}
    maps = [np.concatenate([found.maps for found in m.localize(features, batch)]) for m in (whole, part)]
    sign_alone = variant == "printed" and switch == "image_conditioning"  # all that a cosine in a cosine keeps
    assert bool(np.abs(maps[0] - maps[1]).max() > 1e-4) is not sign_alone


@pytest.mark.parametrize("variant", ["paired", "printed", "released"])
def test_every_variant_learns_prompts_that_change_nothing_at_first(variant: str) -> None:
    features, batch = clips()
    torch.manual_seed(0)
    method = get_component("method", "tvsl")(EncoderInfo(D), NAMES, variant=variant, prompt_length=4)
    torch.manual_seed(0)
    plain = get_component("method", "tvsl")(EncoderInfo(D), NAMES, variant=variant)
    state = {name: value for name, value in method.state_dict().items() if "prompts" not in name}
    plain.load_state_dict(state)
    pairs = zip(method.localize(features, batch), plain.localize(features, batch), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one.maps, other.maps, atol=1e-5)
    torch.stack(list(method.loss(features, batch, Context()).values())).sum().backward()
    assert method.head.prompts.output.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("variant", ["paired", "printed", "released"])
def test_terms_choose_what_is_trained(variant: str) -> None:
    features, batch = clips()
    whole = built(variant=variant).loss(features, batch, Context())
    for term, value in whole.items():
        alone = built(variant=variant, terms=[term]).loss(features, batch, Context())
        assert alone.keys() == {term}
        torch.testing.assert_close(alone[term], value)


@pytest.mark.parametrize("variant", ["paired", "printed", "released"])
def test_told_the_vocabulary_alone_it_detects(variant: str) -> None:
    features, batch = clips()
    asked = Batch(batch.ids, batch.groups, batch.tiles, NAMES)
    found = built(variant=variant).localize(features, asked)
    for prediction in found:
        assert len(prediction.labels) == len(prediction.maps) >= 1
        assert prediction.scores is not None
        assert len(prediction.labels) == 1 or (prediction.scores > 0.5).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"variant": "theirs"}, "paired, printed or released"),
        ({"variant": "printed", "gate": "soft"}, "gate must be signed or clamp"),
        ({"variant": "printed", "map": "sum"}, "map must be"),
        ({"variant": "printed", "projector": "mlp"}, "projector must be"),
        ({"gate": "clamp"}, "gate belongs to variant printed, not paired"),
        ({"variant": "released", "length": False}, "length belongs to variant paired"),
        ({"terms": ["contrast"]}, "terms must be among"),
        ({"terms": []}, "terms must be among"),
        ({"terms": ["audio"], "audio_conditioning": False}, "nothing is left to train"),
    ],
)
def test_wrong_options_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(AvlocError, match=message):
        built(**parameters)
