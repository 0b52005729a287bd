"""Tensors by name, as safetensors files. Torch is imported on first use."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from avloc.store.disk import CHECKSUM, replacing
from avloc.types import AvlocError

if TYPE_CHECKING:
    from torch import Tensor


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file with a checksum, so that a reader sees the old one or the new one."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    kept = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    about = {**(metadata or {})}
    with replacing(path) as temporary:
        try:
            save_file(kept, temporary, {**about, CHECKSUM: _checksum(kept, about)})
        except SafetensorError as error:  # how safetensors reports the disk's errors
            raise OSError(str(error)) from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, on the CPU, and its metadata.

    Raises:
        AvlocError: The file is missing, truncated, no safetensors file, or was changed since `write_tensors` wrote it.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise AvlocError(f"{path} cannot be read: missing, truncated or no safetensors file ({error}).") from error
    checksum = about.pop(CHECKSUM, None)  # released files have none
    if checksum is not None and checksum != _checksum(tensors, about):
        raise AvlocError(f"{path} is damaged: its checksum differs.")
    return tensors, about


def _checksum(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> str:
    total = zlib.crc32(repr(sorted(about.items())).encode())
    for name, tensor in sorted(tensors.items()):
        total = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), total)
        as_bytes = tensor.reshape(-1).view(tensor.new_zeros(()).byte().dtype)  # also of types that NumPy lacks
        total = zlib.crc32(as_bytes.numpy().data, total)
    return f"{total:08x}"
