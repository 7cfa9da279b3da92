"""The settings of a training: `Recipe` changes its result, `Run` does not.

    recipe = Recipe(data_dir="my_data", epochs=60)
    recipe.peak_learning_rate                       # 6e-3, and a tenth of it with `init`
    run = Run(out="Saved_Model", num_devices=2)
    run.history                                     # Saved_Model/history.csv

A recipe goes into the checkpoint and into the model file as it is, so `--resume` needs no other
flag.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Interval

from nuclei.cli import DATA_DIR, MODEL_DIR
from nuclei.datasets.pairs import Reading
from nuclei.model_settings import Depth, Head, Stride, Width
from nuclei.results.graph_page import GRAPH_NAME
from nuclei.schema import read_json
from nuclei.training.hosts import Processes
from nuclei.training.limits import MODALITIES
from unet import DEPTH, HEADS, STEM_STRIDE, WIDTH, network_geometry

LEARNING_RATE = 6e-3  # peak of the schedule
FINE_TUNING_RATE = 6e-4  # peak learning rate of fine-tuning: lower, to keep what the model knows
# The last quarter of the schedule brings most: a long training must not end before it by chance.
MIN_PATIENCE = 20
PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")
Whole = Annotated[int, Interval(ge=1, le=10**6)]
PLACES = ("data_dir", "gt_dir", "split", "init")  # settings that name files on this machine


@dataclass(frozen=True)
class DataSet:
    """Where the images of one set lie, and how they are divided.

    Attributes:
        name: of its folder, or the whole path where two sets have one name, or the scores another
            line of this name.
        raw_dir: folder of the images.
        truth_dir: folder of the ground truth.
        split: CSV with the columns stem and split; None splits at random.
    """

    name: str
    raw_dir: Path
    truth_dir: Path
    split: Path | None


@dataclass(frozen=True)
class Recipe:
    """The settings of a training. The flags of train.py have the same names and defaults.

    The ranges are checked by `require_usable`, and where a checkpoint is read.

    Attributes:
        data_dir: folders with raw/, gt/ and perhaps split.csv, one for each set; a string is one.
        gt_dir: folder of the ground truth of a single set; None is gt/ of each.
        split: CSV of a single set with the columns stem and split; None is split.csv of each, or a
            random split where there is none.
        channel, plane: read of files of several planes, as of `open_image`; None chooses. They go
            into the model file, and prediction repeats them.
        init: model file to start from; None starts from random weights.
        epochs: number of epochs at most.
        crops_per_image: crops of each training image in one epoch, on average.
        batch_size: crops in one step, over all devices.
        crop_px: height and width of a crop. 256 px show ten or more nuclei of usual size.
        learning_rate: peak of the schedule; None is LEARNING_RATE, or FINE_TUNING_RATE with `init`.
        patience: training stops after this many epochs without a better validation loss; None is
            half of all epochs, at least MIN_PATIENCE.
        width: filters of the first level of the network.
        depth: how many times its encoder halves the size.
        stem_stride: 2 halves the size in the first convolution too.
        heads: names of the maps to learn; None is all, or those of `init`.
        precision: one of PRECISIONS; "auto" takes what is fastest on the device.
        seed: random seed of weights, split and crops.
        ignore: values of the truth that are void; None takes 255 beside a few small numbers.
    """

    data_dir: tuple[str, ...] = (DATA_DIR,)
    gt_dir: str | None = None
    split: str | None = None
    channel: str | None = None
    plane: str | None = None
    init: str | None = None
    epochs: Whole = 30
    crops_per_image: Whole = 2
    batch_size: Whole = 8
    crop_px: Annotated[int, Interval(ge=1, le=16_384)] = 256
    learning_rate: Annotated[float, Interval(gt=0, le=1000)] | None = None
    patience: Annotated[int, Ge(0)] | None = None
    width: Width = WIDTH
    depth: Depth = DEPTH
    stem_stride: Stride = STEM_STRIDE
    heads: list[Head] | None = None
    precision: Literal[PRECISIONS] = "auto"
    seed: Annotated[int, Interval(ge=0, lt=2**32)] = 7
    ignore: list[int] | None = None

    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self):
        folders = (self.data_dir,) if isinstance(self.data_dir, str) else self.data_dir
        object.__setattr__(self, "data_dir", tuple(map(str, folders)))

    def require_usable(self):
        """Raise ValueError where a setting is out of its range: no checkpoint could be read."""
        read_json(json.dumps(asdict(self)), Recipe)

    def require_fitting_crops(self, architecture: dict):
        """Raise ValueError where a network cannot halve and double crops of this size."""
        multiple = network_geometry(architecture)["multiple"]
        if self.crop_px % multiple:
            nearest = max(1, round(self.crop_px / multiple)) * multiple
            raise ValueError(
                f"--crop {self.crop_px}: this network needs a multiple of {multiple} px; take "
                f"{nearest}"
            )

    @property
    def sets(self) -> list[DataSet]:
        """The sets of images.

        Raises:
            ValueError: `gt_dir` or `split` is given for several sets, or a set is given twice.
        """
        folders = [Path(folder) for folder in self.data_dir]
        if len(folders) > 1 and (self.gt_dir or self.split):
            raise ValueError(
                f"--gt-dir and --split belong to one set, and --data-dir names {len(folders)}; "
                "give each folder its own gt/ and split.csv"
            )
        if len({folder.resolve() for folder in folders}) < len(folders):
            raise ValueError(f"--data-dir {' '.join(self.data_dir)}: one folder is named twice")
        names = [folder.resolve().name for folder in folders]
        taken = {*(name for name in names if names.count(name) > 1), *MODALITIES, "all"}
        sets = []
        for folder, name in zip(folders, names, strict=True):
            own_split = folder / "split.csv"
            split = self.split or (own_split if own_split.is_file() else None)
            sets.append(
                DataSet(
                    name if name not in taken or len(folders) == 1 else str(folder.resolve()),
                    folder / "raw",
                    Path(self.gt_dir) if self.gt_dir else folder / "gt",
                    Path(split) if split else None,
                )
            )
        return sets

    @property
    def reading(self) -> Reading:
        """How the files are read."""
        return Reading(tuple(self.ignore or ()), self.channel, self.plane)

    @property
    def peak_learning_rate(self) -> float:
        """The highest learning rate of the schedule."""
        return self.learning_rate or (FINE_TUNING_RATE if self.init else LEARNING_RATE)

    @property
    def epochs_to_wait(self) -> int:
        """How many epochs without a better validation loss end the training."""
        return max(MIN_PATIENCE, self.epochs // 2) if self.patience is None else self.patience

    @property
    def architecture(self) -> dict:
        """The keyword arguments of `build_unet` for a network that starts from random weights."""
        return {
            "heads": list(self.heads or HEADS),
            "width": self.width,
            "depth": self.depth,
            "stem_stride": self.stem_stride,
        }

    def without_places(self) -> dict:
        """The settings that must agree between processes, which may have their files elsewhere."""
        return {name: value for name, value in asdict(self).items() if name not in PLACES}

    def for_model_file(self) -> dict:
        """All settings, but of files only the names: a model file travels to other people."""
        settings = asdict(self) | {"learning_rate": self.peak_learning_rate}
        settings["data_dir"] = [Path(folder).resolve().name for folder in self.data_dir]
        for name in PLACES[1:]:
            settings[name] = Path(settings[name]).name if settings[name] else None
        return settings


@dataclass(frozen=True)
class Run:
    """Where a training runs and what it writes. Another run of the same recipe has the same result.

    Attributes:
        out: folder of the model, its history and the checkpoint.
        num_devices: devices of each process that share a batch.
        processes: the processes of this training, usually this one alone.
        log: "tensorboard" for its event files, or None.
    """

    out: Path = Path(MODEL_DIR)
    num_devices: int = 1
    processes: Processes = Processes()
    log: str | None = None

    @property
    def model(self) -> Path:
        """The model file."""
        return self.out / "trained_model.h5"

    @property
    def history(self) -> Path:
        """The table with one row for each epoch."""
        return self.out / "history.csv"

    @property
    def settings(self) -> Path:
        """The settings of the model file as text."""
        return self.out / "settings.json"

    @property
    def graph(self) -> Path:
        """The curves of the history, renewed after each epoch."""
        return self.out / f"{GRAPH_NAME}.html"

    @property
    def preview(self) -> Path:
        """What the network finds in some validation images, renewed after each epoch."""
        return self.out / "preview.jpg"

    @property
    def checkpoint(self) -> Path:
        """All that a resumed training needs; removed at the end."""
        return self.out / "checkpoint.h5"

    @property
    def previous(self) -> Path:
        """The folder that earlier results are moved to."""
        return self.out / "previous"

    def say(self, line: str) -> None:
        """Print a line for the user, in one of the processes."""
        if self.processes.is_first:
            print(line)
