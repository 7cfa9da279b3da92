"""Read ground truth that lies in arrays: NumPy's .npy and .npz, and MATLAB's .mat.

    pixels = read_array("gt/a_seg.npy")         # (H, W) ids

Cellpose saves a.png's nuclei as a_seg.npy, HoVer-Net, CoNSeP and Lizard as a.mat, PanNuke and CoNIC
a whole set as one .npy. Arrays without a name are understood by their shape.
"""

import zipfile
from pathlib import Path

import numpy as np

from nuclei.archives import refuse_unsafe_archive
from nuclei.files import existing_file, explaining_damage, first_line
from nuclei.images.content import refuse_bomb
from nuclei.truth.inert_pickle import plain_data
from nuclei.truth.one_each import are_apart, is_mask, merged_planes, planes_first

ARRAY_SUFFIXES = (".npy", ".npz", ".mat")
# Variables of a .mat or .npz, in this order.
INSTANCE_MAPS = ("inst_map", "instance_map", "masks", "labels", "label")
EXPECTED = (
    "one id per nucleus as an array of (height, width), as Cellpose (_seg.npy) and HoVer-Net "
    "(inst_map in a .mat) save it"
)


def read_array(path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Read the ids of one image.

    Args:
        path: the file.
        shape: height and width of the image in px, which tells rows from planes; None if unknown.

    Returns:
        (H, W), any real dtype, 0 background.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, holds something else, or a whole set of images.
    """
    path = existing_file(path)

    def damage(error):
        return (
            f"is damaged or no file of ids ({type(error).__name__}: {first_line(error)}); "
            f"expected {EXPECTED}: save it again, or save the ids as png or tif"
        )

    with explaining_damage(path, damage):
        read = {".npy": read_npy, ".npz": read_npz}.get(path.suffix.lower(), read_mat)
        # MATLAB stores columns first, and what is computed from the ids would keep that order.
        return np.ascontiguousarray(ids_of(read(path), path, shape))


def read_npy(path: Path) -> np.ndarray:
    """The array of a .npy file, or the masks of Cellpose's _seg.npy. Nothing of it is run."""
    with open(path, "rb") as file:
        shape, dtype = read_header(file)
        refuse_bomb(path, shape)
        if not dtype.hasobject:
            file.seek(0)
            return np.lib.format.read_array(file, allow_pickle=False)
        data = plain_data(file.read())
    if isinstance(data, dict) and isinstance(data.get("masks"), np.ndarray):
        return data["masks"]
    raise ValueError(
        f"{path} holds Python objects without ids (masks) among them; expected {EXPECTED}: save "
        "the ids as png or tif, as Cellpose's menu File > Save masks as PNG/TIF does"
    )


def read_header(file) -> tuple[tuple[int, ...], np.dtype]:
    """(shape, dtype) of an open .npy file, which is left at its values."""
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"version {version} of the format")
    shape, _, dtype = read(file)
    return shape, dtype


def read_npz(path: Path) -> np.ndarray:
    """The only array of a .npz file, or its instance map."""
    shapes = {}
    with zipfile.ZipFile(path) as archive:
        refuse_unsafe_archive(path, archive)
        for name in archive.namelist():
            with archive.open(name) as file:
                shapes[name.removesuffix(".npy")] = read_header(file)[0]
    name = next(iter(shapes)) if len(shapes) == 1 else instance_map(shapes, path)
    refuse_bomb(path, shapes[name])
    with np.load(path, allow_pickle=False) as arrays:
        return arrays[name]


def read_mat(path: Path) -> np.ndarray:
    """The instance map of a .mat file, of MATLAB's versions 4 to 7.3."""
    with open(path, "rb") as file:
        head = file.read(128)
    if b"MATLAB 7.3" in head or head.startswith(b"\x89HDF"):
        import h5py

        with h5py.File(path) as file:
            shapes = {name: item.shape for name, item in file.items() if hasattr(item, "shape")}
            name = instance_map(shapes, path)
            return file[name][()].T  # MATLAB stores columns first
    from scipy import io

    shapes = {name: shape for name, shape, _ in io.whosmat(path)}
    name = instance_map(shapes, path)
    return io.loadmat(path, variable_names=[name])[name]


def instance_map(shapes: dict[str, tuple[int, ...]], path: Path) -> str:
    """The name of the variable that holds ids: a known one, or the only one of two axes.

    Raises:
        ValueError: there is none, or it is too large.
    """
    maps = [name for name, shape in shapes.items() if len(shape) == 2 and min(shape) > 1]
    name = next((name for name in INSTANCE_MAPS if name in shapes), None)
    name = maps[0] if name is None and len(maps) == 1 else name
    if name is None:
        raise ValueError(
            f"{path} has the variables {', '.join(shapes) or 'none'} and no inst_map; expected "
            f"{EXPECTED}"
        )
    refuse_bomb(path, shapes[name])
    return name


def ids_of(array: np.ndarray, path: Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """The ids of nuclei in an array: two axes, the channels of a known data set, or many masks.

    Args:
        array: any shape.
        path: names the file in an error.
        shape: height and width of the image in px; None if unknown.

    Raises:
        ValueError: the shape is another one.
    """
    if array.dtype.kind not in "biuf":
        raise ValueError(f"dtype {array.dtype}")
    if not array.size:
        raise ValueError(f"{path} has the shape {array.shape}, no pixel; expected {EXPECTED}")
    array = array[0] if array.ndim > 2 and len(array) == 1 else array
    if array.ndim == 2:
        return array
    channels = array.shape[2] if array.ndim == 3 else 0
    if 2 <= channels <= 6 and are_apart(np.moveaxis(array, -1, 0)):
        return merged_planes(np.moveaxis(array, -1, 0), path)
    # Data sets never hold bool; other masks of 0 and 1 are known by their number.
    if array.ndim == 3 and (array.dtype == bool or channels > 6):
        planes = planes_first(array, shape)
        if planes is not None and all(map(is_mask, planes)):
            return merged_planes(planes, path)
    if channels == 1 or channels == 2:  # CoNIC: ids and classes
        return array[..., 0]
    if channels in (4, 5):  # HoVer-Net's patches: red, green, blue, ids, and perhaps classes
        return array[..., 3]
    if channels == 6:
        return pannuke_ids(array)
    if array.ndim == 4 or array.ndim == 3 and channels > 6:
        raise ValueError(
            f"{path} has the shape {' x '.join(map(str, array.shape))}, a stack or a whole set; "
            "expected one image: python import_data.py --from FOLDER brings in a set of PanNuke "
            "or CoNIC (images.npy with masks.npy or labels.npy)"
        )
    raise ValueError(f"{path} has the shape {array.shape}; expected {EXPECTED}")


def pannuke_ids(array: np.ndarray) -> np.ndarray:
    """One id per nucleus from PanNuke's channels.

    Args:
        array: (H, W, 6), the ids of five classes and the background.

    Returns:
        (H, W) int64.
    """
    ids, highest = np.zeros(array.shape[:2], np.int64), 0
    for channel in range(5):
        own = array[..., channel].astype(np.int64)
        ids = np.where(own > 0, own + highest, ids)
        highest += int(own.max(initial=0))
    return ids
