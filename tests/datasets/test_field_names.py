"""The name of a field says what it was cut from, as long as that is in the folder."""

import pytest

from nuclei.datasets.field_names import field_stem, named_origin, origin_of, source_of
from nuclei.images.box import Box

KNOWN = {"a", "a_x10_y20", "plate_x1_y2"}


def test_a_name_and_its_source_are_each_others_inverse():
    box = Box(20, 90, 10, 80)
    for number in (1, 2, 17):
        assert source_of(field_stem("a", box, number), KNOWN) == ("a", (10, 20))
    assert field_stem("a", box, 1) == "a_x10_y20" and field_stem("a", box, 2) == "a_x10_y20_2"


@pytest.mark.parametrize("stem", ("a", "plate_x1_y2", "b_x1_y2", "a_x1", "a_x-1_y2", "_x1_y2"))
def test_other_names_are_no_fields(stem):
    assert source_of(stem, KNOWN) is None and origin_of(stem, KNOWN) == stem


def test_a_field_of_a_field_comes_from_the_whole_image():
    assert source_of("a_x10_y20_x3_y4", KNOWN) == ("a_x10_y20", (3, 4))
    assert origin_of("a_x10_y20_x3_y4", KNOWN) == "a"


def test_a_name_tells_the_origin_also_where_the_whole_image_is_elsewhere():
    assert named_origin("slide_x10_y20_x3_y4_2") == "slide"
    assert named_origin("slide_x10_y20") == "slide" and named_origin("x1_y2") == "x1_y2"
