"""avloc: benchmarks for audio-visual sound source localization.

The names below are the public API: what runs benchmarks, what plugins extend, and what flows between them. They load on
first use, so that listing components and printing tables never import torch.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "avloc.runner": ("bench", "load"),
    "avloc.registry": ("get_component", "hookimpl", "list_components"),
    "avloc.results": ("load_results",),
    "avloc.scoring": ("evaluate", "load_protocol"),
    "avloc.suite": ("load_suite",),
    "avloc.interfaces": (
        "Context", "Dataset", "Encoder", "EncoderInfo", "Method", "Metric", "Needs", "Phase",
    ),
    "avloc.types": (
        "AvlocError", "Batch", "Clip", "DataError", "Features", "Localization", "Prediction", "Sample", "Status",
        "Truth", "unknown",
    ),
    "avloc.progress": ("track",),
}  # fmt: skip
_MODULES = ("data", "functional", "testing", "weights")
_PLACE = {name: module for module, names in _HOME.items() for name in names}
__all__ = sorted([*_PLACE, *_MODULES])


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"avloc.{name}")
    if name not in _PLACE:
        close = get_close_matches(name, __all__, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else f" It has: {', '.join(__all__)}."
        raise AttributeError(f"The package avloc has no {name!r}.{hint}")
    return getattr(import_module(_PLACE[name]), name)


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from avloc.interfaces import (
        Context as Context,
        Dataset as Dataset,
        Encoder as Encoder,
        EncoderInfo as EncoderInfo,
        Method as Method,
        Metric as Metric,
        Needs as Needs,
        Phase as Phase,
    )
    from avloc.progress import track as track
    from avloc.registry import (
        get_component as get_component,
        hookimpl as hookimpl,
        list_components as list_components,
    )
    from avloc.results import load_results as load_results
    from avloc.runner import bench as bench, load as load
    from avloc.scoring import evaluate as evaluate, load_protocol as load_protocol
    from avloc.suite import load_suite as load_suite
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
        Truth as Truth,
        unknown as unknown,
    )
