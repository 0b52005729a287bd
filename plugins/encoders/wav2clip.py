"""Wav2CLIP as an encoder: CLIP's ViT-B/32 for image and text from open_clip, a ResNet-18 for sound in the same space.

Source: Wu et al., "Wav2CLIP: Learning Robust Audio Representations from CLIP", ICASSP 2022. It was made for pooled
embeddings. How T-VSL (Mahmud et al., CVPR 2024) gets tokens from it was never published, so the tokens here are ours:
every cell of the last map goes through the same projection as the pooled embedding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Literal, get_args

import open_clip
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from avloc import AvlocError, Encoder, EncoderInfo, unknown
from avloc.weights import Checkpoint, HasCheckpoints, load_checkpoint, require_exact

DIM, PATCH, SIDE = 512, 32, 224
RATE, SECONDS = 16_000, 3.0
WINDOW, HOP, FLOOR = 512, 353, 1e-7
LEAST_SPREAD = 1e-3
"""Lower bound of the standard deviation to divide by: silence becomes zeros, not amplified rounding errors."""

CLIP_SHA256 = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
CLIP_EXTRAS = ("input_resolution", "context_length", "vocab_size")
"""Numbers that OpenAI's archive keeps among its weights."""
AUDIO_WINDOW = "audio_encoder.spectrogram.window"
"""The Hann window, which a published file may carry among its weights."""

Standardize = Literal["clip", "batch"]


