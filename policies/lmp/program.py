"""Language-model programs: a command becomes a prompt, its completion a program, and that is run (Liang et al.,
"Code as Policies", ICRA 2023, section III)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from policies.lmp.analysis import function_body, function_source, parse, undefined_calls
from policies.lmp.domain import Domain, ProgramConfig, signature_of
from policies.lmp.errors import Interrupted, ProgramError
from policies.lmp.executor import Executor, MakeExecutor
from policies.lmp.language_models import LanguageModel, ModelSettings
from policies.lmp.language_models.base import Completion, program_text
from policies.lmp.log import Attempt, EpisodeLog, Fault
from policies.lmp.prompt import Prompt
from policies.lmp.sandbox import Outcome, Value
from robot.errors import TongsError

_GEOMETRY = "Point LineString LinearRing Polygon MultiPoint MultiLineString MultiPolygon GeometryCollection box"
_GEOMETRY += " affine_transform rotate scale skew translate linemerge nearest_points substring unary_union"
LIBRARY = frozenset(_GEOMETRY.split())
"""Functions that programs have by their own names without the API; those of `np` and `math` are attributes."""
_DEEPEST, _MOST_FUNCTIONS = 6, 20


@dataclass(frozen=True)
class Manners:
    """How programs are asked for and what is done when they fail.

    Attributes:
        repairs: how often in a command a program that failed is given back to the model with its error.
        hierarchical: undefined functions are asked for as well; otherwise calling one is an error (flat generation).
        dry_run: programs are asked for and logged, and nothing is run.
    """

    repairs: int = 2
    hierarchical: bool = True
    dry_run: bool = False


class Session:
    """The programs of a domain, which call one another, with one model and one executor.

    Args:
        domain: prompts and which functions they may use.
        functions: the whole API by name.
        model: asked for code.
        make_executor: makes what runs the code, from the functions that programs may call.
        manners: repairs and the like.
        prices: for the cost in the log.
        context: gives the context line for programs that are called without one, such as `objects = [...]`.
    """

    def __init__(
        self,
        domain: Domain,
        functions: Mapping[str, Callable[..., Any]],
        model: LanguageModel,
        make_executor: MakeExecutor,
        manners: Manners,
        prices: ModelSettings,
        context: Callable[[], str],
    ) -> None:
        for name in domain.config.api:
            if name not in functions:
                raise TongsError(f"domain {domain.name} asks for the API function {name!r}, which is none")
        self.domain, self.functions, self.model = domain, functions, model
        self.manners, self.prices, self.context = manners, prices, context
        self.log = EpisodeLog(domain.name, model.name)
        self.generated: dict[str, str] = {}
        self.fatal: TongsError | None = None
        self.withdrawn = False
        self.repairs_left = manners.repairs
        self.programs = {
            name: LanguageModelProgram(name, config, self)
            for name, config in domain.programs.items()
            if name != domain.config.generator
        }
        callable_by_programs = {
            name: program.function() for name, program in self.programs.items() if name != domain.config.entry
        }
        api = {name: functions[name] for name in domain.config.api} | callable_by_programs
        self.known = frozenset(api) | LIBRARY
        self.variable = tuple(callable_by_programs)
        self.executor: Executor = make_executor(api)

    def command(self, instruction: str) -> None:
        """Do what a person says. A command that was withdrawn by `stop` needs `withdrawn = False` before the next.

        Raises:
            ProgramError: it failed, after all repairs; the message is that of the last attempt.
            Interrupted: it was stopped.
            TongsError: the model cannot be asked.
        """
        self.repairs_left = self.manners.repairs
        self.programs[self.domain.config.entry](instruction)

    def begin(self) -> None:
        """A new episode: drop the history, variables and generated functions of all programs, and begin a new log."""
        self.log = EpisodeLog(self.domain.name, self.model.name)
        self.generated, self.fatal, self.withdrawn = {}, None, False
        for program in self.programs.values():
            program.forget()

    def stop(self) -> None:
        """Withdraw the command and end its program, from any thread."""
        self.withdrawn = True
        self.executor.stop()

    def close(self) -> None:
        self.executor.close()

    def base(self, program: str) -> str:
        """The prompt of a program up to what changes with the command."""
        return self.domain.base(program, self.functions, (*self.variable, *self.generated))

    def ask(self, prompt: Prompt, config: ProgramConfig) -> Completion:
        """The model's answer, noted in the log. Raises Interrupted if the command was withdrawn meanwhile."""
        completion = self.model.complete(prompt, config.stop, config.max_tokens, config.temperature)
        self.log.answered(prompt, completion, self.prices)
        if self.withdrawn:
            raise Interrupted
        return completion

    def attempt(self, prompt: Prompt, code: str) -> Attempt:
        """A new entry of the log."""
        attempt = Attempt(prompt.program, prompt.query, code)
        if self.log.commands:
            self.log.commands[-1].attempts.append(attempt)
        return attempt

    def repair(self) -> bool:
        """Whether there is one more try, which is then used up."""
        self.repairs_left -= 1
        return self.repairs_left >= 0

    # --- hierarchical generation

    def define(self, code: str, depth: int = 0) -> dict[str, str]:
        """Sources of the functions that a program calls and nobody has defined, each asked for once; those that it
        needs itself come before it.

        Raises:
            ProgramError: the model does not define what it was asked for, or goes on inventing functions.
        """
        found: dict[str, str] = {}
        wanted = undefined_calls(code, self.known | set(self.generated))
        if wanted and not (self.manners.hierarchical and self.domain.config.generator):
            raise ProgramError(f"the function {next(iter(wanted))} is not defined")
        for name, signature in wanted.items():
            if name in self.generated:
                continue  # one defined before it has brought it along
            if depth >= _DEEPEST or len(self.generated) >= _MOST_FUNCTIONS:
                raise ProgramError(f"{name} would be one function too many that is not defined; use those that are")
            source = self._function(name, signature)
            self.generated[name] = source
            children = self.define(function_body(source), depth + 1)
            found |= children | {name: source}
        return found

    def _function(self, name: str, signature: str) -> str:
        generator = self.domain.config.generator
        config = self.domain.programs[generator]
        prompt = Prompt(generator, self.base(generator), "", "", config.comment(signature))
        while True:
            completion = self.ask(prompt, config)
            code = program_text(completion.text)
            try:
                require_program(completion, code)
                return function_source(code, name)
            except ProgramError as error:
                attempt = self.attempt(prompt, code)
                attempt.error, attempt.fault = str(error), "model"
                if not self.repair():
                    raise
                prompt = prompt.after(code, str(error))


