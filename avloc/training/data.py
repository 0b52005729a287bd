"""What methods learn from: a data set's splits seen through an encoder, with the views a method asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from avloc.features import Altered, Encoded, Live, Tiled, copy_of, encode, watch
from avloc.interfaces import Context, Dataset, Encoder, Method, Needs
from avloc.suite import Train
from avloc.types import AvlocError, Batch, Features

DRAWS = 64
"""How often a foreign clip is drawn anew before those of other videos are listed."""


@dataclass(frozen=True, slots=True)
class Pick:
    """The clips of a view, row for row: where the images and where the sounds come from."""

    encoded: Encoded
    images: tuple[str, ...]
    sounds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Material:
    """What a method learns from: encoded clips, class names and their text.

    Attributes:
        train, val: Encoded clips; `val` is a held-out part of the training data.
        classes: Class names.
        text: ``(N, D)``, or ``None`` when the encoder has no text tower.
        banks: View -> its altered copies of the training and of the held-out clips.
        copies: Per clip in a bank.
    """

    train: Encoded
    val: Encoded
    classes: tuple[str, ...]
    text: Tensor | None
    banks: Mapping[str, tuple[Encoded, Encoded]] = field(default_factory=dict)
    copies: int = 1

    def through(self, encoder: Encoder) -> Material:
        """The same, seen through another encoder, such as a copy that is being trained."""

        def seen(encoded: Encoded) -> Encoded:
            assert isinstance(encoded, Live)
            return encoded.through(encoder)

        banks = {name: (seen(train), seen(val)) for name, (train, val) in self.banks.items()}
        return replace(self, train=seen(self.train), val=seen(self.val), banks=banks)

    def features(self, encoded: Encoded, ids: Sequence[str]) -> Features:
        """Features of some clips, with the class names' text."""
        return replace(encoded.features(ids), text=self.text)

    def batch(self, encoded: Encoded, ids: Sequence[str], *, weak: bool) -> Batch:
        """What else a loss may see; labels only for methods that declared them."""
        labels = None
        if weak:
            index = {name: n for n, name in enumerate(self.classes)}
            labels = torch.zeros(len(ids), len(self.classes))
            for row, id in enumerate(ids):
                labels[row, [index[name] for name in encoded.labels(id)]] = 1
        return Batch(
            ids=tuple(ids),
            tiles=torch.tensor([encoded.tiles(id) for id in ids]),
            groups=tuple(encoded.group(id) for id in ids),
            classes=self.classes,
            labels=labels,
        )

    def draw(self, method: Method, encoded: Encoded, ids: Sequence[str], context: Context) -> dict[str, Pick]:
        """The views that a method needs of a batch, drawn with torch's global generator."""
        return {view: self._pick(view, method, encoded, ids, context) for view in method.needs.views}

    def _pick(self, view: str, method: Method, encoded: Encoded, ids: Sequence[str], context: Context) -> Pick:
        if view == "other_video":
            groups = {encoded.group(id) for id in encoded.ids[:DRAWS]}
            pool = encoded if len(groups) > 1 else self.train  # a single held-out video meets training clips
            others = tuple(_of_other_video(pool, encoded.group(id)) for id in ids)
            return Pick(pool, others, others)
        if view == "partner":  # of a held-out clip nothing was looked up: it is its own
            images, sounds = method.neighbors(ids, context) if encoded is self.train else (ids, ids)
            return Pick(encoded, tuple(images), tuple(sounds))
        bank = self.banks[view][encoded is not self.train]
        numbers = torch.randint(self.copies, (len(ids),)).tolist()
        copies = tuple(copy_of(id, number) for id, number in zip(ids, numbers, strict=True))
        return Pick(bank, copies, copies)

    def sweep(self, size: int, *, weak: bool) -> Iterator[tuple[Features, Batch]]:
        """One pass over the training clips, in order, `size` at a time."""
        ids = self.train.ids
        for start in range(0, len(ids), size):
            part = ids[start : start + size]
            yield self.features(self.train, part), self.batch(self.train, part, weak=weak)


