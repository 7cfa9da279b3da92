"""What teaches and what judges: a fifth is held out, and fields of one image stay together."""

import pytest

from nuclei.app.held_out import divide, write_split
from nuclei.datasets.field_names import origin_of
from nuclei.datasets.split import read_split, split_stems


@pytest.mark.parametrize("num", (1, 2, 5, 20))
def test_a_fifth_is_held_out_and_a_single_image_teaches(num):
    parts = list(divide([f"image_{number}" for number in range(num)]).values())
    assert parts.count("validation") == (0 if num == 1 else max(1, round(0.2 * num)))
    assert "train" in parts


def test_the_users_own_division_counts(tmp_path):
    (tmp_path / "split.csv").write_text("stem,split\na,test\nb,validation\n")
    parts = divide(["a", "b", "c"], tmp_path / "split.csv")
    assert parts["a"] == "test" and parts["b"] == "validation"


@pytest.mark.parametrize("num", (2, 5, 20))
def test_whole_images_are_divided_as_by_the_training(num):
    stems = [f"image_{number}" for number in range(num)]
    assert divide(stems) == split_stems(dict.fromkeys(stems, ""), 0.2, 0)


@pytest.mark.parametrize("sizes", [(3, 3), (1, 6), (5, 1, 2), (1, 1, 1, 9), (2,) * 10])
def test_fields_of_one_image_and_the_image_itself_stay_together(sizes):
    stems = [
        f"image{number}" + (f"_x{64 * place}_y0" if place else "")
        for number, size in enumerate(sizes)
        for place in range(size)
    ]
    parts = divide(stems)
    sides = {}
    for stem, part in parts.items():
        sides.setdefault(origin_of(stem), set()).add(part)
    assert all(len(side) == 1 for side in sides.values())
    num_held_out = list(parts.values()).count("validation")
    assert 1 <= num_held_out <= max(min(sizes), round(0.2 * len(stems)))
    assert divide(list(reversed(stems))) == parts


def test_fields_of_a_single_image_all_teach():
    stems = ["slide_x0_y0", "slide_x512_y0", "slide_x0_y512"]
    assert set(divide(stems, known=["slide", *stems]).values()) == {"train"}
    assert "validation" in divide(stems, known=stems).values()  # of a slide that is not there


def test_a_field_follows_its_image_in_the_users_division(tmp_path):
    (tmp_path / "split.csv").write_text("stem,split\na,validation\na_x0_y0,train\n")
    stems = ["a_x0_y0", "a_x9_y0", "b", "c", "d"]
    parts = divide(stems, tmp_path / "split.csv")
    assert parts["a_x0_y0"] == "train" and parts["a_x9_y0"] == "validation"


def test_a_division_comes_back_as_it_was_whatever_the_stems_end_with(tmp_path):
    parts = divide(["a", "s_1.tif", "b.x", "c"])
    write_split(tmp_path / "split.csv", parts)
    assert read_split(tmp_path / "split.csv") == parts
