"""Which Python a program may be written in: RestrictedPython's allow-list of syntax, and a little more on each side.

Stricter: no import, no class, no double underscore even in text, no name of a builtin that programs do not have. More
generous: annotations, `nonlocal`, and `pose[2] += 0.05`, which generated code is full of.
"""

import ast
import builtins
import io
import tokenize
from collections.abc import Set
from types import CodeType
from typing import Any

from RestrictedPython.transformer import IOPERATOR_TO_STR, RestrictingNodeTransformer, copy_locations

_ALL_BUILTINS = frozenset(dir(builtins))


class RefusedError(Exception):
    """A program that is not run; the message is one sentence with the line."""


def compile_program(source: str, filename: str, known: Set[str], own: Set[str]) -> tuple[CodeType, dict[str, str]]:
    """Check and compile a program.

    Args:
        filename: how frames of this program are recognised.
        known: builtins and functions that programs have.
        own: names that the session has assigned before.

    Returns:
        The code, and the source of each function defined at the top level.

    Raises:
        RefusedError: the program is no Python, or does what programs may not do.
    """
    _refuse_hidden_underscores(source)
    try:
        tree = ast.parse(source, filename)
    except SyntaxError as error:
        at = f"line {error.lineno}: " if error.lineno else ""
        raise RefusedError(f"{at}not valid Python: {error.msg}") from None
    except (ValueError, MemoryError, RecursionError) as error:
        raise RefusedError(f"not valid Python: {str(error) or 'nested too deep'}") from None
    functions = {
        node.name: ast.get_source_segment(source, node) or "" for node in tree.body if isinstance(node, ast.FunctionDef)
    }
    try:
        grammar = _Grammar(known, own | _assigned(tree))
        tree = grammar.visit(tree)
        if grammar.errors:
            message = grammar.errors[0]
            raise RefusedError(message[:1].lower() + message[1:])
        ast.fix_missing_locations(tree)
        return compile(tree, filename, "exec", dont_inherit=True), functions
    except (SyntaxError, ValueError) as error:
        raise RefusedError(f"not valid Python: {error}") from None
    except (MemoryError, RecursionError):
        raise RefusedError("not valid Python: nested too deep") from None


def _refuse_hidden_underscores(source: str) -> None:
    """The reference's rule (`exec_safe`): no double underscore, wherever it is, except in comments."""
    if "__" not in source:
        return
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type != tokenize.COMMENT and "__" in token.string:
                raise RefusedError(f"line {token.start[0]}: double underscores are not available to programs")
    except (tokenize.TokenError, SyntaxError):
        return  # the parser says better what is wrong


def _assigned(tree: ast.AST) -> set[str]:
    """Names that the program gives a value somewhere."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
    return names


class _Grammar(RestrictingNodeTransformer):
    """RestrictedPython's check and rewriting, which sends every attribute, item and iteration through a guard."""

    def __init__(self, known: Set[str], own: Set[str]) -> None:
        super().__init__()
        self._missing = _ALL_BUILTINS - known - own

    # stricter

    def visit_Import(self, node: ast.Import) -> Any:  # noqa: N802
        self.error(node, "import is not available to programs; np, math and shapely's functions are there already")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:  # noqa: N802
        self.error(node, "import is not available to programs; np, math and shapely's functions are there already")

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:  # noqa: N802
        self.error(node, "classes are not available to programs; use functions and dictionaries")

    def visit_With(self, node: ast.With) -> Any:  # noqa: N802
        self.error(node, "with is not available to programs")

    def visit_TemplateStr(self, node: ast.AST) -> Any:  # noqa: N802
        self.error(node, "template strings are not available to programs; use f-strings")

    def visit_Constant(self, node: ast.Constant) -> Any:  # noqa: N802
        if isinstance(node.value, str) and "__" in node.value:
            self.error(node, "double underscores are not available to programs, in text neither")
        elif isinstance(node.value, bytes):
            self.error(node, "bytes are not available to programs")
        return super().visit_Constant(node)

    def visit_Name(self, node: ast.Name) -> Any:  # noqa: N802
        if isinstance(node.ctx, ast.Load) and node.id in self._missing:
            self.error(node, f"{node.id} is not available to programs")
        if node.id in ("print", "printed") and isinstance(node.ctx, ast.Load):
            return node  # print is a function here, without RestrictedPython's collector in each function
        return super().visit_Name(node)

    def visit_Attribute(self, node: ast.Attribute) -> Any:  # noqa: N802
        if not isinstance(node.ctx, ast.Load):
            self.error(node, f"the attribute {node.attr} cannot be assigned by programs")
        return super().visit_Attribute(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> Any:  # noqa: N802
        handler = super().visit_ExceptHandler(node)
        if node.type is None:  # a bare except would catch what ends a program
            node.type = ast.copy_location(ast.Name("_exception_", ast.Load()), node)
        return handler

    # more generous

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:  # noqa: N802
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        plain = ast.Assign(targets=[node.target], value=node.value)
        copy_locations(plain, node)  # pyright: ignore[reportArgumentType]
        return self.visit_Assign(plain)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> Any:  # noqa: N802
        for name in node.names:
            self.check_name(node, name)  # pyright: ignore[reportArgumentType]
        return node

    def visit_Global(self, node: ast.Global) -> Any:  # noqa: N802
        for name in node.names:
            self.check_name(node, name)  # pyright: ignore[reportArgumentType]
        return node

    def visit_MatMult(self, node: ast.MatMult) -> Any:  # noqa: N802
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:  # noqa: N802
        """`a[i] += b` becomes `_inplaceitem_("+=", a, i, b)`, with `a` and `i` evaluated once; RestrictedPython has
        no rewriting for it. A slice may stand there as a value: only the grammar ties it to brackets, not the tree."""
        if not isinstance(node.target, ast.Subscript):
            return super().visit_AugAssign(node)
        call = ast.Call(
            func=ast.Name("_inplaceitem_", ast.Load()),
            args=[
                ast.Constant(IOPERATOR_TO_STR[type(node.op)]),
                self.visit(node.target.value),
                self.visit(node.target.slice),
                self.visit(node.value),
            ],
            keywords=[],
        )
        statement = ast.Expr(call)
        copy_locations(statement, node)  # pyright: ignore[reportArgumentType]
        return statement
