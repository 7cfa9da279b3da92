"""nuclei.training.losses"""

import keras
from keras import ops

DICE_WEIGHT = 1.0  # beside the cross-entropy: counters the few foreground pixels of sparse images
MAP_WEIGHT = 6.0  # of each soft map: at 2 the valleys between touching nuclei are learned last, and they part them
SMOOTH = 1.0  # pixels added to both sides of Dice, so that an empty image is defined


class SegmentationLoss(keras.losses.Loss):
    """Cross-entropy + Dice on the nucleus channel, Kullback-Leibler divergence on each soft map.

    The divergence is the binary cross-entropy of a soft truth less the entropy of that truth, so that a perfect map
    scores 0 and its gradient is that of the cross-entropy.

    Args:
        heads: the names of the channels; the first is the nucleus.

    References:
        Milletari, Navab, Ahmadi 2016, "V-Net" (Dice as a loss).
    """

    def __init__(self, heads, name="segmentation_loss"):
        super().__init__(name=name)
        self.heads = tuple(heads)

    def call(self, truth, maps):
        known = ops.cast(truth >= 0, maps.dtype)
        truth = ops.maximum(truth, 0.0)
        maps = ops.clip(maps, 1e-6, 1 - 1e-6)
        cross_entropy = -(truth * ops.log(maps) + (1 - truth) * ops.log(1 - maps))
        clipped = ops.clip(truth, 1e-6, 1 - 1e-6)
        entropy = -(clipped * ops.log(clipped) + (1 - clipped) * ops.log(1 - clipped))
        divergence = (cross_entropy - entropy) * known
        # One mean for each channel over its known pixels.
        per_map = ops.sum(divergence, axis=(0, 1, 2)) / ops.maximum(ops.sum(known, axis=(0, 1, 2)), 1.0)

        nucleus, painted = truth[..., 0] * known[..., 0], maps[..., 0] * known[..., 0]
        overlap = ops.sum(nucleus * painted, axis=(1, 2))
        total = ops.sum(nucleus, axis=(1, 2)) + ops.sum(painted, axis=(1, 2))
        dice_loss = 1 - ops.mean((2 * overlap + SMOOTH) / (total + SMOOTH))
        loss = per_map[0] + DICE_WEIGHT * dice_loss + MAP_WEIGHT * ops.sum(per_map[1:])
        return ops.reshape(loss, (1,))  # of which Keras takes the mean over devices that share a batch, not of a scalar

    def get_config(self):
        return {"heads": list(self.heads), "name": self.name}


class PixelScore(keras.metrics.Metric):
    """Accuracy, Dice or IoU of the nucleus channel at probability 0.5, pooled over all pixels of an epoch.

    Args:
        score: "accuracy" (share of right pixels), "dice" (2TP / (2TP + FP + FN)) or "iou" (TP / (TP + FP + FN)).
    """

    def __init__(self, score, name=None, **kwargs):
        super().__init__(name=name or score, **kwargs)
        self.score = score
        # float32 sums lose single pixels past 16 million: shares of an epoch's batches are added up instead.
        self.hit, self.false, self.true_negative = (
            self.add_weight(name=part, initializer="zeros") for part in ("hit", "false", "true_negative")
        )

    def update_state(self, truth, maps, sample_weight=None):
        known = ops.cast(truth[..., 0] >= 0, "float32")
        nucleus = ops.cast(truth[..., 0] > 0.5, "float32")
        painted = ops.cast(maps[..., 0] > 0.5, "float32")
        pixels = ops.cast(ops.size(known), "float32")
        self.hit.assign_add(ops.sum(known * nucleus * painted) / pixels)
        self.false.assign_add(ops.sum(known * ops.abs(nucleus - painted)) / pixels)
        self.true_negative.assign_add(ops.sum(known * (1 - nucleus) * (1 - painted)) / pixels)

    def result(self):
        if self.score == "accuracy":
            total = self.hit + self.false + self.true_negative
            return ops.divide_no_nan(self.hit + self.true_negative, total)
        if self.score == "dice":
            return ops.divide_no_nan(2 * self.hit, 2 * self.hit + self.false)
        return ops.divide_no_nan(self.hit, self.hit + self.false)


def pixel_metrics():
    """The three pixel scores that history.csv shows."""
    return [PixelScore("accuracy"), PixelScore("dice"), PixelScore("iou")]
