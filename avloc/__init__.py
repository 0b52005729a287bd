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
        "AvlocError", "Batch", "Clip", "DataError", "Features", "Localization", "Prediction", "Sample", "Told",
        "Truth",
    ),
    "avloc.interfaces": (
        "Context", "Dataset", "Encoder", "EncoderInfo", "Method", "Metric", "Needs", "Phase", "Status",
    ),
    "avloc.progress": ("say", "track"),
    "avloc.registry": ("hookimpl", "registry", "unknown"),
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
    )
    from avloc.interfaces import (
        Dataset as Dataset,
    )
    from avloc.interfaces import (
        Encoder as Encoder,
    )
    from avloc.interfaces import (
        EncoderInfo as EncoderInfo,
    )
    from avloc.interfaces import (
        Method as Method,
    )
    from avloc.interfaces import (
        Metric as Metric,
    )
    from avloc.interfaces import (
        Needs as Needs,
    )
    from avloc.interfaces import (
        Phase as Phase,
    )
    from avloc.interfaces import (
        Status as Status,
    )
    from avloc.progress import (
        say as say,
    )
    from avloc.progress import (
        track as track,
    )
    from avloc.registry import (
        hookimpl as hookimpl,
    )
    from avloc.registry import (
        registry as registry,
    )
    from avloc.registry import (
        unknown as unknown,
    )
    from avloc.types import (
        AvlocError as AvlocError,
    )
    from avloc.types import (
        Batch as Batch,
    )
    from avloc.types import (
        Clip as Clip,
    )
    from avloc.types import (
        DataError as DataError,
    )
    from avloc.types import (
        Features as Features,
    )
    from avloc.types import (
        Localization as Localization,
    )
    from avloc.types import (
        Prediction as Prediction,
    )
    from avloc.types import (
        Sample as Sample,
    )
    from avloc.types import (
        Told as Told,
    )
    from avloc.types import (
        Truth as Truth,
    )
