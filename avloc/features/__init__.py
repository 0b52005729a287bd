"""From clips to features: what a frozen encoder makes of clips, cached, or computed in every step.

In come a data set's split and an encoder, out come `avloc.Features` by clip id. Training and the runner call it.
"""

from avloc.features.feature_set import (
    Cached,
    Encoded,
    Live,
    encode,
    encode_text,
    encoder_audio,
    encoder_identity,
    encoder_image,
    watch,
)
from avloc.features.views import VIEWS_REVISION, Altered, Tiled, altered, canvases, copy_of

__all__ = [
    "VIEWS_REVISION",
    "Altered",
    "Cached",
    "Encoded",
    "Live",
    "Tiled",
    "altered",
    "canvases",
    "copy_of",
    "encode",
    "encode_text",
    "encoder_audio",
    "encoder_identity",
    "encoder_image",
    "watch",
]
