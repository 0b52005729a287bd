"""SLAVC: separate heads for correspondence and localization, with targets from a momentum teacher.

Localization and audio-visual correspondence each have their own image and sound head. A sound matches an image to the
extent that some cell is both its location (a softmax over cells) and closer to it than to the other sounds (a softmax
over sounds). Heavy dropout on the image map and targets from an exponential moving average of the heads keep the
contrastive loss from overfitting. The averaged heads make the map.

Mo and Morgado, "A Closer Look at Weakly-Supervised Audio-Visual Source Localization", NeurIPS 2022. With unit image
cells v and unit sounds a of the correspondence (1) and localization (2) heads, barred ones of the averaged heads::

    I2A[n, m] = log sum_p softmax_m(<v1[n, p], a1bar[m]> / tau) softmax_p(<v2[n, p], a2bar[m]> / tau)
    A2I[n, m] = log sum_p softmax_m(<v1bar[n, p], a1[m]> / tau) softmax_p(<v2bar[n, p], a2[m]> / tau)
    loss = CE(I2A) + CE(A2I),    map[n, p] = (<v1bar[n, p], a1bar[n]> + <v2bar[n, p], a2bar[n]>) / 2

Both matrices have images as rows. The map is on the scale of cosines and never min-max normalized. In the paper, the
backbones are averaged too. Here, a method has only heads, so a trained encoder is shared by teacher and student and not
averaged: with ``train_encoder``, the averaged heads lag behind it, most of all at the default momentum.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from avloc import Batch, Context, EncoderInfo, Features, Method, Phase, Prediction
from avloc.functional import (
    Heads,
    cosine_map,
    diagonal_cross_entropy,
    pairwise_similarity,
    unnamed_predictions,
    update_average,
)

TwoSpaces = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Image map ``(B, D, h, w)`` and sound ``(B, D)`` in the space of correspondence, and both in that of localization."""


def slavc_loss(student: TwoSpaces, teacher: TwoSpaces, *, tau: float = 0.03) -> Tensor:
    """Match images with the teacher's sounds, and sounds with the teacher's images.

    Args:
        student: The heads' outputs for a batch, L2-normalized over D; row n of a sound belongs to image n.
        teacher: The averaged heads' outputs; they get no gradient.
        tau: Temperature of all four softmaxes.
    """
    (image1, audio1), (image2, audio2) = student
    (image1_bar, audio1_bar), (image2_bar, audio2_bar) = ((v.detach(), a.detach()) for v, a in teacher)
    image_to_audio = _log_match((image1, audio1_bar), (image2, audio2_bar), tau)
    audio_to_image = _log_match((image1_bar, audio1), (image2_bar, audio2), tau)
    return diagonal_cross_entropy(image_to_audio) + diagonal_cross_entropy(audio_to_image)


def _log_match(correspondence: tuple[Tensor, Tensor], localization: tuple[Tensor, Tensor], tau: float) -> Tensor:
    """``(B, B)`` log-probabilities that some cell of an image makes a sound; as logarithms, because the product of
    both softmaxes underflows."""
    which = (pairwise_similarity(*correspondence) / tau).flatten(2).log_softmax(1)  # (B, B, P)
    where = (pairwise_similarity(*localization) / tau).flatten(2).log_softmax(2)
    return (which + where).logsumexp(2)


class TwoHeads(nn.Module):
    """Heads for correspondence and for localization, under one dropout.

    Args:
        encoder_dim: Width of the features.
        dim: Width of both spaces.
        dropout: Share of the image map's values that are dropped in training.
    """

    def __init__(self, encoder_dim: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.correspondence, self.localization = Heads(encoder_dim, dim), Heads(encoder_dim, dim)

    def forward(self, features: Features) -> TwoSpaces:
        image_map = self.dropout(features.image_map)  # the same values for both heads
        return self.correspondence(image_map, features.audio), self.localization(image_map, features.audio)


class SLAVC(Method):
    """Two heads per modality trained with `slavc_loss`, and their moving average.

    Args:
        encoder: What the features come from.
        classes: Not used: SLAVC learns without labels.
        dim: Width of the shared spaces.
        tau: Temperature.
        dropout: Share of the image map's values that are dropped in training, for the averaged heads too.
        momentum: Share of the average that stays in every step.
    """

    title = "SLAVC"
    paper = "Mo and Morgado, A Closer Look at Weakly-Supervised Audio-Visual Source Localization, NeurIPS 2022"

    def __init__(
        self,
        encoder: EncoderInfo,
        classes: Sequence[str],
        *,
        dim: int = 512,
        tau: float = 0.03,
        dropout: float = 0.9,
        momentum: float = 0.999,
    ) -> None:
        super().__init__()
        self.student = TwoHeads(encoder.dim, dim, dropout)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.tau, self.momentum = tau, momentum

    def phases(self) -> Sequence[Phase]:
        return (Phase(parameters=("student.",)),)

    def before_step(self, context: Context) -> None:
        update_average(self.teacher, self.student, self.momentum)

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        with torch.no_grad():
            teacher = self.teacher(features)
        return {"contrastive": slavc_loss(self.student(features), teacher, tau=self.tau)}

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        maps = [cosine_map(image_map, audio[:, None]) for image_map, audio in self.student(features)]
        return unnamed_predictions(batch, (maps[0] + maps[1]) / 2)

    def evaluation_module(self) -> Method:
        """The same method with the averaged heads."""
        averaged = copy.deepcopy(self)
        averaged.student = averaged.teacher
        return averaged
