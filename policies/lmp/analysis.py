"""What a program calls and nobody has defined."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Collection

from policies.lmp.errors import ProgramError

_BUILTINS = frozenset(dir(builtins))


def parse(code: str) -> ast.Module:
    """The syntax tree of a program.

    Raises:
        ProgramError: it is none; prose, most of the time.
    """
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        where = f" in line {line}" if line else ""
        raise ProgramError(
            f"that is no Python program ({getattr(error, 'msg', error)}{where}): {_begin(code)!r}; answer with code "
            "only"
        ) from error
    if not tree.body:
        raise ProgramError("the answer holds no code")
    return tree


def undefined_calls(code: str, known: Collection[str]) -> dict[str, str]:
    """Functions that a program calls by a plain name and neither it, `known`, nor Python defines: {name: signature}.

    The signature is the assignment where the call is the right side of one, `xs = spread(points, 0.05)`, else the call.
    Calls of attributes, such as `np.sum(...)`, never count. In the order in which they come in the text.
    """
    tree = parse(code)
    own = _bound(tree)
    found: dict[str, str] = {}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset)):
        assert isinstance(call.func, ast.Name)
        name = call.func.id
        if name not in own and name not in known and name not in _BUILTINS:
            found.setdefault(name, ast.unparse(call))
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name):
            name = node.value.func.id
            if found.get(name) == ast.unparse(node.value):
                found[name] = ast.unparse(node)
    return found


def function_source(code: str, name: str) -> str:
    """The definition of one function out of an answer, with the lines around it left out.

    Raises:
        ProgramError: the answer does not define it at its top level.
    """
    for node in parse(code).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return ast.unparse(node)
    raise ProgramError(f"the answer does not define the function {name}: {_begin(code)!r}")


def function_body(source: str) -> str:
    """The body of the first function of a program, with its parameters as assignments so that they count as known."""
    (function, *_) = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    parameters = [f"{name} = None" for name in (*_parameters(function.args), function.name)]
    return "\n".join([*parameters, *(ast.unparse(line) for line in function.body)])


def _bound(tree: ast.AST) -> set[str]:
    """Every name that a program binds anywhere: assigned, looped over, a parameter, a function."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef):
            names |= {node.name, *_parameters(node.args)}
        elif isinstance(node, ast.Lambda):
            names |= set(_parameters(node.args))
    return names


def _parameters(arguments: ast.arguments) -> list[str]:
    given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    given += [extra for extra in (arguments.vararg, arguments.kwarg) if extra]
    return [argument.arg for argument in given]


def _begin(code: str) -> str:
    text = " ".join(code.split())
    return f"{text[:120]} ..." if len(text) > 120 else text
