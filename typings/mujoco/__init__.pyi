# MuJoCo's Python bindings carry no types; without this, pyright knows none of their names.
from typing import Any

def __getattr__(name: str) -> Any: ...
