"""The training images: read into memory, divided into training and validation, weighted.

    samples, forms = load_samples("data/raw", "data/gt")
    train_stems, validation_stems = choose_split(samples, split_csv=None, seed=7)

A `Sample` is one image with its labels. Where the images need more memory than is sensible, the
rest lies in a temporary file, which the operating system reads as needed.
"""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nuclei.cli import MODEL_DIR, Notes
from nuclei.datasets.pairs import Reading, find_pairs, find_truths, read_pair
from nuclei.datasets.split import read_split, split_stems
from nuclei.files import named
from nuclei.images.folder import find_images
from nuclei.images.intensity import intensity_range
from nuclei.images.labels import equivalent_diameters
from nuclei.images.modality import modality
from nuclei.machine import memory_bytes
from nuclei.progress import Progress
from nuclei.truth.forms import EMPTY, INSTANCE_COLOURS, INSTANCES
from nuclei.truth.remarks import Remarks

VALIDATION_SHARE = 0.15  # of the images, where no split is given
HELD_BYTES = 4_000_000_000  # of images and labels in memory, at 7 bytes a pixel
HELD_SHARE = 0.25  # of the memory that this process may use, where that is less
GROUP_POWER = 0.35  # how often a group is drawn grows with this power of its number of images
INSTANCE_FORMS = (INSTANCES, INSTANCE_COLOURS)  # forms of truth that separate touching nuclei


@dataclass
class Sample:
    """One training image with its labels.

    Attributes:
        image: (H, W, 3) uint8 or uint16, as on disk.
        intensity_range: (low, high), the values of `image` that become 0 and 1.
        labels: (H, W) int32, 0 background, 1...n.
        group: modality of the image; rare groups are drawn more often (`sampling_shares`).
        diameter_px: median diameter of the nuclei, or None without nuclei.
        has_instances: whether touching nuclei have ids of their own. If not, as in a binary mask,
            the sample teaches what is nucleus, but not where one nucleus ends and the next begins.
        void: (H, W) bool, pixels that are neither nucleus nor background and teach nothing; None
            where there are none.
    """

    image: np.ndarray
    intensity_range: tuple
    labels: np.ndarray
    group: str = ""
    diameter_px: float | None = None
    has_instances: bool = True
    void: np.ndarray | None = None


class ArrayStore:
    """Keeps arrays in memory up to a limit, and the rest in a temporary file.

    Arrays in the file are memory-mapped; they stay readable after the store is closed.
    """

    def __init__(self, folder, say):
        self.folder, self.say = Path(folder), say
        self.max_bytes = min(HELD_BYTES, HELD_SHARE * memory_bytes())
        self.num_bytes = 0
        self.file = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.file is not None:
            self.file.close()

    def keep(self, *arrays):
        """Take arrays and return what to use in their place: themselves or mapped copies."""
        self.num_bytes += sum(array.nbytes for array in arrays)
        if self.num_bytes <= self.max_bytes:
            return arrays
        if self.file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115, closed by __exit__
            self.say(
                f"The images are more than {self.max_bytes / 1e9:.3g} GB: the rest lies in a "
                f"temporary file in {self.folder}"
            )
        return [self.mapped(array) for array in arrays]

    def mapped(self, array):
        """Append an array to the file and map it."""
        start = self.file.seek(0, os.SEEK_END)
        self.file.write(np.ascontiguousarray(array))
        self.file.flush()
        return np.memmap(self.file, array.dtype, "r", start, array.shape)


def load_samples(raw_dir, gt_dir, say=print, folder=MODEL_DIR, ignore=(), channel=None, plane=None):
    """Read every pair of image and truth.

    Args:
        raw_dir, gt_dir: folders of images and truths with the same stems.
        say: called with each line for the user.
        folder: where a temporary file goes if the images need too much memory.
        ignore: values of void in the truths, as for `read_truth`.
        channel, plane: what is read of files of several planes, as of `open_image`.

    Returns:
        ({stem: Sample}, {stem: form of its truth}).

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: no pairs, no nuclei, or files that cannot be read or do not fit together.
    """
    pairs = find_pairs(raw_dir, gt_dir)
    reading = Reading(tuple(ignore), channel, plane)
    images = find_images(raw_dir)
    num_unpaired = len(images) + len(find_truths(gt_dir, images)) - 2 * len(pairs)
    if num_unpaired:
        say(
            f"{num_unpaired} files of {raw_dir} and {gt_dir} have no partner and are left out; "
            "python import_data.py names them"
        )
    samples, forms, problems, incomplete, remarks = {}, {}, [], [], Remarks()
    with (
        ArrayStore(folder, say) as store,
        Notes(say) as notes,
        Progress("Reading", len(pairs), "pairs", log=True) as progress,
    ):
        for stem, (image_path, truth_path) in pairs.items():
            progress.add(1)
            try:
                image, truth = read_pair(image_path, truth_path, reading, notes)
            except ValueError as error:
                problems.append(str(error))
                continue
            name = truth_path.name if stem in truth_path.name else image_path.name
            remarks.add(name, image, truth)
            samples[stem] = sample_of(image, truth, store)
            forms[stem] = truth.form
            if truth.left_out:
                incomplete.append(f"{Path(truth_path).name}: {truth.left_out}")
    if problems:
        raise ValueError(
            f"{len(problems)} of {len(pairs)} pairs cannot be used: {'; '.join(problems[:5])}"
            f"{' ...' if len(problems) > 5 else ''} (mend or remove them; `python import_data.py` "
            "checks all)"
        )
    if incomplete:
        say(f"Left out of {len(incomplete)} files of ground truth: {named(incomplete)}")
    for line in remarks.meanings():
        say(line)
    for kind, names in remarks.problems():
        say(f"Suspect: {len(names)} {kind}: {named(names)}")
    if not any(sample.labels.any() for sample in samples.values()):
        raise ValueError(
            f"{gt_dir}: none of the {len(samples)} masks holds a nucleus; nothing can be learned "
            "from them"
        )
    check_instances(samples, forms, say)
    return samples, forms


