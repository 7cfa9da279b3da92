"""The pixels of all nuclei of an image as flat arrays: quick also where there are thousands."""

import numpy as np


class NucleusPixels:
    """The pixels of all nuclei as flat arrays, and statistics of a value over each nucleus.

    Attributes:
        ids: (n,) the ids that occur, ascending. Results have one row for each.
        pixels: (p,) flat indices of all nucleus pixels, ascending.
        nucleus: (p,) the row that each of these pixels belongs to.
        areas: (n,) number of pixels.
    """

    def __init__(self, labels):
        ids = np.flatnonzero(np.bincount(labels.ravel(), minlength=1))
        self.ids = ids[ids > 0]
        row_of = np.zeros(int(labels.max(initial=0)) + 1, np.intp)
        row_of[self.ids] = np.arange(len(self.ids))
        self.pixels = np.flatnonzero(labels)
        self.nucleus = row_of[labels.ravel()[self.pixels]]
        self.areas = np.bincount(self.nucleus, minlength=len(self.ids))

    def mean(self, values):
        """Average (p,) values over each nucleus: (n,) float64."""
        return np.bincount(self.nucleus, values, minlength=len(self.ids)) / self.areas

    def std(self, values):
        """Standard deviation of (p,) values over each nucleus: (n,) float64."""
        return np.sqrt(self.mean((values - self.mean(values)[self.nucleus]) ** 2))

    def min(self, values):
        """Smallest of (p,) values in each nucleus: (n,), same dtype."""
        return self.extreme(np.minimum, values)

    def max(self, values):
        """Largest of (p,) values in each nucleus: (n,), same dtype."""
        return self.extreme(np.maximum, values)

    def extreme(self, smaller_or_larger, values):
        """Reduce (p,) values by `np.minimum` or `np.maximum`."""
        result = np.zeros(len(self.ids), values.dtype)
        result[self.nucleus] = values  # any value of the nucleus to begin with
        smaller_or_larger.at(result, self.nucleus, values)
        return result
