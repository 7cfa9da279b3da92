"""The end of a training: which weights and which thresholds go into the model file.

Whole validation images are predicted as predict.py does it. On them the thresholds of `separate`
are chosen, the confidence of a nucleus is calibrated, and the limits are found above which an image
is out of distribution. This is done for the best epoch and for the mean of the last epochs; the
weights that find nuclei better are kept.

`predict_image` is passed in by the caller: training and inference do not import each other.
"""

import gc
from collections import Counter

import numpy as np

from nuclei.instances.separate import THRESHOLDS
from nuclei.model_file import as_model
from nuclei.progress import Progress
from nuclei.training.fine_tuning import FEW_BLEND, choose_blend
from nuclei.training.geometry import DIAMETER_PX
from nuclei.training.image_scores import calibration_of, limits_of, score_image, scores_by_group
from nuclei.training.limits import rare_modalities
from nuclei.training.thresholds import choose_thresholds, mean_of_sets
from nuclei.training.validation import validation_crops

# Of images in the search for thresholds: a minute or two on two cores.
MAX_SEARCH_PIXELS = 50_000_000
# In the validation images: with fewer, the best choice is a matter of chance.
MIN_SEARCH_NUCLEI = 200


def is_enough(samples):
    """Whether these validation images hold enough nuclei to choose by."""
    return sum(int(sample.labels.max()) for sample in samples) >= MIN_SEARCH_NUCLEI


def choose(trained, data, predict_image, say=print):
    """Choose the weights and all that goes into the model file with them.

    Args:
        trained: a `Trained`; its network ends with the weights chosen.
        data: the `Data` of the training.
        predict_image: of nuclei.inference.find.
        say: called with each line for the user.

    Returns:
        The settings of the model file.
    """
    gc.collect()  # the network and the crops of the training: whole images need their memory
    state, recipe, samples = trained.state, trained.state.recipe, data.validating
    network, architecture = trained.network, trained.settings["architecture"]
    counts = Counter(sample.group for sample in data.training)
    rare = rare_modalities(counts, (state.base or {}).get("out_of_distribution"))
    score = lambda: score_validation(
        network, architecture, samples, predict_image, state.base, rare
    )
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
        sets: names of the sets of the validation images; without any, because the images are not
            enough to choose by, the first candidate is taken.
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
        scores = [results[name][1][group] for group in groups]
        sizes = [score["images"] for score in scores]
        return mean_of_sets([score["ap50"] + score["map"] for score in scores], sizes)

    best = max(results, key=quality)
    say(f"  kept: {best}")
    network.set_weights(candidates[best])
    return best, candidates[best], *results[best]


def blend_with_start(trained, weights, samples, say):
    """Blend weights with those of `init`. The network takes the blend. Returns: the new share."""
    from nuclei.training.losses import SegmentationLoss  # late: it imports Keras

    recipe, heads = trained.state.recipe, trained.settings["architecture"]["heads"]
    loss = SegmentationLoss(heads)
    crops = validation_crops(samples, heads, recipe.crop_px)
    blends = None if is_enough(samples) else (FEW_BLEND,)
    share, losses = choose_blend(
        trained.network,
        trained.state.start_weights,
        weights,
        crops,
        loss,
        recipe.batch_size,
        blends,
    )
    say(
        f"Blended with the weights of {recipe.init}: the new weights have a share of {share:.0%}. "
        f"Validation loss {losses[0.0]:.3f} at 0%, {losses[share]:.3f} at {share:.0%}, "
        f"{losses[1.0]:.3f} at 100%"
    )
    return share


def score_validation(network, architecture, samples, predict_image, base=None, rare=()):
    """Predict whole validation images as predict.py does, choose thresholds on them, score them.

    Args:
        network: a `keras.Model`.
        architecture: keyword arguments of `build_unet` for it.
        samples: list of `Sample`, the validation images.
        predict_image: of nuclei.inference.find.
        base: thresholds, calibration and out_of_distribution of the model of `init`, if any. They
            stay if the samples hold too few nuclei; without them the thresholds are THRESHOLDS.
        rare: of `rare_modalities`.

    Returns:
        (settings, scores). `settings` has thresholds, calibration and out_of_distribution, as the
        model file holds them. `scores` has {"images", "dice", "ap50", "map"} for "all" and for each
        group: AP at IoU 0.5 is pooled, Dice and mAP are means over images.
    """
    settings = {"architecture": architecture, "trained_diameter_px": DIAMETER_PX}
    model = as_model(network.predict_on_batch, settings)
    predict = lambda sample: predict_image(model, sample.image, sample.intensity_range)
    enough = is_enough(samples)
    inherited = base if base and not enough else {}
    thresholds, predictions = inherited.get("thresholds", dict(THRESHOLDS)), {}
    if enough:
        predictions = predict_for_search(samples, predict)
        searched = [samples[index] for index in predictions]
        separated = [sample for sample in searched if sample.is_clump is None]
        thresholds, _ = choose_thresholds(
            [estimate.maps for estimate in predictions.values()],
            [sample.labels for sample in searched],
            [estimate.scale for estimate in predictions.values()],
            voids=[sample.unscored for sample in searched],
            set_names=[sample.set_name for sample in searched],
            is_binary=[is_enough(separated) and sample.is_clump is not None for sample in searched],
        )
    results = []
    with Progress("Scoring", len(samples), "validation images", log=True) as progress:
        for index, sample in enumerate(samples):
            estimate = predictions.pop(index) if index in predictions else predict(sample)
            results.append(score_image(sample, estimate, thresholds))
            progress.add(1)
    if "calibration" in inherited:
        calibration = {"calibration": inherited["calibration"]}
    else:
        calibration = calibration_of(results)
    limits = limits_of(results, calibration, rare)
    chosen = {"thresholds": thresholds, **calibration, **limits}
    return chosen | inherited, scores_by_group(results)


def predict_for_search(samples, predict):
    """Predict the images that thresholds are chosen on, as many as memory should hold.

    Returns:
        {index in samples: ScaleEstimate}.
    """
    predictions, num_pixels = {}, 0
    indices = np.random.default_rng(0).permutation(len(samples))  # so that all sets have a say
    with Progress("Predicting", len(indices), "validation images", log=True) as progress:
        for index in indices:
            size = samples[index].labels.size
            if num_pixels + size <= MAX_SEARCH_PIXELS or not predictions:
                predictions[index] = predict(samples[index])
                num_pixels += size
            progress.add(1)
    return predictions
