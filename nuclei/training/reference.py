"""The shipped weights on the validation images of a training: they say what its score is worth."""

import numpy as np

from nuclei.cli import SHIPPED
from nuclei.files import plural
from nuclei.model_file import as_model, data_sets, find_model, load_network, score_words
from nuclei.training.image_scores import score_image, scores_by_group

MAX_PIXELS = 12_000_000  # of the images compared: half a minute on two cores
MIN_NUCLEI = 50  # in the validation images: with fewer, the comparison is a matter of chance


def compare_with_shipped(trained, data, predict_image, say=print):
    """Say how well the trained and the shipped weights find the nuclei of the validation images.

    Each uses the thresholds in its own file. Nothing is said where there are too few nuclei, where
    the training images are used for validation, or where the shipped file is missing.

    Args:
        trained: a `Trained`, with the weights and settings of its model file.
        data: the `Data` of the training.
        predict_image: of nuclei.inference.find.
        say: called with each line for the user.
    """
    path = find_model(SHIPPED)
    if not path.is_file() or not is_held_out(data):
        return
    samples = choose_samples(data.validating)
    num_nuclei = sum(int(sample.labels.max()) for sample in samples)
    if num_nuclei < MIN_NUCLEI:
        return
    if len(samples) == len(data.validating):
        own = trained.settings["scores"]["validation"]["all"]
    else:
        own = score_model(trained.network, trained.settings, samples, predict_image)
    network, settings = load_network(path)
    shipped = score_model(network, settings, samples, predict_image)
    say(
        f"On {plural(len(samples), 'validation image')} with {num_nuclei:,} nuclei: "
        f"this training {score_words(own)}, the shipped weights {score_words(shipped)}"
    )
    if set(data.origins.values()) & set(data_sets(settings)):
        say("  (the shipped weights have learned from images of the same set, maybe from these)")
    if shipped["ap50"] > own["ap50"]:
        say(
            f"  The shipped weights find nuclei better here: take --model {SHIPPED}, or fine-tune "
            f"them with --init {SHIPPED}"
        )


def is_held_out(data):
    """Whether no validation image is a training image, too."""
    training = {id(sample) for sample in data.training}
    return not any(id(sample) in training for sample in data.validating)


def choose_samples(samples):
    """All samples, or so many, evenly spread, that they have about MAX_PIXELS; at least one."""
    num_pixels = sum(sample.labels.size for sample in samples)
    if num_pixels <= MAX_PIXELS:
        return samples
    number = max(1, int(len(samples) * MAX_PIXELS / num_pixels))
    indices = np.linspace(0, len(samples) - 1, number).round().astype(int)
    return [samples[index] for index in indices]


def score_model(network, settings, samples, predict_image):
    """Scores of a model with the thresholds of its file: {"images", "dice", "ap50", "map"}."""
    model = as_model(network.predict_on_batch, settings)
    thresholds = settings.get("thresholds", {})
    results = []
    for sample in samples:
        estimate = predict_image(model, sample.image, sample.intensity_range)
        results.append(score_image(sample, estimate, thresholds))
    return scores_by_group(results)["all"]
