"""Refresh the generated parts of google_colab.py, and the notebook made of it, from the other files.

    python sync_colab.py            # after a change in any file that google_colab.py takes from
    python sync_colab.py --check    # exit status 1 where google_colab.py or google_colab.ipynb is stale: the tests run it

google_colab.py stands alone in a notebook, so the program that it runs is copied into it, between `# >>>` and `# <<<`;
what lies outside of these marks is written by hand. TAKEN names the functions that the hand-written part calls. They
come with all that they need, from whichever file, in the order of the files and with their comments; what they do not
need stays behind.

Files become one, so names must: `tiling.predict_tiled` becomes `predict_tiled`. Where two files mean different things
by one name, or a function has a variable of that name, the later one becomes `tiling_predict_tiled`. Which names are
global is asked of Python's own compiler, whose instructions carry the place in the source that each stands for. A file
that imports Keras at its top (losses.py) becomes a function that makes its contents when first called, so that reading
google_colab.py still imports nothing heavy.
"""

import argparse
import ast
import builtins
import dis
import json
import os
import re
import sys
import textwrap
import types
from pathlib import Path
from typing import NamedTuple

# Nothing of ours is imported: the tool reads the files as text, so that it runs where none of their packages is installed.

FOLDER = Path(__file__).resolve().parent
SCRIPT = "google_colab.py"
NOTEBOOK = "google_colab.ipynb"
TAKEN = {
    "import_data": ("find_pairs", "image_files", "named", "replacing"),
    "unet": ("find_device", "set_up_backend"),
    "train": ("move_aside", "parse_arguments", "read_checkpoint", "train"),
}
HEAVY = {"keras", "tensorflow", "jax", "torch"}  # a file that imports one of them at its top is made a function
RULE = 118  # columns of a heading


class Statement(NamedTuple):
    """One top-level statement of a file: lines [first, last] from 1, with the blank lines and comments above it; the
    `names` that it binds; its `node`; the `uses` of global names in it, [(line, column, end column, name)]; and the names
    of all `variables` of the functions in it."""

    first: int
    last: int
    names: tuple
    node: ast.stmt
    uses: list
    variables: set


class Source(NamedTuple):
    """One file: its lines as bytes (in which the compiler counts columns), and what its global names stand for."""

    lines: list
    tree: ast.Module
    statements: dict  # name -> Statement
    imports: dict  # name -> [(module, attribute or None, name)], several for `import a.b` and `import a.c`

    @property
    def is_late(self):
        """Whether the file needs Keras as soon as it is read."""
        return any(module.split(".")[0] in HEAVY for meant in self.imports.values() for module, _, _ in meant)


class Reference(NamedTuple):
    """A place in a file, line and columns [start, end) in bytes, that stands for the (file, name) `meant`; `statement`
    where that is an import within a function, of a file of ours as a whole where the name is None."""

    line: int
    start: int
    end: int
    meant: tuple
    statement: ast.stmt | None = None


# --- Reading the files ----------------------------------------------------------------------------------------------


def bound_names(node):
    """The names that a top-level statement defines, imports apart."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return (node.name,)
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return tuple(part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name))


def imported_names(node):
    """What an import statement binds: [(module, attribute or None, name)]; nothing for other statements."""
    if isinstance(node, ast.ImportFrom):
        return [(node.module, alias.name, alias.asname or alias.name) for alias in node.names]
    if isinstance(node, ast.Import):
        return [(alias.name, None, alias.asname or alias.name.split(".")[0]) for alias in node.names]
    return []


def code_within(code):
    """A code object and all that lie in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from code_within(constant)


def global_uses(text, file):
    """Where a program reads global names: [(line, column, end column, name)], columns in bytes."""
    lines, found = [line.encode() for line in text.split("\n")], []
    for code in code_within(compile(text, file, "exec", dont_inherit=True)):
        for instruction in dis.get_instructions(code):
            # At the top level and in the body of a class every name is a LOAD_NAME. What the compiler adds by itself
            # (__annotations__) does not stand in the source at the place that it gives.
            place, name = instruction.positions, instruction.argval
            if instruction.opname not in ("LOAD_GLOBAL", "LOAD_NAME") or place.lineno is None:
                continue
            if lines[place.lineno - 1][place.col_offset : place.end_col_offset] == name.encode():
                found.append((place.lineno, place.col_offset, place.end_col_offset, name))
    return found


