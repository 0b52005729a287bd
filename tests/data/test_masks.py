"""Published masks; pickles among them execute nothing."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from avloc.data import read_mask
from avloc.types import DataError
from helpers.films import Bomb

MASK = np.eye(5, 7)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", ["bool", "uint8", ">f4", "float64"])
def test_pickled_arrays(tmp_path: Path, protocol: int, kind: str) -> None:
    path = tmp_path / "one.jpg.pkl"
    path.write_bytes(pickle.dumps(np.asfortranarray(MASK.astype(kind))[None], protocol=protocol))
    assert np.array_equal(read_mask(path), MASK > 0)


def test_a_pickle_of_python_2(tmp_path: Path) -> None:
    modern = pickle.dumps(MASK.astype(np.uint8), protocol=0).replace(b"numpy._core", b"numpy.core")
    (tmp_path / "one.pkl").write_bytes(modern)
    assert np.array_equal(read_mask(tmp_path / "one.pkl"), MASK > 0)


def test_arrays_and_images(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", MASK * 0.3)
    cv2.imwrite(str(tmp_path / "one.png"), (MASK * 200).astype(np.uint8))
    for name in ("one.npy", "one.png"):
        assert np.array_equal(read_mask(tmp_path / name), MASK > 0)


@pytest.mark.parametrize("wrap", [lambda bomb: bomb, lambda bomb: [MASK, bomb], lambda bomb: np.array([bomb], object)])
def test_a_malicious_pickle_is_not_executed(tmp_path: Path, wrap: Any) -> None:
    path, target = tmp_path / "one.pkl", tmp_path / "executed"
    path.write_bytes(pickle.dumps(wrap(Bomb(target))))
    with pytest.raises(DataError, match=r"one\.pkl: the pickle .* nothing was run"):
        read_mask(path)
    assert not target.exists()
    pickle.loads(path.read_bytes())
    assert target.exists()  # it would have


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "truncated or damaged"),
        (pickle.dumps(MASK)[:-30], "truncated"),
        (b"\x80\x04cnumpy\nndarray\n(J\xff\xff\xff\x7ftR.", "damaged"),  # an array of any size
        (pickle.dumps({"mask": MASK}), "holds a dict"),
        (pickle.dumps(np.zeros((3, 3))), "is black"),
        (pickle.dumps(np.zeros((0, 3))), r"should be \(h, w\)"),
        (pickle.dumps(np.ones((3, 4, 5))), r"should be \(h, w\)"),
        (pickle.dumps(np.full((3, 3), np.nan)), "finite"),
        (pickle.dumps(np.array([["a"]])), "not of numbers"),
    ],
)
def test_what_is_no_mask_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "one.pkl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason):
        read_mask(path)
