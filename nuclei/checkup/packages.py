"""The packages of requirements.txt and the optional ones: what is installed, and in which version.

The files of requirements hold the ranges, so they are read and not repeated here.
"""

import contextlib
import re
from importlib import metadata
from pathlib import Path

from nuclei.version import PYPROJECT

NEEDED = PYPROJECT.with_name("requirements.txt")
FOR_TESTS = PYPROJECT.with_name("requirements-dev.txt")  # ranges of the optional ones it tests
VARIANTS = {  # other builds of a package, under names of their own
    "tensorflow": ("tensorflow-cpu",),
    "opencv-python-headless": ("opencv-python", "opencv-contrib-python"),
}
SCANNERS, ONNX = "slides of scanners (.svs .ndpi .mrxs ...)", "exports.py --model-out onnx"
MICROSCOPES = "images of microscopes: bioio, and its reader of .nd2, .lif or .czi (GPL-3)"
OPTIONAL = {  # package: what it is for; the one list of them
    "openslide-python": SCANNERS,
    "openslide-bin": SCANNERS,
    "zarr": "slides as TIFF or OME-Zarr, and the format omezarr",
    **dict.fromkeys(("bioio", "bioio-nd2", "bioio-lif", "bioio-czi"), MICROSCOPES),
    "imagecodecs": "TIFF compressed as JPEG, JPEG 2000, LZW or Zstandard",
    "openvino": "the engine openvino-half, half precision on a CPU",
    "roifile": "the format imagej, and ImageJ's ROIs as ground truth",
    "pyarrow": "the format parquet",
    "distributed": "predict.py --workers and --scheduler",
    "cryptography": "predict.py --workers: a certificate for its processes",
    "tensorboard": "train.py --log tensorboard",
    "jax": "training on several GPUs or machines",
    "kaleido": "the picture of graph.py, beside its page",
    "starlette": "app.py: the page to correct nuclei",
    "uvicorn": "app.py: its server",
    "tf2onnx": ONNX,
    "onnx": ONNX,
    "onnxruntime": ONNX,
    "bioimageio.core": "exports.py --model-out bioimageio",
}


def read_requirements(path: Path) -> dict[str, str]:
    """The packages of a file of requirements: {name: range}, such as {"numpy": ">=2,<3"}."""
    requirements = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*([^#;]*)", line):
            requirements[match[1].lower()] = match[2].strip()
    return requirements


def installed_version(name: str) -> str | None:
    """The version of a package, or of one of its VARIANTS; None where none is installed."""
    for variant in (name, *VARIANTS.get(name, ())):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(variant)
    return None


def fits(version: str, specifiers: str) -> bool:
    """Whether a version lies in a range. Without the package `packaging` any version does."""
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:  # Keras, scikit-image and Plotly bring it: one of them is missing, too
        return True
    return SpecifierSet(specifiers).contains(version, prereleases=True)


def missing_and_misfits(requirements: dict[str, str]) -> tuple[list[str], list[str]]:
    """Compare requirements with what is installed.

    Returns:
        (names of missing packages, texts such as "numpy 1.26.4 (expected >=2,<3)").
    """
    missing, misfits = [], []
    for name, specifiers in requirements.items():
        version = installed_version(name)
        if version is None:
            missing.append(name)
        elif not fits(version, specifiers):
            misfits.append(f"{name} {version} (expected {specifiers})")
    return missing, misfits
