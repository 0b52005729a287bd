"""Two networks trained from scratch, as in LVS, EZ-VSL and AVGN: one ResNet-18 for images and one for sounds.

The image network is any timm model with a feature map; a 1x1 convolution projects it to the joint space. The sound
network is a timm ResNet on the log spectrogram of those papers; its pooled output and its cells share one linear layer.
Nothing in it is trained to match images with sounds, so it is meant to be trained with a method: ``train:
{train_encoder: true}``. It has no text tower.

Mo and Morgado, "Localizing Visual Sounds the Easy Way", ECCV 2022 (spectrogram, pooling, initialization);
Mo and Tian, "Audio-Visual Grouping Network", CVPR 2023 (the same encoders).
"""

from __future__ import annotations

import difflib
import hashlib
import json

import scipy.signal
import timm
import torch
from torch import Tensor, nn

from avloc import AvlocError, Encoder, EncoderInfo

RATE = 16_000
WINDOW, OVERLAP, FLOOR, SCALE = 512, 274, 1e-7, 12.0
SIZE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TimmResNet(Encoder):
    """Maps and vectors of one width from 224 x 224 tiles and log spectrograms; canvases are encoded whole.

    Args:
        image: A timm model whose last features are a map.
        audio: A timm model that reads one channel, such as ``resnet18``.
        pretrained: Start the image network from timm's ImageNet weights.
        dim: Width of the joint space.
        seconds: Length of the sound.
        seed: Seed of the random weights; the global random state does not change.

    Raises:
        AvlocError: timm has no such model, it has no feature maps, or its weights cannot be downloaded.
    """

    window: Tensor

    def __init__(
        self,
        *,
        image: str = "resnet18",
        audio: str = "resnet18",
        pretrained: bool = False,
        dim: int = 512,
        seconds: float = 3.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.options = {"image": image, "audio": audio, "pretrained": pretrained, "dim": dim, "seconds": seconds}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.image_network = _features(image, pretrained=pretrained, channels=3)
            if not pretrained:
                _initialized(self.image_network)
            self.audio_network = _initialized(_features(audio, pretrained=False, channels=1))
            wide, deep = (network.feature_info.channels()[-1] for network in (self.image_network, self.audio_network))
            self.image_projection = _initialized(nn.Conv2d(wide, dim, 1))
            self.audio_projection = _initialized(nn.Linear(deep, dim))
        window = torch.from_numpy(scipy.signal.get_window(("tukey", 0.25), WINDOW)).float()
        self.register_buffer("window", window, persistent=False)
        self.eval()
        with torch.no_grad():
            image_map = self.image_map(torch.zeros(1, 3, SIZE, SIZE))
            audio_map, _ = self.encode_audio(torch.zeros(1, round(RATE * seconds)))
        self.info = EncoderInfo(
            dim=dim, image_size=SIZE, image_mean=MEAN, image_std=STD, image_grid=tuple(image_map.shape[2:]),
            audio_rate=RATE, audio_seconds=seconds, audio_grid=tuple(audio_map.shape[2:]), backbone_dim=wide,
            has_text=False, weights=f"{image} {'ImageNet' if pretrained else 'random'}, {audio} random, seed {seed}",
        )  # fmt: skip

    def image_map(self, images: Tensor) -> Tensor:
        """The image network's last features ``(B, C, h, w)``."""
        features: Tensor = self.image_network(images)[-1]
        wide = self.image_projection.in_channels
        return features if features.shape[1] == wide else features.movedim(-1, 1)  # some models put channels last

    def encode_image(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        backbone = self.image_map(images)
        tokens = self.image_projection(backbone)  # (B, D, h, w)
        return tokens, tokens.mean((2, 3)), backbone

    def encode_audio(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        cells: Tensor = self.audio_network(self.spectrogram(waves))[-1]  # (B, C, f, m)
        tokens = self.audio_projection(cells.permute(0, 3, 2, 1))  # (B, m, f, D)
        return tokens.movedim(-1, 1), self.audio_projection(cells.amax((2, 3)))

    def spectrogram(self, waves: Tensor) -> Tensor:
        """``(B, T)`` to ``(B, 1, 257, frames)``: ``scipy.signal.spectrogram``'s, its log over 12."""
        pieces = waves.unfold(1, WINDOW, WINDOW - OVERLAP)  # (B, frames, 512)
        pieces = (pieces - pieces.mean(-1, keepdim=True)) * self.window
        power = torch.fft.rfft(pieces).abs().square() / (RATE * self.window.square().sum())
        power = torch.cat([power[..., :1], 2 * power[..., 1:-1], power[..., -1:]], dim=-1)  # one-sided
        return (power + FLOOR).log().transpose(1, 2)[:, None] / SCALE

    def fingerprint(self) -> str:
        digest = hashlib.blake2b(json.dumps(self.options, sort_keys=True).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]


def _features(name: str, *, pretrained: bool, channels: int) -> nn.Module:
    """A timm model without its head, which returns its last features."""
    known = timm.list_models()
    if name.partition(".")[0] not in known:
        close = ", ".join(difflib.get_close_matches(name, known, 3)) or "resnet18"
        raise AvlocError(f"timm has no model {name!r}. Did you mean {close}?")
    try:
        model: nn.Module = timm.create_model(name, pretrained=pretrained, in_chans=channels, features_only=True)
    except (RuntimeError, AttributeError) as error:
        if pretrained:
            raise AvlocError(f"timm has no pretrained weights for {name!r}: {error}") from error
        raise AvlocError(f"The timm model {name!r} gives no feature maps: {error}") from error
    except Exception as error:  # the hub raises any exception of its HTTP client
        raise AvlocError(
            f"The ImageNet weights of {name!r} cannot be downloaded ({error!r}). Get them on a machine with a network "
            "and copy its hub cache here, or use pretrained: false."
        ) from error
    return model


def _initialized(module: nn.Module) -> nn.Module:
    """EZ-VSL's initialization."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, 0.02)
        elif isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.01)
        if isinstance(part, nn.Conv2d | nn.BatchNorm2d | nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
    return module
