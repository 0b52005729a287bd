"""Lets CUDA-built torchvision and torchaudio wheels import against a CPU-only torch.

On Linux both are built for CUDA only. Their compiled extensions need CUDA libraries that a CPU torch does not have, so
importing them fails, and timm and open_clip with them. All that avloc uses of them is pure Python. The hook changes
nothing where the extensions load. Not available under it: ``torchvision.ops.nms``, ``torchvision.io``,
``forced_align``.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_KEEP_ALIVE: list[Any] = []  # a torch.library.Library unregisters its operators when collected


def _loads(library: Path) -> bool:
    import torch  # noqa: F401  (brings libtorch into the process first)

    try:
        ctypes.CDLL(str(library))
    except OSError:
        return False
    return True


class _EmptyExtension(Loader):
    """``torchaudio._extension`` as the package itself has it when it ships no compiled code."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return ModuleType(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        internal = importlib.import_module("torchaudio._internal.module_utils")
        missing = internal.fail_with_message("torchaudio's compiled extension does not load with this torch.")
        vars(module).update(
            _IS_TORCHAUDIO_EXT_AVAILABLE=False,
            _IS_ALIGN_AVAILABLE=False,
            fail_if_no_align=missing,
            _check_cuda_version=lambda: None,
            _load_lib=lambda name: False,
        )


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name == "torchaudio._extension" and path:
            libraries = (Path(path[0]) / "lib").glob("_torchaudio*.so")
            if not all(_loads(library) for library in libraries):
                return ModuleSpec(name, _EmptyExtension())
        elif name == "torchvision._meta_registrations":
            _declare_nms()
        return None


def _declare_nms() -> None:
    """Torchvision registers a fake kernel for operators that its extension would have defined."""
    extension = importlib.import_module("torchvision.extension")
    if extension._has_ops():
        return
    import torch

    library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEEP_ALIVE.append(library)


def repair_torch_extensions() -> None:
    """Put the hook in place; a second call does nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
