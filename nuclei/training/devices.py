"""Sharing each batch of a training among several devices of one or more processes.

    spread = spread_over_devices(batch_size=8, num_devices=2, processes=Processes())
    with spread.building:
        model = build_unet()

By default there is one device, and a `Spread` changes nothing. TensorFlow shares a batch by a
MirroredStrategy, JAX by Keras's distribution, PyTorch not at all.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Spread:
    """How a training is spread over devices.

    Attributes:
        places: the crops of each batch that this process makes, as a range.
        building: entered to build the network and its optimiser.
        fitting: entered for `fit`.
        feed: from a function that returns a generator of batches to what `fit` takes.
        combine_gradients: see `muon.CombinedGradients`.
        is_synchronized: whether batch normalisation must gather its statistics from all devices.
    """

    places: range
    building: AbstractContextManager = field(default_factory=nullcontext)
    fitting: AbstractContextManager = field(default_factory=nullcontext)
    feed: Callable = lambda make_batches: make_batches()
    combine_gradients: Callable | None = None
    is_synchronized: bool = False


def local_devices():
    """The devices that Keras's backend can train on in this process: GPUs, or CPUs without GPUs."""
    import keras

    if keras.backend.backend() == "tensorflow":
        from tensorflow import config

        return config.list_logical_devices("GPU") or config.list_logical_devices("CPU")
    if keras.backend.backend() == "jax":
        import jax

        return jax.local_devices()
    return ["the one that PyTorch chooses"]


def spread_over_devices(batch_size, num_devices, processes):
    """Spread a training over `num_devices` devices of each process.

    Args:
        batch_size: crops in one step, over all devices of all processes.
        num_devices: devices of each process.
        processes: a `hosts.Processes`.

    Returns:
        A `Spread`.

    Raises:
        ValueError: the batch cannot be divided evenly, or there are fewer devices.
    """
    import keras

    total = num_devices * processes.num
    if batch_size % total:
        larger = -(-batch_size // total) * total
        raise ValueError(
            f"--batch-size {batch_size} cannot be divided evenly among {total} devices; take "
            f"{larger}, for instance"
        )
    num_places = batch_size // processes.num
    places = range(processes.index * num_places, (processes.index + 1) * num_places)
    if total == 1:
        return Spread(places)
    devices, backend = local_devices(), keras.backend.backend()
    if len(devices) < num_devices:
        raise ValueError(
            f"--devices {num_devices}: KERAS_BACKEND={backend} can train on {len(devices)} here; "
            "give at most that number"
        )
    if backend == "tensorflow":
        return spread_by_tensorflow(devices[:num_devices], places)
    return spread_by_jax(num_devices, processes, places)


def spread_by_jax(num_devices, processes, places):
    """Spread over devices of all processes. Raises: ValueError, where another process has fewer."""
    import jax
    import keras

    devices_of = lambda index: [d for d in jax.devices() if d.process_index == index]
    devices = [devices_of(index)[:num_devices] for index in range(processes.num)]
    names = [f"{device.platform}:{device.id}" for part in devices for device in part]
    if len(names) < num_devices * processes.num:
        numbers = ", ".join(str(len(part)) for part in devices)
        raise ValueError(f"--devices {num_devices}: the processes have {numbers} devices")
    # Each process makes its own part of the batch, so Keras need not divide it.
    distribution = keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)
    return Spread(places, distribution.scope(), distribution.scope())


def spread_by_tensorflow(devices, places):
    """Spread over devices of this machine by `tf.distribute.MirroredStrategy`."""
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy([device.name for device in devices])

    def sum_on_first_device(gradients):
        # By default Keras clips the gradients of each device and then adds them up. The sum is what
        # must be clipped: the first device applies the sum, the others apply zeros.
        context = tf.distribute.get_replica_context()
        is_first = context.replica_id_in_sync_group == 0
        total = context.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients))
        return [gradient * tf.cast(is_first, gradient.dtype) for gradient in total]

    def feed(make_batches):
        # Under a strategy, `fit` looks at some batches first and then begins anew. A generator
        # cannot begin anew, so those batches would be lost.
        first_batch = next(make_batches())
        signature = tuple(tf.TensorSpec(array.shape, array.dtype) for array in first_batch)
        return tf.data.Dataset.from_generator(make_batches, output_signature=signature)

    return Spread(
        places,
        building=strategy.scope(),
        feed=feed,
        combine_gradients=sum_on_first_device,
        is_synchronized=True,
    )
