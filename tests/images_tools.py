"""Small images, truths and data sets for the tests of the image rooms."""

import zipfile

import numpy as np
import tifffile
from PIL import Image


def discs(height=96, width=112, count=9, radius=6, seed=0):
    """Labels of separate discs on a jittered grid: (H, W) int32."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    labels, side = np.zeros((height, width), np.int32), int(np.ceil(np.sqrt(count)))
    for index in range(count):
        row = (index // side + 0.5) * height / side + rng.uniform(-3, 3)
        column = (index % side + 0.5) * width / side + rng.uniform(-3, 3)
        labels[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = index + 1
    return labels


def fluorescence(labels, dark=8, light=90, seed=0):
    """Grey nuclei on black with noise: (H, W) uint8."""
    noise = np.random.default_rng(seed).normal(0, 1, labels.shape)
    return np.clip(np.where(labels > 0, light, dark) + noise, 0, 255).astype(np.uint8)


def tissue(labels, seed=0):
    """Purple nuclei on pink: (H, W, 3) uint8."""
    noise = np.random.default_rng(seed).normal(0, 4, (*labels.shape, 3))
    colour = np.where(labels[..., None] > 0, [110, 70, 150], [225, 180, 205])
    return np.clip(colour + noise, 0, 255).astype(np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".tif", ".tiff"):
        tifffile.imwrite(path, array, **options)
    else:
        Image.fromarray(array).save(path, **options)
    return path


def same_partition(one, other):
    """Two label images that divide the pixels alike, whatever the ids."""
    pairs = {*zip(np.ravel(one).tolist(), np.ravel(other).tolist(), strict=True)}
    return (
        len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}) and (0, 0) in pairs
    )


def is_without_gaps(labels):
    return labels.dtype == np.int32 and sorted({0, *np.unique(labels)}) == list(
        range(labels.max() + 1)
    )


def data_set(folder, count=4, form=lambda labels: labels.astype(np.uint16)):
    for index in range(count):
        labels = discs(seed=index)
        save(folder / "raw" / f"image{index}.png", fluorescence(labels))
        save(folder / "gt" / f"image{index}.png", form(labels))
    return folder


def dsb2018(folder, count=3, touching=True):
    """A tree as the competition published it: {ID: labels}."""
    truth = {}
    for index in range(count):
        stem, labels = f"id{index}", discs(seed=index)
        image = np.dstack([fluorescence(labels)] * 3 + [np.full(labels.shape, 255, np.uint8)])
        save(folder / stem / "images" / f"{stem}.png", image)
        for nucleus in range(1, labels.max() + 1):
            save(
                folder / stem / "masks" / f"{stem}_{nucleus:02d}.png",
                (labels == nucleus) * np.uint8(255),
            )
        truth[stem] = labels
    return truth


def zipped(folder, path, prefix="", method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


GREY = fluorescence(discs())
COLOUR = tissue(discs())
ALPHA = np.dstack([COLOUR, np.full(GREY.shape, 255, np.uint8)])
LABELS = discs()
INK = np.random.default_rng(1).integers(1, 255, (10, 3)).astype(np.uint8)
INK[0] = 0
EYE = np.random.default_rng(2).permutation(np.arange(1, 300))[:10]
EYE[0] = 0
