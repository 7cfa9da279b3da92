"""The end of a training: which weights and which thresholds go into the model file.

Whole validation images are predicted as predict.py does it. On them the thresholds of `separate`
are chosen, the confidence of a nucleus is calibrated, and the uncertainty is measured above which
an image is out of distribution. This is done for the best epoch and for the mean of the last
epochs; the weights that find nuclei better are kept.

`predict_maps` is passed in by the caller: training and inference do not import each other.
"""

import gc
from dataclasses import dataclass

import numpy as np

from nuclei.instances.confidence import (
    calibrate,
    confidence,
    confidence_features,
    expected_calibration_error,
    image_uncertainty,
)
from nuclei.instances.holes import without_holes
from nuclei.instances.matching import average_precision, count_matches, match, matched_pairs
from nuclei.instances.separate import THRESHOLDS, separate
from nuclei.model_file import as_model
from nuclei.progress import Progress
from nuclei.training.fine_tuning import FEW_BLEND, choose_blend
from nuclei.training.geometry import DIAMETER_PX
from nuclei.training.thresholds import choose_thresholds
from nuclei.training.validation import validation_crops

# Of images in the search for thresholds: a minute or two on two cores.
MAX_SEARCH_PIXELS = 24_000_000
OUT_OF_DISTRIBUTION_SHARE = 0.05  # of the validation images that may be flagged by mistake
# In the validation images: with fewer, the best choice is a matter of chance.
MIN_SEARCH_NUCLEI = 200
MIN_LIMIT_IMAGES = 20  # validation images below which no image is called out of distribution


@dataclass
class ImageScore:
    """How one validation image was predicted.

    Attributes:
        counts: of `count_matches`.
        dice: Dice of all nuclei together.
        features: (n, F) of `confidence_features`, for each predicted nucleus outside of void.
        is_hit: (n,) bool, whether it is a true nucleus.
        uncertainty: of `image_uncertainty`.
        groups: its modality and the name of its set.
    """

    counts: np.ndarray
    dice: float
    features: np.ndarray
    is_hit: np.ndarray
    uncertainty: float
    groups: tuple[str, ...]


def is_enough(samples):
    """Whether these validation images hold enough nuclei to choose by."""
    return sum(int(sample.labels.max()) for sample in samples) >= MIN_SEARCH_NUCLEI


def choose(trained, data, predict_maps, say=print):
    """Choose the weights and all that goes into the model file with them.

    Args:
        trained: a `Trained`; its network ends with the weights chosen.
        data: the `Data` of the training.
        predict_maps: of nuclei.inference.find.
        say: called with each line for the user.

    Returns:
        The settings of the model file.
    """
    gc.collect()  # the network and the crops of the training: whole images need their memory
    state, recipe, samples = trained.state, trained.state.recipe, data.validating
    network, architecture = trained.network, trained.settings["architecture"]
    score = lambda: score_validation(network, architecture, samples, predict_maps, state.base)
    last, enough = state.num_epochs, is_enough(samples)
    num_averaged = max(1, state.num_averaged)
    end = (
        f"epoch {last}"
        if num_averaged == 1
        else f"mean of epochs {last - num_averaged + 1} to {last}"
    )
    candidates = {f"epoch {state.best_epoch}": state.best_weights, end: trained.end_weights}
    if recipe.init and not enough:
        # A single image cannot tell which epoch is best. The end has the lowest learning rate.
        candidates = {end: trained.end_weights}
    say(
        f"Best loss in epoch {state.best_epoch}; choosing thresholds on {len(samples)} validation "
        "images"
    )
    sets = {sample.set_name for sample in samples} if enough else ()
    name, weights, chosen, scores = choose_epoch(network, candidates, score, sets, say)
    settings = dict(trained.settings)
    if recipe.init:
        settings["blend"] = blend_with_start(trained, weights, samples, say)
        if settings["blend"] != 1:
            chosen, scores = score()
    settings |= chosen
    settings["epoch"] = last if name == end else state.best_epoch
    settings["averaged_epochs"] = num_averaged if name == end else 1
    settings["scores"] = {"validation": scores}
    return settings


