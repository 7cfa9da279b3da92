"""What the settings of a model file must look like, as types that `nuclei.schema` checks.

Only "architecture" must be there. Settings that this program does not use may be anything.
"""

from typing import Annotated, Literal, NotRequired, Required

from annotated_types import Interval, Len
from typing_extensions import TypedDict

from unet import HEADS

MAX_WIDTH, MAX_DEPTH = 1024, 8  # of a network; the paper's has 64 and 4
# See instances/signs.
SIGNS = ("uncertainty", "scale_spread", "low_confidence", "low_solidity", "hole_share")
# Of signs that usual images do not have at all: the validation images of three sets have 0.
FIXED_LIMITS = {"hole_share": 0.25}
MAX_PX = 100_000  # of a diameter, a blur or the side of an area

Head = Literal[HEADS]
Share = Annotated[float, Interval(ge=0, le=1)]
Count = Annotated[int, Interval(ge=0, le=10**12)]
Width = Annotated[int, Interval(ge=1, le=MAX_WIDTH)]
Depth = Annotated[int, Interval(ge=1, le=MAX_DEPTH)]
Stride = Literal[1, 2]
Pixels = Annotated[float, Interval(gt=0, le=MAX_PX)]


class Architecture(TypedDict, total=False):
    """The keyword arguments of `build_unet`."""

    __pydantic_config__ = {"extra": "forbid"}

    heads: Required[Annotated[list[Head], Len(1, len(HEADS))]]
    width: Width
    depth: Depth
    stem_stride: Stride
    normalisation: Literal["batch", "none"]


class Thresholds(TypedDict, total=False):
    """Arguments of `separate`."""

    __pydantic_config__ = {"extra": "forbid"}

    nucleus_threshold: Share
    marker_threshold: Share
    contact_weight: Annotated[float, Interval(ge=0, le=100)]
    smoothing_px: Annotated[float, Interval(ge=0, le=100)]
    min_area_px: Annotated[float, Interval(ge=0, le=MAX_PX**2)]
    min_probability: Share


class Calibration(TypedDict):
    """The weights of `confidence`."""

    __pydantic_config__ = {"extra": "allow"}

    weights: Annotated[list[Annotated[float, Interval(ge=-1e6, le=1e6)]], Len(5, 5)]


class OutOfDistribution(TypedDict, total=False):
    """The limits of the signs of an image."""

    __pydantic_config__ = {"extra": "allow"}

    limits: dict[Literal[SIGNS], Annotated[float, Interval(ge=-1e6, le=1e6)]]
    rare_modalities: list[str]
    uncertainty_above: (
        Annotated[float, Interval(ge=-1e6, le=1e6)] | None
    )  # of files that were written before there were other signs


class Chosen(TypedDict, total=False):
    """What was chosen on the validation images."""

    __pydantic_config__ = {"extra": "allow"}

    thresholds: Thresholds
    calibration: Calibration
    out_of_distribution: OutOfDistribution


class Score(TypedDict):
    """The scores of one kind of images; NaN or None where undefined."""

    __pydantic_config__ = {"extra": "allow"}

    images: Count
    dice: float | None
    ap50: float | None
    map: float | None


class Scores(TypedDict, total=False):
    """Scores of whole images, by kind."""

    __pydantic_config__ = {"extra": "allow"}

    validation: dict[str, Score]


class Data(TypedDict, total=False):
    """What the weights have learned from: names of sets, numbers of images of each kind."""

    __pydantic_config__ = {"extra": "allow"}

    sets: list[str]
    train: dict[str, Count]
    validation: Count
    truth: dict[str, Count]


class Diameters(TypedDict, total=False):
    """Nucleus diameters of the training, in px."""

    __pydantic_config__ = {"extra": "allow"}

    median: float
    percentile_5: float
    percentile_95: float


class Arguments(TypedDict, total=False):
    """Flags of train.py that prediction and descriptions use."""

    __pydantic_config__ = {"extra": "allow"}

    data_dir: str | list[str]
    channel: str | None
    plane: str | None


class Settings(Chosen, total=False):
    """All settings of a model file."""

    __pydantic_config__ = {"extra": "allow"}

    schema: Annotated[int, Interval(ge=0, le=10**6)]
    architecture: Required[Architecture]
    trained_diameter_px: Pixels
    nucleus_diameter_px: Diameters
    arguments: Arguments
    data: Data
    versions: dict[str, str]
    scores: Scores


class Version(TypedDict):
    """The version of the settings, which decides whether the rest can be read."""

    __pydantic_config__ = {"extra": "allow"}

    schema: NotRequired[Annotated[int, Interval(ge=0, le=10**6)]]