def read_source(path):
    """Read one file. Raises: SyntaxError."""
    text = path.read_text(encoding="utf-8")
    lines, tree = [line.encode() for line in text.split("\n")], ast.parse(text)
    uses = global_uses(text, path.name)
    functions = [
        code for code in code_within(compile(text, path.name, "exec", dont_inherit=True)) if code.co_name != "<module>"
    ]
    statements, imports, previous = {}, {}, 0
    for node in tree.body:
        first, last = previous + 1, node.end_lineno
        while b"  # " in lines[last - 1] and lines[last].startswith(b"#"):
            last += 1  # a comment right below a line that ends in one goes on with it
        previous = last
        for import_ in imported_names(node):
            imports.setdefault(import_[2], []).append(import_)
        inside = [code for code in functions if first <= code.co_firstlineno <= last]
        statement = Statement(
            first, last, bound_names(node), node,
            [use for use in uses if first <= use[0] <= last],
            {name for code in inside for name in (*code.co_varnames, *code.co_cellvars, *code.co_freevars)},
        )  # fmt: skip
        statements |= {name: statement for name in statement.names}
    return Source(lines, tree, statements, imports)


class Program:
    """The files of a folder, and what of them google_colab.py needs.

    Args:
        settings: names that the hand-written part sets in place of a file's constant of that name.
    """

    def __init__(self, folder, settings):
        self.settings = settings
        self.sources = {path.stem: read_source(path) for path in sorted(folder.glob("*.py")) if path.name != SCRIPT}
        self.needed = set()  # of (file, name)
        self.known_references = {}  # by (file, name), found once

    def is_setting(self, file, name):
        """Whether the hand-written part defines it."""
        statement = self.sources[file].statements.get(name)
        return name in self.settings and statement is not None and isinstance(statement.node, ast.Assign | ast.AnnAssign)

    def resolve(self, file, name, line):
        """The (file, name) of its definition; of what comes from elsewhere, the file that imports it.

        Raises:
            ValueError: there is no such name.
        """
        source = self.sources[file]
        for module, attribute, _ in source.imports.get(name, ()):
            if module in self.sources and attribute is not None:
                return self.resolve(module, attribute, line)
        if name not in source.statements and name not in source.imports:
            raise ValueError(f"{line}: {file}.py defines no {name}, so it cannot be taken into {SCRIPT}")
        return file, name

    def references(self, file, name):
        """Every Reference in the statement that defines a name; none where it comes from elsewhere or is a setting."""
        if (file, name) in self.known_references:
            return self.known_references[file, name]
        source, found = self.sources[file], self.known_references.setdefault((file, name), [])
        if name not in source.statements or self.is_setting(file, name):
            return found
        statement = source.statements[name]
        attributes = {
            (node.value.lineno, node.value.col_offset): node
            for node in ast.walk(statement.node)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        }

        def through_module(line, start, module):
            node, where = attributes.get((line, start)), f"{file}.py line {line}"
            if node is None or node.end_lineno != line:
                raise ValueError(f"{where}: {module} as a value cannot be taken into {SCRIPT}; only {module}.NAME on one line")
            return Reference(line, start, node.end_col_offset, self.resolve(module, node.attr, where))

        for line, start, end, used in statement.uses:
            modules = [module for module, attribute, _ in source.imports.get(used, ()) if attribute is None]
            if modules and modules[0] in self.sources:
                found.append(through_module(line, start, modules[0]))
            elif used in source.statements or used in source.imports:
                found.append(Reference(line, start, end, self.resolve(file, used, f"{file}.py line {line}")))
        # A file that is imported within a function is a variable there, of which the compiler tells no more.
        for node in ast.walk(statement.node):
            for module, attribute, local in imported_names(node):
                if module not in self.sources:
                    continue
                meant = (module, None)
                if attribute is not None:
                    meant = self.resolve(module, attribute, f"{file}.py line {node.lineno}")
                found.append(Reference(node.lineno, node.col_offset, node.end_col_offset, meant, node))
                if attribute is None:
                    places = [place for place, part in attributes.items() if part.value.id == local]
                    found += [through_module(*place, module) for place in places]
        return found

    def need(self, file, name):
        """Take a name, and all that its definition refers to."""
        if (file, name) in self.needed:
            return
        self.needed.add((file, name))
        for reference in self.references(file, name):
            if reference.meant[1] is not None:
                self.need(*reference.meant)

    def files(self):
        """The files that something is needed of, each after those that it imports."""
        done, wanted = [], {file for file, _ in self.needed}

        def visit(file):
            if file not in done:
                imported = {module for node in ast.walk(self.sources[file].tree) for module, _, _ in imported_names(node)}
                for module in sorted(imported & wanted):
                    visit(module)
                done.append(file)

        for file in [*(file for file in TAKEN if file in wanted), *sorted(wanted)]:
            visit(file)
        return done

    def names_of(self, file):
        """What is needed of a file."""
        return {name for other, name in self.needed if other == file}


