"""The table of a campaign: what came of the inputs by the kind of file, and of the kills.

text = write_table(args, rows)          # OUT/table.md
"""

from collections import Counter

from experiments.campaign.judge import FAULTS, GOOD
from nuclei.files import replacing

COLUMNS = (*GOOD, *FAULTS)


def counted(rows, key) -> dict[str, Counter]:
    """{value of `key`: {outcome: number}}, sorted by the value."""
    counts = {}
    for row in rows:
        counts.setdefault(row[key], Counter())[row["outcome"]] += 1
    return {name: counts[name] for name in sorted(counts)}


def as_markdown(counts, title, columns=COLUMNS) -> str:
    """A table with a line for each kind and one for all."""
    lines = [
        f"| {title} | all | {' | '.join(columns)} |",
        f"| --- |{' ---: |' * (len(columns) + 1)}",
    ]
    total = sum(counts.values(), Counter())
    for name, outcomes in [*counts.items(), ("**all**", total)]:
        cells = [f"{sum(outcomes.values()):,}", *(f"{outcomes[column]:,}" for column in columns)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_table(args, rows) -> str:
    """Write OUT/table.md and return its text."""
    inputs = [row for row in rows if "number" in row]
    kills = [row for row in rows if "play" in row]
    parts = [f"{len(inputs):,} inputs and {len(kills):,} interruptions, seed {args.seed}"]
    if inputs:
        parts += [as_markdown(counted(inputs, "kind"), "file")]
        parts += [as_markdown(counted(inputs, "reader"), "read by")]
    if kills:
        columns = ("equal", *FAULTS)
        named = [row | {"what": f"{row['play']}: {row['how']}"} for row in kills]
        parts += [as_markdown(counted(named, "what"), "program and what was done to it", columns)]
    text = "\n\n".join(parts) + "\n"
    with replacing(args.out / "table.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text
