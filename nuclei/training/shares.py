"""How often each sample of a training is drawn.

shares = sampling_shares(samples, size=256)
"""

import numpy as np

GROUP_POWER = 0.35  # how often a group is drawn grows with this power of its number of images
MAX_TIMES = 6  # an image is drawn at most so many times as often as the average one


def sampling_shares(samples, size):
    """Compute how often each sample is drawn.

    Groups are drawn by a power of their number of images, the sets of a group likewise, and images
    by the square root of their area. So 14 bright-field images among 400 of fluorescence are shown
    often enough to be learned, but not as often as the 400.

    Args:
        samples: list of `Sample`.
        size: height and width of a crop in px.

    Returns:
        (len(samples),) float64 with the sum 1.
    """
    roots = np.array([max(1.0, sample.labels.size / size**2) ** 0.5 for sample in samples])
    groups = np.array([sample.group for sample in samples])
    sets = np.array([sample.set_name for sample in samples])
    shares = np.zeros(len(samples))
    for group in np.unique(groups):
        in_group = groups == group
        for name in np.unique(sets[in_group]):
            member = in_group & (sets == name)
            shares[member] = roots[member] / roots[member].sum() * member.sum() ** GROUP_POWER
        shares[in_group] *= in_group.sum() ** GROUP_POWER / shares[in_group].sum()
    shares = np.minimum(shares / shares.sum(), MAX_TIMES / len(samples))
    return shares / shares.sum()
