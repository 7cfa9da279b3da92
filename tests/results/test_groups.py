"""A table gives each image its group, whatever way it names the image; folders give groups, too."""

import unicodedata

import pytest

from nuclei.results.groups import groups_by_folder, groups_of, read_groups
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


@pytest.mark.parametrize(
    "rows, faults",
    [
        ("a,A\na,B\n", ["a (A, B)"]),
        ("a.png,A\na.tif,B\nb,A\n", ["a (A, B)"]),
        ("b,A\nc,B\na,A\n a ,\nc.PNG,A\na,A\n", ["a (A, (no group))", "c (B, A)"]),
        ("a,A\na,A\na.png, A\nb,B\n", []),
        ("a,A\nb,B\n,total\n,mean\n", []),
    ],
)
def test_a_table_gives_no_stem_two_groups(tmp_path, rows, faults):
    path = tmp_path / "groups.csv"
    path.write_text("stem,group\n" + rows)
    if not faults:
        assert read_groups(path)["a"] == "A" and read_groups(path)["b"] == "B"
        return
    with pytest.raises(ValueError, match="groups.csv gives two groups to ") as raised:
        read_groups(path)
    assert all(fault in str(raised.value) for fault in faults) and "b (" not in str(raised.value)


def test_a_table_names_some_of_the_images(tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text("stem,group\na,A\nz,B\n")
    assert groups_of(iter(["a", "b"]), path) == {"a": "A", "z": "B"}
    with pytest.raises(ValueError, match=r"names none of the images \(b, c\), but a, z; "):
        groups_of(["b", "c"], path)
    path.write_text("stem,group\n")
    with pytest.raises(ValueError, match=r"names none of the images \(b\), but none; "):
        groups_of(["b"], path)


def test_folders_are_groups_named_as_far_as_they_differ(tmp_path):
    pictures = {"a": tmp_path / "x" / "run" / "a.png", "b": tmp_path / "y" / "run" / "b.png"}
    assert groups_by_folder(pictures) == {"a": "x/run", "b": "y/run"}
    assert groups_by_folder({"a": pictures["a"]}) == {}
