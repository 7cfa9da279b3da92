"""What a user should know of the ground truth of a data set, collected while it is read.

remarks = Remarks()
remarks.add("a.png", image, truth)      # for each pair
remarks.meanings()                      # lines: what each value was taken for
remarks.problems()                      # kinds of suspect truth, and the files
"""

from collections import defaultdict

import numpy as np

from nuclei.files import MAX_NAMED, named
from nuclei.images.modality import nuclear_light
from nuclei.truth.edges import Edges
from nuclei.truth.forms import Truth
from nuclei.truth.suspect import suspicion

MANY_NUCLEI = "truth that gives one id to many nuclei (write ids as 16-bit or 32-bit png or tif)"

LEFT_OUT_AT_EDGES = (
    "Nuclei that the edge of an image cuts are often left out of this truth: the edges, half a "
    "nucleus wide, teach nothing and are not scored."
)


class Remarks:
    """Collects what the values of each truth were taken for, and why a truth may be wrong.

    Attributes:
        edges: what the truth says at the edges of the images.
    """

    def __init__(self):
        self.names: dict[str, list[str]] = defaultdict(list)  # by meaning
        self.suspects: dict[str, list[str]] = defaultdict(list)  # by kind of problem
        self.edges = Edges()

    def add(self, name: str, image: np.ndarray, truth: Truth) -> None:
        """Look at one pair.

        Args:
            name: the truth in messages.
            image: (H, W, 3) uint8 or uint16.
            truth: of the same height and width.
        """
        if truth.meaning:
            self.names[truth.meaning].append(name)
        if truth.warning:
            self.suspects[MANY_NUCLEI].append(f"{name}: {truth.warning}")
        light = nuclear_light(image)
        self.edges.add(light, truth.labels, truth.void)
        kind = suspicion(light, truth.labels, truth.void)
        if kind:
            self.suspects[kind].append(name)

    def meanings(self) -> list[str]:
        """Lines that say what values were taken for, the most frequent first, and of edges."""
        groups = sorted(self.names.items(), key=lambda item: -len(item[1]))
        lines = [
            f"Values of {len(names):,} truths ({named(names)}): {meaning}."
            for meaning, names in groups[:MAX_NAMED]
        ]
        if len(groups) > MAX_NAMED:
            num = sum(len(names) for _, names in groups[MAX_NAMED:])
            lines.append(f"{num:,} more truths have values of other meanings.")
        if self.edges.leave_out_nuclei():
            lines.append(LEFT_OUT_AT_EDGES)
        return lines

    def problems(self) -> list[tuple[str, list[str]]]:
        """Kinds of suspect truth with the files, as `Check.problems`."""
        return sorted(self.suspects.items())
