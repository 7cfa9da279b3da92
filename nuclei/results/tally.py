"""What one call of predict.py has found so far, and what to try where that looks wrong."""

from dataclasses import dataclass, field

from nuclei.files import named, plural


@dataclass
class Tally:
    """Counts over images and slides.

    Attributes:
        num_images: images and slides that were read.
        num_nuclei: found in all of them.
        failures: a line for each image or slide that could not be read.
        empty: stems of images without a nucleus.
        unusual: stems of images out of distribution.
        chosen: stems of images of whose channels one was read.
    """

    num_images: int = 0
    num_nuclei: int = 0
    failures: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    unusual: list[str] = field(default_factory=list)
    chosen: list[str] = field(default_factory=list)

    def add(self, summary: dict) -> None:
        """Count one image or slide, from its row of summary.csv."""
        self.num_images += 1
        self.num_nuclei += summary["nuclei"]
        if not summary["nuclei"]:
            self.empty.append(summary["image"])
        if summary["out_of_distribution"] == 1:
            self.unusual.append(summary["image"])
        if summary.get("channel"):
            self.chosen.append(summary["image"])

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(vars(self)[name] + vars(other)[name] for name in vars(self)))

    def advice(self) -> list[str]:
        """What to try: at most one line for images without nuclei, one for unusual images."""
        lines = []
        if self.empty:
            lines.append(
                f"No nucleus in {self.of_all(self.empty)}. If there are some, give their size "
                f"(--diameter PX or --mpp UM), a lower --threshold{self.other_channel(self.empty)} "
                "or fine-tune the model (docs/fine-tuning.md)"
            )
        if self.unusual:
            lines.append(
                f"Out of distribution: {self.of_all(self.unusual)}. Look at the overlays first. "
                f"What may help: the size (--diameter PX or --mpp UM)"
                f"{self.other_channel(self.unusual)}, or fine-tuning with a few corrected images "
                "(docs/fine-tuning.md)"
            )
        return lines

    def other_channel(self, stems: list[str]) -> str:
        """A piece of advice where one of several channels of these images was read, else ""."""
        return ", another --channel NAME" if set(stems) & set(self.chosen) else ""

    def of_all(self, stems: list[str]) -> str:
        """How many images these are, and which: "2 of 9 images (a, b)"."""
        return f"{len(stems)} of {plural(self.num_images, 'image')} ({named(stems)})"
