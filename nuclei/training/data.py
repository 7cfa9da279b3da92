"""The images of a training, divided into those that teach and those that validate.

data = split_data(samples, forms, recipe, print)
data.training[0].labels
"""

from collections import Counter
from dataclasses import dataclass

from nuclei.images.folder import find_images
from nuclei.images.origin import find_origin
from nuclei.training.samples import Sample, choose_split, fingerprint, nucleus_size


@dataclass
class Data:
    """The images of a training.

    Attributes:
        training, validating: lists of `Sample`.
        forms: {stem: form of its truth}.
        fingerprint: of all pixels and labels.
        origin: of `find_origin`, the public set that they are from, or None.
    """

    training: list[Sample]
    validating: list[Sample]
    forms: dict[str, str]
    fingerprint: str
    origin: str | None = None


def split_data(samples, forms, recipe, say):
    """Divide the samples into training and validation, and say how many there are.

    Args:
        samples, forms: of `load_samples`.
        recipe: a `Recipe`.
        say: called with each line for the user.

    Returns:
        A `Data`.
    """
    train_stems, validation_stems = choose_split(samples, recipe.split, recipe.seed, say)
    training = [samples[stem] for stem in train_stems]
    validating = [samples[stem] for stem in validation_stems]
    counts = sorted(Counter(sample.group for sample in training).items())
    say(
        f"{len(training)} images to train on ({', '.join(f'{n} {group}' for group, n in counts)}), "
        f"{len(validating)} to validate; nucleus diameter {nucleus_size(training)['median']} px "
        "(median)"
    )
    paths = find_images(recipe.raw_dir)
    origin = find_origin(paths[stem] for stem in samples)
    return Data(training, validating, forms, fingerprint(samples), origin)
