"""The loss of the maps, and the pixel scores that history.csv shows.

    model.compile(optimizer, loss=SegmentationLoss(heads), metrics=pixel_metrics())

The truth is in [0, 1]. A negative value marks a pixel that is unknown; it counts nowhere.
"""

import keras
from keras import ops

DICE_WEIGHT = 1.0  # of Dice beside the cross-entropy: sparse images have few foreground pixels
MAP_WEIGHT = 6.0  # of each map but the first: lower, and the gaps between touching nuclei come late
CONTACT_WEIGHT = 4.0  # of a pixel where two nuclei meet, in every map: such pixels are few
SMOOTH = 1.0  # pixels added to both sides of Dice, so that an empty image is defined


class SegmentationLoss(keras.losses.Loss):
    """Cross-entropy and Dice of the nucleus map, Kullback-Leibler divergence of each other map.

    The divergence is the binary cross-entropy of a soft truth minus the entropy of that truth: a
    perfect map has a loss of 0, and the gradient is that of the cross-entropy. In all maps, pixels
    where two nuclei meet have a larger weight.

    Args:
        heads: names of the maps; the first is the nucleus.
        name: name of the loss.

    References:
        Milletari, Navab, Ahmadi 2016, "V-Net" (Dice as a loss).
    """

    def __init__(self, heads, name="segmentation_loss"):
        super().__init__(name=name)
        self.heads = tuple(heads)

    def call(self, truth, maps):
        """The loss (1,) of a batch: truth and maps are (B, H, W, K) float32."""
        known = ops.cast(truth >= 0, maps.dtype)
        truth = ops.maximum(truth, 0.0)
        maps = ops.clip(maps, 1e-6, 1 - 1e-6)
        cross_entropy = -(truth * ops.log(maps) + (1 - truth) * ops.log(1 - maps))
        clipped = ops.clip(truth, 1e-6, 1 - 1e-6)
        entropy = -(clipped * ops.log(clipped) + (1 - clipped) * ops.log(1 - clipped))
        weights = known
        if "contact" in self.heads:
            contact = truth[..., self.heads.index("contact"), None]
            weights = known * (1 + (CONTACT_WEIGHT - 1) * contact)
        divergence = (cross_entropy - entropy) * weights
        # One mean for each map over its known pixels.
        num_known = ops.maximum(ops.sum(known, axis=(0, 1, 2)), 1.0)
        per_map = ops.sum(divergence, axis=(0, 1, 2)) / num_known

        nucleus, predicted = truth[..., 0] * known[..., 0], maps[..., 0] * known[..., 0]
        overlap = ops.sum(nucleus * predicted, axis=(1, 2))
        total = ops.sum(nucleus, axis=(1, 2)) + ops.sum(predicted, axis=(1, 2))
        dice_loss = 1 - ops.mean((2 * overlap + SMOOTH) / (total + SMOOTH))
        loss = per_map[0] + DICE_WEIGHT * dice_loss + MAP_WEIGHT * ops.sum(per_map[1:])
        # Not a scalar: Keras averages only arrays over the devices that share a batch.
        return ops.reshape(loss, (1,))

    def get_config(self):
        """The arguments of the constructor."""
        return {"heads": list(self.heads), "name": self.name}


class PixelScore(keras.metrics.Metric):
    """Score of the nucleus map at a probability of 0.5, pooled over all pixels of an epoch.

    Args:
        score: "accuracy" (share of correct pixels), "dice" (2TP / (2TP + FP + FN)) or "iou"
            (TP / (TP + FP + FN)).
        name: name of the metric; None is the score.
    """

    def __init__(self, score, name=None):
        super().__init__(name=name or score)
        self.score = score
        # float32 cannot count single pixels past 16 million, so shares of batches are summed.
        self.hit = self.add_weight(name="hit", initializer="zeros")
        self.false = self.add_weight(name="false", initializer="zeros")
        self.true_negative = self.add_weight(name="true_negative", initializer="zeros")

    def update_state(self, truth, maps, sample_weight=None):
        """Add a batch: truth and maps are (B, H, W, K) float32."""
        known = ops.cast(truth[..., 0] >= 0, "float32")
        nucleus = ops.cast(truth[..., 0] > 0.5, "float32")
        predicted = ops.cast(maps[..., 0] > 0.5, "float32")
        num_pixels = ops.cast(ops.size(known), "float32")
        self.hit.assign_add(ops.sum(known * nucleus * predicted) / num_pixels)
        self.false.assign_add(ops.sum(known * ops.abs(nucleus - predicted)) / num_pixels)
        background = known * (1 - nucleus) * (1 - predicted)
        self.true_negative.assign_add(ops.sum(background) / num_pixels)

    def result(self):
        """The score in [0, 1]."""
        if self.score == "accuracy":
            total = self.hit + self.false + self.true_negative
            return ops.divide_no_nan(self.hit + self.true_negative, total)
        if self.score == "dice":
            return ops.divide_no_nan(2 * self.hit, 2 * self.hit + self.false)
        return ops.divide_no_nan(self.hit, self.hit + self.false)


def pixel_metrics():
    """The three pixel scores that history.csv shows."""
    return [PixelScore("accuracy"), PixelScore("dice"), PixelScore("iou")]
