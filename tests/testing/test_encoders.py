"""Every check of encoders passes for a correct one and fails, with a sentence, for one with its defect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avloc import AvlocError, Encoder, EncoderInfo
from avloc.testing import CHECKS, ConformanceError, conformance, conformance_checks

CELL, DIM, RATE = 8, 6, 400


class Sound(Encoder):
    """A small correct encoder: random projections."""

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.patches = nn.Conv2d(3, DIM, CELL, stride=CELL)
            self.frames = nn.Linear(RATE // 4, DIM)
            self.letters = nn.Embedding(128, DIM)
        self.info = EncoderInfo(
            DIM, image_size=4 * CELL, image_grid=(4, 4), audio_rate=RATE, audio_seconds=1.0, audio_grid=(4, 1),
        )  # fmt: skip

    def encode_image(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        tokens = self.patches(images)
        return tokens, tokens.mean((2, 3)), None

    def encode_audio(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.frames(waves.reshape(len(waves), 4, -1)).transpose(1, 2)[..., None]
        return tokens, tokens.mean((2, 3))

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        return torch.stack([self.letters(torch.tensor(list(prompt.encode()))).mean(0) for prompt in prompts])

    def fingerprint(self) -> str:
        return str(hash(tuple(x.numpy().tobytes() for x in self.state_dict().values())))


class Wordless(Sound):
    """Without text."""

    def __init__(self) -> None:
        super().__init__()
        self.info = EncoderInfo(
            DIM, image_size=32, image_grid=(4, 4), audio_rate=RATE, audio_seconds=1.0, audio_grid=(4, 1), has_text=False
        )

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        raise NotImplementedError


class Nameless(Sound):
    pass


class Positional(Sound):
    """Broken."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed=seed)


class Square(Sound):
    """Broken: sees one tile."""

    def encode_image(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        return super().encode_image(images[..., : 4 * CELL])


class Narrow(Sound):
    """Broken."""

    def encode_audio(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        tokens, pooled = super().encode_audio(waves)
        return tokens, pooled[:, 1:]


class Seedless(Sound):
    """Broken: draws from whatever generator there is."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.normal_(self.frames.weight)


class Anonymous(Sound):
    """Broken: the fingerprint is one of this object."""

    def fingerprint(self) -> str:
        return f"{id(self)}"


class Constant(Sound):
    """Broken."""

    def fingerprint(self) -> str:
        return "constant"


class Normalizing(Sound):
    """Broken: by its batch."""

    def encode_image(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        return super().encode_image(images - images.mean(0))


class Ordered(Sound):
    """Broken: the first clip is heard louder."""

    def encode_audio(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        return super().encode_audio(waves * torch.linspace(2, 1, len(waves))[:, None])


class Noisy(Sound):
    """Broken."""

    def encode_audio(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        return super().encode_audio(waves + 1e-6 * torch.rand_like(waves))


class Writing(Sound):
    """Broken."""

    def encode_image(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        return super().encode_image(images.mul_(2))


class Dividing(Sound):
    """Broken: silence over silence."""

    def encode_audio(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        return super().encode_audio(waves / waves.abs().amax(1, keepdim=True))


class Huge(Sound):
    """Broken."""

    def encode_audio(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        tokens, pooled = super().encode_audio(waves)
        return tokens * 1e7, pooled


class Deaf(Sound):
    """Broken."""

    def encode_audio(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        return super().encode_audio(torch.zeros_like(waves))


class Mirrored(Sound):
    """Broken: the map is turned."""

    def encode_image(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        tokens, pooled, _ = super().encode_image(images)
        return tokens.flip(3), pooled, None


class Sociable(Sound):
    """Broken: class names are embedded in common."""

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        found = super().encode_text(prompts)
        return found - found.mean(0) if len(found) > 1 else found


class Illiterate(Sound):
    """Broken."""

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        return torch.ones(len(prompts), DIM)


class Talkative(Wordless):
    """Broken: it says that it has no text."""

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        return torch.ones(len(prompts), DIM)


Nameless.__doc__ = None
BROKEN: list[tuple[type[Encoder], str, str]] = [
    (Nameless, "the docstring is there", "no docstring"),
    (Positional, "parameters are keyword-only JSON values with defaults", "must be keyword-only"),
    (Square, "features are as promised on one tile and several", "2 tiles side by side: .* promised image_map"),
    (Narrow, "features are as promised on one tile and several", "one tile: .* promised audio of shape"),
    (Seedless, "the same parameters, the same encoder", "draws from torch's global generator"),
    (Anonymous, "the same parameters, the same encoder", "Built twice, it has another fingerprint"),
    (Constant, "the fingerprint is that of the weights", r"stays the same when patches\.weight changes"),
    (Normalizing, "a clip does not depend on its batch", "The image_map of a clip alone differs"),
    (Ordered, "a clip does not depend on its batch", "The audio_map of a clip alone differs"),
    (Noisy, "one clip, one result", "another audio_map"),
    (Writing, "inputs are left as they are", "changes its input in place"),
    (Dividing, "silence and constant images have features", "a silent clip: .* not finite"),
    (Huge, "silence and constant images have features", "audio_map of a silent clip reaches .* up to 65,504"),
    (Deaf, "other images and sounds have other features", "have the same audio_map"),
    (Mirrored, "other images and sounds have other features", "right tile changes the left half"),
    (Sociable, "a class name does not depend on the others", "embedded differently"),
    (Illiterate, "a class name does not depend on the others", "have one embedding"),
    (Talkative, "a class name does not depend on the others", "has_text=False"),
]


@pytest.mark.parametrize("kind", [Sound, Wordless])
def test_a_sound_encoder_passes(kind: type[Encoder]) -> None:
    for _, run in conformance_checks(kind):
        run()


@pytest.mark.parametrize(("kind", "title", "words"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_encoder_fails(kind: type[Encoder], title: str, words: str) -> None:
    with pytest.raises(ConformanceError, match=words):
        dict(conformance_checks(kind))[title]()


def test_every_check_can_fail() -> None:
    assert {title for _, title, _ in BROKEN} == set(CHECKS["encoder"])


def test_what_says_nothing_of_itself_is_told_to(world: Any) -> None:
    class Mute(Sound):
        """Broken."""

        def __init__(self) -> None:
            super().__init__()
            del self.info

    with pytest.raises(ConformanceError, match=r"must be an avloc\.EncoderInfo"):
        dict(conformance_checks(Mute))["features are as promised on one tile and several"]()


def test_a_name_of_two_kinds_must_be_told_apart() -> None:
    with pytest.raises(AvlocError, match="'audioclip' is the name of encoder and method; say which with kind"):
        conformance_checks("audioclip")
    assert dict(conformance_checks("audioclip", "encoder")).keys() == CHECKS["encoder"].keys()
    with pytest.raises(AvlocError, match=r"Sound is no metric: derive the class from avloc\.Metric"):
        conformance_checks(Sound, "metric")


test_conformance: Any = conformance(Sound, seed=3)
