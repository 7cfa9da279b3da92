"""The images of a training, of one or more sets: those that teach and those that validate.

data = read_data(recipe, print)
data.training[0].labels
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from nuclei.cli import MODEL_DIR
from nuclei.files import plural
from nuclei.images.folder import find_images
from nuclei.images.origin import find_origin
from nuclei.training.division import choose_split
from nuclei.training.samples import Sample, check_instances, fingerprint, load_samples, nucleus_size


@dataclass
class Data:
    """The images of a training.

    Attributes:
        training, validating: lists of `Sample`.
        forms: {stem: form of its truth}; with several sets the stem has the set before it.
        fingerprint: of all pixels, all labels and their division.
        origins: {name of a set: the public set of `find_origin` that it is from, or None}.
        problems: a line for each pair that cannot be used and was left out.
    """

    training: list[Sample]
    validating: list[Sample]
    forms: dict[str, str]
    fingerprint: str
    origins: dict[str, str | None] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def set_names(self):
        """Names of the sets: of the public ones their own, of the others those of their folders."""
        return [origin or name for name, origin in self.origins.items()]


def read_data(recipe, say, folder=MODEL_DIR):
    """Read the images of a training, divide them, and say how many there are.

    Args:
        recipe: a `Recipe`.
        say: called with each line for the user.
        folder: where a temporary file goes if the images need too much memory.

    Returns:
        A `Data`.

    Raises:
        FileNotFoundError, ValueError: as `load_samples`, `choose_split` and `Recipe.sets`;
            ValueError also where `folder` is one of those that hold the images or their truth.
    """
    for place in (place for one in recipe.sets for place in (one.raw_dir, one.truth_dir)):
        if Path(place).resolve() == Path(folder).resolve():
            raise ValueError(
                f"{folder} holds the data, and the results would lie among them; give another --out"
            )
    samples, forms, stems, origins = {}, {}, {"train": [], "validation": []}, {}
    problems = []
    for data_set in recipe.sets:
        is_one = len(recipe.sets) == 1
        tell = say if is_one else lambda line, name=data_set.name: say(f"{name}: {line}")
        own, own_forms = load_samples(
            data_set.raw_dir, data_set.truth_dir, tell, folder, recipe.reading, problems
        )
        if data_set.split and not recipe.split:
            tell(f"Divided as in {data_set.split}")
        split = choose_split(own, data_set.split, recipe.seed, tell)
        paths = find_images(data_set.raw_dir)
        origins[data_set.name] = find_origin(paths[stem] for stem in own)
        key_of = {stem: stem if is_one else f"{data_set.name}/{stem}" for stem in own}
        for stem, sample in own.items():
            sample.set_name = data_set.name
            samples[key_of[stem]], forms[key_of[stem]] = sample, own_forms[stem]
        for part, own_stems in zip(stems.values(), split, strict=True):
            part += [key_of[stem] for stem in own_stems]
    check_instances(samples, forms, say)
    parts = {part: [samples[stem] for stem in stems[part]] for part in stems}
    counts = sorted(Counter(sample.group for sample in parts["train"]).items())
    say(
        f"{plural(len(parts['train']), 'image')} to train on "
        f"({', '.join(f'{n} {group}' for group, n in counts)}), {len(parts['validation'])} to "
        f"validate; nucleus diameter {nucleus_size(parts['train'])['median']} px (median)"
    )
    key = fingerprint(samples, stems)
    return Data(parts["train"], parts["validation"], forms, key, origins, problems)