def sample_of(image, truth, store):
    """Make the `Sample` of an image (H, W, 3) and its `Truth`, arrays kept by an `ArrayStore`."""
    areas_px = np.bincount(truth.labels.ravel())[1:]
    stored_image, stored_labels = store.keep(image, truth.labels)
    void = None if truth.void is None else store.keep(truth.void)[0]
    return Sample(
        image=stored_image,
        intensity_range=intensity_range(image),
        labels=stored_labels,
        group=modality(image),
        diameter_px=float(np.median(equivalent_diameters(areas_px))) if len(areas_px) else None,
        # A label image of one nucleus looks like a binary mask; both are right about instances.
        has_instances=truth.form in (*INSTANCE_FORMS, EMPTY) or truth.labels.max() <= 1,
        void=void,
    )


def check_instances(samples, forms, say):
    """Say which masks are binary; where all are, let their connected components count as nuclei."""
    num_binary = sum(not sample.has_instances for sample in samples.values())
    if num_binary and not any(form in INSTANCE_FORMS for form in forms.values()):
        say(
            "All masks are binary: nuclei that touch in them are learned as one. Instance labels "
            "would separate them."
        )
        for sample in samples.values():
            sample.has_instances = True  # components are better than no separation at all
    elif num_binary:
        say(
            f"{num_binary} masks are binary among instance labels: they teach what is nucleus, not "
            "how to separate nuclei."
        )


def choose_split(samples, split_csv, seed, say=print):
    """Divide the samples into training and validation.

    Args:
        samples: {stem: Sample}.
        split_csv: path of a CSV with the columns stem and split ("train" or "validation"), or None
            for a random split in which every group has its share.
        seed: of the random split.
        say: called with each line for the user.

    Returns:
        (train stems, validation stems), both sorted.

    Raises:
        ValueError: the split CSV leaves no training image.
    """
    if split_csv:
        given = read_split(split_csv)
        parts = {stem: given.get(stem) for stem in samples}
        left_out = [stem for stem, part in parts.items() if part not in ("train", "validation")]
        if left_out:
            say(
                f"{len(left_out)} images are in neither part of {split_csv} and left out: "
                f"{named(left_out)}"
            )
    else:
        groups = {stem: sample.group for stem, sample in samples.items()}
        parts = split_stems(groups, VALIDATION_SHARE, seed)
    train = sorted(stem for stem, part in parts.items() if part == "train")
    validation = sorted(stem for stem, part in parts.items() if part == "validation")
    if not train:
        raise ValueError(
            f"{split_csv}: no stem of the data is marked train; stems must be file names without "
            "suffix"
        )
    if not validation:
        say(
            "No validation images (one pair, or none in the split): the training images are used "
            "for validation, so the scores are too good."
        )
        validation = train
    return train, validation


def fingerprint(samples):
    """Hash all pixels and labels, to tell whether two trainings see the same data.

    Args:
        samples: {stem: Sample}.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for stem in sorted(samples):
        digest.update(stem.encode())
        digest.update(np.ascontiguousarray(samples[stem].image))
        digest.update(samples[stem].labels)
        if samples[stem].void is not None:
            digest.update(samples[stem].void)
    return digest.hexdigest()[:16]


def nucleus_size(samples):
    """Measure the diameters of all nuclei of a list of samples.

    Returns:
        {"median", "percentile_5", "percentile_95"}: floats in px, 0 without nuclei.
    """
    areas_px = np.concatenate([np.bincount(sample.labels.ravel())[1:] for sample in samples])
    diameters_px = equivalent_diameters(areas_px[areas_px > 0])
    values = np.percentile(diameters_px, (50, 5, 95)) if len(diameters_px) else (0, 0, 0)
    names = ("median", "percentile_5", "percentile_95")
    return {name: round(float(value), 1) for name, value in zip(names, values, strict=True)}


def sampling_shares(samples, size):
    """Compute how often each sample is drawn.

    Groups are drawn by a power of their number of images, and images of a group by the square root
    of their area. So 14 bright-field images among 400 of fluorescence are shown often enough to be
    learned, but not as often as the 400.

    Args:
        samples: list of `Sample`.
        size: height and width of a crop in px.

    Returns:
        (len(samples),) float64 with the sum 1.
    """
    roots = np.array([max(1.0, sample.labels.size / size**2) ** 0.5 for sample in samples])
    groups = np.array([sample.group for sample in samples])
    shares = np.zeros(len(samples))
    for group in np.unique(groups):
        member = groups == group
        shares[member] = roots[member] / roots[member].sum() * member.sum() ** GROUP_POWER
    return shares / shares.sum()
