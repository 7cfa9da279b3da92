"""JSON is read as what it should be, or refused in one line."""

from typing import Annotated

import pytest
from annotated_types import Interval
from typing_extensions import TypedDict

import nuclei.schema
from nuclei.schema import read_json, read_json_file


class Inner(TypedDict):
    """A part."""

    depth: Annotated[int, Interval(ge=1, le=8)]
    names: list[str]


class Outer(TypedDict):
    """A whole."""

    inner: Inner


def test_what_fits_comes_back(tmp_path):
    text = '{"inner": {"depth": 3, "names": ["a"]}}'
    expected = {"inner": {"depth": 3, "names": ["a"]}}
    assert read_json(text, Outer) == read_json(text.encode(), Outer) == expected
    (tmp_path / "a.json").write_text(text)
    assert read_json_file(tmp_path / "a.json", Outer) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Invalid JSON"),
        ("[" * 10**6, "recursion limit"),
        (b"\xff", "Invalid JSON"),
        ("[]", "all of it is []: input should be an object"),
        ('{"inner": {"depth": 3}}', "inner.names is missing"),
        ('{"inner": {"depth": "3", "names": []}}', "inner.depth is '3': input should be a valid"),
        ('{"inner": {"depth": 1e99, "names": []}}', "inner.depth is 1e+99"),
        ('{"inner": {"depth": 9, "names": []}}', "inner.depth is 9: input should be less than"),
        ('{"inner": {"depth": 3, "names": [null]}}', "inner.names.0 is None"),
        ('{"inner": {"depth": 3, "names": [1, 2, 3, 4, 5]}}', "and 2 more faults"),
        ('{"inner": {"depth": 3, "names": "' + "y" * 5000 + '"}}', "yyy ...: input should be"),
    ],
)
def test_what_does_not_fit_is_named_in_one_short_line(text, message):
    with pytest.raises(ValueError) as raised:
        read_json(text, Outer)
    assert message in str(raised.value) and "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300


def test_no_more_is_read_than_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(nuclei.schema, "MAX_MEGABYTES", 1)
    (tmp_path / "a.json").write_bytes(b" " * 2_000_000)
    with pytest.raises(ValueError, match="more JSON than the 1 MB"):
        read_json_file(tmp_path / "a.json", Outer)
