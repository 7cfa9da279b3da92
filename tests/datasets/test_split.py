"""A split is exact, stratified and blind to order; a given split is read."""

import pytest

from nuclei.datasets.split import read_split, split_stems


def test_a_split_is_exact_stratified_and_blind_to_order():
    groups = {f"s{index}": "tissue" if index % 5 == 0 else "fluorescence" for index in range(100)}
    split = split_stems(groups, 0.2, seed=3)
    assert list(split) == sorted(groups) and set(split.values()) == {"train", "validation"}
    for group, expected in (("tissue", 4), ("fluorescence", 16)):
        assert (
            sum(split[stem] == "validation" for stem in groups if groups[stem] == group) == expected
        )
    assert split_stems(dict(reversed(groups.items())), 0.2, seed=3) == split
    assert split_stems(groups, 0.2, seed=4) != split
    more = split_stems(groups | {"new": "tissue"}, 0.2, seed=3)
    assert sum(more[stem] != split[stem] for stem in groups) <= 2


@pytest.mark.parametrize(
    ("groups", "share", "validation"),
    [
        ({"a": "x"}, 0.2, 0),
        ({"a": "x", "b": "x"}, 0.1, 1),
        ({"a": "x", "b": "y"}, 0.1, 1),
        ({"a": "x", "b": "y", "c": "y"}, 0.9, 1),
        ({"a": "x", "b": "x", "c": "x"}, 0.99, 2),
        ({"a": "x", "b": "x"}, 0, 0),
        ({}, 0.2, 0),
    ],
)
def test_small_splits_keep_something_on_each_side(groups, share, validation):
    split = split_stems(groups, share, seed=0)
    assert sum(part == "validation" for part in split.values()) == validation


@pytest.mark.parametrize("share", [-0.1, 1, 20])
def test_an_impossible_share_is_refused(share):
    with pytest.raises(ValueError, match="expected 0 or more"):
        split_stems({"a": "x"}, share, seed=0)


def test_a_given_split_is_read_and_its_faults_are_named(tmp_path):
    path = tmp_path / "split.csv"
    text = "\ufeffstem,modality,split\na,x,train\nb.png,x, Validation \nc,y,test\na,x,train\n"
    path.write_text(text, encoding="utf-8")
    assert read_split(path) == {"a": "train", "b": "validation", "c": "test"}
    for text, message in (
        ("stem,part\na,train\n", "columns .*expected stem and split"),
        ("stem,split\na,trian\n", "line 2: stem 'a', split 'trian'"),
        ("stem,split\na,train\na,validation\n", "line 3: a is in train and in validation"),
        ("stem,split\na\n", "line 2"),
        ("stem,split\n", "no row"),
        ("", "expected stem and split"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_split(path)
    path.write_bytes(b"\xff\xfe\x00s")
    with pytest.raises(ValueError, match="no CSV text"):
        read_split(path)
    with pytest.raises(FileNotFoundError, match="columns stem and split"):
        read_split(tmp_path / "nothing.csv")


@pytest.mark.parametrize(
    "text", ["stem," + "a" * 70_000 + "\na,b\n", "stem,split\na," + "b" * 70_000]
)
def test_the_message_on_a_damaged_split_is_short(tmp_path, text):
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(ValueError, match="split.csv") as raised:
        read_split(tmp_path / "split.csv")
    assert len(str(raised.value)) < 1000
