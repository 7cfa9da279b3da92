"""JSON that this program wrote, checked when it is read: it may be damaged or of another program.

    settings = read_json(text, Settings)     # the dict; or a ValueError that says what is wrong

What is expected is written as types, a `TypedDict` or a dataclass, and pydantic checks them. Its
parser, unlike Python's own, also refuses JSON that is nested too deep.
"""

import functools
from pathlib import Path

MAX_MEGABYTES = 256  # of a text; an evaluation of 100,000 images has half of it
MAX_SHOWN = 3  # faults that a message names
SHOWN_CHARACTERS = 40  # of a wrong value in a message


def read_json(text: str | bytes, kind: type):
    """Parse JSON and check it.

    Args:
        text: the JSON; bytes are UTF-8.
        kind: what is expected, a `typing_extensions.TypedDict` or a dataclass.

    Returns:
        A dict for a `TypedDict`, else an instance of the dataclass.

    Raises:
        ValueError: it is no JSON, larger than MAX_MEGABYTES or nested too deep, or a value is
            missing, of another type or out of its range. The message is one line.
    """
    from pydantic import ValidationError  # late: --help does not need it

    if len(text) > MAX_MEGABYTES * 10**6:
        raise ValueError(f"more JSON than the {MAX_MEGABYTES} MB that are expected at most")
    try:
        return adapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        more = f"; and {len(faults) - MAX_SHOWN} more faults" if len(faults) > MAX_SHOWN else ""
        raise ValueError("; ".join(map(describe, faults[:MAX_SHOWN])) + more) from None


def read_json_file(path: Path, kind: type):
    """`read_json` of a file, of which no more is read than is allowed. Raises: OSError, too."""
    if path.exists() and not path.is_file():  # a pipe would be waited for without end
        raise ValueError("it is a folder, a pipe or a device, and no file")
    with open(path, "rb") as file:
        return read_json(file.read(MAX_MEGABYTES * 10**6 + 1), kind)


@functools.cache
def adapter(kind: type):
    """The checker of a kind, made once."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def describe(fault: dict) -> str:
    """One fault in words: "architecture.depth is 0; expected: Input should be ...".

    Args:
        fault: of `pydantic.ValidationError.errors`.
    """
    message = fault["msg"]
    if fault["type"] == "json_invalid":
        return message
    place = ".".join(map(str, fault["loc"])) or "all of it"
    if fault["type"] == "missing":
        return f"{place} is missing"
    came = repr(fault["input"])
    if len(came) > SHOWN_CHARACTERS:
        came = came[:SHOWN_CHARACTERS] + " ..."
    return f"{place} is {came}: {message[:1].lower()}{message[1:]}"
