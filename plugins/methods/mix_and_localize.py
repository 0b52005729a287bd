"""Mix-and-Localize: a random walk from the sounds of a mixture to images and back must return to its start.

A canvas of K images comes with the mixture of their K sounds, sampled twice at different times. K heads with separate
weights extract one vector each from either mixture. These vectors and the images are the nodes of a graph. A random
walk from a node of the second mixture to an image and on to the first mixture must return to its own head, which is
only possible if every head extracts one image's sound.

Hu, Chen and Owens, "Mix and Localize: Localizing Sound Sources in Mixtures", CVPR 2022. With unit cells v[i] of image
i, unit vectors b1[k] and b2[k] of head k for both mixtures::

    A[i, k] = softmax_k( max_p <v[i, p], b1[k]> / tau ),    C[k, i] = softmax_i( max_p <b2[k], v[i, p]> / tau )
    loss = -mean_k log (C A)[k, k],    map_k[p] = <v[p], b1[k]>

The loss is invariant to permutations of the heads, so maps have no labels and the protocol matches them with sources.
K is `Needs.tiles`, 2 as in the paper; a subclass that needs other tiles has as many heads.

Differences from the paper: the paper mixes independent crops of every video, and new groups of videos in every epoch.
Here, so that features can be cached, every clip is the first of one mixture, and the second mixture is the first one
rolled in time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from avloc import AvlocError, Batch, Context, EncoderInfo, Features, Method, Needs, Prediction
from avloc.functional import cosine_map, l2_normalize, matched_similarity, mlp, split_tiles, unnamed_predictions


def cycle_loss(image_maps: Tensor, mixture1: Tensor, mixture2: Tensor, *, tau: float = 0.07) -> Tensor:
    """Negative log-likelihood that a walk over the images returns to the head it started from; log K by chance.

    Args:
        image_maps: ``(B, K, D, h, w)``, the K images of every mixture, L2-normalized over D.
        mixture1: ``(B, K, D)``, the K heads' vectors at one time, L2-normalized.
        mixture2: ``(B, K, D)``, their vectors at another time, L2-normalized.
        tau: Temperature.
    """
    count = image_maps.shape[1]

    def fit(mixture: Tensor) -> Tensor:
        """The best cell of every image (rows) for every head (columns): ``(B, K, K)``."""
        products = matched_similarity(image_maps.flatten(0, 1), mixture.repeat_interleave(count, 0))
        return products.amax((2, 3)).reshape(-1, count, count) / tau

    to_image, to_sound = fit(mixture2).log_softmax(1), fit(mixture1).log_softmax(2)
    return -torch.logsumexp(to_image + to_sound, 1).mean()


class MixAndLocalize(Method):
    """An image network and K audio networks under `cycle_loss`.

    Args:
        encoder: What the features come from.
        classes: Not used: Mix-and-Localize learns without labels.
        dim: Width of the shared space.
        tau: Temperature.
    """

    title = "Mix-and-Localize"
    paper = "Hu, Chen and Owens, Mix and Localize: Localizing Sound Sources in Mixtures, CVPR 2022"
    needs = Needs(views=("shifted_audio",), tiles=2)

    def __init__(self, encoder: EncoderInfo, classes: Sequence[str], *, dim: int = 128, tau: float = 0.07) -> None:
        super().__init__()
        self.image = mlp(encoder.dim, dim, cells=True)
        self.sounds = nn.ModuleList(mlp(encoder.dim, dim) for _ in range(self.needs.tiles))
        self.tau = tau

    def hear(self, audio: Tensor) -> Tensor:
        """The unit vectors ``(B, K, dim)`` that the heads extract from mixtures ``(B, D)``."""
        return l2_normalize(torch.stack([head(audio) for head in self.sounds], dim=1))

    def loss(self, features: Features, batch: Batch, context: Context) -> dict[str, Tensor]:
        count = self.needs.tiles
        if (batch.tiles != count).any():
            raise AvlocError(f"Mix-and-Localize with {count} heads learns from canvases of {count} tiles.")
        images = split_tiles(l2_normalize(self.image(features.image_map), dim=1), count)
        mixtures = (self.hear(version.audio) for version in (features, features.views["shifted_audio"]))
        return {"cycle": cycle_loss(images, *mixtures, tau=self.tau)}

    def localize(self, features: Features, batch: Batch) -> list[Prediction]:
        return unnamed_predictions(batch, cosine_map(self.image(features.image_map), self.hear(features.audio)))
