"""The network: a U-Net whose decoder upsamples by transposed convolution, and its geometry.

    model = build_unet()                                     # the default: for a laptop's minutes
    model = build_unet(width=64, depth=4, stem_stride=1)     # the network of the paper

The figure, for the default (stem_stride=2, depth=4). Numbers are filters, and every row has half
the height and width of the row above:

    image 3 -------------------------------------------------- skip --> [8 + 3] 8 -> maps
      stem, stride 2: 16                                                ^ transposed convolution
          16 16 ---------------------------------- skip --> [16 + 16] 16 16
              32 32 ---------------------- skip --> [32 + 32] 32 32
                  64 64 ---------- skip --> [64 + 64] 64 64
                      128 128 - skip --> [128 + 128] 128 128
                          256 256 (bottleneck) ^ transposed convolution

All layers are Keras's own, so `keras.models.load_model` opens the saved file too. Nothing here
depends on TensorFlow: KERAS_BACKEND=jax or torch runs the same code.
"""

HEADS = ("nucleus", "distance", "contact")  # maps the network can predict, in this order
WIDTH = 16  # filters of the first level, doubled at each level below
DEPTH = 4  # how many times the encoder halves the size after the stem
STEM_STRIDE = 2  # 2: the first convolution halves the size; full resolution is slow on a CPU
HEAD_FILTERS = 8  # filters of the only convolution at full resolution if stem_stride is 2
START_LOGIT = -1.5  # bias of the maps: probabilities start at 0.18, near the usual share of nuclei
MOMENTUM = 0.95  # of the batch statistics: Keras's 0.99 is too slow for a few hundred steps


def build_unet(
    heads=HEADS, width=WIDTH, depth=DEPTH, stem_stride=STEM_STRIDE, normalisation="batch"
):
    """Build the encoder-decoder.

    Args:
        heads: names of the output maps, one sigmoid channel each: the first one, two or three of
            HEADS.
        width: filters of the first level; level k has `width * 2**k`.
        depth: how many times the encoder halves the size after the stem.
        stem_stride: 2 halves the size in the very first convolution, 1 is the classic network.
        normalisation: "batch", or "none" for a network whose normalisation is folded in.

    Returns:
        An uncompiled `keras.Model` from (B, H, W, 3) float32 in [0, 1] to
        (B, H, W, len(heads)) float32 in [0, 1]. H and W must be multiples of
        `size_multiple(depth, stem_stride)`; the caller pads other sizes.

    Raises:
        ValueError: an argument is out of its range.

    References:
        Ronneberger, Fischer, Brox 2015, "U-Net: Convolutional Networks for Biomedical Image
        Segmentation".
    """
    import keras
    from keras import layers

    if not heads or tuple(heads) != HEADS[: len(heads)]:
        raise ValueError(f"heads are {heads}; they must be the first one, two or three of {HEADS}")
    if width < 1 or depth < 1 or stem_stride not in (1, 2):
        shape = f"width {width}, depth {depth} and stem_stride {stem_stride}"
        raise ValueError(f"{shape}; expected two numbers of at least 1, and 1 or 2")
    if normalisation not in ("batch", "none"):
        raise ValueError(f'normalisation is "{normalisation}"; expected "batch" or "none"')

    def convolve(x, filters, strides=1):
        is_batch = normalisation == "batch"  # which has an offset of its own
        he = {"kernel_initializer": "he_normal", "use_bias": not is_batch}
        x = layers.Conv2D(filters, 3, strides, "same", **he)(x)
        x = layers.BatchNormalization(momentum=MOMENTUM)(x) if is_batch else x
        return layers.ReLU()(x)

    def upsample(x, filters):
        return layers.Conv2DTranspose(filters, 2, strides=2, kernel_initializer="he_normal")(x)

    image = keras.Input((None, None, 3), name="image")
    x = convolve(image, width, strides=2) if stem_stride == 2 else image

    # Encoder: two convolutions at each level, then half the size. The decoder takes up the skips.
    level_filters = [width * 2**level for level in range(depth)]
    skips = []
    for filters in level_filters:
        x = convolve(convolve(x, filters), filters)
        skips.append(x)
        x = layers.MaxPooling2D(2)(x)

    x = convolve(convolve(x, width * 2**depth), width * 2**depth)  # the bottleneck

    # Decoder: twice the size, the skip of the same size beside it, two convolutions.
    for filters, skip in zip(reversed(level_filters), reversed(skips), strict=True):
        x = layers.Concatenate()([upsample(x, filters), skip])
        x = convolve(convolve(x, filters), filters)

    # At full resolution the skip is the image itself: edges stay sharp at almost no cost.
    if stem_stride == 2:
        x = layers.Concatenate()([upsample(x, HEAD_FILTERS), image])
        x = convolve(x, HEAD_FILTERS)

    # One sigmoid for each map, without a ReLU before it: a ReLU on two filters can die, and then
    # the masks are black. It stays float32 under mixed precision, because half precision cannot
    # tell probabilities near 1 apart.
    start = keras.initializers.Constant(START_LOGIT)
    maps = layers.Conv2D(
        len(heads), 1, activation="sigmoid", bias_initializer=start, dtype="float32", name="maps"
    )(x)
    model = keras.Model(image, maps, name="unet")
    # By default Keras makes TensorFlow compile the network by XLA anew for each size of image.
    model.jit_compile = keras.backend.backend() == "jax"
    return model


def size_multiple(depth=DEPTH, stem_stride=STEM_STRIDE):
    """Number of pixels of which the height and width of the network's input must be a multiple."""
    return stem_stride * 2**depth


def receptive_radius(depth=DEPTH, stem_stride=STEM_STRIDE):
    """Distance in pixels beyond which an input pixel cannot change an output pixel.

    Tiles that overlap by this much are seamless. The sum has one pixel of each level's size for
    every 3x3 convolution on the longest path, and one for each pooling with its transposed
    convolution.
    """
    radius = 3 if stem_stride == 2 else 0  # the stem, the last upsampling, the last convolution
    for level in range(depth + 1):
        pixel = stem_stride * 2**level
        radius += 2 * pixel if level == depth else 4 * pixel + pixel
    return radius


def network_geometry(architecture):
    """What tiling has to know of a network, in pixels.

    Args:
        architecture: the keyword arguments of `build_unet`.

    Returns:
        {"margin": its receptive radius, "multiple": its size multiple}.
    """
    shape = {name: architecture[name] for name in ("depth", "stem_stride") if name in architecture}
    return {"margin": receptive_radius(**shape), "multiple": size_multiple(**shape)}