# --- One name for one thing -----------------------------------------------------------------------------------------


def identity(program, file, name):
    """Equal for what may share a name: the same import, the same literal as a constant, the very same definition."""
    source = program.sources[file]
    if name not in source.statements:
        return tuple(source.imports[name])
    node = source.statements[name].node
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
        return name, repr(node.value.value)
    return file, name


def choose_names(program, by_hand):
    """How google_colab.py calls each thing that it needs: {(file, name): name or expression}.

    Args:
        by_hand: names that the hand-written part defines.

    Raises:
        ValueError: a name of TAKEN is no longer free.
    """
    variables = {}  # of the statements that refer to a thing by another spelling now, such as tiling.cut
    for file, name in program.needed:
        for reference in program.references(file, name):
            line = program.sources[file].lines[reference.line - 1]
            if line[reference.start : reference.end] != str(reference.meant[1]).encode():
                variables.setdefault(reference.meant, set()).update(program.sources[file].statements[name].variables)
    taken, chosen, files = dict.fromkeys(by_hand, "by hand"), {}, program.files()
    called = [(file, name) for file, names in TAKEN.items() for name in names]
    for thing in sorted(program.needed, key=lambda thing: (thing not in called, files.index(thing[0]), thing[1])):
        file, name = thing
        if program.is_setting(file, name):
            chosen[thing] = name
        elif program.sources[file].is_late:  # its imports and definitions become local to its function
            chosen[thing] = f"load_{file}().{name}"
        else:
            same = identity(program, file, name)
            free = [
                candidate for candidate in (name, f"{file}_{name}")
                if taken.get(candidate, same) == same and candidate not in variables.get(thing, ())
            ]  # fmt: skip
            if not free or (thing in called and free[0] != name):
                raise ValueError(f"{SCRIPT} has no free name for {file}.{name}; rename what is called {name} in it")
            chosen[thing] = free[0]
            taken[free[0]] = same
    return chosen


# --- Writing --------------------------------------------------------------------------------------------------------


def rewritten(program, file, name, chosen):
    """The text of the statement that defines a name, with the names that google_colab.py uses."""
    source, statement = program.sources[file], program.sources[file].statements[name]
    lines = {number: source.lines[number - 1] for number in range(statement.first, statement.last + 1)}
    edits, gone = set(), {}
    for reference in program.references(file, name):
        if reference.statement is not None:
            gone.setdefault(reference.statement, []).append(reference.meant)
        elif reference.meant[0] != file or not source.is_late:  # a file that became a function calls its own as ever
            edits.add((*reference[:3], chosen[reference.meant]))
    for own in statement.names:
        if not source.is_late and chosen.get((file, own), own) != own:
            number = statement.node.lineno
            place = re.search(rf"(?<![\w.]){own}(?!\w)".encode(), lines[number])
            edits.add((number, *place.span(), chosen[file, own]))
    for number, start, end, text in sorted(edits, reverse=True):
        lines[number] = lines[number][:start] + text.encode() + lines[number][end:]
    for node, meant in gone.items():
        local = {attribute: name for _, attribute, name in imported_names(node)}
        new = [f"{local[name]} = {chosen[other, name]}" for other, name in meant if name and local[name] != chosen[other, name]]
        if len(meant) < len(imported_names(node)):
            raise ValueError(f"{file}.py line {node.lineno}: import files of ours in a statement of their own")
        for number in range(node.lineno, node.end_lineno + 1):
            lines[number] = None
        bodies = [body for part in ast.walk(statement.node) for _, body in ast.iter_fields(part)]
        if new or [node] in bodies:
            lines[node.lineno] = "\n".join(" " * node.col_offset + text for text in new or ["pass"]).encode()
    text = "\n".join(line.decode() for line in lines.values() if line is not None)
    # Where an import has gone, two blank lines may have come together within a function.
    return re.sub(r"\n\n\n+(?= )", "\n\n", text)