class LanguageModelProgram:
    """One language-model program. Calling it asks the model for code and runs that.

    Attributes:
        history: code that earlier commands have run, if the session is kept.
    """

    def __init__(self, name: str, config: ProgramConfig, session: Session) -> None:
        self.name, self.config, self._session = name, config, session
        self.history: list[str] = []

    def forget(self) -> None:
        self.history = []
        self._session.executor.forget(self.name)

    def prompt(self, query: str, context: str) -> Prompt:
        """What the model is given for a query."""
        history = "\n".join(self.history) if self.config.maintain_session else ""
        return Prompt(self.name, self._session.base(self.name), history, context, self.config.comment(query))

    def __call__(self, query: str, context: str = "", **arguments: Value) -> Value:
        """Do what the query says; gives back what the program returns, None if it returns nothing.

        Raises:
            ProgramError: no program for it ran to its end.
            Interrupted: it was stopped.
        """
        session = self._session
        context = context or session.context()
        prompt = self.prompt(query, context)
        while True:
            completion = session.ask(prompt, self.config)
            code = program_text(completion.text)
            attempt = session.attempt(prompt, code)
            before = set(session.generated)
            try:
                require_program(completion, code)
                attempt.functions = session.define(code)
                if session.manners.dry_run:
                    return None
                return self._run(code, context, arguments, attempt)
            except ProgramError as error:
                attempt.error, attempt.fault = str(error), attempt.fault or _fault(completion)
                for name in set(session.generated) - before:
                    del session.generated[name]
                if session.fatal is not None:
                    raise session.fatal from error
                if not session.repair():
                    raise
                prompt = self.prompt(query, session.context()).after(code, str(error))

    def _run(self, code: str, context: str, arguments: Mapping[str, Value], attempt: Attempt) -> Value:
        session, config = self._session, self.config
        program = f"{context}\n{code}" if config.include_context and context else code
        if not config.maintain_session:
            session.executor.forget(self.name)
        functions = "\n\n".join(session.generated.values())
        outcome = session.executor.run(f"{functions}\n\n{program}" if functions else program, arguments, self.name)
        attempt.ran(outcome)
        if session.fatal is not None:
            raise session.fatal
        if outcome.reason == "stopped" or session.withdrawn:
            raise Interrupted
        if not outcome.ok:
            attempt.fault = _whose(outcome)
            raise ProgramError(outcome.trace or outcome.error or outcome.reason)
        if config.has_return and config.return_val_name not in outcome.variables:
            raise ProgramError(f"the program has to assign its result to {config.return_val_name}, and did not")
        if config.maintain_session:
            self.history.append(program)
        return outcome.variables[config.return_val_name] if config.has_return else None

    def function(self) -> Callable[..., Value]:
        """This program as a function that other programs call, with its signature and docstring."""

        def call(*given: Any, **named: Any) -> Value:
            bound = signature.bind(*given, **named)
            try:
                return self(**bound.arguments)
            except TongsError as error:
                self._session.fatal = error
                self._session.stop()
                raise

        signature = signature_of(self.config)
        call.__name__ = call.__qualname__ = self.name
        call.__doc__ = self.config.about
        call.__signature__ = signature  # type: ignore[attr-defined]
        call.__annotations__ = {name: given.annotation for name, given in signature.parameters.items()}
        return call


def require_program(completion: Completion, code: str) -> None:
    """Raise a ProgramError unless an answer is a program."""
    if completion.finish == "refusal":
        said = " ".join(completion.text.split())[:200]
        raise ProgramError(f"the language model refuses{f': {said!r}' if said else ' and says nothing'}")
    if completion.finish == "length":
        raise ProgramError(
            f"the language model did not come to an end; its answer was cut off after {completion.completion_tokens} "
            "tokens"
        )
    tree = parse(code)
    if all(_is_word(node) for node in tree.body):
        raise ProgramError(f"the answer is no program: {' '.join(code.split())[:120]!r}; answer with code only")


def _is_word(node: Any) -> bool:
    """Whether a line is just a name or text, as prose of one word is."""
    import ast

    return isinstance(node, ast.Expr) and isinstance(node.value, (ast.Name, ast.Constant))


def _fault(completion: Completion) -> Fault:
    if completion.finish != "stop":
        return "model"
    try:
        require_program(completion, program_text(completion.text))
    except ProgramError:
        return "model"
    return "program"


def _whose(outcome: Outcome) -> Fault:
    """The robot's if the program ended with a request that could not be fulfilled, otherwise the program's."""
    last = outcome.calls[-1] if outcome.calls else None
    refused = last is not None and last.error is not None and last.error in (outcome.error or "")
    return "robot" if outcome.reason == "error" and refused else "program"
