"""nuclei.training.devices"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple


class Spread(NamedTuple):
    """How a training is spread over devices, by default over one.

    `places` are those of each batch that this process makes. `building` is entered to make network and optimiser, `fitting`
    for `fit`. `prepare` is called with the compiled model, and `feed` makes what `fit` takes of a function that returns a
    generator of batches.
    """

    places: range
    building: AbstractContextManager = nullcontext()
    fitting: AbstractContextManager = nullcontext()
    prepare: Callable = lambda model: None
    feed: Callable = lambda make_batches: make_batches()


def local_devices():
    """What Keras's backend can train on in this process, as its own objects: GPUs, or where there are none CPUs."""
    import keras

    if keras.backend.backend() == "tensorflow":
        from tensorflow import config

        return config.list_logical_devices("GPU") or config.list_logical_devices("CPU")
    if keras.backend.backend() == "jax":
        import jax

        return jax.local_devices()
    return ["the one that PyTorch chooses"]


def spread(batch_size, devices=1, num_processes=1, process_id=0):
    """Spread a training over `devices` devices of each of `num_processes` processes, of which this is `process_id`.

    Args:
        batch_size: crops in one step, over all devices of all processes.

    Returns:
        A Spread.

    Raises:
        ValueError: the batch does not part evenly, or there are fewer devices.
    """
    import keras

    backend, total = keras.backend.backend(), devices * num_processes
    if batch_size % total:
        larger = -(-batch_size // total) * total
        raise ValueError(f"--batch-size {batch_size} does not part evenly among {total} devices; take {larger}, for instance")
    part = batch_size // num_processes
    places = range(process_id * part, (process_id + 1) * part)
    if total == 1:
        return Spread(places)
    found = local_devices()
    if len(found) < devices:
        raise ValueError(f"--devices {devices}: KERAS_BACKEND={backend} can train on {len(found)} here; give at most that")
    if backend == "tensorflow":
        return spread_by_tensorflow(found[:devices], places)
    import jax

    by_process = [[d for d in jax.devices() if d.process_index == k][:devices] for k in range(num_processes)]
    names = [f"{device.platform}:{device.id}" for part in by_process for device in part]
    if len(names) < total:
        raise ValueError(f"--devices {devices}: the processes have {', '.join(str(len(part)) for part in by_process)} devices")
    distribution = keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)  # `places` has shared it out
    return Spread(places, distribution.scope(), distribution.scope())


def spread_by_tensorflow(devices, places):
    """Spread over devices of one machine by `tf.distribute.MirroredStrategy`."""
    import keras
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy([device.name for device in devices])

    def prepare(model):
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True  # statistics of the whole batch; left alone, each device takes those of its part
        apply = model.optimizer.apply

        def apply_sum(gradients, variables=None):
            # Left alone, Keras clips the gradients of each part and adds them up then. Clipping is for their sum: the first
            # device hands it on, the others nothing, and adding up changes it no more.
            context = tf.distribute.get_replica_context()
            is_first = context.replica_id_in_sync_group == 0
            total = context.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients))
            apply([gradient * tf.cast(is_first, gradient.dtype) for gradient in total], variables)

        model.optimizer.apply = apply_sum

    def feed(make_batches):
        # Under a strategy, `fit` looks at some batches first and begins anew, which a generator cannot: some would be lost.
        signature = tuple(tf.TensorSpec(array.shape, array.dtype) for array in next(make_batches()))
        return tf.data.Dataset.from_generator(make_batches, output_signature=signature)

    return Spread(places, strategy.scope(), nullcontext(), prepare, feed)
