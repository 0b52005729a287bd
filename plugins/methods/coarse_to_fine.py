"""CoarsetoFine: first classify images and sounds, then align their features class by class.

The coarse stage learns whether an image and a sound belong together and, from video-level labels, which classes each
contains. The class activation maps of image cells and audio frames then weight them into one image vector and one sound
vector per class. The fine stage pulls both vectors of one class and clip together and pushes all others apart. The map
of a class is the cosine of every cell with the sound's vector of that class.

Qian, Hu, Dinkel, Wu, Xu and Lin, "Multiple Sound Sources Localization from Coarse to Fine", ECCV 2020, as in the
authors' simplified code. With image cells and sound tokens x[n, p], class weights W, a projection P and
d = 2 - 2 cos between vectors of sound and image::

    cam[n, c, p] = relu(<W[c], x[n, p]>),    fine[n, c] = unit( P( sum_p cam x / sum_p cam ) )
    L_d = mean over the same (n, c) of d  +  mean over all others of relu(margin - sqrt d)^2
    loss = pairs + BCE(image) + BCE(sound) + [fine stage] L_d,    map[n, c, p] = relu(cos(P(x[n, p]), fine[n, c]))

The gradient of sqrt d at 0 is infinite, which the official code multiplies by a mask of 0 into NaN: here d is at least
1e-8 under the root. Vectors exist only for classes with a probability over 0.3, as in the official mask, and for
labeled ones, at most 8 per clip: with hundreds of classes, vectors for all would not fit into memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avloc import Batch, Context, EncoderInfo, Features, Method, Needs, Phase, Prediction
from avloc.functional import (
    binary_contrast,
    gather_sources,
    l2_normalize,
    mean,
    named_predictions,
    queried_sources,
    require_labels,
    tokens,
)


def pair_loss(logits: Tensor) -> Tensor:
    """Classify which sounds belong to which images; matching and other pairs have the same total weight.

    Args:
        logits: ``(B, B, 2)`` for every image with every sound: no match, match.
    """
    belong = logits[..., 1] - logits[..., 0]
    others = ~torch.eye(len(belong), dtype=torch.bool, device=belong.device)
    return binary_contrast(belong.diagonal(), belong[others])


def fine_loss(
    image: Tensor, audio: Tensor, image_sources: Tensor, audio_sources: Tensor, *, margin: float = 1.4
) -> dict[str, Tensor]:
    """Class vectors of one clip and class attract each other, all others repel.

    Args:
        image: ``(B, K, D)`` unit vectors of the classes that images show.
        audio: ``(B, J, D)`` unit vectors of the classes that sounds contain.
        image_sources: Their classes, a list of sources ``(B, K)``.
        audio_sources: Their classes, a list of sources ``(B, J)``.
        margin: Distance beyond which other pairs do not repel.

    Returns:
        ``attract`` and ``repel``; 0 where there are no such pairs.
    """

    def kept(vectors: Tensor, sources: Tensor) -> tuple[Tensor, Tensor]:
        real = sources >= 0
        clips = real.nonzero()[:, 0]
        return vectors[real].to(torch.promote_types(vectors.dtype, torch.float32)), torch.stack([clips, sources[real]])

    (seen, seen_keys), (heard, heard_keys) = kept(image, image_sources), kept(audio, audio_sources)
    with torch.autocast(image.device.type, enabled=False):
        distances = 2 - 2 * seen @ heard.T  # (R, Q), squared
    same = (seen_keys[:, :, None] == heard_keys[:, None]).all(0)
    near = distances[~same].clamp_min(1e-8).sqrt()
    return {"attract": mean(distances[same]), "repel": mean((margin - near).relu().square())}


class CoarseToFine(Method):
    """Class heads, a pair classifier, and projections of class vectors, in two stages.

    Args:
        encoder: What the features come from.
        classes: The classes of the class heads.
        dim: Width of the class vectors' space.
        threshold: Probability above which a class counts as present.
        margin: Of `fine_loss`.
        most: Largest number of class vectors per clip and modality; the most probable classes are kept.
        fine_lr: Learning rate of the fine stage, relative to the coarse one.
    """

    title = "CoarsetoFine"
    paper = "Qian et al., Multiple Sound Sources Localization from Coarse to Fine, ECCV 2020"
    needs = Needs(hints="vocabulary", labels=True, closed_set=True)

    def __init__(
        self,
        encoder: EncoderInfo,
        classes: Sequence[str],
        *,
        dim: int = 128,
        threshold: float = 0.3,
        margin: float = 1.4,
        most: int = 8,
        fine_lr: float = 0.1,
    ) -> None:
        super().__init__()
        self.image_classes = nn.Linear(encoder.dim, len(classes), bias=False)
        self.audio_classes = nn.Linear(encoder.dim, len(classes), bias=False)
        self.pairs_image, self.pairs_audio = nn.Linear(encoder.dim, 128), nn.Linear(encoder.dim, 128, bias=False)
        self.pairs = nn.Linear(128, 2)
        self.project_image, self.project_audio = (
            nn.Sequential(nn.Linear(encoder.dim, 1024, bias=False), nn.ReLU(), nn.Linear(1024, dim, bias=False))
            for _ in range(2)
        )
        self.threshold, self.margin, self.most, self.fine_lr = threshold, margin, most, fine_lr
        self.index = {name: n for n, name in enumerate(classes)}

    def phases(self) -> Sequence[Phase]:
        coarse = Phase("coarse", parameters=("image_classes", "audio_classes", "pairs"))
        return coarse, Phase("fine", lr_scale=self.fine_lr)

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        labels = require_labels(batch)
        image, audio = tokens(features.image_map), tokens(features.audio_map)  # (B, n, D), (B, m, D)
        seen, heard = self.image_classes(image.mean(1)), self.audio_classes(audio.mean(1))  # (B, N)
        terms = {
            "pairs": pair_loss(self.judge(image.mean(1), audio.mean(1))),
            "image": F.binary_cross_entropy_with_logits(seen, labels),
            "audio": F.binary_cross_entropy_with_logits(heard, labels),
        }
        if context.phase == "coarse":
            return terms
        shown, sounding = self.present(seen, labels), self.present(heard, labels)
        image_vectors = l2_normalize(self.project_image(by_class(image, self.image_classes.weight, shown)))
        audio_vectors = l2_normalize(self.project_audio(by_class(audio, self.audio_classes.weight, sounding)))
        return terms | fine_loss(image_vectors, audio_vectors, shown, sounding, margin=self.margin)

    def judge(self, image: Tensor, audio: Tensor) -> Tensor:
        """``(B, B, 2)``: a two-layer network on every pooled image beside every pooled sound, ``(B, D)`` each."""
        hidden = self.pairs_image(image)[:, None] + self.pairs_audio(audio)[None]
        return torch.as_tensor(self.pairs(hidden.relu()))

    def present(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The classes that get a vector, a list of sources ``(B, K)``: labelled ones first, then probable ones."""
        probabilities = logits.detach().float().sigmoid()
        ranks = probabilities + (labels > 0)
        found, order = ranks.topk(min(self.most, ranks.shape[1]), dim=1)
        return order.where(found > self.threshold, -1)

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        image, audio = tokens(features.image_map), tokens(features.audio_map)
        columns = [self.index[name] for name in batch.classes]  # batch.classes may be fewer, or in another order
        probabilities = self.audio_classes(audio.mean(1))[:, columns].sigmoid()
        sources = queried_sources(batch, probabilities, self.threshold)
        weight = self.audio_classes.weight[columns]
        queries = l2_normalize(self.project_audio(by_class(audio, weight, sources)))  # (B, K, dim)
        maps = (queries @ l2_normalize(self.project_image(image)).mT).relu()  # (B, K, n)
        maps = maps.reshape(*sources.shape, *features.image_map.shape[2:])
        return named_predictions(batch, sources, maps, probabilities)


def by_class(feature: Tensor, weight: Tensor, sources: Tensor) -> Tensor:
    """Means over the tokens, weighted by their class activations; no gradient passes through the weights.

    Args:
        feature: ``(B, n, D)`` tokens.
        weight: ``(N, D)``, one row per class.
        sources: A list of sources ``(B, K)``.

    Returns:
        ``(B, K, D)``; zero where no token activates the class.
    """
    cam = (gather_sources(weight, sources) @ feature.mT).relu().detach()  # (B, K, n)
    return (cam / (cam.sum(2, keepdim=True) + 1e-10)) @ feature
