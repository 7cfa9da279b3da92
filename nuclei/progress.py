"""How far a long task is: a bar on a terminal, sparse lines in a log, nothing with --quiet.

with quietly(args.quiet), Progress("Reading", len(pairs), "pairs", log=True) as progress:
    for pair in pairs:
        ...
        progress.add(1, note=f"{num_nuclei} nuclei")
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar

from nuclei.quiet import hush_readers
from nuclei.streams import visible

BAR_CHARACTERS = 10  # leaves room for numbers and a note on a terminal of 80 columns
REDRAWS_PER_SECOND = 4  # of the bar; more would take time from the work
LOG_SECONDS = 5  # between two plain lines: a short task needs none
IS_QUIET: ContextVar[bool] = ContextVar("IS_QUIET", default=False)  # see `quietly`


@contextlib.contextmanager
def quietly(quiet: bool = True) -> Iterator[None]:
    """Inside, nothing goes to stdout and no `Progress` is shown, if `quiet`.

    What readers of images log is not shown in any case; see `hush_readers`.
    """
    hush_readers()
    if not quiet:
        yield
        return
    token = IS_QUIET.set(True)
    try:
        with (
            open(os.devnull, "w", encoding="utf-8") as nowhere,
            contextlib.redirect_stdout(nowhere),
        ):
            yield
    finally:
        IS_QUIET.reset(token)


class Progress:
    """Show how far a long task is.

    On a terminal this is a bar on stderr, drawn by rich, with the time left. Where stderr is a file
    or a pipe, nothing is shown there, or with `log` a plain line on stdout for each tenth of the
    work, but none in the first seconds. Threads may call it.

        with Progress("Reading", len(pairs), "pairs") as progress:
            for pair in pairs:
                ...
                progress.add(1, note=f"{num_nuclei} nuclei")

    Args:
        what: the task, for example "Reading".
        total: the whole work in `unit`; 0 shows nothing.
        unit: what is counted, for example "pairs", "bytes" or "mm²".
        log: write plain lines where stderr is no terminal.
        done: work in `unit` that an earlier run has finished; it does not count for the time left.
    """

    def __init__(
        self, what: str, total: float, unit: str, log: bool = False, done: float = 0
    ) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = self.done_before = done
        is_terminal, is_shown = sys.stderr.isatty(), bool(total) and not IS_QUIET.get()
        self.log = log and is_shown and not is_terminal
        self.note = ""
        self.started = self.logged = time.monotonic()
        self.lock = threading.Lock()
        self.bar = start_bar() if is_shown and is_terminal else None
        if self.bar:
            self.task = self.bar.add_task(
                what, total=total, completed=done, count=self.count(), note=""
            )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Leave the bar as it is on the terminal; `with` does it by itself, also after an error."""
        if self.bar:
            self.bar.stop()

    def add(self, amount: float = 1, note: str = "") -> None:
        """Count `amount` more as done; `note` is shown behind the count, such as "383 nuclei"."""
        with self.lock:
            tenths_before = self.tenths()
            self.done += amount
            self.note = note or self.note
            if self.bar:
                self.bar.update(self.task, completed=self.done, count=self.count(), note=self.note)
            elif self.log and self.tenths() > tenths_before:
                now = time.monotonic()
                if now - self.logged >= LOG_SECONDS:
                    self.logged = now
                    print(f"{self.what}: {self.numbers()}", flush=True)

    def say(self, message: str) -> None:
        """Print a message on stderr on a line of its own, such as a file that was skipped."""
        message = visible(message)
        if self.bar:  # rich puts it above the bar
            self.bar.console.print(message, markup=False, highlight=False, soft_wrap=True)
        else:
            print(message, file=sys.stderr, flush=True)

    def tell(self, message: str) -> None:
        """Print a message on stdout on a line of its own, such as what was chosen in a file."""
        print(visible(message), flush=True)

    def tenths(self) -> int:
        """Finished tenths of the work, 0...10; sums of fractions may miss the last digit."""
        return int(10 * self.done / self.total + 1e-9) if self.total else 0

    def count(self) -> str:
        """What is done: "12 of 20 pairs"."""
        number = ",.2f" if isinstance(self.total, float) else ","
        return f"{self.done:{number}} of {self.total:{number}} {self.unit}"

    def numbers(self) -> str:
        """A plain line: "12 of 20 pairs, 383 nuclei, 8 s, 5 s left"."""
        seconds = time.monotonic() - self.started
        parts = [self.count(), self.note, duration(seconds)]
        text, new = ", ".join(part for part in parts if part), self.done - self.done_before
        if new <= 0 or self.tenths() == 10:
            return text
        return f"{text}, {duration(seconds / new * (self.total - self.done))} left"


def start_bar():
    """A bar of rich on stderr that has begun. What is printed on stdout meanwhile appears above it.

    The note comes last and takes the room that is left: on a narrow terminal it is cut short, and
    the time left stays. Stdout is left alone where it is a pipe or a file: rich would send it to
    the terminal, too.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(BAR_CHARACTERS),
        TextColumn("{task.fields[count]}", markup=False),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        TextColumn("left"),
        TextColumn("{task.fields[note]}", markup=False, table_column=rest),
        console=Console(stderr=True),
        refresh_per_second=REDRAWS_PER_SECOND,
        redirect_stdout=sys.stdout.isatty(),
        redirect_stderr=False,  # nuclei.quiet stands in for it at times
        expand=True,
    )
    bar.start()
    return bar


def duration(seconds: float) -> str:
    """Seconds in words: "8 s", "12 min" or "3.5 h"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"
