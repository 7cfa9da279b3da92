"""The name of a field says what it was cut from, as long as that is in the folder."""

from pathlib import Path

import pytest

from nuclei.datasets.field_names import field_stem, origin_of, source_of
from nuclei.images.box import Box
from nuclei.slides.fields import field_files

KNOWN = {"a", "a_x10_y20", "plate_x1_y2"}


def test_a_name_and_its_source_are_each_others_inverse():
    box = Box(20, 90, 10, 80)
    for number in (1, 2, 17):
        assert source_of(field_stem("a", box, number), KNOWN) == ("a", (10, 20))
    assert field_stem("a", box, 1) == "a_x10_y20" and field_stem("a", box, 2) == "a_x10_y20_2"


@pytest.mark.parametrize("stem", ("a", "a_x1", "a_x-1_y2", "_x1_y2", "_field_1", "a_field_b"))
def test_other_names_are_no_fields(stem):
    assert source_of(stem, KNOWN) is None and origin_of(stem) == stem


@pytest.mark.parametrize("stem", ("plate_x1_y2", "b_x1_y2", "a_field_1"))
def test_a_field_has_a_place_in_an_image_of_the_folder_only(stem):
    assert source_of(stem, KNOWN) is None


def test_a_field_of_a_field_comes_from_the_whole_image():
    assert source_of("a_x10_y20_x3_y4", KNOWN) == ("a_x10_y20", (3, 4))
    assert origin_of("a_x10_y20_x3_y4_2") == "a"


def test_fields_that_predictions_cut_from_a_slide_come_from_it(tmp_path):
    names = {Path(file).stem for file in field_files(tmp_path, "slide")}
    assert len(names) > 1 and {origin_of(name) for name in names} == {"slide"}
    assert origin_of("slide_field_2_x10_y20") == "slide"