def choose_epoch(network, candidates, score, sets, say):
    """Choose, of the best epoch by loss and the mean of the last, the one that finds nuclei better.

    The loss punishes a network that is sure and wrong. Later epochs are surer, and their nuclei are
    correct more often.

    Args:
        network: takes the weights; it ends with those chosen.
        candidates: {name: list of arrays}, the one with the best loss first.
        score: gives what `score_validation` gives for the weights that the network has.
        sets: names of the sets of the validation images, which count alike; without any, because
            the images are not enough to choose by, the first candidate is taken.
        say: called with each line for the user.

    Returns:
        (name, weights, settings, scores).

    References:
        Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization".
    """
    first = next(iter(candidates))
    if len(candidates) == 1 or not sets:
        network.set_weights(candidates[first])
        return first, candidates[first], *score()
    results = {}
    for name, weights in candidates.items():
        network.set_weights(weights)
        results[name] = score()
        scores = results[name][1]["all"]
        say(f"  {name}: AP@0.5 {scores['ap50']:.3f}  mAP {scores['map']:.3f}")
    groups = sets if len(sets) > 1 else ("all",)

    def quality(name):
        scores = results[name][1]
        return sum(scores[group]["ap50"] + scores[group]["map"] for group in groups)

    best = max(results, key=quality)
    say(f"  kept: {best}")
    network.set_weights(candidates[best])
    return best, candidates[best], *results[best]


def blend_with_start(trained, weights, samples, say):
    """Blend weights with those of `init`. The network takes the blend. Returns: the new share."""
    recipe, heads = trained.state.recipe, trained.settings["architecture"]["heads"]
    crops = validation_crops(samples, heads, recipe.crop_px)
    blends = None if is_enough(samples) else (FEW_BLEND,)
    share, losses = choose_blend(
        trained.network, trained.state.start_weights, weights, crops, recipe.batch_size, blends
    )
    say(
        f"Blended with the weights of {recipe.init}: the new weights have a share of {share:.0%}. "
        f"Validation loss {losses[0.0]:.3f} at 0%, {losses[share]:.3f} at {share:.0%}, "
        f"{losses[1.0]:.3f} at 100%"
    )
    return share


def score_validation(network, architecture, samples, predict_maps, base=None):
    """Predict whole validation images as predict.py does, choose thresholds on them, score them.

    Args:
        network: a `keras.Model`.
        architecture: keyword arguments of `build_unet` for it.
        samples: list of `Sample`, the validation images.
        predict_maps: of nuclei.inference.find.
        base: thresholds, calibration and out_of_distribution of the model of `init`, if any. They
            stay if the samples hold too few nuclei; without them the thresholds are THRESHOLDS.

    Returns:
        (settings, scores). `settings` has thresholds, calibration and out_of_distribution, as the
        model file holds them. `scores` has {"images", "dice", "ap50", "map"} for "all" and for each
        group: AP at IoU 0.5 is pooled, Dice and mAP are means over images.
    """
    settings = {"architecture": architecture, "trained_diameter_px": DIAMETER_PX}
    model = as_model(network.predict_on_batch, settings)
    predict = lambda sample: predict_maps(model, sample.image, sample.intensity_range)
    enough = is_enough(samples)
    inherited = base if base and not enough else {}
    thresholds, predictions = inherited.get("thresholds", dict(THRESHOLDS)), {}
    if enough:
        predictions = predict_for_search(samples, predict)
        maps, scales = zip(*predictions.values(), strict=True)
        thresholds, _ = choose_thresholds(
            maps,
            [samples[index].labels for index in predictions],
            scales,
            voids=[samples[index].unscored for index in predictions],
            set_names=[samples[index].set_name for index in predictions],
        )
    results = []
    with Progress("Scoring", len(samples), "validation images", log=True) as progress:
        for index, sample in enumerate(samples):
            maps, scale = predictions.pop(index) if index in predictions else predict(sample)
            results.append(score_image(sample, maps, scale, thresholds))
            progress.add(1)
    chosen = {
        "thresholds": thresholds,
        **calibration_of(results),
        **uncertainty_limit(results),
    }
    return chosen | inherited, scores_by_group(results)


