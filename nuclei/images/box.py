"""A rectangle of pixels: `Box`, the one record for parts of images, tiles and slides.

box = Box(top=10, bottom=30, left=0, right=50)
image[box.place]                            # (20, 50, 3)
core.relative_to(box).place                 # where another box lies in those pixels
"""

from typing import NamedTuple


class Box(NamedTuple):
    """Rows [top, bottom) and columns [left, right), in px of an image."""

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def of_shape(cls, shape):
        """The box of a whole image of shape (height, width, ...)."""
        return cls(0, shape[0], 0, shape[1])

    @classmethod
    def of_spans(cls, rows, columns):
        """The box of two spans, each (start, stop)."""
        (top, bottom), (left, right) = rows, columns
        return cls(top, bottom, left, right)

    @property
    def shape(self):
        """(rows, columns)."""
        return self.bottom - self.top, self.right - self.left

    @property
    def area_px(self):
        """Number of its pixels."""
        height, width = self.shape
        return height * width

    @property
    def place(self):
        """The box as an index of an array: (slice of rows, slice of columns)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def contains(self, other):
        """Whether another box lies within this one."""
        return (
            self.top <= other.top
            and other.bottom <= self.bottom
            and self.left <= other.left <= other.right <= self.right
        )

    def shifted(self, rows, columns):
        """The box so many rows farther down and columns farther right."""
        return Box(self.top + rows, self.bottom + rows, self.left + columns, self.right + columns)

    def relative_to(self, other):
        """The same box, counted from the upper left corner of another one."""
        return self.shifted(-other.top, -other.left)

    def scaled(self, rows, columns):
        """The box in an image `rows` times as high and `columns` times as wide, rounded."""
        ends = self.top * rows, self.bottom * rows, self.left * columns, self.right * columns
        top, bottom, left, right = (round(float(end)) for end in ends)
        return Box(top, bottom, left, right)
