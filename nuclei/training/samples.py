"""nuclei.training.samples"""

import contextlib
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nuclei.cli import MODEL_DIR
from nuclei.files import named
from nuclei.images.intensity import intensity_range
from nuclei.images.modality import modality
from nuclei.images.pairs import find_images, find_pairs, find_truths, read_pair
from nuclei.images.split import read_split, split_stems
from nuclei.machine import memory_bytes

VALIDATION_SHARE = 0.15
HELD_BYTES = 4_000_000_000  # of images and labels in memory, 7 bytes a pixel; what is more lies in a file, read as needed
HELD_SHARE = 0.25  # of the memory that this process may use, where that is less
GROUP_POWER = 0.35  # a kind of image is drawn by this power of its number: 417, 82 and 14 images become 53, 30 and 16 %


def on_disk(array, file):
    """The array at the end of a temporary file, mapped: the system holds what it has room for and reads the rest again."""
    start = file.seek(0, os.SEEK_END)
    file.write(np.ascontiguousarray(array))
    file.flush()
    return np.memmap(file, array.dtype, "r", start, array.shape)


def load_samples(raw_dir, gt_dir, say=print, folder=MODEL_DIR):
    """Read every pair into memory, images as they are on disk; what is more than its share into a temporary file in `folder`.

    Returns:
        {stem: augment.Sample}, its group being the image's modality, and {stem: form of the truth}.

    Raises:
        FileNotFoundError, ValueError: no pairs, or files that cannot be read or do not fit together (up to five named).
    """
    pairs = find_pairs(raw_dir, gt_dir)
    unpaired = len(find_images(raw_dir)) + len(find_truths(gt_dir)) - 2 * len(pairs)
    if unpaired:
        say(f"{unpaired} files of {raw_dir} and {gt_dir} have no partner and are left out; python import_data.py names them")
    samples, forms, problems = {}, {}, []
    held, most, overflow = 0, min(HELD_BYTES, HELD_SHARE * memory_bytes()), None
    with contextlib.ExitStack() as opened:  # closed, the file is there for as long as it is mapped
        for stem, (image_path, truth_path) in pairs.items():
            try:
                image, truth = read_pair(image_path, truth_path)
            except ValueError as error:
                problems.append(str(error))
                continue
            areas, shown, labels = np.bincount(truth.labels.ravel())[1:], image, truth.labels
            held += image.nbytes + labels.nbytes
            if held > most:
                if overflow is None:
                    Path(folder).mkdir(parents=True, exist_ok=True)
                    overflow = opened.enter_context(tempfile.TemporaryFile(dir=folder))
                    say(f"The images are more than {most / 1e9:.3g} GB: the rest lies in a temporary file in {folder}")
                shown, labels = on_disk(image, overflow), on_disk(labels, overflow)
            samples[stem] = Sample(
                image=shown,
                intensity_range=intensity_range(image),
                labels=labels,
                group=modality(image),
                diameter_px=float(np.median(2 * np.sqrt(areas / np.pi))) if len(areas) else None,
                # A label image of one nucleus cannot be told from a binary mask, nor need it be.
                has_instances=truth.form in ("instances", "instance colours", "empty") or truth.labels.max() <= 1,
            )
            forms[stem] = truth.form
    if problems:
        raise ValueError(
            f"{len(problems)} of {len(pairs)} pairs cannot be used: {'; '.join(problems[:5])}"
            f"{' ...' if len(problems) > 5 else ''} (mend or remove them; `python import_data.py` checks all)"
        )
    if not any(sample.labels.any() for sample in samples.values()):
        raise ValueError(f"{gt_dir}: none of the {len(samples)} masks holds a nucleus; nothing can be learned from them")
    merged = [stem for stem, sample in samples.items() if not sample.has_instances]
    if merged and not any(form in ("instances", "instance colours") for form in forms.values()):
        say("All masks are binary: nuclei that touch in them are learned as one. Instance labels would separate them.")
        for sample in samples.values():
            sample.has_instances = True  # better components than no separation at all
    elif merged:
        say(f"{len(merged)} masks are binary among instance labels: they teach what is nucleus, not what is separate.")
    return samples, forms


def choose_split(samples, split_csv, seed, say=print):
    """Part the stems: (train stems, validation stems), each sorted.

    Raises:
        ValueError: the split CSV leaves no training image.
    """
    if split_csv:
        given = read_split(split_csv)
        parts = {stem: given.get(stem) for stem in samples}
        left_out = [stem for stem, part in parts.items() if part not in ("train", "validation")]
        if left_out:
            say(f"{len(left_out)} images are in neither part of {split_csv} and left out: {named(left_out)}")
    else:
        parts = split_stems({stem: sample.group for stem, sample in samples.items()}, VALIDATION_SHARE, seed)
    train, validation = (sorted(s for s, part in parts.items() if part == name) for name in ("train", "validation"))
    if not train:
        raise ValueError(f"{split_csv}: no stem of the data is marked train; stems must be file names without suffix")
    if not validation:
        say("No validation images (one pair, or none in the split): the training images validate, so the scores flatter.")
        validation = train
    return train, validation


def fingerprint(samples):
    """A hash of pixels and labels, so that a model file says what data it has seen and --resume that it is the same."""
    digest = hashlib.sha256()
    for stem in sorted(samples):
        digest.update(stem.encode())
        digest.update(np.ascontiguousarray(samples[stem].image))
        digest.update(samples[stem].labels)
    return digest.hexdigest()[:16]


def nucleus_size(samples):
    """Diameters in px over all nuclei of the samples: {"median", "percentile_5", "percentile_95"}."""
    areas = np.concatenate([np.bincount(sample.labels.ravel())[1:] for sample in samples])
    diameters = 2 * np.sqrt(areas[areas > 0] / np.pi)
    values = np.percentile(diameters, (50, 5, 95)) if len(diameters) else (0, 0, 0)
    return {name: round(float(v), 1) for name, v in zip(("median", "percentile_5", "percentile_95"), values, strict=True)}


@dataclass
class Sample:
    """One training image: `image` (H, W, 3) uint8 or uint16 as on disk, its `intensity_range` (low, high) that becomes
    [0, 1], `labels` (H, W) int32, the `group` that it is balanced by, its median nucleus `diameter_px` (None without
    nuclei), and whether its labels tell touching nuclei apart (`has_instances`)."""

    image: np.ndarray
    intensity_range: tuple
    labels: np.ndarray
    group: str = ""
    diameter_px: float | None = None
    has_instances: bool = True


def sampling_shares(samples, size):
    """How often each sample is drawn: groups by a power of their number, and in a group by the square root of area.

    Neither lets 400 fluorescence images drown 14 bright-field ones, nor shows those 14 as often as the 400.

    Returns:
        (len(samples),) float64, adding up to 1.
    """
    area = np.array([max(1.0, sample.labels.size / size**2) ** 0.5 for sample in samples])
    groups = np.array([sample.group for sample in samples])
    shares = np.zeros(len(samples))
    for group in np.unique(groups):
        member = groups == group
        shares[member] = area[member] / area[member].sum() * member.sum() ** GROUP_POWER
    return shares / shares.sum()
