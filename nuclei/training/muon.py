"""The optimiser: Muon for the kernels of convolutions, AdamW for all other weights.

    optimizer = Muon(learning_rate=6e-3, weight_decay=1e-4, global_clipnorm=1.0)

Muon reaches the same loss in about half the steps of AdamW. A kernel (h, w, in, out) is taken as a
matrix of h*w*in rows. The step is the orthogonal factor of its momentum, so directions with small
gradients are learned as fast as directions with large ones.
"""

import math

import keras
from keras import ops

# Coefficients of x, x**3, x**5. The iteration brings singular values of 0.002...1 to 0.65...1.2.
ORTHOGONAL = (3.4445, -4.7750, 2.0315)
# Number of iterations. Between the two numbers the Gram matrix is computed anew, because its
# rounding error, large on GPUs, grows twelvefold with each iteration.
STEPS = (3, 2)
STEP_SIZE = 0.2  # root mean square of the entries of a step: that of Adam, so one rate serves both
NESTEROV = 0.95  # share of the momentum that stays from step to step


class CombinedGradients:
    """For an optimiser of Keras: changes the gradients before anything else is done with them.

    Attributes:
        combine_gradients: a function from the list of gradients of this device to those to apply;
            None applies them as they are. Training on several devices of TensorFlow sets it.
    """

    combine_gradients = None

    def apply(self, grads, trainable_variables=None):
        """Update the variables by the combined gradients."""
        if self.combine_gradients is not None:
            grads = self.combine_gradients(grads)
        return super().apply(grads, trainable_variables)


class Muon(CombinedGradients, keras.optimizers.Adam):
    """Muon for kernels of 3x3 and 2x2, AdamW for all other weights. Takes AdamW's arguments.

    The weights decay here and not in Keras, which would compute the schedule of the learning rate
    once more for each variable, which delays the first step by seconds.

    The orthogonal factor comes from the iteration of the reference. It runs on the Gram matrix of
    the momentum instead of the momentum itself: the same polynomial in half of the multiplications.
    Keras's own Muon leaves every kernel of a convolution to AdamW.

    References:
        Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks",
        https://kellerjordan.github.io/posts/muon
        Liu et al. 2025, "Muon is Scalable for LLM Training" (the size of the steps),
        https://arxiv.org/abs/2502.16982
    """

    def __init__(self, learning_rate, weight_decay=0.0, **settings):
        super().__init__(learning_rate, **settings)
        self.decay = weight_decay

    def get_config(self):
        """The arguments to make it again."""
        return super().get_config() | {"weight_decay": self.decay}

    def update_step(self, gradient, variable, learning_rate):
        """Change one variable by its gradient, after the decay."""
        decay = variable * self.decay * ops.cast(learning_rate, variable.dtype)
        self.assign_sub(variable, decay)
        is_kernel = len(variable.shape) == 4 and tuple(variable.shape[:2]) != (1, 1)
        if not is_kernel:  # the 1x1 kernel of the maps is a regression on few filters
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


class LossScaled(CombinedGradients, keras.optimizers.LossScaleOptimizer):
    """Loss scaling around another optimiser, for float16: small gradients would become zero."""


def orthogonal(matrix):
    """Approximate the orthogonal factor of a matrix.

    Args:
        matrix: (n, m) float32.

    Returns:
        (n, m) float32. Singular values above 0.002 of the norm of `matrix` become 0.65 to 1.2.
    """
    matrix = matrix / (ops.norm(matrix) + 1e-7)
    is_tall = matrix.shape[0] > matrix.shape[1]
    linear, cubic, quintic = ORTHOGONAL
    for num_steps in STEPS:
        other = ops.transpose(matrix)
        gram = ops.matmul(other, matrix) if is_tall else ops.matmul(matrix, other)
        identity, product = ops.eye(gram.shape[0], dtype=matrix.dtype), None
        for step in range(num_steps):
            polynomial = linear * identity + cubic * gram + quintic * ops.matmul(gram, gram)
            product = polynomial if product is None else ops.matmul(polynomial, product)
            if step < num_steps - 1:
                gram = ops.matmul(ops.matmul(polynomial, gram), polynomial)
        matrix = ops.matmul(matrix, product) if is_tall else ops.matmul(product, matrix)
    return matrix