def predict_for_search(samples, predict):
    """Predict the images that thresholds are chosen on, as many as memory should hold.

    Returns:
        {index in samples: (maps, scale)}.
    """
    predictions, num_pixels = {}, 0
    indices = np.random.default_rng(0).permutation(len(samples))  # so that all sets have a say
    with Progress("Predicting", len(indices), "validation images", log=True) as progress:
        for index in indices:
            num_pixels += samples[index].labels.size
            if num_pixels <= MAX_SEARCH_PIXELS or not predictions:
                predictions[index] = predict(samples[index])
            progress.add(1)
    return predictions


def score_image(sample, maps, scale, thresholds):
    """The `ImageScore` of a sample whose maps were predicted at a scale."""
    labels = separate(maps, scale=scale, **thresholds)
    if sample.group == "tissue":  # as prediction does it
        labels = without_holes(labels, sample.image)
    matching = match(sample.labels, labels, sample.unscored)
    hits = matching.predicted_ids[matched_pairs(matching)]
    num_pixels = matching.predicted_areas[1:].sum() + matching.truth_areas[1:].sum()
    overlap = matching.intersections.sum()
    is_scored = matching.predicted_areas[1:] > 0  # neither in void nor in a clump
    return ImageScore(
        counts=count_matches(matching),
        dice=2 * overlap / num_pixels if num_pixels else 1.0,
        features=confidence_features(labels, maps, scale)[is_scored],
        is_hit=np.isin(np.arange(1, labels.max() + 1), hits)[is_scored],
        uncertainty=image_uncertainty(maps),
        groups=(sample.group, sample.set_name),
    )


def scores_by_group(results):
    """Scores of all images and of each group, from a list of `ImageScore`."""
    counts = np.array([result.counts for result in results])
    dices = np.array([result.dice for result in results])
    pairs = zip(*(result.groups for result in results), strict=True)
    modalities, sets = (sorted(set(names)) for names in pairs)
    names = ["all", *modalities, *(sets if len(sets) > 1 else ())]
    scores = {}
    for name in names:
        member = np.array([name == "all" or name in result.groups for result in results])
        scores[name] = {
            "images": int(member.sum()),
            "dice": round(float(dices[member].mean()), 4),
            "ap50": round(float(average_precision(counts[member].sum(0)[0])), 4),
            "map": round(float(average_precision(counts[member]).mean()), 4),
        }
    return scores


def calibration_of(results):
    """Fit the confidence of a nucleus: {"calibration": ...}, or {} if none was predicted."""
    features = np.concatenate([result.features for result in results])
    is_hit = np.concatenate([result.is_hit for result in results])
    if not len(is_hit):
        return {}
    weights = calibrate(features, is_hit)
    error, _ = expected_calibration_error(confidence(features, weights), is_hit)
    error = round(error, 4)
    calibration = {"weights": weights, "nuclei": len(is_hit), "expected_calibration_error": error}
    return {"calibration": calibration}


def uncertainty_limit(results):
    """Find the uncertainty above which an image is out of distribution.

    Returns:
        {"out_of_distribution": ...} as the model file has it; {} where there are so few images that
        the limit would be a matter of chance.
    """
    if len(results) < MIN_LIMIT_IMAGES:
        return {}
    uncertainties = np.array([result.uncertainty for result in results])
    limit = float(np.quantile(uncertainties, 1 - OUT_OF_DISTRIBUTION_SHARE, method="higher"))
    false_alarm_rate = round(float(np.mean(uncertainties > limit)), 4)
    found = {"uncertainty_above": limit, "false_alarm_rate": false_alarm_rate}
    return {"out_of_distribution": {**found, "images": len(uncertainties)}}
