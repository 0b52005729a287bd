"""Tiny: a small encoder of images, sounds and words, pre-trained on the built-in data; its weights are in the package.

It replaces AudioCLIP if large weights are not available: three modalities in one space, trained on pooled embeddings
only (`tiny_pretrain`), so its dense tokens localize only roughly, like AudioCLIP's, and leave room for methods to
improve. Class names are embedded word by word, so any name has an embedding.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import normalize, relu

from avloc import AvlocError, Encoder, EncoderInfo

DIM = 128
WORDS = (
    "bell", "checked", "drum", "fiddle", "horn", "motor", "pipe", "plain", "rattle", "ringed", "spotted", "striped",
    "whistle", "zigzag",
)  # fmt: skip
"""Words with learned vectors; any other word has a vector hashed from its letters."""

RATE, SECONDS = 16_000, 3.0
WINDOW, HOP, MELS, LOWEST = 1024, 512, 64, 40.0
FLOOR = 1e-6
"""Added to the mel power before the logarithm: digital silence is -60 dB, not minus infinity."""
LEAST_SPREAD = 0.1
"""Added to a clip's standard deviation: a silent clip becomes zeros, not noise."""

PRETRAIN = "python -m avloc_plugins.encoders.tiny_pretrain"
SHIPPED = Path(__file__).with_name("tiny.safetensors")


class Tiny(Encoder):
    """112 x 112 tiles to 7 x 7 tokens, 3 s of sound to 12 x 4 (time x frequency), words to vectors; D = 128.

    Both towers are small residual conv nets followed by a linear projection of every cell and a mean over the cells,
    so that the pooled embedding is the mean of the tokens.

    Args:
        weights: ``"shipped"``, ``"random"`` (seeded), or the path of a file that `tiny_pretrain` wrote.

    Raises:
        AvlocError: The weights file is missing, unreadable, or holds other weights; names them.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, *, weights: str = "shipped") -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):  # building draws random numbers
            self._build()
        if weights == "random":
            self.initialize(0)
        else:
            self._read(SHIPPED if weights == "shipped" else Path(weights))
        self.eval()
        self.info = EncoderInfo(
            dim=DIM, image_size=112, image_grid=(7, 7), audio_rate=RATE, audio_seconds=SECONDS, audio_grid=(12, 4),
            backbone_dim=128,
        )  # fmt: skip
        name = "random" if weights == "random" else f"tiny-{self.fingerprint()[:8]}"
        self.info = replace(self.info, weights=name)

    def _build(self) -> None:
        self.image_tower = nn.Sequential(
            _conv(3, 24, 2), _conv(24, 32, 2), _Residual(32), _conv(32, 64, 2), _Residual(64), _conv(64, 128, 2),
            _conv(128, 128),
        )  # fmt: skip
        self.image_projection = nn.Conv2d(128, DIM, 1)
        self.audio_tower = nn.Sequential(
            _conv(1, 24, 2), _conv(24, 48, 2), _conv(48, 64, 2), _Residual(64), _conv(64, 128, (1, 2)),
        )  # fmt: skip
        self.audio_projection = nn.Conv2d(128, DIM, 1)
        self.words = nn.Parameter(torch.empty(len(WORDS), DIM))
        self.text_projection = nn.Linear(DIM, DIM)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        from torchaudio.functional import melscale_fbanks  # late: `tiny_pretrain` starts before avloc can repair it

        filters = melscale_fbanks(WINDOW // 2 + 1, LOWEST, RATE / 2, MELS, RATE)  # (bins, mels)
        self.register_buffer("filters", filters, persistent=False)

    def initialize(self, seed: int) -> None:
        """Draw all weights again; leaves the global random state alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for module in self.modules():
                if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
                    module.reset_parameters()
        self.words.data = torch.stack([_letters(word) for word in WORDS])

    def encode_image(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        backbone = self.image_tower(images)  # (B, 128, h, w)
        tokens = self.image_projection(backbone)
        return tokens, tokens.mean((2, 3)), backbone

    def encode_audio(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        return self.encode_mel(self.mel(waves))

    def mel(self, waves: Tensor) -> Tensor:
        """``(B, T)`` to log-mel ``(B, 1, time, mels)``, standardized per clip, so that its loudness is gone."""
        spectrum = torch.stft(waves, WINDOW, HOP, window=self.window, return_complex=True)  # (B, bins, time)
        log = (spectrum.abs().square().transpose(1, 2) @ self.filters + FLOOR).log()
        spread, mean = torch.std_mean(log, dim=(1, 2), keepdim=True)
        return ((log - mean) / (spread + LEAST_SPREAD))[:, None]

    def encode_mel(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """The rest of `encode_audio`."""
        tokens = self.audio_projection(self.audio_tower(mel))  # (B, D, m, f)
        return tokens, tokens.mean((2, 3))

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        composed = torch.stack([self._compose(prompt) for prompt in prompts])  # (N, D)
        projected: Tensor = self.text_projection(composed)
        return projected

    def _compose(self, prompt: str) -> Tensor:
        """The normalized sum of the unit vectors of a prompt's words."""
        words = re.findall(r"[^\W_]+", prompt.lower()) or [prompt]
        vectors = [self.words[WORDS.index(word)] if word in WORDS else _letters(word).to(self.words) for word in words]
        return normalize(normalize(torch.stack(vectors), dim=1).sum(0), dim=0)

    def fingerprint(self) -> str:
        digest = hashlib.sha256(repr((WORDS, WINDOW, HOP, MELS, LOWEST, FLOOR, LEAST_SPREAD)).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _read(self, path: Path) -> None:
        """Load weights and check all names and shapes; stored as fp16, used as fp32."""
        if not path.is_file():
            raise AvlocError(f"The weights {path} of the encoder tiny do not exist; {PRETRAIN} makes some.")
        try:
            found = load_file(path)
        except (SafetensorError, OSError) as error:
            raise AvlocError(f"The weights {path} of the encoder tiny cannot be read: {error}.") from error
        wrong = _differences(self.state_dict(), found)
        if wrong:
            raise AvlocError(f"{path} does not hold weights of the encoder tiny: {'; '.join(wrong)}.")
        self.load_state_dict(found)


def _differences(expected: dict[str, Tensor], found: dict[str, Tensor]) -> list[str]:
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    reshaped = [
        f"{name} is {tuple(found[name].shape)}, not {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & found.keys())
        if found[name].shape != expected[name].shape
    ]
    listed = [f"{what} {', '.join(names)}" for what, names in (("lacks", missing), ("has also", extra)) if names]
    return listed + reshaped


def _letters(word: str) -> Tensor:
    """``(D,)`` unit vector of signs hashed from a word: the same on every machine, nearly orthogonal to any other's."""
    bits = np.unpackbits(np.frombuffer(hashlib.shake_256(word.encode()).digest(DIM // 8), np.uint8))
    signs: Tensor = torch.from_numpy(bits * 2.0 - 1.0).float()
    return signs / DIM**0.5


def _conv(channels: int, out: int, stride: int | tuple[int, int] = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


class _Residual(nn.Module):
    """Two convolutions with a skip connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return relu(x + self.norm(self.second(self.first(x))))
