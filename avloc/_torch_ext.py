"""Lets CUDA-built torchvision and torchaudio import beside a CPU-only torch, and timm and open_clip with them.

All that avloc uses of them is pure Python. Where their compiled extensions load, the hook changes nothing; elsewhere
``torchvision.ops.nms``, ``torchvision.io`` and torchaudio's ``forced_align`` are not available. The registry installs
it just before it imports a plugin, never on ``import avloc``.
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

_KEEP_ALIVE: list[Any] = []  # a torch.library.Library unregisters its operators when it is collected


def repair_torch_extensions() -> None:
    """Install the hook; a second call does nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder, Loader):
    """Finds ``torchaudio._extension`` where it does not load, as the package has it where it ships no compiled code."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name == "torchvision._meta_registrations":
            _declare_nms()
        if name != "torchaudio._extension" or not path or all(map(_loads, Path(path[0]).glob("lib/_torchaudio*.so"))):
            return None
        return ModuleSpec(name, self)

    def exec_module(self, module: ModuleType) -> None:
        internal = importlib.import_module("torchaudio._internal.module_utils")
        vars(module).update(
            _IS_TORCHAUDIO_EXT_AVAILABLE=False,
            _IS_ALIGN_AVAILABLE=False,
            fail_if_no_align=internal.fail_with_message("torchaudio's compiled extension does not load here."),
            _check_cuda_version=lambda: None,
            _load_lib=lambda name: False,
        )


def _loads(library: Path) -> bool:
    import torch  # noqa: F401  (loads libtorch first)

    try:
        ctypes.CDLL(str(library))
    except OSError:
        return False
    return True


def _declare_nms() -> None:
    """Torchvision registers fake kernels of operators that its extension would have defined."""
    import torch

    if importlib.import_module("torchvision.extension")._has_ops():
        return
    library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEEP_ALIVE.append(library)