def indented(text):
    """A statement four columns to the right. Raises: ValueError where a string would change by it."""
    tree = ast.parse(text)
    docstrings = [node.body[0].value for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)
                  and isinstance(node.body[0], ast.Expr)]  # fmt: skip
    for node in ast.walk(tree):
        is_string = isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))
        if is_string and node.lineno != node.end_lineno and node not in docstrings:
            raise ValueError(f"a string of several lines, which cannot be moved to the right, is in:{text}")
    return textwrap.indent(text, "    ")


def section(program, file, chosen, written):
    """All that google_colab.py takes from one file; `written` holds the identities of what it has already."""
    source, names = program.sources[file], program.names_of(file)
    texts = []
    for name, statement in source.statements.items():
        own = [other for other in statement.names if other in names]
        if not own or own[0] != name or all(program.is_setting(file, other) for other in own):
            continue
        same = {identity(program, file, other) for other in own}
        if source.is_late or not same <= written:
            written |= set() if source.is_late else same
            texts.append(rewritten(program, file, name, chosen))
    if source.is_late:
        body = re.sub(r"\n{3,}", "\n\n", "\n".join(indented(text) for text in texts)).strip("\n")
        imports = import_block({import_ for name in names - set(source.statements) for import_ in source.imports[name]})
        asked = sorted(
            {reference.meant[1] for thing in program.needed for reference in program.references(*thing)
             if thing[0] != file and reference.meant[0] == file and reference.meant[1]}
        )  # fmt: skip
        texts = [
            f"@functools.cache\ndef load_{file}():",
            f'    """The contents of {file}.py, made when first asked for: it needs Keras, whose import takes seconds."""',
            textwrap.indent(imports, "    "),
            "",
            body,
            "",
            f"    return types.SimpleNamespace({', '.join(f'{name}={name}' for name in asked)})",
        ]
    title = f"# --- From {file}.py "
    about = ast.get_docstring(source.tree).split("\n")[0]
    return f"{title:-<{RULE}}\n# {about}\n\n" + "\n".join(texts).strip("\n")


def import_block(imports):
    """Import statements for {(module, attribute or None, name)}, in the order that ruff wants."""
    plain = {
        module if name == module.split(".")[0] else f"{module} as {name}"
        for module, attribute, name in imports
        if not attribute
    }
    lines = [(0, line, f"import {line}") for line in plain]
    for module in {module for module, attribute, _ in imports if attribute}:
        same = [attribute for other, attribute, name in imports if other == module and attribute == name]
        if same:  # constants first, then classes, then functions
            same.sort(key=lambda name: (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2, name))
            lines.append((1, module, f"from {module} import {', '.join(same)}"))
    lines += [(1, f"{m} {attribute}", f"from {m} import {attribute} as {name}") for m, attribute, name in imports
              if attribute and attribute != name]  # fmt: skip
    ordered = [text for *_, text in sorted(lines, key=lambda line: (line[0], line[1].lower(), line[2]))]
    halves = [[text for text in ordered if is_standard(text) == standard] for standard in (True, False)]
    return "\n\n".join("\n".join(half) for half in halves if half)


def is_standard(statement):
    """Whether an import statement names a module of the standard library."""
    return statement.split()[1].split(".")[0] in sys.stdlib_module_names


