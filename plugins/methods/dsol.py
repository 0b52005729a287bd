"""DSOL: build a dictionary of sounding objects from simple clips, and use it to localize them in mixtures.

The first stage alternates two steps. In the location step, the best cell of an image must tell it from an image of
another video. The located objects are then clustered, and in the classification step, the clusters are the classes of
an image classifier and a sound classifier. The mean of every cluster is its entry in the object dictionary. In the
second stage, the cells that match both an entry and the sound must show the classes that the frozen sound classifier
predicts, so that silent objects are filtered out.

Hu, Qian, Jiang, Tan, Wen, Ding, Lin and Dou, "Discriminative Sounding Objects Localization via Self-supervised
Audiovisual Matching", NeurIPS 2020. With unit cells and sounds of location networks, s[p] = 5 <v[p], a> for the clip's
own image and s' for the other one, features x, dictionary entries r and the frozen classifier t::

    L_1   = BCE over own and other of max_p sigma(s)                 o[c, p] = (w <x[p], r[c]> + b) sigma(s[p])
    L_cat = KL( softmax_c(mean_p o[c, p]), softmax(t(sound)) ) / N      loss = L_cat + 0.5 L_loc
    L_loc = ( BCE(max_p sigma(s), 1) + BCE(2x2 maxima of sigma(s'), 0) ) / 2
    map_c[p] = softmax_c(3 o[c, p])                                     where one source sounds: sigma(s[p])

Differences from the paper: the paper uses simple clips in the first stage and mixtures in the second, while here both
use the suite's training clips. The paper trains the classifiers in every epoch from the second on (`rounds` = 14), for
which few suites have enough epochs.

The features are the encoder's own. A pseudo label is the nearest cluster center; each tile of a canvas is a separate
object. The official repository names clusters by hand; here, names are the best assignment on the training labels,
which nothing else reads unless `pseudo` is ``label``. Dictionary entries are divided by their mean squared norm, so
that w starts at 1 whatever the encoder's scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from torch import Tensor, nn

from avloc import AvlocError, Batch, Context, EncoderInfo, Features, Method, Needs, Phase, Prediction
from avloc.functional import (
    EPS,
    binary_contrast,
    cosine_map,
    l2_normalize,
    mlp,
    named_predictions,
    pairwise_similarity,
    queried_sources,
    require_labels,
    split_tiles,
    unnamed_predictions,
)

OUT_OF_REACH = 1e3
"""Position of unused cluster centers, far from all objects, which are unit vectors."""


def location_loss(own: Tensor, other: Tensor) -> Tensor:
    """First stage: the best cell of the own image sounds, that of the other image does not; ``(B, h, w)`` logits."""
    return binary_contrast(own.amax((1, 2)), other.amax((1, 2)))


def class_maps(
    image_map: Tensor,
    dictionary: Tensor,
    location: Tensor,
    *,
    scale: Tensor | float = 1.0,
    bias: Tensor | float = 0.0,
) -> Tensor:
    """o: where an object of the dictionary is visible and sounds.

    Args:
        image_map: ``(B, D, h, w)``.
        dictionary: ``(N, D)``.
        location: ``(B, h, w)`` logits of sounding.
        scale: w.
        bias: b.

    Returns:
        ``(B, N, h, w)``.
    """
    return (scale * pairwise_similarity(image_map, dictionary) + bias) * location.sigmoid()[:, None]


def sounding_loss(own: Tensor, other: Tensor, objects: Tensor, heard: Tensor) -> dict[str, Tensor]:
    """Second stage: the sounding objects of an image match the sound, and no cell of another image sounds.

    Args:
        own: ``(B, h, w)`` location logits.
        other: ``(B, h, w)`` location logits of another image with the own sound.
        objects: ``(B, N, h, w)``, the class maps.
        heard: ``(B, N)`` logits of the frozen sound classifier.
    """
    located = binary_contrast(own.amax((1, 2)), F.adaptive_max_pool2d(other[:, None], 2))
    category = F.kl_div(objects.mean((2, 3)).log_softmax(1), heard.softmax(1), reduction="none")  # (B, N)
    return {"category": category.mean(), "location": located / 2}


def dilated(masks: Tensor) -> Tensor:
    """``(n, h, w)`` bool masks, dilated by the inner cells that have one of their four neighbors in the mask."""
    grown = masks.clone()
    grown[:, 1:-1, 1:-1] |= masks[:, :-2, 1:-1] | masks[:, 2:, 1:-1] | masks[:, 1:-1, :-2] | masks[:, 1:-1, 2:]
    return grown


class DSOL(Method):
    """Location networks, class heads and an object dictionary, in two stages.

    Args:
        encoder: What the features come from.
        classes: There is one cluster per class, but at most one per object.
        dim: Width of the location networks.
        rounds: How often the first stage alternates between location and classification; 14 in the paper.
        pseudo: Targets of the classifiers: ``kmeans``, the clusters; ``label``, the video-level labels.
        mask_at: Location score above which a cell belongs to the object.
        sharpness: Of the softmax over classes that makes maps.
    """

    title = "DSOL"
    paper = (
        "Hu et al., Discriminative Sounding Objects Localization via Self-supervised Audiovisual Matching, NeurIPS 2020"
    )
    revision = 2
    needs = Needs(labels=True, views=("other_video",), closed_set=True)

    centers: Tensor
    dictionary: Tensor
    cluster_of: Tensor

    def __init__(
        self,
        encoder: EncoderInfo,
        classes: Sequence[str],
        *,
        dim: int = 128,
        rounds: int = 3,
        pseudo: str = "kmeans",
        mask_at: float = 0.05,
        sharpness: float = 3.0,
    ) -> None:
        super().__init__()
        if pseudo not in ("kmeans", "label"):
            raise AvlocError(f"DSOL: pseudo must be kmeans or label, not {pseudo!r}.")
        self.image, self.audio = mlp(encoder.dim, dim, cells=True), mlp(encoder.dim, dim)
        self.location_scale = nn.Parameter(torch.tensor(5.0))
        self.object_scale, self.object_bias = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(0.0))
        self.classify = nn.ModuleDict({name: nn.Linear(encoder.dim, len(classes)) for name in ("image", "audio")})
        self.teacher = nn.Linear(encoder.dim, len(classes))  # of no phase: only ever a copy
        self.index = {name: n for n, name in enumerate(classes)}
        self.rounds, self.pseudo, self.mask_at, self.sharpness = rounds, pseudo, mask_at, sharpness
        for name in ("centers", "dictionary"):
            self.register_buffer(name, torch.zeros(len(classes), encoder.dim))
        self.register_buffer("cluster_of", torch.arange(len(classes)))  # of every class

    def phases(self) -> Sequence[Phase]:
        """The paper's 15 epochs of location, 3 of classification in every round, and 5 on mixtures."""
        networks = ("image", "audio", "location_scale")
        location = Phase("location", 15 / self.rounds, networks)
        classification = Phase("classification", 3, ("classify",), lr_scale=10)
        return (*[location, classification] * self.rounds, Phase("mixed", 5, (*networks, "object")))

    @torch.no_grad()
    def before_phase(self, phase: str, dataset_pass: Callable[[], Iterator[tuple[Features, Batch]]]) -> None:
        """Cluster the objects and reset the class heads, or copy the sound's head for the last stage."""
        if phase == "classification":
            self._look(dataset_pass)
            for head in self.classify.values():
                assert isinstance(head, nn.Linear)
                nn.init.normal_(head.weight, std=0.01)
                nn.init.zeros_(head.bias)
        elif phase == "mixed":
            self.teacher.load_state_dict(self.classify["audio"].state_dict())

    def _look(self, dataset_pass: Callable[[], Iterator[tuple[Features, Batch]]]) -> None:
        """Fill the dictionary with the mean object of every pseudo label, and name the clusters."""
        found, hints = [], []
        for features, batch in dataset_pass():
            objects = self.objects(features, batch)
            found.append(objects.flatten(0, 1))
            hints.append(_shares(require_labels(batch)).repeat_interleave(objects.shape[1], 0))
        objects, labels = torch.cat(found), torch.cat(hints)  # (n, D), (n, N)
        members = labels
        if self.pseudo == "kmeans":
            self._cluster(objects)
            members = self.nearest(objects)
            clusters, names = linear_sum_assignment((members.T @ labels).cpu().numpy(), maximize=True)
            self.cluster_of[torch.as_tensor(names)] = torch.as_tensor(clusters).to(self.cluster_of)
        entries = _shares(members.T) @ objects  # (N, D)
        self.dictionary = entries / entries.square().sum(1).mean().clamp_min(EPS)

    def _cluster(self, objects: Tensor) -> None:
        count = min(len(self.centers), len(objects))
        seed = int(torch.randint(2**31 - 1, ()))
        found = KMeans(count, random_state=seed, n_init=1).fit(l2_normalize(objects).float().cpu().numpy())
        self.centers = torch.full_like(self.centers, OUT_OF_REACH)
        self.centers[:count] = torch.as_tensor(found.cluster_centers_).to(self.centers)

    def locate(self, image_map: Tensor, audio: Tensor) -> Tensor:
        """Location logits ``(B, h, w)``."""
        return self.location_scale * cosine_map(self.image(image_map), self.audio(audio)[:, None])[:, 0]

    def objects(self, features: Features, batch: Batch) -> Tensor:
        """The mean of every tile's located cells over all of its cells, not normalized: ``(B, tiles, D)``."""
        count = int(batch.tiles[0])
        located = split_tiles(self.locate(features.image_map, features.audio)[:, None], count)  # (B, tiles, 1, h, w)
        masks = dilated(located.flatten(0, 2).sigmoid() > self.mask_at).reshape(located.shape)
        return (split_tiles(features.image_map, count) * masks).mean((3, 4))

    def nearest(self, objects: Tensor) -> Tensor:
        """Cluster memberships ``(n, N)``, one-hot, of objects ``(n, D)``."""
        return F.one_hot(torch.cdist(l2_normalize(objects.float()), self.centers).argmin(1), len(self.centers)).float()

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        if context.phase == "classification":
            return self._classification(features, batch)
        own = self.locate(features.image_map, features.audio)
        other = self.locate(features.views["other_video"].image_map, features.audio)
        if context.phase == "location":
            return {"location": location_loss(own, other)}
        heard = self.teacher(features.audio).detach()
        return sounding_loss(own, other, self.class_maps(features, own), heard)

    def _classification(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        if self.pseudo == "label":
            targets = _shares(require_labels(batch))
        else:
            objects = self.objects(features, batch).detach()
            targets = self.nearest(objects.flatten(0, 1)).reshape(*objects.shape[:2], -1).mean(1)  # (B, N)
        pooled = {"image": features.image_map.mean((2, 3)), "audio": features.audio}
        return {name: F.cross_entropy(head(pooled[name]), targets) for name, head in self.classify.items()}

    def class_maps(self, features: Features, location: Tensor) -> Tensor:
        """`class_maps` of the dictionary's entries, in the order of the clusters: ``(B, N, h, w)``."""
        scales = {"scale": self.object_scale, "bias": self.object_bias}
        return class_maps(features.image_map, self.dictionary, location, **scales)

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        location = self.locate(features.image_map, features.audio)
        alone = location.sigmoid()[:, None]  # (B, 1, h, w)
        if not batch.classes:
            return unnamed_predictions(batch, alone)
        columns = self.cluster_of[
            [self.index[name] for name in batch.classes]
        ]  # batch.classes may be fewer, or in another order
        objects = self.class_maps(features, location)
        probabilities = objects.mean((2, 3)).softmax(1)[:, columns]
        sources = queried_sources(batch, probabilities)
        maps = (self.sharpness * objects).softmax(1)[:, columns]  # (B, N, h, w)
        clips = torch.arange(len(maps), device=maps.device)[:, None]
        maps = maps[clips, sources.clamp_min(0)]  # (B, K, h, w)
        if batch.source_counts is not None:
            maps = torch.where((batch.source_counts == 1)[:, None, None, None], alone, maps)
        return named_predictions(batch, sources, maps, probabilities)


def _shares(weights: Tensor) -> Tensor:
    """Normalize rows to a sum of 1; rows of zeros stay zero."""
    return weights / weights.sum(1, keepdim=True).clamp_min(EPS)
