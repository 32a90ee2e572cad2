"""Small mistakes in a module's arithmetic: each a copy of its syntax tree with one node changed."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
COMPARISONS = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
}  # fmt: skip
DROPPED = {
    "clamp", "clip", "abs", "square", "sqrt", "rsqrt", "exp", "expm1", "log", "log10", "log1p", "tanh", "softmax",
    "detach", "rint", "round", "min", "max", "minimum", "maximum", "float", "mean",
}  # fmt: skip
"""Calls that are replaced by what they are called on or, of a function, by its first argument."""


GUARDS = ("strict", "copy", "non_blocking")
"""Keywords of calls that change no number."""


@dataclass(frozen=True)
class Change:
    """A mutant.

    Args:
        function: The qualified name of the function or method that it is in; empty for a constant of the module.
        line: Where.
        before: The source of the changed expression or statement.
        after: What takes its place.
        number: Of the equal changes in this function, from 0.
        tree: The module.
    """

    function: str
    line: int
    before: str
    after: str
    number: int
    tree: ast.Module

    @property
    def name(self) -> str:
        """What calls it the same when lines move."""
        again = f" ({self.number + 1})" if self.number else ""
        return f"{self.function or 'constant'}: {self.before} -> {self.after}{again}"


def changes(source: str) -> Iterator[Change]:
    """Every change of a module, function by function, in the order of the source."""
    tree = ast.parse(source)
    for function, body in _functions(tree):
        seen: dict[tuple[str, str], int] = {}
        for holder, field, index, node in _nodes(body):
            for after in _replacements(node):
                words = ast.unparse(node), ast.unparse(after) if after is not None else "(gone)"
                number = seen[words] = seen.get(words, -1) + 1
                value = after if after is not None else ast.Pass()
                yield Change(function, node.lineno, *words, number, _with(tree, holder, field, index, value))


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
            yield from ((f"{node.name}.{part.name}", part) for part in methods)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.BinOp):
            yield "", node


def _nodes(root: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Every expression and statement below, and where it is held; no annotations, defaults or errors."""
    for field, value in ast.iter_fields(root):
        if field in ("annotation", "returns", "args", "decorator_list") and not isinstance(root, ast.Call):
            continue
        for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(node, ast.AST) or isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr):
                continue
            if isinstance(node, ast.keyword) and node.arg in GUARDS:
                continue
            yield root, field, index, node
            yield from _nodes(node)


def _replacements(node: ast.AST) -> Iterator[ast.AST | None]:
    """What may take a node's place; None takes a statement away."""
    if isinstance(node, ast.BinOp):
        if type(node.op) in OPERATORS:
            yield ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)
        if isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div):
            yield node.left
        if isinstance(node.op, ast.Add):
            yield node.right
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not | ast.Invert):
        yield node.operand
    elif isinstance(node, ast.Compare):
        for kind in COMPARISONS.get(type(node.ops[0]), ()):
            yield ast.Compare(node.left, [kind(), *node.ops[1:]], node.comparators)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.IfExp):
        yield from (node.body, node.orelse)
    elif isinstance(node, ast.If) and not isinstance(node.test, ast.Compare):
        yield ast.If(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1 if isinstance(node.value, int) else 1.5 * node.value or 1.0)
    elif isinstance(node, ast.Call):
        yield from _without(node)
    elif isinstance(node, ast.AugAssign) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield None


def _without(call: ast.Call) -> Iterator[ast.AST]:
    function = call.func
    if isinstance(function, ast.Attribute) and function.attr in DROPPED:
        is_of_a_module = isinstance(function.value, ast.Name) and function.value.id in ("np", "torch", "math", "F")
        if not is_of_a_module:
            yield function.value
        elif call.args:
            yield call.args[0]
    elif isinstance(function, ast.Name) and function.id in DROPPED and len(call.args) > 1:
        yield call.args[0]


def _with(tree: ast.Module, holder: ast.AST, field: str, index: int | None, value: ast.AST) -> ast.Module:
    """A copy of the tree in which ``value`` stands in that place."""
    memory: dict[int, ast.AST] = {}
    whole = copy.deepcopy(tree, memory)
    place = memory[id(holder)]
    new = ast.copy_location(copy.deepcopy(value), holder if hasattr(holder, "lineno") else value)
    if index is None:
        setattr(place, field, new)
    else:
        getattr(place, field)[index] = new
    return ast.fix_missing_locations(whole)
