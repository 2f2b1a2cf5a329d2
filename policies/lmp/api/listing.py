"""The API as a prompt shows it: signatures and docstrings, taken from the functions themselves."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Mapping
from typing import Any


def api_listing(functions: Mapping[str, Callable[..., Any]]) -> str:
    """Definitions without bodies, in the given order."""
    return "\n\n".join(_stub(name, function) for name, function in functions.items())


def _stub(name: str, function: Callable[..., Any]) -> str:
    signature = inspect.signature(function)
    words = [f"{parameter}" for parameter in signature.parameters.values()]
    returned = signature.return_annotation
    result = "None" if returned in (inspect.Signature.empty, None) else _type(returned)
    text = f"def {name}({', '.join(words)}) -> {result}:".replace("'", "")
    about = textwrap.dedent(inspect.getdoc(function) or "").strip()
    body = textwrap.indent(f'"""{about}"""', "    ")
    return f"{text}\n{body}"


def _type(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
