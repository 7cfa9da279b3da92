"""The training images of a set, each with its labels, in memory.

samples, forms = load_samples("data/raw", "data/gt")
samples["a"].labels
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nuclei.cli import MODEL_DIR, Notes
from nuclei.datasets.pairs import AUTOMATIC, find_pairs, find_truths, read_pair
from nuclei.files import fault_of, named
from nuclei.images.folder import find_images
from nuclei.images.intensity import intensity_range
from nuclei.images.labels import equivalent_diameters
from nuclei.images.modality import modality
from nuclei.instances.separate import median_diameter
from nuclei.progress import Progress
from nuclei.training.clumps import find_clumps
from nuclei.training.store import ArrayStore
from nuclei.truth.edges import edge_depth_px, edge_void
from nuclei.truth.forms import EMPTY, INSTANCE_COLOURS, INSTANCES
from nuclei.truth.remarks import Remarks

INSTANCE_FORMS = (INSTANCES, INSTANCE_COLOURS)  # forms of truth that separate touching nuclei


@dataclass
class Sample:
    """One training image with its labels.

    Attributes:
        image: (H, W, 3) uint8 or uint16, as on disk.
        intensity_range: (low, high), the values of `image` that become 0 and 1.
        labels: (H, W) int32, 0 background, 1...n.
        group: modality of the image; rare groups are drawn more often (`sampling_shares`).
        set_name: name of the set that it belongs to.
        diameter_px: median diameter of the nuclei, or None without nuclei.
        has_instances: whether touching nuclei have ids of their own. If not, as in a binary mask,
            the sample teaches what is nucleus, and separation only outside of clumps.
        is_clump: (n + 1,) bool of `find_clumps`, for each id; None where ids are nuclei.
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
    set_name: str = ""
    is_clump: np.ndarray | None = None

    def clumps(self, labels):
        """The pixels of clumps in labels cut from this sample: bool, or None for none."""
        return None if self.is_clump is None else self.is_clump[labels]

    @property
    def unscored(self):
        """(H, W) bool, pixels where predicted nuclei are neither right nor wrong; None for none."""
        clumps = self.clumps(self.labels)
        if clumps is None or self.void is None:
            return self.void if clumps is None else clumps
        return self.void | clumps


def load_samples(
    raw_dir, gt_dir, say=print, folder=MODEL_DIR, reading=AUTOMATIC, problems: list | None = None
):
    """Read every pair of image and truth.

    Args:
        raw_dir, gt_dir: folders of images and truths with the same stems.
        say: called with each line for the user.
        folder: where a temporary file goes if the images need too much memory.
        reading: a `Reading`.
        problems: gets a line for each pair that cannot be read or whose files do not fit together,
            and such a pair is left out; with None it ends the reading.

    Returns:
        ({stem: Sample}, {stem: form of its truth}).

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: no pairs, no nuclei, or no pair that can be used.
    """
    stops, own_problems = problems is None, []
    pairs = find_pairs(raw_dir, gt_dir)
    images = find_images(raw_dir)
    num_unpaired = len(images) + len(find_truths(gt_dir, images)) - 2 * len(pairs)
    if num_unpaired:
        say(
            f"{num_unpaired} files of {raw_dir} and {gt_dir} have no partner and are left out; "
            "python import_data.py names them"
        )
    samples, forms, incomplete, remarks = {}, {}, [], Remarks()
    with (
        ArrayStore(folder, say) as store,
        Notes(say) as notes,
        Progress("Reading", len(pairs), "pairs", log=True) as progress,
    ):
        for stem, (image_path, truth_path) in pairs.items():
            progress.add(1)
            try:
                image, truth = read_pair(image_path, truth_path, reading, notes)
            except (OSError, ValueError) as error:
                own_problems.append(fault_of(error))
                if not stops:
                    progress.say(f"skipped: {own_problems[-1]}")
                continue
            name = truth_path.name if stem in truth_path.name else image_path.name
            remarks.add(name, image, truth)
            samples[stem] = sample_of(image, truth, store)
            forms[stem] = truth.form
            if truth.left_out:
                incomplete.append(f"{Path(truth_path).name}: {truth.left_out}")
    if own_problems and (stops or not samples):
        raise ValueError(
            f"{len(own_problems)} of {len(pairs)} pairs cannot be used: {named(own_problems)} "
            "(mend or remove them; `python import_data.py` checks all)"
        )
    if problems is not None:
        problems += own_problems
    if remarks.edges.leave_out_nuclei():
        add_edge_void(samples.values())
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
    return samples, forms


def sample_of(image, truth, store):
    """Make the `Sample` of an image (H, W, 3) and its `Truth`, arrays kept by an `ArrayStore`."""
    stored_image, stored_labels = store.keep(image, truth.labels)
    void = None if truth.void is None else store.keep(truth.void)[0]
    return Sample(
        image=stored_image,
        intensity_range=intensity_range(image),
        labels=stored_labels,
        group=modality(image),
        diameter_px=median_diameter(truth.labels),
        # A label image of one nucleus looks like a binary mask; both are right about instances.
        has_instances=truth.form in (*INSTANCE_FORMS, EMPTY) or truth.labels.max() <= 1,
        void=void,
    )


def add_edge_void(samples):
    """Make the edges of samples void, half a median nucleus wide."""
    diameters_px = [sample.diameter_px for sample in samples if sample.diameter_px]
    depth_px = edge_depth_px(diameters_px)
    voids = {
        shape: edge_void(shape, depth_px) for shape in {sample.labels.shape for sample in samples}
    }
    for sample in samples:
        edge = voids[sample.labels.shape]  # images of one shape share it
        sample.void = edge if sample.void is None else sample.void | edge


def check_instances(samples, forms, say):
    """Say which masks are binary; where all are, let their connected components count as nuclei.

    Args:
        samples: {stem: Sample} of all sets; `has_instances` and `is_clump` may change.
        forms: {stem: form of its truth}.
        say: called with each line for the user.
    """
    binary = [sample for sample in samples.values() if not sample.has_instances]
    if binary and not any(form in INSTANCE_FORMS for form in forms.values()):
        say(
            "All masks are binary: nuclei that touch in them are learned as one. Instance labels "
            "would separate them."
        )
        for sample in samples.values():
            sample.has_instances = True  # components are better than no separation at all
    elif binary:
        say(
            f"{len(binary)} masks are binary among instance labels: their clumps teach what is "
            "nucleus, not how to separate nuclei."
        )
        for sample in binary:
            sample.is_clump = find_clumps(sample.labels)
            areas_px = np.bincount(sample.labels.ravel())[~sample.is_clump][1:]
            if len(areas_px):
                sample.diameter_px = float(np.median(equivalent_diameters(areas_px)))


def fingerprint(samples, parts=None):
    """Hash all pixels, all labels and their division: do two trainings see the same data?

    Args:
        samples: {stem: Sample}.
        parts: {"train" or "validation": stems}; None where nothing is divided.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for stem in sorted(samples):
        digest.update(stem.encode())
        digest.update(np.ascontiguousarray(samples[stem].image))
        digest.update(np.ascontiguousarray(samples[stem].labels))
        if samples[stem].void is not None:
            digest.update(samples[stem].void)
    if parts:
        digest.update(repr({part: sorted(stems) for part, stems in parts.items()}).encode())
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
