"""Batch normalisation in one operation of TensorFlow, for training on a CPU.

    model = with_fused_normalisation(build_unet())

Keras normalises a batch by about twenty operations. TensorFlow has one kernel for it, and a step of
training on a CPU becomes about a fifth faster. The copy is for training only: a model file holds
the plain network, into which the weights of the copy fit.
"""

import keras


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalisation with TensorFlow's kernel in training, equal but for rounding."""

    def call(self, inputs, training=None, mask=None):
        """Normalise (B, H, W, C); in training also update the moving statistics."""
        if not training or not self.trainable or self.synchronized:
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=tf.cast(inputs, "float32"),
            scale=tf.convert_to_tensor(self.gamma),
            offset=tf.convert_to_tensor(self.beta),
            mean=[],
            variance=[],
            epsilon=self.epsilon,
        )
        # The variance of the kernel is unbiased, that of Keras is not.
        variance *= 1 - tf.cast(tf.size(mean) / tf.size(inputs), "float32")
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + value * (1 - self.momentum))
        return tf.cast(outputs, self.compute_dtype)


def with_fused_normalisation(model):
    """A copy of a network with `FusedBatchNormalization` in place of Keras's.

    Args:
        model: a network of `build_unet` on TensorFlow, with any normalisation.

    Returns:
        An uncompiled `keras.Model` with the same weights in the same order.
    """

    def copy(layer):
        is_normalisation = type(layer) is keras.layers.BatchNormalization
        layer_class = FusedBatchNormalization if is_normalisation else type(layer)
        return layer_class.from_config(layer.get_config())

    fused = keras.models.clone_model(model, clone_function=copy)
    fused.set_weights(model.get_weights())
    fused.jit_compile = model.jit_compile
    return fused