def _of_other_video(encoded: Encoded, group: str) -> str:
    """A clip of another video."""
    ids = encoded.ids
    for number in torch.randint(len(ids), (DRAWS,)).tolist():
        if encoded.group(ids[number]) != group:
            return ids[int(number)]
    others = [other for other in ids if encoded.group(other) != group]
    if not others:
        raise AvlocError("A method that contrasts clips with those of other videos needs at least two videos.")
    return others[int(torch.randint(len(others), ()))]


@dataclass(slots=True)
class Supply:
    """A data set's splits and an encoder; what is asked for is encoded then, and kept.

    Attributes:
        splits: ``train``, ``val`` and ``test``.
        encoder: In eval mode on `device`, frozen.
        name: Of the data set.
        limit: Only the first clips of every split.
        device: Where the encoder is.
        fingerprint: The encoder's.
        live: Encode in every step instead of once into the cache.
        classes: The class names that training shows.
        text: Their embeddings, where the encoder has a text tower.
    """

    splits: Mapping[str, Dataset]
    encoder: Encoder
    name: str
    limit: int | None
    device: str
    fingerprint: str
    live: bool
    classes: tuple[str, ...]
    text: Tensor | None
    _made: dict[tuple[str, int, str, int], Encoded] = field(default_factory=dict)

    def encoded(self, split: str) -> Encoded:
        """A split as it is."""
        return self._once((split, 0, "", 0), lambda: self.splits[split], self.name)

    def material(self, needs: Needs, train: Train) -> Material:
        """What a method with these needs learns from.

        Raises:
            AvlocError: It learns from canvases, but the clips are canvases of another number of tiles.
        """
        whole = {split: self._tiled(split, needs.tiles) for split in ("train", "val")}
        banks: dict[str, tuple[Encoded, Encoded]] = {
            view: (self._bank("train", view, needs, train), self._bank("val", view, needs, train))
            for view in needs.views
            if view in ("augmented", "shifted_audio")
        }
        return Material(whole["train"], whole["val"], self.classes, self.text, banks, train.copies)

    def _tiled(self, split: str, tiles: int) -> Encoded:
        """A split as canvases of that many tiles."""
        plain = self.encoded(split)
        if not self._to_tile(split, tiles):
            return plain
        return self._once((split, tiles, "", 0), lambda: self._canvases(split, tiles), f"{self.name}-{tiles}tiles")

    def _bank(self, split: str, view: str, needs: Needs, train: Train) -> Encoded:
        """Altered copies of a split."""

        def made() -> Dataset:
            tile = self._to_tile(split, needs.tiles)
            data = self._canvases(split, needs.tiles) if tile else self.splits[split]
            return Altered(data, self._tiled(split, needs.tiles).ids, train.copies, pixels=view == "augmented")

        name = f"{self.name}-{needs.tiles}tiles-{view}" if self._to_tile(split, needs.tiles) else f"{self.name}-{view}"
        return self._once((split, needs.tiles, view, train.copies), made, name)

    def _to_tile(self, split: str, tiles: int) -> bool:
        """Whether clips must be put side by side for canvases of that many."""
        plain = self.encoded(split)
        have = {plain.tiles(id) for id in plain.ids}
        if not tiles or have <= {tiles}:
            return False
        if have != {1}:
            raise AvlocError(f"It learns from canvases of {tiles} clips, but those of {self.name} have {sorted(have)}.")
        return True

    def _canvases(self, split: str, tiles: int) -> Dataset:
        plain = self.encoded(split)
        return Tiled(self.splits[split], {id: plain.group(id) for id in plain.ids}, tiles)

    def _once(self, key: tuple[str, int, str, int], data: Callable[[], Dataset], name: str) -> Encoded:
        if key not in self._made:
            self._made[key] = self._encode(data(), name, self.limit if key[1:] == (0, "", 0) else None)
        return self._made[key]

    def _encode(self, data: Dataset, name: str, limit: int | None) -> Encoded:
        if self.live:
            return watch(data, self.encoder, name, limit=limit)
        return encode(data, self.encoder, name, limit=limit, device=self.device, fingerprint=self.fingerprint)
