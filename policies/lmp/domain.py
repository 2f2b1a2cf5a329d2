"""A domain: the language-model programs for one kind of scene, their prompts, and the API that they may use."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from policies.configuration import configuration
from policies.lmp.api.listing import api_listing
from robot.errors import TongsError, unknown
from robot.interface import SceneObject

IMPORTS = "{variable_vars_imports}"
"""In a prompt's text: the line that imports the other language-model programs and the functions generated so far."""
API = "{api}"
"""In a prompt's text: the signatures and docstrings of the domain's API."""


@dataclass(frozen=True)
class ProgramConfig:
    """One language-model program, in the terms of Code as Policies.

    Attributes:
        prompt_text: file of its prompt.
        about: what it is for, as the other programs are told.
        max_tokens, temperature: of its completions.
        query_prefix, query_suffix: around the query, so that it is a comment.
        stop: strings that end a completion.
        maintain_session: the code of earlier commands is in the prompt, and its variables stay.
        include_context: the context line is run with the program.
        has_return: it gives back what its code assigns to `return_val_name`.
        return_val_name: such as `ret_val`.
        arguments: further arguments by name, with their types ("array", "list" of text, "number", "text").
    """

    prompt_text: str
    about: str = ""
    max_tokens: int = 512
    temperature: float = 0.0
    query_prefix: str = "# "
    query_suffix: str = "."
    stop: tuple[str, ...] = ("#", "objects = [")
    maintain_session: bool = False
    include_context: bool = True
    has_return: bool = False
    return_val_name: str = "ret_val"
    arguments: Mapping[str, str] = field(default_factory=dict)

    def comment(self, query: str) -> str:
        """The query as the comment that asks for code; a question keeps its own mark."""
        query = " ".join(query.split()).rstrip(".")
        return f"{self.query_prefix}{query}{'' if query.endswith('?') else self.query_suffix}"


@dataclass(frozen=True)
class DomainConfig:
    """What the file `domain.yaml` of a domain says.

    Attributes:
        about: one sentence.
        entry: the program that commands go to.
        generator: the program that writes functions which others call without defining them; "" for none.
        api: names of the API functions that programs may use.
        lmps: the language-model programs by name.
    """

    about: str
    entry: str
    api: tuple[str, ...]
    lmps: Mapping[str, Mapping[str, Any]]
    generator: str = ""


@dataclass(frozen=True)
class Domain:
    """A domain, read from its folder."""

    name: str
    config: DomainConfig
    programs: Mapping[str, ProgramConfig]
    texts: Mapping[str, str]

    def base(self, program: str, functions: Mapping[str, Callable[..., Any]], variable: Iterable[str]) -> str:
        """The prompt of a program without what changes from command to command.

        Args:
            program: its name.
            functions: the API.
            variable: names of the other programs and of the functions generated so far.
        """
        names = ", ".join(variable)
        text = self.texts[program].replace(IMPORTS, f"from utils import {names}" if names else "")
        return text.replace(API, api_listing({name: functions[name] for name in self.config.api})).rstrip("\n")


def domain_names() -> list[str]:
    """The domains that come with Tongs."""
    return sorted(folder.name for folder in _root().iterdir() if (folder / "domain.yaml").is_file())


def find_domain(name: str) -> Domain:
    """A domain by name, or by the path of a folder of your own.

    Raises:
        TongsError: there is none, or its files do not fit together.
    """
    folder = Path(name).expanduser() if "/" in name else _root() / name
    if not (folder / "domain.yaml").is_file():
        if "/" in name:
            raise TongsError(f"{name} is no domain: it has no domain.yaml")
        raise unknown("domain", name, domain_names())
    try:
        fields = yaml.safe_load((folder / "domain.yaml").read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TongsError(f"cannot read {folder / 'domain.yaml'}: {' '.join(str(error).split())}") from error
    if not isinstance(fields, dict):
        raise TongsError(f"{folder / 'domain.yaml'} has to be a mapping with about, entry, api and lmps")
    missing = [key for key in ("about", "entry", "api", "lmps") if key not in fields]
    if missing:
        raise TongsError(f"{folder / 'domain.yaml'} lacks {missing[0]}")
    config = configuration(DomainConfig, fields)
    programs = {lmp: configuration(ProgramConfig, settings) for lmp, settings in config.lmps.items()}
    for role in (config.entry, *([config.generator] if config.generator else [])):
        if role not in programs:
            raise unknown(f"language-model program of {name}", role, list(programs))
    texts = {}
    for lmp, settings in programs.items():
        file = folder / settings.prompt_text
        if not file.is_file():
            raise TongsError(f"the prompt of {lmp} is missing: {file}")
        texts[lmp] = file.read_text(encoding="utf-8")
    return Domain(name, config, programs, texts)


def domain_for(objects: Mapping[str, SceneObject]) -> Domain:
    """The domain of ours that fits what is in the scene: water before drawers and doors before the table-top."""
    if any(thing.fill is not None for thing in objects.values()):
        return find_domain("pouring")
    return find_domain("drawers" if any(thing.articulation for thing in objects.values()) else "tabletop")


_TYPES: Mapping[str, Any] = {"array": np.ndarray, "list": list[str], "number": float, "text": str}


def argument_type(word: str) -> Any:
    """The type of an argument that a program's configuration names by a word."""
    if word not in _TYPES:
        raise unknown("type of an argument", word, list(_TYPES))
    return _TYPES[word]


def signature_of(config: ProgramConfig) -> inspect.Signature:
    """What a program is called with by other programs: the query, a context, its further arguments by name."""
    kinds = inspect.Parameter
    parameters = [
        kinds("query", kinds.POSITIONAL_OR_KEYWORD, annotation=str),
        kinds("context", kinds.POSITIONAL_OR_KEYWORD, default="", annotation=str),
        *(kinds(name, kinds.KEYWORD_ONLY, annotation=argument_type(word)) for name, word in config.arguments.items()),
    ]
    return inspect.Signature(parameters)


def _root() -> Path:
    return Path(str(resources.files("policies.lmp"))) / "prompts"
