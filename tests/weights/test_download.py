"""Resumed downloads: complete files are not requested again, and bytes of two files are never joined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from avloc import AvlocError
from avloc.progress import Event, receiving
from avloc.weights.download import resumed
from helpers.sites import Site, served

OLD, NEW = b"old." * 50_000, b"new!" * 50_000
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"


@dataclass
class Place:
    """The target of a download, its server, and its messages."""

    site: type[Site]
    url: str
    folder: Path
    events: list[Event] = field(default_factory=list)

    @property
    def part(self) -> Path:
        return self.folder / "file.part"

    def get(self, size: int = 0, hashed: bool = False) -> bytes:
        with receiving(self.events.append):
            resumed(self.part, size, hashed, self.url, self.folder / "file")
        assert [path.name for path in self.folder.iterdir()] == ["file"]
        return (self.folder / "file").read_bytes()

    def said(self) -> str:
        return " ".join(event[1] for event in self.events if event[0] == "say")

    def break_off(self, **options: int) -> None:
        self.site.cut = 150_000
        with pytest.raises(requests.RequestException):
            self.get(**options)
        self.site.cut = 1 << 30
        assert self.part.read_bytes() == OLD[:100_000]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with served(OLD) as (site, url):
        yield Place(site, url, tmp_path)


def test_killed_after_the_last_byte_it_does_not_ask_again(place: Place) -> None:
    place.part.write_bytes(OLD)
    assert place.get(size=len(OLD), hashed=True) == OLD
    assert place.site.ranges == []


def test_killed_after_the_last_byte_of_an_unknown_number_it_believes_the_server(place: Place) -> None:
    place.part.write_bytes(OLD)
    assert place.get(hashed=True) == OLD
    assert place.site.ranges == [f"bytes={len(OLD)}-"]


def test_a_part_larger_than_published_is_deleted(place: Place) -> None:
    place.part.write_bytes(OLD + b"more")
    assert place.get(size=len(OLD), hashed=True) == OLD
    assert "200,004 bytes, but the published file 200,000: it is deleted" in place.said()


def test_a_part_larger_than_the_server_s_file_is_deleted(place: Place) -> None:
    place.part.write_bytes(OLD + b"more")
    with pytest.raises(AvlocError, match=r"does not go on after .*, which is deleted now"):
        place.get(hashed=True)
    assert place.get() == OLD


def test_a_part_that_leads_to_another_size_than_published_is_deleted(place: Place) -> None:
    place.break_off()
    with pytest.raises(AvlocError, match=r"has 200,000 bytes, but .* 200,001: .* The 100,000 bytes .* are deleted"):
        place.get(size=len(OLD) + 1)
    assert not place.part.exists()


@pytest.mark.parametrize("header", ["ETag", "Last-Modified"])
def test_the_same_version_is_resumed(place: Place, header: str) -> None:
    place.site.named = {"ETag": '"1"'} if header == "ETag" else {"ETag": 'W/"1"', "Last-Modified": DATE}
    place.break_off()
    assert place.get() == OLD
    assert place.site.ranges == ["", "bytes=100000-"]


def test_another_version_starts_from_the_beginning(place: Place) -> None:
    place.break_off()
    place.site.body, place.site.named = NEW, {"ETag": '"2"'}
    assert place.get() == NEW
    assert "starts from the beginning" in place.said()


def test_two_versions_are_never_joined_if_the_server_ignores_if_range(place: Place) -> None:
    place.break_off()
    place.site.body, place.site.named, place.site.heeds = NEW, {"ETag": '"2"'}, False
    with pytest.raises(AvlocError, match="does not go on after"):
        place.get()
    assert place.get() == NEW


def test_without_a_version_only_hashed_downloads_resume(place: Place) -> None:
    place.site.named = {}
    place.break_off()
    place.site.body = NEW
    assert place.get() == NEW
    assert place.site.ranges == ["", ""] and "Nothing tells which version" in place.said()
    (place.folder / "file").unlink()
    place.part.write_bytes(NEW[:100_000])
    assert place.get(hashed=True) == NEW
    assert place.site.ranges[-1] == "bytes=100000-"