class Wav2CLIP(HasCheckpoints, Encoder):
    """224 x 224 tiles to 7 x 7 tokens, 3 s of sound to 5 x 9 (time x frequency), class names to vectors; D = 512.

    Image tokens are the patch tokens of the last block after the final layer norm and CLIP's projection; every tile of
    a canvas is encoded separately. The pooled image is the mean over the tiles. A ViT has no backbone map, so there is
    no object prior. Sound is 3 s long, as in the published embeddings; its tokens are the projected cells of the last
    map. Class names are used without a template such as "a photo of a". The encoder stays in evaluation mode.

    Args:
        weights: ``"wav2clip"``, ``"random"`` (seeded), or the path of a file like Wav2CLIP.pt. All but ``"random"``
            need ``clip_vit_b32`` as well.
        standardize: Standardize spectrograms per ``"clip"``, or per ``"batch"`` as in the release, which makes a clip's
            embedding depend on the other clips of the batch.

    Raises:
        AvlocError: An option has an unknown value, or the weights are missing, unreadable or of another model.
    """

    checkpoints = (
        Checkpoint(
            "wav2clip", "Wav2CLIP.pt",
            "https://github.com/descriptinc/lyrebird-wav2clip/releases/download/v0.1.0-alpha/Wav2CLIP.pt",
            license="MIT", contains="audio_encoder.conv1.weight",
        ),
        Checkpoint(
            "clip_vit_b32", "ViT-B-32.pt",
            f"https://openaipublic.azureedge.net/clip/models/{CLIP_SHA256}/ViT-B-32.pt",
            sha256=CLIP_SHA256, license="MIT", contains="visual.proj",
        ),
    )  # fmt: skip

    window: Tensor

    def __init__(self, *, weights: str = "wav2clip", standardize: Standardize = "clip") -> None:
        super().__init__()
        if standardize not in get_args(Standardize):
            raise AvlocError(f"wav2clip, standardize: {unknown('value', str(standardize), get_args(Standardize))}")
        self.standardize = standardize
        if weights != "random":
            audio = load_checkpoint(weights, self.checkpoints[:1], partial(_exact, build=_Audio))
            image_and_text = load_checkpoint("clip_vit_b32", self.checkpoints, partial(_exact, build=_clip))
        with torch.random.fork_rng(devices=[]):  # building draws random numbers
            torch.manual_seed(0)
            self.clip, self.audio = _clip(), _Audio()
        if weights != "random":
            self.audio.load_state_dict(audio)
            self.clip.load_state_dict(image_and_text)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.tokenizer = open_clip.SimpleTokenizer()
        self.eval()
        name = weights if weights in ("random", "wav2clip") else f"{Path(weights).stem}-{self._weights_digest[:8]}"
        self.info = EncoderInfo(
            dim=DIM, image_size=SIDE, image_grid=(7, 7),
            image_mean=open_clip.OPENAI_DATASET_MEAN, image_std=open_clip.OPENAI_DATASET_STD,
            audio_rate=RATE, audio_seconds=SECONDS, audio_grid=(5, 9), weights=name,
        )  # fmt: skip

    @classmethod
    def accept(cls, state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
        is_audio = any(name.startswith("audio_") for name in state)
        return _exact(state, where, _Audio if is_audio else _clip)

    def train(self, mode: bool = True) -> Wav2CLIP:
        """Stays in evaluation mode."""
        return super().train(False)

    def encode_image(self, images: Tensor) -> tuple[Tensor, Tensor, None]:
        if images.shape[2] != SIDE or images.shape[3] % SIDE:
            raise AvlocError(f"wav2clip reads tiles of {SIDE} x {SIDE} side by side, not {tuple(images.shape[2:])}.")
        count, side = images.shape[3] // SIDE, SIDE // PATCH
        frames = images.reshape(-1, 3, SIDE, count, SIDE).movedim(3, 1)  # (B, K, 3, H, W)
        pooled, patches = self.clip.visual(frames.flatten(0, 1))  # (B K, D), (B K, h w, 768)
        tokens = (patches @ self.clip.visual.proj).reshape(-1, count, side, side, DIM)
        return tokens.permute(0, 4, 2, 1, 3).flatten(3), pooled.reshape(-1, count, DIM).mean(1), None

    def encode_audio(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(waves.device.type, enabled=False):  # the spectrum's range exceeds half precision
            spectrum = self.spectrum(waves)
        tokens, pooled = self.audio(spectrum)
        return tokens, pooled

    def spectrum(self, waves: Tensor) -> Tensor:
        """``(B, T)`` waves to standardized log power ``(B, 1, 257, F)``."""
        power = torch.stft(waves, WINDOW, HOP, window=self.window, return_complex=True).abs().square()
        log = (power + FLOOR).log()
        over = (1, 2) if self.standardize == "clip" else (0, 1, 2)
        spread, mean = torch.std_mean(log, dim=over, keepdim=True)
        return ((log - mean) / spread.clamp_min(LEAST_SPREAD))[:, None]

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Class names, without a template, to ``(N, D)``.

        Raises:
            AvlocError: A prompt is longer than the 75 tokens that CLIP reads.
        """
        ids = self.tokenizer(list(prompts))  # (N, 77), cut off and zero-padded
        room = ids.shape[1] - 2  # less the marks of start and end
        for prompt in prompts:
            length = len(self.tokenizer.encode(prompt))
            if length > room:
                raise AvlocError(f"CLIP reads {room} tokens of text, but {prompt!r} has {length}; shorten it.")
        found: Tensor = self.clip.encode_text(ids.to(self.clip.positional_embedding.device))
        return found

    def fingerprint(self) -> str:
        """A hash of the weights at the first call and of the preprocessing."""
        about = (self._weights_digest, self.standardize, WINDOW, HOP, FLOOR, LEAST_SPREAD)
        return hashlib.blake2b(repr(about).encode()).hexdigest()

    @cached_property
    def _weights_digest(self) -> str:
        digest = hashlib.blake2b()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def _exact(state: Mapping[str, Tensor], where: str, build: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """Exactly the weights of one of the two networks, in full precision, without extras that files may contain."""
    with torch.device("meta"):
        expected = build().state_dict()
    found = {name: tensor for name, tensor in state.items() if name not in (*CLIP_EXTRAS, AUDIO_WINDOW)}
    require_exact(found, {name: tuple(tensor.shape) for name, tensor in expected.items()}, where)
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in found.items()}


def _clip() -> open_clip.CLIP:
    """CLIP ViT-B/32 under OpenAI's names; its image tower returns patch tokens too."""
    config = open_clip.get_model_config("ViT-B-32-quickgelu")
    return open_clip.CLIP(**config | {"vision_cfg": config["vision_cfg"] | {"output_tokens": True}})


class _Audio(nn.Module):
    """Standardized log power ``(B, 1, 257, F)`` to tokens ``(B, D, m, f)`` and pooled ``(B, D)``; official names."""

    def __init__(self) -> None:
        super().__init__()
        self.audio_encoder = resnet18()
        self.audio_encoder.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        self.audio_encoder.fc = nn.Identity()
        head = nn.Sequential(nn.Linear(DIM, DIM), nn.ReLU(), nn.Dropout(0.1), nn.Linear(DIM, DIM))
        self.audio_transform = nn.ModuleDict({"sequential": head})

    def backbone(self, spectrum: Tensor) -> Tensor:
        """The last stage's map ``(B, 512, 9, 5)``, frequency x time."""
        net = self.audio_encoder
        x = net.maxpool(net.relu(net.bn1(net.conv1(spectrum))))
        found: Tensor = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        return found

    def forward(self, spectrum: Tensor) -> tuple[Tensor, Tensor]:
        x = self.backbone(spectrum)
        head = self.audio_transform["sequential"]
        return head(x.permute(0, 3, 2, 1)).permute(0, 3, 1, 2), head(x.mean((2, 3)))
