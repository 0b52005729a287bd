"""Sounds to AudioSet's 521 classes: YAMNet, patch by patch."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from avloc import AvlocError

RATE, CLASSES, BANDS = 16_000, 521, 64
WINDOW, HOP, POINTS, FLOOR = 400, 160, 512, 1e-3
PATCH, STEP = 96, 48
"""Frames of a patch (0.96 s), and from one to the next."""
WIDTHS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
STRIDES = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


class YAMNet(nn.Module):
    """Plakal and Ellis, YAMNet, 2019: MobileNet v1 (Howard et al., 2017) on log-mel patches, its norms folded in."""

    window: Tensor
    bands: Tensor

    def __init__(self) -> None:
        super().__init__()
        first = nn.Conv2d(1, WIDTHS[0], 3, STRIDES[0])
        convolutions = [first]
        for before, width, stride in zip(WIDTHS, WIDTHS[1:], STRIDES[1:], strict=False):
            convolutions += [nn.Conv2d(before, before, 3, stride, groups=before), nn.Conv2d(before, width, 1)]
        for convolution in convolutions:  # where nothing is loaded, clips should still differ
            nn.init.kaiming_normal_(convolution.weight)
        self.convolutions = nn.ModuleList(convolutions)
        self.head = nn.Linear(WIDTHS[-1], CLASSES)
        window = nn.functional.pad(torch.hann_window(WINDOW), (0, POINTS - WINDOW))
        self.register_buffer("window", window, persistent=False)
        mel = melscale_fbanks(POINTS // 2 + 1, 125.0, 7500.0, BANDS, RATE)
        self.register_buffer("bands", mel, persistent=False)

    def spectrogram(self, waves: Tensor) -> Tensor:
        """``(B, T)`` to ``(B, frames, 64)``, log-mel magnitudes."""
        frames = waves.unfold(1, WINDOW, HOP)  # (B, frames, 400)
        magnitudes = torch.fft.rfft(frames * self.window[:WINDOW], POINTS).abs()
        return (magnitudes @ self.bands + FLOOR).log()

    def patches(self, waves: Tensor) -> Tensor:
        """``(B, T)`` to ``(B, P, 1, 96, 64)``."""
        return self.spectrogram(waves).unfold(1, PATCH, STEP).transpose(2, 3)[:, :, None]

    def classify(self, patches: Tensor) -> Tensor:
        """``(N, 1, 96, 64)`` to logits ``(N, 521)``."""
        for convolution in self.convolutions:
            patches = convolution(_same(patches, convolution)).relu()
        logits: Tensor = self.head(patches.mean((2, 3)))
        return logits

    def forward(self, waves: Tensor) -> Tensor:
        """``(B, T)`` to logits ``(B, P, 521)``."""
        patches = self.patches(waves)
        return self.classify(patches.flatten(0, 1)).unflatten(0, patches.shape[:2])


def _same(x: Tensor, convolution: nn.Module) -> Tensor:
    """Pad as TensorFlow does: the odd pixel comes last."""
    assert isinstance(convolution, nn.Conv2d)
    sides: list[int] = []
    for size, kernel, stride in zip(
        x.shape[:1:-1], convolution.kernel_size[::-1], convolution.stride[::-1], strict=True
    ):
        extra = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        sides += [extra // 2, extra - extra // 2]
    return nn.functional.pad(x, sides)


def yamnet_state(model: Path) -> dict[str, Tensor]:
    """The float weights of an ONNX file of YAMNet (with its data beside it), under the names of `YAMNet`.

    Raises:
        AvlocError: The package onnx is not installed.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise AvlocError("Reading YAMNet's weights needs the package onnx: pip install 'avloc[conse]'") from error
    graph = onnx.load(str(model)).graph
    tensors = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in graph.initializer}
    above: dict[str, str] = {}  # what was quantized and back -> the tensor that it was
    found: dict[str, Tensor] = {}
    layers = 0
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            above[node.output[0]] = above.get(node.input[0], node.input[0])
        if node.op_type in ("Conv", "Gemm"):
            name = "head" if node.op_type == "Gemm" else f"convolutions.{layers}"
            layers += node.op_type == "Conv"
            weight, bias = (tensors[above.get(one, one)] for one in node.input[1:3])
            found |= {f"{name}.weight": weight, f"{name}.bias": bias}
    return found
