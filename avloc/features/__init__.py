"""From clips to features: what an encoder makes of clips, cached where it is frozen, or computed in every step.

Takes a data set's split and an encoder, and returns `avloc.Features` by clip id. Training and the runner call it.
"""

from avloc.features.feature_set import (
    FeatureSet,
    cached_features,
    class_text,
    clip_features,
    computed_features,
    encode_text,
    encoder_audio,
    encoder_identity,
    encoder_image,
    no_features,
)
from avloc.features.views import VIEWS_REVISION, Altered, canvases, copy_of

__all__ = [
    "VIEWS_REVISION",
    "Altered",
    "FeatureSet",
    "cached_features",
    "canvases",
    "class_text",
    "clip_features",
    "computed_features",
    "copy_of",
    "encode_text",
    "encoder_audio",
    "encoder_identity",
    "encoder_image",
    "no_features",
]
