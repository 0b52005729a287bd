"""Alignment: localization alone does not require semantic understanding, so whole images and sounds are aligned too.

One contrastive loss compares a sound with an image's responding cells, as in LVS; a second compares it with the image
as a whole. Every image and every sound comes in three versions: original, augmented, and replaced by a near neighbor
among the training clips, so that similar clips become positives. Each version of the image is contrasted with each
version of the sound. The map is the cosine of every cell with the clip's own sound.

Senocak, Ryu, Kim, Oh, Pfister and Chung, "Sound Source Localization is All about Cross-Modal Alignment", ICCV 2023.
With unit image cells v and unit sounds a, whole images g and sounds h in a space of their own, over versions i and j::

    s[n, m, p] = <v_i[n, p], a_j[m]>,    w = sigma((s - epsilon) / tau)
    local_ij   = CE( (sum_p w s / sum_p w) / T )          whole_ij = CE( <g_i[n], h_j[m]> / T )
    loss       = sum_ij local_ij + whole_ij               CE over the rows (images) alone

A sound's neighbor is drawn independently of the image's. The authors' lists of neighbors come from encoders that they
did not release; ours use the cosine of the encoder's own pooled features and never contain the clip itself. The paper
localizes with unprojected features, but without heads there would be nothing to train on a frozen encoder.

Augmented views differ from the released ones in three ways: images are shifted, not cropped; sounds are rolled by any
time, where the release shifts its window by up to 3.5 s; and brightness, contrast and saturation change by a factor of
0.6 to 1.4, where the release's factor is 0 to 0.4, which we assume is a mistake because it can only darken.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import product

import torch
from torch import Tensor, nn

from avloc import Batch, Context, EncoderInfo, Features, Method, Needs, Prediction
from avloc.functional import (
    Heads,
    cosine_map,
    diagonal_cross_entropy,
    l2_normalize,
    pairwise_similarity,
    sigmoid_weighted_mean,
    unnamed_predictions,
)

COSINES_AT_ONCE = 2**24
"""Number of cosines that the neighbor search holds in memory: 64 MB."""


def local_loss(
    image_map: Tensor, audio: Tensor, *, epsilon: float = 0.65, tau: float = 0.03, temperature: float = 0.07
) -> Tensor:
    """An image's responding cells must match its own sound: LVS without trimap and hard negatives.

    Args:
        image_map: ``(B, D, h, w)``, L2-normalized over D.
        audio: ``(B, D)``, L2-normalized; row n belongs to image n.
        epsilon: Cosine at which a cell has weight one half.
        tau: Softness of that threshold.
        temperature: Of the contrast, T.
    """
    return diagonal_cross_entropy(
        sigmoid_weighted_mean(pairwise_similarity(image_map, audio), epsilon, tau) / temperature
    )


def whole_loss(image: Tensor, audio: Tensor, *, temperature: float = 0.07) -> Tensor:
    """A whole image must match its own sound: ``(B, D)`` each, L2-normalized."""
    return diagonal_cross_entropy(pairwise_similarity(image, audio) / temperature)


def alignment_loss(
    local: Sequence[tuple[Tensor, Tensor]],
    whole: Sequence[tuple[Tensor, Tensor]],
    *,
    epsilon: float = 0.65,
    tau: float = 0.03,
    temperature: float = 0.07,
) -> dict[str, Tensor]:
    """Both losses, summed over every version of the images with every version of the sounds.

    Args:
        local: The arguments of `local_loss` for each version of the batch.
        whole: The arguments of `whole_loss` for each version of the batch.
        epsilon: Cosine at which a cell counts half.
        tau: Softness of that threshold.
        temperature: Of both contrasts.
    """
    values = {"epsilon": epsilon, "tau": tau, "temperature": temperature}
    cells = [local_loss(i[0], j[1], **values) for i, j in product(local, repeat=2)]
    wholes = [whole_loss(i[0], j[1], temperature=temperature) for i, j in product(whole, repeat=2)]
    return {"local": torch.stack(cells).sum(), "whole": torch.stack(wholes).sum()}


def nearest(vectors: Tensor, count: int, *, at_once: int = COSINES_AT_ONCE) -> Tensor:
    """Of each of ``(n, D)`` vectors the `count` others with the highest cosine: ``(n, count)`` int32 rows.

    At most `at_once` cosines, or those of one vector, are in memory.
    """
    vectors = l2_normalize(vectors.float())
    rows = torch.arange(len(vectors), device=vectors.device)
    found = []
    for some in torch.split(rows, max(1, at_once // len(vectors))):
        cosines = (vectors[some] @ vectors.T).masked_fill_(some[:, None] == rows, -torch.inf)
        found.append(cosines.topk(count).indices.int())
    return torch.cat(found)


@lru_cache(maxsize=1)
def _rows(listed: bytes) -> tuple[list[str], dict[str, int]]:
    """A list of ids out of its JSON, and the row of each."""
    ids = json.loads(listed)
    return ids, {id: row for row, id in enumerate(ids)}


class Alignment(Method):
    """Heads for cells and for whole clips under `alignment_loss`, with augmented clips and neighbors.

    Args:
        encoder: What the features come from.
        classes: Not used: Alignment learns without labels.
        dim: Width of the shared spaces.
        epsilon: Cosine at which a cell counts half.
        tau: Softness of that threshold.
        temperature: Of both contrasts.
        neighbor_share: Size of the pool of near neighbors, as a fraction of the training clips, but at least one; the
            paper's 1000 of 144 000 are 0.7 %.
    """

    title = "Alignment"
    paper = "Senocak et al., Sound Source Localization is All about Cross-Modal Alignment, ICCV 2023"
    needs = Needs(views=("augmented", "neighbor"))

    ids: Tensor
    image_neighbors: Tensor
    audio_neighbors: Tensor

    def __init__(
        self,
        encoder: EncoderInfo,
        classes: Sequence[str],
        *,
        dim: int = 512,
        epsilon: float = 0.65,
        tau: float = 0.03,
        temperature: float = 0.07,
        neighbor_share: float = 0.007,
    ) -> None:
        super().__init__()
        self.heads = Heads(encoder.dim, dim)
        self.whole_image, self.whole_audio = nn.Linear(encoder.dim, dim), nn.Linear(encoder.dim, dim)
        self.criterion = partial(alignment_loss, epsilon=epsilon, tau=tau, temperature=temperature)
        self.neighbor_share = neighbor_share
        self.register_buffer("ids", torch.empty(0, dtype=torch.uint8))  # JSON of the training clips' ids
        for name in ("image_neighbors", "audio_neighbors"):  # (n, count), rows of `ids`
            self.register_buffer(name, torch.empty(0, 0, dtype=torch.int32))

    def before_phase(self, phase: str, dataset_pass: Callable[[], Iterator[tuple[Features, Batch]]]) -> None:
        """Find the neighbors of every training clip."""
        ids: list[str] = []
        images, sounds = [], []
        for features, batch in dataset_pass():
            ids += batch.ids
            images.append(features.image)
            sounds.append(features.audio)
        count = min(max(1, round(self.neighbor_share * len(ids))), max(1, len(ids) - 1))
        self.image_neighbors = nearest(torch.cat(images), count)
        self.audio_neighbors = nearest(torch.cat(sounds), count)
        listed = torch.frombuffer(bytearray(json.dumps(ids).encode()), dtype=torch.uint8)
        self.ids = listed.to(self.image_neighbors.device)

    def neighbors(self, ids: Sequence[str], context: Context) -> tuple[Sequence[str], Sequence[str]]:
        known, row = _rows(self.ids.cpu().numpy().tobytes())
        rows = torch.tensor([row[id] for id in ids])
        drawn = []
        for neighbors in (self.image_neighbors, self.audio_neighbors):
            columns = torch.randint(neighbors.shape[1], (len(ids),))
            drawn.append([known[one] for one in neighbors[rows, columns].tolist()])
        return drawn[0], drawn[1]

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        versions = [features, *(features.views[name] for name in self.needs.views)]
        local = [self.heads(version.image_map, version.audio) for version in versions]
        return self.criterion(local, [self.whole(version) for version in versions])

    def whole(self, features: Features) -> tuple[Tensor, Tensor]:
        """Unit vectors ``(B, dim)`` of whole images, by the strongest response of every channel, and whole sounds."""
        return l2_normalize(self.whole_image(features.image_map.amax((2, 3)))), l2_normalize(
            self.whole_audio(features.audio)
        )

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        image_map, audio = self.heads(features.image_map, features.audio)
        return unnamed_predictions(batch, cosine_map(image_map, audio[:, None]))
