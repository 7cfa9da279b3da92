"""What evaluation.json must look like, and its reader.

record = read_evaluation_record(Path("predictions/evaluation.json"))
record["all"]["pooled"]["dice"]["value"]
"""

from pathlib import Path
from typing import Annotated, NotRequired

from annotated_types import Interval
from typing_extensions import TypedDict

from nuclei.schema import read_json_file

Number = Annotated[float, Interval(ge=-1e12, le=1e12)]
Count = Annotated[int, Interval(ge=0, le=10**12)]
PAGE_SCORES = ("dice", "ap_50", "mean_ap", "aji", "pq", "count_error_relative")  # of each summary


class Interval95(TypedDict):
    """A score and its 95 % interval; None where undefined."""

    value: Number | None
    low: Number | None
    high: Number | None


Scores = TypedDict("Scores", dict.fromkeys(PAGE_SCORES, Interval95))
Scores.__pydantic_config__ = {"extra": "allow"}


class Summary(TypedDict):
    """The scores and counts of all images or of a group."""

    __pydantic_config__ = {"extra": "allow"}

    num_images: Count
    num_truth: Count
    num_predicted: Count
    merges: Count
    splits: Count
    misses: Count
    extras: Count
    pooled: Scores
    mean_of_images: Scores


class ImageScores(TypedDict):
    """The row of one image."""

    __pydantic_config__ = {"extra": "allow"}

    stem: str
    num_predicted: Count
    num_in_file: NotRequired[Count]
    mean_ap: Number | None
    ap_50: Number | None
    dice: Number | None
    count_error: Number | None


class EvaluationRecord(TypedDict):
    """All of evaluation.json that others use."""

    __pydantic_config__ = {"extra": "allow"}

    all: Summary
    groups: dict[str, Summary]
    images: list[ImageScores]
    definitions: dict[str, str]
    notes: NotRequired[list[str]]
    truth: NotRequired[str]


def read_evaluation_record(path: Path) -> dict:
    """Read evaluation.json.

    Raises:
        FileNotFoundError: there is none.
        ValueError: evaluate.py did not write it, or it is damaged.
    """
    try:
        return read_json_file(path, EvaluationRecord)
    except ValueError as error:
        raise ValueError(
            f"{path}: expected an evaluation.json of evaluate.py ({error}); run evaluate.py again"
        ) from None
