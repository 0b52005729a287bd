"""AudioCLIP's audio tower: a learned frequency B-spline front end and a ResNeXt-50 gated by attention."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d, pad
from torchvision.models.resnet import Bottleneck, ResNet

SAMPLES, HOP, WINDOW = 2048, 561, 1654
"""Lengths of filter, hop and window in samples at 44.1 kHz."""
BINS = SAMPLES // 2 + 1
BANDS = 3
"""The spectrum's thirds are the three input channels."""
HEIGHT = BINS // BANDS
FLOOR = 1e-18
"""Lower bound of the power: -180 dB."""


class Fbsp(nn.Module):
    """Complex frequency B-spline wavelets, one per bin, with learned order, bandwidth and center frequency.

    At their initial values (order 0, bandwidth 1, center k), they are the basis of the Fourier transform.
    Source: Guzhov et al., "ESResNe(X)t-fbsp: Learning Robust Time-Frequency Transformation of Audio", IJCNN 2021.
    """

    def __init__(self) -> None:
        super().__init__()
        self.m = nn.Parameter(torch.zeros(BINS))
        self.fb = nn.Parameter(torch.ones(BINS))
        self.fc = nn.Parameter(torch.arange(BINS, dtype=torch.float32))
        self.bias = nn.Parameter(torch.empty(0))  # unused, but contained in published checkpoints

    def filters(self) -> Tensor:
        """``(2, BINS, SAMPLES)``: real and imaginary parts, scaled so that those of the Fourier transform have norm 1.

        Computed in real numbers to reproduce the official code's rounding: the network amplifies a difference in the
        last bit to one in the fourth digit.
        """
        time = torch.pi * torch.linspace(-1, 1, SAMPLES, device=self.m.device) + 1e-8
        order, bandwidth, center = self.m[:, None], self.fb[:, None], self.fc[:, None]
        width = bandwidth * time / (order + 1e-8)  # (BINS, SAMPLES)
        spline = width.sin() / width
        size, turn = spline.square() ** (order / 2), torch.pi * order * (spline < 0)  # of spline to the power of order
        real, imag = size * turn.cos(), size * turn.sin()
        cos, sin = (center * time).cos(), (center * time).sin()
        wavelets = torch.stack([real * cos + imag * sin, imag * cos - real * sin])
        scaled: Tensor = bandwidth.sqrt() * wavelets / math.sqrt(SAMPLES)
        return scaled


class Attention2d(nn.Module):
    """A gate in (0, 1) for the output of a stage, from the input of the stage."""

    def __init__(self, channels: int, out: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.conv_depth = nn.Conv2d(channels, channels, kernel, padding=padding, groups=channels)
        self.conv_point = nn.Conv2d(channels, out, 1)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        gate: Tensor = self.bn(self.conv_point(self.conv_depth(adaptive_max_pool2d(x, size))))
        return gate.sigmoid()


class ESResNeXt(ResNet):  # type: ignore[misc]
    """ESResNeXt-50 (32x4d) with attention over log-power spectra of the fbsp transform.

    Attention alternates between frequency and time.
    """

    window: Tensor

    def __init__(self, dim: int = 1024) -> None:
        super().__init__(Bottleneck, [3, 4, 6, 3], num_classes=dim, groups=32, width_per_group=4)
        self.register_buffer("window", blackman_harris())
        self.fbsp = Fbsp()
        self.att1 = Attention2d(64, 256, (3, 1))
        self.att2 = Attention2d(256, 512, (1, 5))
        self.att3 = Attention2d(512, 1024, (3, 1))
        self.att4 = Attention2d(1024, 2048, (1, 5))
        self.att5 = Attention2d(2048, 2048, (3, 5))

    def forward(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, T)`` waves in the range of 16-bit integers to tokens ``(B, D, m, f)`` and pooled ``(B, D)``."""
        with torch.autocast(waves.device.type, enabled=False):  # the spectrum's range exceeds half precision
            decibels = self.decibels(self.spectrum(from_int16(waves)))
        return self.pool(self.backbone(decibels))

    def spectrum(self, waves: Tensor) -> Tensor:
        """``(B, T)`` waves in [-1, 1] to ``(B, BINS, F)`` complex; frames are windowed and not differentiated."""
        steps = max(0, math.ceil((waves.shape[1] - WINDOW) / HOP))
        missing = steps * HOP + WINDOW - waves.shape[1]
        waves = pad(waves.detach(), (missing // 2, missing - missing // 2))
        frames = pad(waves.unfold(1, WINDOW, HOP) * self.window, ((SAMPLES - WINDOW) // 2,) * 2)  # (B, F, SAMPLES)
        real, imag = self.fbsp.filters()
        return torch.complex(frames @ real.T, frames @ imag.T).mT

    def decibels(self, spectrum: Tensor) -> Tensor:
        """``(B, BINS, F)`` complex to log power ``(B, BANDS, 341, F)``, lowest third first; the last two bins drop."""
        power = spectrum.real.square() + spectrum.imag.square()
        power = power[:, : BANDS * HEIGHT].reshape(-1, BANDS, HEIGHT, power.shape[2])
        return 10 * torch.where(power > 0, power, FLOOR).log10()

    def backbone(self, decibels: Tensor) -> Tensor:
        """``(B, BANDS, 341, F)`` to the last stage's map ``(B, 2048, 11, ceil(F / 32))``, frequency x time."""
        x: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(decibels))))
        for layer, attention in (
            (self.layer1, self.att1), (self.layer2, self.att2), (self.layer3, self.att3), (self.layer4, self.att4),
        ):  # fmt: skip
            found = layer(x)
            x = found * attention(x, found.shape[2:])
        return x

    def pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The last stage's map to tokens ``(B, D, m, f)``, time x frequency, and pooled ``(B, D)``.

        A token is a cell of the map under its own gate; the pooled embedding is the mean cell under the gate of the
        largest values, so it is not the mean of the tokens.
        """
        tokens = self.fc((x * self.att5(x, x.shape[2:])).permute(0, 3, 2, 1))  # (B, m, f, D)
        gate = self.att5(x, (1, 1)).flatten(1)  # (B, 2048)
        return tokens.permute(0, 3, 1, 2), self.fc(x.mean((2, 3)) * gate)


def from_int16(waves: Tensor) -> Tensor:
    """Waves in the range of 16-bit integers to [-1, 1], by the formula of AudioCLIP: silence becomes 1 / 65535."""
    return (waves + 32768) * 2 / 65535 - 1


def blackman_harris() -> Tensor:
    """``(WINDOW,)`` periodic Blackman-Harris window of four terms (Harris 1978)."""
    turns = torch.arange(WINDOW, dtype=torch.float64) * (2 * torch.pi / WINDOW)
    terms = (0.35875, -0.48829, 0.14128, -0.01168)
    return torch.stack([height * (k * turns).cos() for k, height in enumerate(terms)]).sum(0).float()
