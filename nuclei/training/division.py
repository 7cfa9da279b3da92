"""The division of the samples of a set between training and validation.

train_stems, validation_stems = choose_split(samples, split_csv=None, seed=7)
"""

from nuclei.datasets.field_names import origin_of
from nuclei.datasets.split import read_split, split_stems
from nuclei.files import named

VALIDATION_SHARE = 0.15  # of the images, where no split is given


def choose_split(samples, split_csv, seed, say=print):
    """Divide the samples into training and validation.

    Args:
        samples: {stem: Sample}.
        split_csv: path of a CSV with the columns stem and split ("train" or "validation"), or None
            for a random split in which every group has its share, see `random_split`.
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
        parts = random_split(samples, seed)
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


def random_split(samples, seed):
    """Divide the samples at random. Fields of one image (see `origin_of`) stay together.

    Fields of one image look alike: with some of them in each part, the scores would be too good.
    Where all are of one image, they are divided nevertheless.

    Args:
        samples: {stem: Sample}.
        seed: another seed gives another split.

    Returns:
        {stem: "train" or "validation"}.
    """
    origins = {stem: origin_of(stem) for stem in samples}
    if len(set(origins.values())) < 2:
        origins = {stem: stem for stem in samples}
    groups = {origins[stem]: sample.group for stem, sample in sorted(samples.items())}
    parts = split_stems(groups, VALIDATION_SHARE, seed)
    return {stem: parts[origin] for stem, origin in origins.items()}
