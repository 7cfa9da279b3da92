"""The description inside a bioimage.io package: tensors, sizes, weights, authors, licence.

`describe` makes it from the files of the package (`nuclei.formats.bioimageio` writes them) and the
settings of the model file. bioimageio.spec checks every field while it is made.

Format: https://bioimage-io.github.io/spec-bioimage-io/
"""

import re
from typing import NamedTuple

from nuclei.images.intensity import RANGE_PERCENTILES
from nuclei.model_file import in_words
from unet import network_geometry

LICENCE = "MIT"  # SPDX name of an exported model's licence, unless --licence gives another
DESCRIPTION = "U-Net for nuclei in histology and fluorescence images: "
MAPS = {"nucleus": "nucleus probability", "distance": "distance map", "contact": "contact map"}
CITATION = (
    "Ronneberger, Fischer, Brox 2015: "
    "U-Net: Convolutional Networks for Biomedical Image Segmentation"
)
CITATION_DOI = "10.1007/978-3-319-24574-4_28"
NAME = re.compile(r"[A-Za-z0-9_+ ()-]{5,128}")  # what bioimage.io allows
MAX_DEFAULT_NAME = 64  # characters; of longer ones it warns
TAGS = ("nuclei", "segmentation", "histology", "fluorescence-light-microscopy", "unet", "2d")


class Credits(NamedTuple):
    """What the package says about its origin: name, author, SPDX name of the licence."""

    name: str
    author: str
    licence: str = LICENCE


def name_of_package(stem):
    """The name of a package that the user gave none, from the name of the model file."""
    return re.sub("[^A-Za-z0-9_+ ()-]+", "_", f"nuclei {stem}")[:MAX_DEFAULT_NAME]


def require_credits(package):
    """Check `Credits` before the work. Raises: ValueError, which names the flag of exports.py."""
    from bioimageio.spec.model import v0_5 as spec

    def check_name(name):
        if not NAME.fullmatch(name):
            raise ValueError

    letters = "5 to 128 letters from a to z, digits, blanks and _ + - ( ), such as"
    rules = (
        ("--name", package.name, check_name, f'{letters} "nuclei 1"'),
        ("--author", package.author, lambda name: spec.Author(name=name), "a name without slashes"),
        ("--licence", package.licence, spec.LicenseId, "a name of SPDX, such as CC-BY-4.0"),
    )
    for flag, value, check, expected in rules:
        try:
            check(value)
        except ValueError:  # that of pydantic has many lines
            raise ValueError(f'{flag} "{value}" came; expected {expected}') from None


class Sizes(NamedTuple):
    """Sizes in px that the package allows.

    Attributes:
        multiple: height and width of the input are a multiple of it.
        halo: width of the border of a block that is computed and dropped. It is a multiple too, so
            that pooling groups the same pixels in every block.
    """

    multiple: int
    halo: int

    @property
    def smallest(self):
        """The smallest height and width."""
        return 2 * self.halo + self.multiple


def allowed_sizes(settings):
    """The `Sizes` of a network, from the settings of its model file."""
    geometry = network_geometry(settings["architecture"])
    multiple, margin = geometry["multiple"], geometry["margin"]
    return Sizes(multiple, halo=-(-margin // multiple) * multiple)


def describe_input(folder, sizes):
    """The description of the input tensor: an RGB image, scaled by percentiles first."""
    from bioimageio.spec.model import v0_5 as spec

    sides = {"size": spec.ParameterizedSize(min=sizes.smallest, step=sizes.multiple)}
    low, high = RANGE_PERCENTILES
    colours = [spec.Identifier(colour) for colour in ("red", "green", "blue")]
    percentiles = spec.ScaleRangeKwargs(
        axes=[spec.AxisId(axis) for axis in ("y", "x", "channel")],
        min_percentile=low,
        max_percentile=high,
    )
    return spec.InputTensorDescr(
        id=spec.TensorId("image"),
        axes=[
            spec.BatchAxis(),
            spec.SpaceInputAxis(id=spec.AxisId("y"), **sides),
            spec.SpaceInputAxis(id=spec.AxisId("x"), **sides),
            spec.ChannelAxis(channel_names=colours),
        ],
        test_tensor=spec.FileDescr(source=folder / "test_input.npy"),
        data=spec.IntervalOrRatioDataDescr(type="float32"),
        preprocessing=[
            spec.ScaleRangeDescr(kwargs=percentiles),
            spec.ClipDescr(kwargs=spec.ClipKwargs(min=0.0, max=1.0)),
        ],
    )


def describe_output(folder, sizes, heads):
    """The description of the output tensor: a channel for each map, size of the image, halo."""
    from bioimageio.spec.model import v0_5 as spec

    def side(axis):
        size = spec.SizeReference(tensor_id=spec.TensorId("image"), axis_id=spec.AxisId(axis))
        return spec.SpaceOutputAxisWithHalo(id=spec.AxisId(axis), size=size, halo=sizes.halo)

    channels = spec.ChannelAxis(channel_names=[spec.Identifier(head) for head in heads])
    return spec.OutputTensorDescr(
        id=spec.TensorId("maps"),
        axes=[spec.BatchAxis(), side("y"), side("x"), channels],
        test_tensor=spec.FileDescr(source=folder / "test_output.npy"),
        data=spec.IntervalOrRatioDataDescr(type="float32"),
    )


def describe(folder, settings, package):
    """The description of the whole package, a `ModelDescr`.

    Args:
        folder: where `write_members` wrote.
        settings: of the model file.
        package: its `Credits`.
    """
    import onnx
    from bioimageio.spec.model import v0_5 as spec

    sizes, weights = allowed_sizes(settings), folder / "weights.onnx"
    heads = settings["architecture"]["heads"]
    opset = max(entry.version for entry in onnx.load(weights).opset_import)
    return spec.ModelDescr(
        name=package.name,
        description=DESCRIPTION + in_words([MAPS[head] for head in heads]),
        authors=[spec.Author(name=package.author)],
        cite=[spec.CiteEntry(text=CITATION, doi=spec.Doi(CITATION_DOI))],
        license=spec.LicenseId(package.licence),
        documentation=spec.FileDescr(source=folder / "README.md"),
        tags=list(TAGS),
        inputs=[describe_input(folder, sizes)],
        outputs=[describe_output(folder, sizes, heads)],
        weights=spec.WeightsDescr(onnx=spec.OnnxWeightsDescr(source=weights, opset_version=opset)),
    )
