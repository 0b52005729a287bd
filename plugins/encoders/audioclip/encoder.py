"""AudioCLIP as an encoder: CLIP's RN50 towers from open_clip, the audio tower beside them, under official names."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import get_args

import open_clip
import torch
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn

from avloc import AvlocError, Encoder, EncoderInfo, unknown
from avloc.weights import Checkpoint, HasCheckpoints, load_checkpoint, require_exact

from .audio import ESResNeXt
from .image import Position, Tokens, attention_pool, backbone

DIM = 1024
RELEASES = "https://github.com/AndreyGuzhov/AudioCLIP/releases/download/v0.1"
SIZE = 537_302_068


class AudioCLIP(HasCheckpoints, Encoder):
    """224 x 224 tiles to 7 x 7 tokens, 5 s of sound to 13 x 11 (time x frequency), class names to vectors; D = 1024.

    The pooled embedding of a canvas of several tiles is CLIP's attention pool over the whole canvas. Batch norm
    always uses the checkpoint's statistics, also in training.

    Source: Guzhov et al., "AudioCLIP: Extending CLIP to Image, Text and Audio", ICASSP 2022. Tokens as in T-VSL
    (Mahmud et al., CVPR 2024).

    Args:
        weights: ``"audioclip_full"`` (all three towers trained), ``"audioclip_partial"`` (the audio tower trained
            against CLIP's own), ``"random"`` (seeded), or the path of such a file.
        scale: Multiplies waves in [-1, 1] before the transform, which expects 16-bit integers. 32768 is what the
            weights were trained with; 1 is what T-VSL's code uses, which lowers the spectrum by 90 dB and leaves the
            wave about 9 bits of precision, so that rounding, which differs by machine, changes tokens by percents.
        position: ``"correct"`` or ``"released"`` position embeddings of image tokens; see `attention_pool`.
        tokens: ``"attended"`` or ``"values"``: what an image token is; see `attention_pool`.

    Raises:
        AvlocError: An option has an unknown value, or the weights are missing, unreadable or not AudioCLIP's.
    """

    checkpoints = (
        Checkpoint(
            "audioclip_full", "AudioCLIP-Full-Training.pt", f"{RELEASES}/AudioCLIP-Full-Training.pt",
            sha256="2441d35b...632c44", size=SIZE, license="MIT",
        ),
        Checkpoint(
            "audioclip_partial", "AudioCLIP-Partial-Training.pt", f"{RELEASES}/AudioCLIP-Partial-Training.pt",
            sha256="1921885b...baef0c75", size=SIZE, license="MIT",
        ),
    )  # fmt: skip

    visual: ModifiedResNet
    transformer: nn.Module
    token_embedding: nn.Embedding
    positional_embedding: nn.Parameter
    ln_final: nn.LayerNorm
    text_projection: nn.Parameter
    audio: ESResNeXt
    logit_scale: nn.Parameter
    logit_scale_ai: nn.Parameter
    logit_scale_at: nn.Parameter

    def __init__(
        self,
        *,
        weights: str = "audioclip_full",
        scale: float = 32768.0,
        position: Position = "correct",
        tokens: Tokens = "attended",
    ) -> None:
        super().__init__()
        for option, value, known in (("position", position, get_args(Position)), ("tokens", tokens, get_args(Tokens))):
            if value not in known:
                raise AvlocError(f"audioclip, {option}: {unknown('value', str(value), known)}")
        if not (isinstance(scale, int | float) and math.isfinite(scale) and scale > 0):
            raise AvlocError(f"audioclip: scale must be a positive number, such as 32768 or 1, but is {scale!r}.")
        self.scale, self.position, self.tokens = float(scale), position, tokens
        if weights == "random":
            with torch.random.fork_rng(devices=[]):  # the caller's random state must not change
                torch.manual_seed(0)
                assemble(self)
            name = weights
        else:
            state = load_checkpoint(weights, self.checkpoints, self.accept)
            with torch.device("meta"):  # initial values would only be overwritten
                assemble(self)
            self.load_state_dict(state, assign=True)
            published = weights in {checkpoint.name for checkpoint in self.checkpoints}
            name = weights if published else f"{Path(weights).stem}-{self._weights_digest[:8]}"
        self.tokenizer = open_clip.SimpleTokenizer()
        self.eval()
        self.info = EncoderInfo(
            dim=DIM, image_size=224, image_grid=(7, 7),
            image_mean=open_clip.OPENAI_DATASET_MEAN, image_std=open_clip.OPENAI_DATASET_STD,
            audio_rate=44_100, audio_seconds=5.0, audio_grid=(13, 11), backbone_dim=2048, weights=name,
        )  # fmt: skip

    @classmethod
    def accept(cls, state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
        with torch.device("meta"):
            skeleton = nn.Module()
            assemble(skeleton)
        require_exact(state, {name: tuple(tensor.shape) for name, tensor in skeleton.state_dict().items()}, where)
        return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}

    def train(self, mode: bool = True) -> AudioCLIP:
        """Stays in evaluation mode, which only affects batch norm."""
        return super().train(False)

    def encode_image(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = backbone(self.visual, images)  # (B, 2048, h, w)
        tokens, pooled = attention_pool(self.visual.attnpool, x, self.position, self.tokens)
        return tokens, pooled, x

    def encode_audio(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        tokens, pooled = self.audio(waves * self.scale)
        return tokens, pooled

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Class names without a template (AudioCLIP's is ``{}``) to ``(N, 1024)``.

        Raises:
            AvlocError: A prompt is longer than the 75 tokens that CLIP reads.
        """
        ids = self._tokenize(prompts).to(self.positional_embedding.device)  # (N, L)
        length = ids.shape[1]
        ahead = torch.full((length, length), -math.inf, device=ids.device).triu(1)  # causal mask
        x = self.token_embedding(ids) + self.positional_embedding[:length]
        x = self.ln_final(self.transformer(x, attn_mask=ahead))
        last = ids.argmax(1)  # the end token has the largest id
        found: Tensor = x[torch.arange(len(ids), device=ids.device), last] @ self.text_projection
        return found

    def _tokenize(self, prompts: Sequence[str]) -> Tensor:
        """``(N, L)`` token ids, L that of the longest prompt: with the causal mask, later tokens change nothing."""
        ids: Tensor = self.tokenizer(list(prompts))  # (N, 77), cut off and zero-padded
        room = ids.shape[1] - 2  # less the marks of start and end
        for prompt in prompts:
            length = len(self.tokenizer.encode(prompt))
            if length > room:
                raise AvlocError(f"audioclip reads {room} tokens of text, but {prompt!r} has {length}; shorten it.")
        longest = int(ids.argmax(1).max()) + 1 if len(ids) else 1
        return ids[:, :longest]

    def fingerprint(self) -> str:
        """A hash of the weights at the first call and of the options."""
        about = repr((self._weights_digest, self.scale, self.position, self.tokens))
        return hashlib.blake2b(about.encode()).hexdigest()

    @cached_property
    def _weights_digest(self) -> str:
        digest = hashlib.blake2b()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def assemble(module: nn.Module) -> None:
    """Give a module the parts of CLIP under CLIP's names, which are the official ones, and what AudioCLIP adds."""
    clip = open_clip.CLIP(**open_clip.get_model_config("RN50-quickgelu"))
    parts = {
        **dict(clip.named_children()),
        **dict(clip.named_parameters(recurse=False)),
        "audio": ESResNeXt(DIM),
        "logit_scale_ai": nn.Parameter(torch.tensor(math.log(100))),
        "logit_scale_at": nn.Parameter(torch.tensor(math.log(100))),
    }
    for name, part in parts.items():
        setattr(module, name, part)
