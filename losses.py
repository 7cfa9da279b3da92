"""What training minimises, by which steps, and the pixel scores that it shows.

    model.compile(Muon(4e-3), loss=SegmentationLoss(heads=("nucleus", "distance")), metrics=pixel_metrics())

The truth is (B, S, S, K) float32: channel 0 is 1 in a nucleus, the others are soft maps in [0, 1]; -1 means "unknown"
and counts for nothing (the distance map of a mask that does not tell touching nuclei apart).
"""

import math

import keras
from keras import ops

UNKNOWN = -1.0  # a pixel of the truth that must not teach; `augment.targets` writes it
DICE_WEIGHT = 1.0  # beside the cross-entropy: counters the few foreground pixels of sparse images
MAP_WEIGHT = 6.0  # of each soft map: at 2 the valleys between touching nuclei are learned last, and they part them
ORTHOGONAL = (3.4445, -4.7750, 2.0315)  # of x, x**3, x**5: drives singular values of 0.002 to 1 into 0.65 to 1.2
STEPS = (3, 2)  # of that; in between the Gram matrix is made anew: its rounding, coarse on GPUs, grows twelvefold a step
STEP_SIZE = 0.2  # of an orthogonal step's entries, root mean square: that of Adam's, so that one rate serves both
NESTEROV = 0.95  # share of the momentum that stays from step to step
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


class Muon(keras.optimizers.AdamW):
    """Muon for the kernels of convolutions, AdamW for all else: the same loss in about half the steps of AdamW alone.

    A kernel (h, w, in, out) is a matrix of h*w*in rows. Its momentum, made orthogonal, is the step: directions in which
    gradients are small are learned as fast as those in which they are large. The orthogonal factor comes by the iteration
    of the reference, here on the Gram matrix of the momentum instead of the momentum itself: the same polynomial in half
    of the multiplications, so that on two cores a step of the default network takes about a tenth longer than AdamW's.

    Keras's own Muon leaves every kernel of a convolution to AdamW.

    References:
        Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks", https://kellerjordan.github.io/posts/muon
        Liu et al. 2025, "Muon is Scalable for LLM Training" (the size of the steps), https://arxiv.org/abs/2502.16982
    """

    def update_step(self, gradient, variable, learning_rate):
        if len(variable.shape) != 4 or tuple(variable.shape[:2]) == (1, 1):  # the maps are a regression on few filters
            super().update_step(gradient, variable, learning_rate)
            return
        gradient = ops.cast(gradient, variable.dtype)
        momentum = self._momentums[self._get_variable_index(variable)]
        self.assign_add(momentum, gradient + (NESTEROV - 1) * momentum)
        outputs = variable.shape[-1]
        step = orthogonal(ops.reshape(gradient + NESTEROV * momentum, (-1, outputs)))
        size = STEP_SIZE * max(math.prod(variable.shape[:-1]), outputs) ** 0.5
        rate = ops.cast(learning_rate, variable.dtype)
        self.assign_sub(variable, ops.reshape(rate * size * step, variable.shape))


def orthogonal(matrix):
    """Roughly the orthogonal factor of a (n, m) matrix: singular values from 0.002 of its norm on become 0.65 to 1.2."""
    matrix = matrix / (ops.norm(matrix) + 1e-7)
    tall = matrix.shape[0] > matrix.shape[1]
    linear, cubic, quintic = ORTHOGONAL
    for steps in STEPS:
        gram = ops.matmul(ops.transpose(matrix), matrix) if tall else ops.matmul(matrix, ops.transpose(matrix))
        identity, product = ops.eye(gram.shape[0], dtype=matrix.dtype), None
        for k in range(steps):
            polynomial = linear * identity + cubic * gram + quintic * ops.matmul(gram, gram)
            product = polynomial if product is None else ops.matmul(polynomial, product)
            if k < steps - 1:
                gram = ops.matmul(ops.matmul(polynomial, gram), polynomial)
        matrix = ops.matmul(matrix, product) if tall else ops.matmul(product, matrix)
    return matrix


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
