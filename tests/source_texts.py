# SPDX-License-Identifier: Apache-2.0
"""Texts in source code: what the expressions of a module can come to, without running it."""

from __future__ import annotations

import ast

GAP = "<>"
"""Stands where a text holds what only a run can tell."""
_FEW_LETTERS = 4
_DEEPEST = 4


class Reader:
    """Follows the expressions of one module to the texts they stand for."""

    def __init__(self, tree: ast.Module) -> None:
        self._within: dict[ast.AST, ast.AST] = {}
        self._calls: dict[str, list[ast.Call]] = {}
        for node in ast.walk(tree):
            self._within |= dict.fromkeys(ast.iter_child_nodes(node), node)
            if isinstance(node, ast.Call):
                self._calls.setdefault(name_of(node.func), []).append(node)

    def function(self, node: ast.AST) -> ast.FunctionDef | None:
        """The function that ``node`` is in."""
        around = self._within.get(node)
        while around is not None:
            if isinstance(around, ast.FunctionDef):
                return around
            around = self._within.get(around)
        return None

    def is_raised(self, node: ast.AST) -> bool:
        """Whether it stands in a ``raise`` itself."""
        return isinstance(self._within[node], ast.Raise)

    def texts(self, node: ast.AST, depth: int = 0) -> set[str]:
        """The texts that ``node`` can be, a GAP for what only a run can tell."""
        found = {GAP}
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = {node.value}
        elif isinstance(node, ast.IfExp):
            found = self.texts(node.body, depth) | self.texts(node.orelse, depth)
        elif isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
            found = set().union(*(self.texts(value, depth) for value in node.values))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            ends = self.texts(node.right, depth)
            found = {begin + end for begin in self.texts(node.left, depth) for end in ends}
        elif isinstance(node, ast.JoinedStr):
            found = self._joined(node.values, depth)
        elif isinstance(node, ast.Name) and depth < _DEEPEST:
            given = [self.texts(value, depth + 1) for value in self.values(node)]
            found = set().union(*given) or {GAP}
        return found

    def _joined(self, parts: list[ast.expr], depth: int) -> set[str]:
        plain = "".join(str(p.value) if isinstance(p, ast.Constant) else GAP for p in parts)
        if letters(plain) >= _FEW_LETTERS:
            return {plain}
        # All of it is said elsewhere.
        found = {""}
        for part in parts:
            inner = part.value if isinstance(part, ast.FormattedValue) else part
            found = {a + b for a in found for b in self.texts(inner, depth)}
        return found

    def values(self, name: ast.Name) -> list[ast.expr]:
        """What a name stands for: what its function assigns to it, or the callers give for it."""
        function = self.function(name)
        if function is None:
            return []
        if last := self._last_value(name):
            return [last]
        given = [
            statement.value
            for statement in ast.walk(function)
            if isinstance(statement, ast.Assign) and name_of(statement.targets[0]) == name.id
        ]
        parameters = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
        if given or name.id not in parameters:
            return given
        place = parameters.index(name.id) - (parameters[0] == "self")
        passed = [c.args[place] for c in self._calls.get(function.name, ()) if len(c.args) > place]
        # A function that calls itself may pass on what it was given.
        return [value for value in passed if not (isinstance(value, ast.Name) and value.id == name.id)]

    def _last_value(self, name: ast.Name) -> ast.expr | None:
        """What a statement before it, in its own block or one around, assigns to a name in any case."""
        node: ast.AST = name
        while not isinstance(node, (ast.FunctionDef, ast.For, ast.While)):
            around = self._within[node]
            blocks = [block for _, block in ast.iter_fields(around) if isinstance(block, list)]
            block = next((block for block in blocks if node in block), [])
            for earlier in reversed(block[: block.index(node)] if block else []):
                if isinstance(earlier, ast.Assign) and name_of(earlier.targets[0]) == name.id:
                    return earlier.value
                if any(name_of(inner) == name.id for inner in ast.walk(earlier) if _is_stored(inner)):
                    return None
            node = around
        return None

    def classes(self, called: ast.AST) -> set[str]:
        """The names of the classes that ``called`` can be."""
        if isinstance(called, ast.Name) and (values := self.values(called)):
            return set().union(*map(self.classes, values))
        if isinstance(called, ast.IfExp):
            return self.classes(called.body) | self.classes(called.orelse)
        if isinstance(called, ast.Call) and len(called.args) == 2:  # of a table, which has a default
            return self.classes(called.args[1])
        return {name_of(called)}


def _is_stored(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def letters(text: str) -> int:
    """How many letters it has."""
    return sum(map(str.isalpha, text))


def name_of(node: ast.AST) -> str:
    """The last name of a dotted one."""
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""
