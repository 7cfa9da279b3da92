"""What the machine can do at all, and what the network reaches of it with each engine."""

import numpy as np

from experiments.benchmark.card import median_seconds
from nuclei.cli import COARSE_ENGINES
from nuclei.inference.runtimes import RUNTIMES, for_engines

NUM_CONVOLUTIONS = 4  # in a row, so that the start of a call does not count


def start_engine(engine, model):
    """A network of a Keras model by an engine, on all cores."""
    if engine == "keras":
        return model.predict_on_batch
    runtime = RUNTIMES[engine]
    return runtime.start(runtime.write(model))


def bare_convolutions(filters, engine):
    """NUM_CONVOLUTIONS convolutions of 3 x 3 in a row and nothing else, by an engine."""
    import keras

    x = image = keras.Input((None, None, filters))
    for _ in range(NUM_CONVOLUTIONS):
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
    return start_engine(engine, keras.Model(image, x))


def measure_ceiling(card, engines, architecture, window_px, repeats, matrix):
    """Operations per second of a matrix product, and of convolutions of the shapes of each level.

    Args:
        card: a `Card`.
        engines: names of engines.
        architecture: keyword arguments of `build_unet`, with width, depth and stem_stride.
        window_px: side of the image that the network is timed on.
        repeats: of each measurement.
        matrix: rows and columns of the matrix product.
    """
    random = np.random.default_rng(0)
    a, b = random.random((2, matrix, matrix), np.float32)
    seconds = median_seconds(lambda: a @ b, repeats)
    speed = 2 * matrix**3 / seconds / 1e9
    card.add("ceiling", "-", f"matrix product {matrix}", ("speed", speed, "GFLOP/s"))
    for level in range(architecture["depth"] + 1):
        filters = architecture["width"] * 2**level
        side = window_px // (architecture["stem_stride"] * 2**level)
        batch = random.random((1, side, side, filters), np.float32)
        for engine in engines:
            network = bare_convolutions(filters, engine)
            seconds = median_seconds(lambda network=network, batch=batch: network(batch), repeats)
            speed = NUM_CONVOLUTIONS * 2 * 9 * filters**2 * side**2 / seconds / 1e9
            figure = (ceiling_of(engine), speed, "GFLOP/s")
            card.add("ceiling", "-", f"{filters} filters on {side}², {engine}", figure)


def ceiling_of(engine):
    """The figure that an engine is measured by: int8 and half precision have one of their own."""
    kind = engine.partition("-")[2] if engine in COARSE_ENGINES else ""
    return f"{kind} convolution speed".strip()


def count_flops(model, height, width):
    """Floating point operations of the convolutions for one image of this size.

    A multiplication and an addition are two operations.
    """
    import keras

    image = keras.Input((height, width, model.inputs[0].shape[-1]))
    sized = keras.models.clone_model(model, input_tensors=image)
    total = 0
    for layer in sized.layers:
        if isinstance(layer, keras.layers.Conv2DTranspose):  # each input pixel meets all its kernel
            total += 2 * np.prod(layer.input.shape[1:3]) * np.prod(layer.kernel.shape)
        elif isinstance(layer, keras.layers.Conv2D):
            total += 2 * np.prod(layer.output.shape[1:3]) * np.prod(layer.kernel.shape)
    return float(total)


def measure_network(card, label, model, architecture, window_px, engines, repeats):
    """Time one image through the network by each engine, and compare each with Keras.

    Args:
        card: a `Card`.
        label: of the model on the card.
        model: a network of `build_unet`.
        architecture: keyword arguments of `build_unet`.
        window_px: side of the image.
        engines: names of engines.
        repeats: of each measurement.
    """
    small = np.random.default_rng(0).random((1, window_px // 8, window_px // 8, 3), np.float32)
    image = small.repeat(8, axis=1).repeat(8, axis=2)
    flops = count_flops(model, *image.shape[1:3])
    expected = model.predict_on_batch(image)
    networks = {"keras predict": lambda batch: model.predict(batch, verbose=0)}
    for engine in engines:
        simple = model if engine == "keras" else for_engines(model, architecture)
        networks[engine] = start_engine(engine, simple)
    for name, network in networks.items():
        seconds = median_seconds(lambda network=network: network(image), repeats)
        work = flops / seconds / 1e9
        ceiling = max(card.values("ceiling", ceiling_of(name)), default=float("nan"))
        card.add(
            "network",
            label,
            name,
            ("speed", image.shape[1] * image.shape[2] / seconds / 1e6, "MP/s"),
            ("work", work, "GFLOP/s"),
            ("share of ceiling", work / ceiling, ""),
            ("largest difference", float(np.abs(network(image) - expected).max()), ""),
        )
