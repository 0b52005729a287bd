"""avloc: benchmarks for audio-visual sound source localization.

The names below are the public API, all that a plugin needs. They load on first use, so that listing and
printing tables never import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from avloc import _torch_ext

_torch_ext.install()

__version__ = "0.1.0"

_HOME = {
    "avloc.types": (
        "AvlocError", "Batch", "Clip", "DataError", "Features", "Localization", "Prediction", "Sample", "Status",
        "Told", "Truth",
    ),
    "avloc.interfaces": (
        "Context", "Dataset", "DatasetPass", "Encoder", "EncoderInfo", "Method", "Metric", "Needs", "Phase",
    ),
    "avloc.progress": ("say", "track"),
    "avloc.registry": ("hookimpl", "lookup", "unknown"),
}  # fmt: skip
_MODULE = {name: module for module, names in _HOME.items() for name in names}
__all__ = sorted(_MODULE)


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module 'avloc' has no attribute {name!r}")
    return getattr(import_module(_MODULE[name]), name)


if TYPE_CHECKING:
    from avloc.interfaces import (
        Context as Context,
        Dataset as Dataset,
        DatasetPass as DatasetPass,
        Encoder as Encoder,
        EncoderInfo as EncoderInfo,
        Method as Method,
        Metric as Metric,
        Needs as Needs,
        Phase as Phase,
    )
    from avloc.progress import say as say, track as track
    from avloc.registry import hookimpl as hookimpl, lookup as lookup
    from avloc.types import (
        AvlocError as AvlocError,
        Batch as Batch,
        Clip as Clip,
        DataError as DataError,
        Features as Features,
        Localization as Localization,
        Prediction as Prediction,
        Sample as Sample,
        Status as Status,
        Told as Told,
        Truth as Truth,
        unknown as unknown,
    )
