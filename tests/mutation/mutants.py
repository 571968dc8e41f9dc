"""Small changes of a module's source, one at a time, each a mistake that somebody could make."""

from __future__ import annotations

import ast
import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitAnd,
    ast.And: ast.Or, ast.Or: ast.And,
    # The boundary first; an equality is reversed.
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        line: Number of the first line that changes, from 1.
        kind: What was changed, e.g. `comparison`.
        old: Source of what is replaced.
        new: Source of the replacement.
        start: Offset of `old` in the source's bytes.
    """

    line: int
    kind: str
    old: str
    new: str
    start: int

    def apply(self, source: str) -> str:
        """The source with this change."""
        data, old = source.encode(), self.old.encode()
        assert data[self.start : self.start + len(old)] == old
        return (data[: self.start] + self.new.encode() + data[self.start + len(old) :]).decode()

    def diff(self, source: str) -> tuple[str, str]:
        """The changed lines before and after, without their indentation; of a long statement its first line."""
        before, after = source.splitlines(), self.apply(source).splitlines()
        return before[self.line - 1].strip(), after[self.line - 1].strip()


def mutants(source: str) -> list[Mutant]:
    """All changes of a module's source that still compile, in order.

    Annotations, docstrings, strings, decorators and what is raised are left as they are: a message may be reworded.
    """
    finder = _Finder(source)
    finder.visit(ast.parse(source))
    found = []
    for mutant in finder.found:
        try:
            compile(mutant.apply(source), "mutant", "exec")
        except SyntaxError:
            continue
        found.append(mutant)
    return sorted(set(found), key=lambda each: (each.start, each.kind, each.new))


COMMUTATIVE = {"max", "min", "maximum", "minimum", "equal"}
"""Functions whose two arguments may change places."""


class _Finder(ast.NodeVisitor):
    def __init__(self, source: str) -> None:
        self.data = source.encode()
        self.offsets = [0]
        for line in source.encode().splitlines(keepends=True):
            self.offsets.append(self.offsets[-1] + len(line))
        self.found: list[Mutant] = []

    def _replace(self, node: Any, kind: str, new: str) -> None:
        start = self.offsets[node.lineno - 1] + node.col_offset
        end = self.offsets[node.end_lineno - 1] + node.end_col_offset
        line = node.lineno
        old, fresh = self.data[start:end].decode(), new
        # The number is of the first line that really changes.
        for a, b in zip(old.splitlines(), fresh.splitlines(), strict=False):
            if a != b:
                break
            line += 1
        self.found.append(Mutant(line, kind, old, new, start))

    def _expression(self, node: ast.expr, kind: str, **changes: Any) -> None:
        """Replaces an expression by itself with some fields changed."""
        changed = copy.copy(node)
        for name, value in changes.items():
            setattr(changed, name, value)
        if ast.unparse(changed) == ast.unparse(node):
            return  # two equal arguments that changed places
        self._replace(node, kind, f"({ast.unparse(changed)})")

    # ------------------------------------------------------------ expressions

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in OPERATORS:
            self._expression(node, "operator", op=OPERATORS[type(node.op)]())
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self._expression(node, "operator", op=OPERATORS[type(node.op)]())
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for index, op in enumerate(node.ops):
            ops = [OPERATORS[type(op)]() if n == index else each for n, each in enumerate(node.ops)]
            self._expression(node, "comparison", ops=ops)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, (ast.USub, ast.Not, ast.Invert)):
            self._replace(node, "sign or negation", f"({ast.unparse(node.operand)})")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._replace(node, "constant", str(not value))
        elif isinstance(value, int):
            self._replace(node, "constant", str(value + 1))
        elif isinstance(value, float):
            self._replace(node, "constant", repr(value * 1.5 if value else 0.5))

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._expression(node, "condition", body=node.orelse, orelse=node.body)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = ast.unparse(node.func).rpartition(".")[2]
        if (
            len(node.args) >= 2
            and name not in COMMUTATIVE
            and not any(isinstance(each, ast.Starred) for each in node.args[:2])
        ):
            self._expression(node, "arguments", args=[node.args[1], node.args[0], *node.args[2:]])
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._replace(test, "condition", f"(not ({ast.unparse(test)}))")
        self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Texts are left as they are."""

    # ------------------------------------------------------------ statements

    def visit_If(self, node: ast.If | ast.While) -> None:
        if ast.unparse(node.test) == "TYPE_CHECKING":
            return
        self._replace(node.test, "condition", f"(not ({ast.unparse(node.test)}))")
        self.generic_visit(node)

    visit_While = visit_If

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            return  # a docstring
        self._replace(node, "statement", "pass")
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._replace(node, "statement", "pass")
        if type(node.op) in OPERATORS:
            changed = copy.copy(node)
            changed.op = OPERATORS[type(node.op)]()  # type: ignore[assignment]
            self._replace(node, "operator", ast.unparse(changed))
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        self._replace(node, "statement", "pass")

    def visit_Continue(self, node: ast.Continue | ast.Break) -> None:
        self._replace(node, "statement", "pass")

    visit_Break = visit_Continue

    # ------------------------------------------------------------ what is left as it is

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        for each in _list(node.body):
            self.visit(each)

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _function

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for each in node.body:
            self.visit(each)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        if "Literal" not in ast.unparse(node.value):
            self.visit(node.value)
            for target in node.targets:
                self.visit(target)


def _list(body: Any) -> Iterator[ast.AST]:
    yield from body if isinstance(body, list) else [body]
