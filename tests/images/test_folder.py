"""The images of a folder are found by their stems; what is wrong with a folder is said."""

import pytest

from nuclei.images.folder import find_images


def test_images_are_found_by_stem_in_order_whatever_their_suffix(tmp_path):
    for name in ("b.TIF", "a.b.png", "c.jpeg", ".hidden.png", "._b.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    assert [(stem, path.name) for stem, path in find_images(tmp_path).items()] == [
        ("a.b", "a.b.png"),
        ("b", "b.TIF"),
        ("c", "c.jpeg"),
    ]


def test_a_missing_empty_or_ambiguous_folder_says_what_is_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist; expected a folder"):
        find_images(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no image; expected files ending in .png"):
        find_images(tmp_path)
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match="is a file, not a folder"):
        find_images(tmp_path / "a.png")
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match="a.jpg = a.png.*keep one"):
        find_images(tmp_path)
