"""A download that goes on where a broken one stopped, and never joins the bytes of two files."""

from __future__ import annotations

from pathlib import Path

from avloc.progress import say, track
from avloc.types import AvlocError

TIMEOUT, CHUNK = 30.0, 100_000
"""Seconds without an answer; bytes per read, and so the most that a broken connection loses."""


def resumed(part: Path, size: int, hashed: bool, url: str, output: Path) -> None:
    """Download a file, over several runs if need be; a part is never taken for the whole.

    What the server calls its version (ETag, or else Last-Modified) lies beside the part; only the same version is
    gone on with. Where the server has no name for it, the part is used only if a hash is compared in the end.

    Args:
        part: Where bytes are collected.
        size: Of the whole; 0 where it is not known.
        hashed: Whether the caller compares the whole with a published hash.
        url: From where.
        output: Where the whole goes.

    Raises:
        AvlocError: The server has another file, or does not go on after the part; the part is deleted.
        requests.RequestException: The connection broke; the part is kept.
    """
    version, done = part.with_suffix(".version"), _bytes(part)
    known = version.read_text(encoding="latin-1") if done and version.is_file() else ""
    reason = ""
    if size and done > size:
        reason = f"{part} has {done:,} bytes, but the published file {size:,}"
    elif done and not (hashed or known):
        reason = f"Nothing tells which version of {url} {part} is from"
    if reason:
        say(f"{reason}: it is deleted, and the download starts anew.")
        part.unlink()
        done, known = 0, ""
    if not size or done != size:
        _collect(part, version, done, known, size, url)
    part.replace(output)
    version.unlink(missing_ok=True)


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _collect(part: Path, version: Path, done: int, known: str, size: int, url: str) -> None:
    import requests

    ask = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    ask |= {"If-Range": known} if known else {}
    with requests.get(url, headers=ask, stream=True, timeout=TIMEOUT) as answer:
        # What If-Range takes: a strong ETag, else the date.
        tag, span = answer.headers.get("ETag", ""), answer.headers.get("Content-Range", "")
        sent = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")
        if answer.status_code == 416 and done and not size and span == f"bytes */{done}":
            return  # the run before was killed after the last byte
        goes_on = span.startswith(f"bytes {done}-") and (not known or sent in ("", known))
        if answer.status_code in (206, 416) and not goes_on:
            part.unlink(missing_ok=True)
            raise AvlocError(f"{url} does not go on after {part}, which is deleted now. Run the same command again.")
        answer.raise_for_status()
        if done and not goes_on:
            part.unlink()
            done = 0
            say(f"{url} starts from the beginning; what came of it before is dropped.")
        length = answer.headers.get("Content-Length")
        total = size if length is None else done + int(length)
        if size and total != size:
            part.unlink(missing_ok=True)
            dropped = f" The {done:,} bytes that came of it before are deleted." if done else ""
            raise AvlocError(f"{url} has {total:,} bytes, but the published file {size:,}: it is another one.{dropped}")
        if not done:  # before the first byte, so that no part ever lies beside the version of another
            version.write_text(sent, encoding="latin-1")
        with part.open("ab") as file:
            pieces = -(-(total - done) // CHUNK)
            for chunk in track(answer.iter_content(CHUNK), f"Download {part.stem}, 100 kB", pieces):
                file.write(chunk)
    if total and _bytes(part) != total:
        raise requests.ConnectionError(f"{_bytes(part)} of {total} bytes")