def make_script(text, folder):
    """google_colab.py with fresh regions.

    Args:
        text: google_colab.py as it is; what stands outside of its regions is kept, and so are imports that it uses.
        folder: of the files to take from.

    Raises:
        ValueError: a region is missing, or the files hold something that cannot be taken along.
    """
    parts = re.split(r"(?ms)^(# >>> (?:imports|program)\b[^\n]*\n)(.*?)(^# <<<$)", text)
    if [mark.split()[2] for mark in parts[1::4]] != ["imports", "program"]:
        raise ValueError(f"{SCRIPT}: expected the regions '# >>> imports' and '# >>> program', each closed by '# <<<'")
    before, between, after = parts[::4]
    settings = {name for node in ast.parse(before).body for name in bound_names(node)}
    by_hand = settings | {name for node in ast.parse(between + after).body for name in bound_names(node)}
    used = {name for *_, name in global_uses(before + between + after, SCRIPT)}
    imports = {import_ for node in ast.parse(parts[2]).body for import_ in imported_names(node) if import_[2] in used}

    program = Program(folder, settings)
    for file, names in TAKEN.items():
        for name in names:
            program.need(*program.resolve(file, name, "TAKEN in sync_colab.py"))
    chosen, sections, written = choose_names(program, by_hand), [], set()
    for file in program.files():
        source = program.sources[file]
        sections.append(section(program, file, chosen, written))
        if source.is_late:
            imports |= {("functools", None, "functools"), ("types", None, "types")}
            continue
        for name in program.names_of(file) - set(source.statements):
            renamed = chosen[file, name] != name
            imports |= {
                (m, attribute, chosen[file, name] if renamed else bound) for m, attribute, bound in source.imports[name]
            }
    parts[2] = import_block(imports) + "\n\n"
    # Lines become shorter where `tiling.` goes: a formatter would join some of them.
    parts[6] = "# fmt: off\n\n" + "\n\n\n".join(sections) + "\n\n# fmt: on\n"
    made = "".join(parts)
    require_complete(made)
    return made


def require_complete(text):
    """Raises: ValueError where google_colab.py uses a name that nothing in it defines."""
    known = set(dir(builtins)) - {"__file__"} | {"__name__", "__doc__"}  # a cell is no file
    for node in ast.walk(ast.parse(text)):
        for part in node.body if isinstance(node, ast.Module | ast.ClassDef) else ():
            known |= {*bound_names(part), *(name for *_, name in imported_names(part))}
    unknown = [f"{name} (line {line})" for line, _, _, name in sorted(global_uses(text, SCRIPT)) if name not in known]
    if unknown:
        raise ValueError(f"{SCRIPT} would use what nothing in it defines: {', '.join(unknown)}; see TAKEN in sync_colab.py")


def make_notebook(script):
    """The notebook with the script in its one cell of code, as JSON text, without outputs."""
    title, *rest = ast.get_docstring(ast.parse(script)).split("\n")
    cells = [
        {"cell_type": "markdown", "id": "what", "metadata": {}, "source": "\n".join([f"# {title.rstrip('.')}", *rest])},
        {
            "cell_type": "code", "id": "train", "metadata": {}, "source": script.rstrip("\n"), "execution_count": None,
            "outputs": [],
        },
    ]  # fmt: skip
    for cell in cells:
        cell["source"] = cell["source"].splitlines(keepends=True)
    notebook = {
        "cells": cells,
        "metadata": {
            "accelerator": "GPU",
            "colab": {"gpuType": "T4", "provenance": []},
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def write_whole(path, text):
    """Replace a file at once, so that a stop leaves the old one or the new one."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def refresh(check):
    """Write what is stale, or only name it with `check`. Returns the exit status."""
    script = make_script((FOLDER / SCRIPT).read_text(encoding="utf-8"), FOLDER)
    stale = []
    for name, text in ((SCRIPT, script), (NOTEBOOK, make_notebook(script))):
        path = FOLDER / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            write_whole(path, text)
    if stale and check:
        print(f"stale: {', '.join(stale)}; run `python sync_colab.py` and commit what it writes")
    else:
        print(f"wrote {', '.join(stale)}" if stale else "nothing to do: all is as its sources are")
    return 1 if stale and check else 0


def main(argv=None):
    """Refresh or check. Returns the exit status; a mistake in a source ends in one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 where something is stale")
    args = parser.parse_args(argv)
    try:
        return refresh(args.check)
    except (OSError, ValueError, SyntaxError) as error:
        print(f"sync_colab.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
