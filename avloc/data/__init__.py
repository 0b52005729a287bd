"""From files to clips: media, boxes, masks and mixtures, and what a data set needs of folders, files and processes.

Takes videos, images, sounds and annotations, and returns `avloc.Clip` and `avloc.Truth`. Data sets call it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from avloc.data.boxes import on_canvas, rasterize, read_boxes
from avloc.data.checks import check_splits, load_clip, load_truth, media_of, repeated
from avloc.data.masks import Mask, MaskValues, read_mask, resize_mask
from avloc.data.media import (
    Image,
    is_still,
    read_audio,
    read_channels,
    read_frame,
    read_image,
    resample,
    resize_image,
    write_video,
)
from avloc.data.rows import Row, read_csv, read_header
from avloc.data.traits import Heard, Look, Traits, remarks
from avloc.progress import say
from avloc.store import (
    cache_folder,
    data_folder,
    digest,
    exclusive,
    file_digest,
    tag_as_cache,
    writing,
)
from avloc.workers import Died, each

if TYPE_CHECKING:
    from avloc.data.mixtures import Members, Mixtures, draw_mixtures, hold_out
    from avloc.data.subsets import ONLY, open_dataset, open_split

__all__ = [
    "ONLY",
    "Died",
    "Heard",
    "Image",
    "Look",
    "Mask",
    "MaskValues",
    "Members",
    "Mixtures",
    "Row",
    "Traits",
    "cache_folder",
    "check_splits",
    "data_folder",
    "digest",
    "draw_mixtures",
    "each",
    "exclusive",
    "file_digest",
    "hold_out",
    "is_still",
    "load_clip",
    "load_truth",
    "media_of",
    "on_canvas",
    "open_dataset",
    "open_split",
    "rasterize",
    "read_audio",
    "read_boxes",
    "read_channels",
    "read_csv",
    "read_frame",
    "read_header",
    "read_image",
    "read_mask",
    "remarks",
    "repeated",
    "resample",
    "resize_image",
    "resize_mask",
    "say",
    "tag_as_cache",
    "write_video",
    "writing",
]


_LATE = {
    **dict.fromkeys(("Members", "Mixtures", "draw_mixtures", "hold_out"), "mixtures"),
    **dict.fromkeys(("ONLY", "open_dataset", "open_split"), "subsets"),
}


def __getattr__(name: str) -> Any:
    """What needs torch, on first use: processes that only read or make files do without it."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"avloc.data.{_LATE[name]}"), name)
