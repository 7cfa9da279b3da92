"""The network in training: a compiled copy that is as fast as the device allows.

    model = training_model(network, architecture, recipe, session)
    model.fit(...)
    network.set_weights(model.get_weights())

The copy may compute in half precision, share its batches among devices, and normalise by a faster
kernel. The weights of both are the same, in the same order.
"""

import contextlib

from unet import build_unet

WARMUP_SHARE = 0.05  # of all steps, in which the learning rate rises to its peak
WEIGHT_DECAY = 1e-4  # of the weights that AdamW trains; see `muon`
CLIP_NORM = 1.0  # of the whole gradient: one crop of a broken mask must not spoil the weights


def training_model(network, architecture, recipe, session, keep_statistics=False):
    """A compiled copy of a network that trains as fast as the device allows.

    Args:
        network: a plain `keras.Model`.
        architecture: keyword arguments of `build_unet` for it.
        recipe: a `Recipe`.
        session: a `Session`.
        keep_statistics: whether batch normalisation is frozen, as in prediction.

    Returns:
        A compiled `keras.Model` with the same weights.
    """
    import keras

    with dtype_policy(session.precision), session.spread.building:
        model = build_unet(**architecture)
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = not keep_statistics  # in Keras this freezes the statistics too
                layer.synchronized = session.spread.is_synchronized
        model.set_weights(network.get_weights())
        rate, num_steps = recipe.peak_learning_rate, session.num_steps * recipe.epochs
        model = compile_model(model, architecture["heads"], rate, num_steps, session.device)
        model.optimizer.combine_gradients = session.spread.combine_gradients
        model.optimizer.build(model.trainable_variables)
    return model


@contextlib.contextmanager
def dtype_policy(name):
    """Have Keras build layers that compute in this precision."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def compile_model(model, heads, rate, num_steps, device):
    """Make a network of `build_unet` ready for `fit`.

    Args:
        model: an uncompiled `keras.Model`.
        heads: names of its maps.
        rate: peak learning rate.
        num_steps: of the whole training.
        device: words of `find_device`.

    Returns:
        A compiled `keras.Model` with the same weights: `model`, or a copy that is faster here.
    """
    import keras

    from nuclei.training.losses import SegmentationLoss, pixel_metrics
    from nuclei.training.muon import LossScaled

    on_gpu = device.startswith("GPU")
    if keras.backend.backend() == "tensorflow" and not on_gpu:
        from nuclei.training.normalisation import with_fused_normalisation

        model = with_fused_normalisation(model)
    optimizer = make_optimizer(rate, num_steps)
    if model.dtype_policy.name == "mixed_float16":
        optimizer = LossScaled(optimizer)
    model.compile(
        optimizer,
        loss=SegmentationLoss(heads),
        metrics=pixel_metrics(),
        # XLA is faster on a GPU. On a CPU it takes long to compile, and its steps are slower.
        jit_compile="auto" if on_gpu else model.jit_compile,
    )
    return model


def make_optimizer(rate, num_steps):
    """Muon with a learning rate that rises to `rate` and falls to zero at `num_steps`, as a cosine.

    References:
        Loshchilov & Hutter 2017, "SGDR" (cosine), and 2019, "Decoupled Weight Decay
        Regularization" (AdamW).
    """
    import keras

    from nuclei.training.muon import Muon

    warmup_steps = max(1, round(WARMUP_SHARE * num_steps))
    schedule = keras.optimizers.schedules.CosineDecay(
        rate * 0.01,
        max(1, num_steps - warmup_steps),
        warmup_target=rate,
        warmup_steps=warmup_steps,
    )
    return Muon(schedule, weight_decay=WEIGHT_DECAY, global_clipnorm=CLIP_NORM)
