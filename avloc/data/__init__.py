"""From files to clips: media, boxes, masks and mixtures, and what a data set needs of folders and files.

In come videos, images, sounds and annotations, out come `avloc.Clip` and `avloc.Truth`. Data sets call it.
"""

from avloc.data.boxes import rasterize, read_boxes
from avloc.data.masks import read_mask
from avloc.data.media import Image, Wave, read_audio, read_frame, read_image, resample, resize_image, write_video
from avloc.data.mixtures import draw_mixtures, hold_out, mix, mixed_truth
from avloc.progress import say
from avloc.store import cache_folder, data_folder, exclusive, read_json, tag_as_cache, write_json, writing

__all__ = [
    "Image",
    "Wave",
    "cache_folder",
    "data_folder",
    "draw_mixtures",
    "exclusive",
    "hold_out",
    "mix",
    "mixed_truth",
    "rasterize",
    "read_audio",
    "read_boxes",
    "read_frame",
    "read_image",
    "read_json",
    "read_mask",
    "resample",
    "resize_image",
    "say",
    "tag_as_cache",
    "write_json",
    "write_video",
    "writing",
]
