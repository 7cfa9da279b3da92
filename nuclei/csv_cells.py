"""Cells of CSV tables that a spreadsheet would take for formulas.

    safe("=1+1")            # "'=1+1", which a spreadsheet shows and does not compute
    plain("'=1+1")          # "=1+1"

Names of files and channels come from strangers. A cell that begins with = + - @ may run a command
in a spreadsheet, so an apostrophe goes before it. All tables of this program are written and read
so. Numbers stay as they are, and every text in one line comes back as it was.
"""

import re

from nuclei.streams import visible

BEGINNINGS = "=+\\-@＝＋－＠"  # the last four are the same characters in full width
FORMULA = re.compile(f"'*[{BEGINNINGS}]")
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
ESCAPED = re.compile(f"'+[{BEGINNINGS}]")


def safe(cell):
    """A cell as it is written: a text in one line, with an apostrophe before a formula."""
    if not isinstance(cell, str):
        return cell
    text = visible(cell)
    return "'" + text if FORMULA.match(text) and not NUMBER.fullmatch(text) else text


def plain(cell: str) -> str:
    """The text of a cell as it was before `safe`."""
    return cell[1:] if ESCAPED.match(cell) else cell


def safe_table(table):
    """A DataFrame with all cells as `safe` gives them."""
    return with_texts(table, safe)


def plain_table(table):
    """A DataFrame whose texts are as they were before `safe_table`."""
    return with_texts(table, lambda cell: plain(cell) if isinstance(cell, str) else cell)


def with_texts(table, change):
    """A DataFrame with `change` applied to the columns of texts."""
    texts = [name for name, kind in table.dtypes.items() if kind.kind not in "biufcmM"]
    changed = {name: [change(cell) for cell in table[name].tolist()] for name in texts}
    return table.assign(**changed) if texts else table
