# SPDX-License-Identifier: Apache-2.0
"""What apvfio can say, read from its source: errors, the reasons they give, and warnings."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from apvfio.kernel.errnos import MEANING
from apvfio.model.errors import ApvfioError, Exit
from exit_codes import EXIT_CODES
from source_texts import Reader, letters, name_of

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).parents[1]
PACKAGES = ("apvfio", "mdev")
WARNING = "warning"
_GENERATIONS = 4
"""Of errors that derive from others."""
_REASONS = {
    "apvfio/store/policy_file.py": ("ValueError", Exit.REQUEST),
    "apvfio/store/toml_table.py": ("ValueError", Exit.REQUEST),
    "mdev/definitions.py": ("DefinitionError", Exit.REQUEST),
    "mdev/callouts.py": ("CallError", Exit.FAILURE),
    "mdev/mdevctl.py": ("MdevctlError", Exit.HOST),
    "apvfio/install/checks.py": ("Finding", Exit.HOST),
}
"""What becomes the reason in an error's sentence, or all of it, and how the command ends then."""
_WARNING_TYPE = "WarningText"
"""What a function is annotated with that makes warnings, alone or among others."""
"""What a function prints that warns by itself."""


class Sentence(NamedTuple):
    """What one place in the source says, each value in it a ``GAP``.

    ``sort`` is the exit code of the command that ends with it, or ``WARNING`` if it goes on.
    """

    text: str
    sort: int | str


def sources() -> dict[str, ast.Module]:
    """Every file of the product, by its path in the repository."""
    paths = [path for package in PACKAGES for path in sorted((CHECKOUT / package).rglob("*.py"))]
    return {str(path.relative_to(CHECKOUT)): ast.parse(path.read_text()) for path in paths}


def kinds(trees: dict[str, ast.Module]) -> dict[str, int]:
    """Every class of error by name, with the exit code of a command that ends with it."""
    found = {ApvfioError.__name__: ApvfioError.code, "ArgumentTypeError": Exit.USAGE}
    classes = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    for _ in range(_GENERATIONS):
        for node in classes:
            bases = [found[name] for name in map(name_of, node.bases) if name in found]
            own = [
                EXIT_CODES[name_of(part.value)]
                for part in node.body
                if isinstance(part, ast.Assign) and name_of(part.targets[0]) == "code"
            ]
            if bases:
                found[node.name] = (own or bases)[0]
    return found


@cache
def sentences() -> frozenset[Sentence]:
    """All of them; what has no words of its own is left out."""
    trees = sources()
    errors = kinds(trees)
    found = {Sentence(reason, Exit.FAILURE) for reason, _ in MEANING.values()}
    for path, tree in trees.items():
        reader = Reader(tree)
        found.update(_errors(path, tree, reader, errors))
        found.update(_warnings(tree, reader))
    return frozenset(sentence for sentence in found if letters(sentence.text))


def _errors(path: str, tree: ast.Module, reader: Reader, errors: dict[str, int]) -> Iterator[Sentence]:
    reason, end = _REASONS.get(path, ("", Exit.OK))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        function = reader.function(node)
        warns = function is not None and (makes_warnings(function) or prints_warnings(function))
        for name in reader.classes(node.func):
            if name in errors:
                sort = WARNING if warns and not reader.is_raised(node) else errors[name]
                yield from (Sentence(text, sort) for text in reader.texts(node.args[0]))
            elif not name or name != reason:
                continue
            elif name == "Finding":
                stops, said = node.args[:2]
                sort = end if isinstance(stops, ast.Constant) and stops.value else WARNING
                yield from (Sentence(text, sort) for text in reader.texts(said))
            else:
                yield from (Sentence(text, end) for text in reader.texts(node.args[0]))


def makes_warnings(function: ast.FunctionDef) -> bool:
    """Whether its return type says so."""
    names = map(name_of, ast.walk(function.returns)) if function.returns else ()
    return _WARNING_TYPE in names


def prints_warnings(function: ast.FunctionDef) -> bool:
    """Whether it prints one, by `apvfio.cli.terminal.warn`."""
    calls = (node for node in ast.walk(function) if isinstance(node, ast.Call))
    return any(isinstance(call.func, ast.Name) and call.func.id == "warn" for call in calls)


def _warnings(tree: ast.Module, reader: Reader) -> Iterator[Sentence]:
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and makes_warnings(function):
            for said in _said(function):
                yield from (Sentence(text, WARNING) for text in reader.texts(said) if letters(text))


def _said(function: ast.FunctionDef) -> Iterator[ast.expr]:
    """What it yields, collects and returns."""
    for node in ast.walk(function):
        if isinstance(node, ast.Yield) and node.value:
            yield node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr == "append":
                yield from node.args
        elif isinstance(node, (ast.ListComp, ast.GeneratorExp)):
            yield node.elt
        elif isinstance(node, ast.Return):
            value = node.value
            if isinstance(value, ast.IfExp) and isinstance(value.body, ast.List):
                yield from value.body.elts
            elif isinstance(value, ast.JoinedStr):
                yield value


def without_remedy() -> dict[str, str]:
    """The sentence of each error that does not say what to do, and the file it is in."""
    trees = sources()
    errors = kinds(trees)
    return {
        text: path
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and node.args and name_of(node.func) in errors
        if "remedy" not in {keyword.arg for keyword in node.keywords}
        for text in Reader(tree).texts(node.args[0])
        if name_of(node.func) != "ArgumentTypeError"
    }
