"""The network: a U-Net whose decoder upsamples by transposed convolution, and the file it lives in.

    model = build_unet()                                          # the default: for a laptop's minutes
    model = build_unet(width=64, depth=4, stem_stride=1)          # the network of the paper

    save_model("Saved_Model/trained_model.h5", model, {"thresholds": ...})
    model, settings = load_model("Saved_Model/trained_model.h5")
    network, words = engine("Saved_Model/trained_model.h5")       # (B, h, w, 3) -> (B, h, w, K), the fastest way there is

The figure, for the default (stem_stride=2, depth=4); numbers are filters, every row is half the size of the row above:

    image 3 ------------------------------------------------------------- skip --> [8 + 3] 8 -> maps
      stem, stride 2: 16                                                           ^ transposed convolution
          16 16 --------------------------------------------- skip --> [16 + 16] 16 16
              32 32 --------------------------------- skip --> [32 + 32] 32 32
                  64 64 --------------------- skip --> [64 + 64] 64 64
                      128 128 ------- skip --> [128 + 128] 128 128
                          256 256 (bottleneck) ^ transposed convolution

The layers are Keras's own, so that `keras.models.load_model` opens the file too, and nothing here depends on
TensorFlow: KERAS_BACKEND=jax or torch runs the same code.
"""



HEADS = ("nucleus", "distance", "contact")  # what the network can paint, in this order; `targets` says what it means
WIDTH = 16  # filters of the first level, doubled at each level below
DEPTH = 4  # number of times that the encoder halves the size, after the stem
STEM_STRIDE = 2  # 2: the first convolution halves the size, because full-resolution levels take most of a CPU's time
HEAD_FILTERS = 8  # filters of the one full-resolution convolution of a network with stem_stride 2
START_LOGIT = -1.5  # of every map: training starts at a probability of 0.18, near the share of nuclei (0.14 in BBBC038)
MOMENTUM = 0.95  # of the batch statistics: Keras's 0.99 lags behind in runs of a few hundred steps


def build_unet(heads=HEADS, width=WIDTH, depth=DEPTH, stem_stride=STEM_STRIDE, normalisation="batch", num_channels=3):
    """Build the encoder-decoder.

    Args:
        heads: names of the output maps, one sigmoid channel each: the first one, two or three of HEADS.
        width: filters of the first level; level k has `width * 2**k`.
        depth: how many times the encoder halves the size after the stem.
        stem_stride: 2 halves the size in the very first convolution, 1 is the classic network.
        normalisation: "batch", "group" (of 8 channels; independent of the batch) or "none".
        num_channels: channels of the image.

    Returns:
        An uncompiled `keras.Model` from (B, H, W, num_channels) float32 in [0, 1] to (B, H, W, len(heads)) float32
        in [0, 1]. H and W must be multiples of `size_multiple(depth, stem_stride)`; `py` pads any image.

    Raises:
        ValueError: an argument is out of its range.

    References:
        Ronneberger, Fischer, Brox 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation".
    """
    import keras
    from keras import layers

    if not heads or width < 1 or depth < 1 or stem_stride not in (1, 2):
        raise ValueError(
            f"build_unet got heads={heads}, width={width}, depth={depth}, stem_stride={stem_stride}; "
            "it wants one head or more, width and depth of at least 1, and stem_stride 1 or 2"
        )
    if tuple(heads) != HEADS[: len(heads)]:
        raise ValueError(f"heads are {' '.join(heads)}; they must be the first one, two or three of {' '.join(HEADS)}")
    if normalisation not in ("batch", "group", "none"):
        raise ValueError(f'normalisation is "{normalisation}"; it must be "batch", "group" or "none"')
    if normalisation == "group" and width % 8:
        raise ValueError(f"group normalisation takes groups of 8 channels; width is {width}, not a multiple of 8")

    def convolve(x, filters, strides=1):
        x = layers.Conv2D(
            filters, 3, strides=strides, padding="same", use_bias=normalisation == "none", kernel_initializer="he_normal"
        )(x)
        if normalisation == "batch":
            x = layers.BatchNormalization(momentum=MOMENTUM)(x)
        elif normalisation == "group":
            x = layers.GroupNormalization(groups=filters // 8)(x)
        return layers.ReLU()(x)

    def upsample(x, filters):
        return layers.Conv2DTranspose(filters, 2, strides=2, kernel_initializer="he_normal")(x)

    image = keras.Input((None, None, num_channels), name="image")
    x = image
    if stem_stride == 2:
        x = convolve(x, width, strides=2)

    skips = []
    for level in range(depth):
        filters = width * 2**level
        x = convolve(convolve(x, filters), filters)
        skips.append(x)
        x = layers.MaxPooling2D(2)(x)

    filters = width * 2**depth
    x = convolve(convolve(x, filters), filters)

    for level in reversed(range(depth)):
        filters = width * 2**level
        x = layers.Concatenate()([upsample(x, filters), skips[level]])
        x = convolve(convolve(x, filters), filters)

    if stem_stride == 2:  # back at full resolution the skip is the image itself: edges stay sharp at next to no cost
        x = layers.Concatenate()([upsample(x, HEAD_FILTERS), image])
        x = convolve(x, HEAD_FILTERS)

    # A sigmoid for each map and no ReLU before it: a ReLU on two filters dies, and the masks come out black. It stays
    # in float32 under mixed precision, because half precision cannot tell probabilities near 1 apart.
    maps = layers.Conv2D(
        len(heads),
        1,
        activation="sigmoid",
        bias_initializer=keras.initializers.Constant(START_LOGIT),
        dtype="float32",
        name="maps",
    )(x)
    model = keras.Model(image, maps, name="unet")
    # Left to itself Keras has TensorFlow compile the network anew, by XLA, for every size of image: seconds for each.
    model.jit_compile = keras.backend.backend() == "jax"
    return model


def size_multiple(depth=DEPTH, stem_stride=STEM_STRIDE):
    """Pixels of which the network's input height and width must be a multiple."""
    return stem_stride * 2**depth


def receptive_radius(depth=DEPTH, stem_stride=STEM_STRIDE):
    """Pixels beyond which an input pixel cannot change an output pixel: the overlap that makes tiles seamless.

    Counts one pixel of each level's size for every 3x3 convolution on the longest path, and one size step for each
    pooling and each transposed convolution.
    """
    radius = 3 if stem_stride == 2 else 0  # the stem, the head's convolution and the last upsampling
    for level in range(depth + 1):
        pixel = stem_stride * 2**level
        radius += 2 * pixel if level == depth else 4 * pixel + pixel
    return radius


def network_geometry(architecture):
    """What `tiling` has to know of a network: {"margin": receptive radius, "multiple": size multiple}, in px.

    Args:
        architecture: the keyword arguments of `build_unet`.
    """
    shape = {name: architecture[name] for name in ("depth", "stem_stride") if name in architecture}
    return {"margin": receptive_radius(**shape), "multiple": size_multiple(**shape)}
