"""A table gives each image its group, whatever way it names the image; folders give groups, too."""

import unicodedata

import pytest

from nuclei.results.groups import groups_by_folder, read_groups
from nuclei.scores import NO_GROUP


@pytest.mark.parametrize("form", ["NFC", "NFD"])  # Macs write ü as two characters
def test_names_with_suffix_blanks_and_both_forms_of_unicode_are_stems(tmp_path, form):
    name = unicodedata.normalize(form, "Größe ü")
    text = f"\ufeffstem,group,organ\n {name}.TIF ,treated,liver\na.b.png,,skin\nc,control,\n"
    (tmp_path / "groups.csv").write_text(text, encoding="utf-8")
    stem = unicodedata.normalize("NFC", name)
    expected = {stem: "treated", "a.b": NO_GROUP, "c": "control"}
    assert read_groups(tmp_path / "groups.csv") == expected
    organs = read_groups(tmp_path / "groups.csv", "organ")
    assert list(organs.values()) == ["liver", "skin", NO_GROUP]


def test_folders_are_groups_named_as_far_as_they_differ(tmp_path):
    pictures = {"a": tmp_path / "x" / "run" / "a.png", "b": tmp_path / "y" / "run" / "b.png"}
    assert groups_by_folder(pictures) == {"a": "x/run", "b": "y/run"}
    assert groups_by_folder({"a": pictures["a"]}) == {}
