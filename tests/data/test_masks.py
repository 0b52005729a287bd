"""Published masks; pickles among them execute nothing."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest

from avloc.data import MaskValues, read_mask
from avloc.types import DataError
from helpers.films import Bomb

MASK = np.eye(5, 7)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", ["bool", "uint8", ">f4", "float64"])
def test_pickled_arrays(tmp_path: Path, protocol: int, kind: str) -> None:
    path = tmp_path / "one.jpg.pkl"
    path.write_bytes(pickle.dumps(np.asfortranarray(MASK.astype(kind))[None], protocol=protocol))
    assert np.array_equal(read_mask(path).inside, MASK > 0)


def test_a_pickle_of_python_2(tmp_path: Path) -> None:
    modern = pickle.dumps(MASK.astype(np.uint8), protocol=0).replace(b"numpy._core", b"numpy.core")
    (tmp_path / "one.pkl").write_bytes(modern)
    assert np.array_equal(read_mask(tmp_path / "one.pkl").inside, MASK > 0)


def test_arrays_and_images(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", MASK * 0.3)
    cv2.imwrite(str(tmp_path / "one.png"), (MASK * 200).astype(np.uint8))
    for name in ("one.npy", "one.png"):
        assert np.array_equal(read_mask(tmp_path / name).inside, MASK > 0)


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


LEVELS = np.array([[0, 0], [3, 40]], np.uint8)


@pytest.mark.parametrize("name", ["one.png", "one.npy", "one.pkl"])
def test_class_numbers_are_refused_or_read_by_a_rule(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name, LEVELS)
    with pytest.raises(DataError, match=r"the mask has 3 values \(0, 3, 40\).*mask_values: \{inside"):
        read_mask(path)
    assert read_mask(path, MaskValues((3, 40))).inside.tolist() == [[False, False], [True, True]]
    found = read_mask(path, MaskValues((3,), (40,)))
    assert found.inside.tolist() == [[False, False], [True, False]]
    assert found.ignore.tolist() == [[False, False], [False, True]]
    with pytest.raises(DataError, match=r"no pixel has a value of inside; it has 0, 3, 40"):
        read_mask(path, MaskValues((7,)))


@pytest.mark.parametrize("values", [[1, 255], [-1, 0], [-1, 1], [0.2, 0.7], [0, 0.5, 1]])
def test_values_that_do_not_say_what_is_inside_are_refused(tmp_path: Path, values: list[float]) -> None:
    with pytest.raises(DataError, match="say which are the source"):
        read_mask(saved(tmp_path / "one.npy", np.array([values, values])))


def test_palettes_are_read_by_index_whatever_their_colors(tmp_path: Path) -> None:
    image = PIL.Image.fromarray(np.array([[0, 0, 1]] * 2, np.uint8), "P")
    image.putpalette([250, 250, 250, 10, 0, 0])
    image.save(tmp_path / "one.png")
    assert read_mask(tmp_path / "one.png").inside.tolist() == [[False, False, True]] * 2


def test_colors_are_numbers(tmp_path: Path) -> None:
    colors = np.array([[[0, 0, 0], [255, 0, 0], [0, 0, 255]]] * 2, np.uint8)
    path = tmp_path / "one.png"
    PIL.Image.fromarray(colors).save(path)
    with pytest.raises(DataError, match=r"3 values \(0x000000, 0x0000ff, 0xff0000\)"):
        read_mask(path)
    assert read_mask(path, MaskValues((0xFF0000,))).inside.tolist() == [[False, True, False]] * 2
    PIL.Image.fromarray(colors[:, :2]).save(path)
    assert read_mask(path).inside.tolist() == [[False, True]] * 2


def test_lossy_and_transparent_masks_are_refused(tmp_path: Path) -> None:
    noisy = np.random.default_rng(0).integers(0, 256, (16, 16)).astype(np.uint8)
    PIL.Image.fromarray(noisy).save(tmp_path / "one.jpg")
    with pytest.raises(DataError, match="JPEG does not keep values; save masks as PNG"):
        read_mask(tmp_path / "one.jpg")
    PIL.Image.new("RGBA", (4, 4), (255, 255, 255, 0)).save(tmp_path / "one.png")
    with pytest.raises(DataError, match="partly transparent"):
        read_mask(tmp_path / "one.png")


def test_a_mask_may_be_black_where_that_is_said(tmp_path: Path) -> None:
    assert not read_mask(saved(tmp_path / "one.png", np.zeros((2, 2), np.uint8)), black=True).inside.any()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"insid": [1]}, "Did you mean 'inside'"),
        ([1], "should be as in"),
        ({"inside": 1}, "should be a list of numbers"),
        ({"ignore": [1]}, "inside and ignore are lists"),
        ({"inside": ["a"]}, "lists of numbers"),
        ({"inside": [1], "ignore": [1, 2]}, "1 is both inside and ignored"),
    ],
)
def test_rules_that_say_nothing_are_refused(given: Any, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        MaskValues.parse(given)


def saved(path: Path, array: np.ndarray) -> Path:
    if path.suffix == ".png":
        PIL.Image.fromarray(array).save(path)
    elif path.suffix == ".npy":
        np.save(path, array)
    else:
        path.write_bytes(pickle.dumps(array))
    return path
