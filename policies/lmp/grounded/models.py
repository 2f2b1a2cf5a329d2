"""Language models, chosen by configuration, as grounded decoding and the scoring of options need them."""

from importlib import resources

from policies.lmp.grounded.decoding import CausalLanguage
from policies.lmp.grounded.options import LanguageOptions, OptionLanguage
from policies.lmp.language_models.base import LanguageModel
from policies.lmp.language_models.embedded import EmbeddedModel, planner_question
from policies.lmp.language_models.in_process import InProcessModel
from policies.lmp.language_models.openai_endpoint import OpenAIEndpoint
from robot.errors import TongsError


def decodes_tokens(model: LanguageModel) -> bool:
    """Whether its next-token probabilities are at hand: it runs in this process."""
    return isinstance(model, (EmbeddedModel, InProcessModel))


def causal_language(model: LanguageModel) -> CausalLanguage:
    """A model in this process, for decoding token by token.

    Raises:
        TongsError: it does not run in this process.
    """
    if not isinstance(model, (EmbeddedModel, InProcessModel)):
        raise TongsError(
            f"decoding token by token needs a language model in this process (lmp.model.backend=embedded or "
            f"transformers), and {model.name} is none; options can be scored with an endpoint too"
        )
    return CausalLanguage(model.model, model.tokenizer)


def option_language(model: LanguageModel) -> OptionLanguage:
    """A model that says how likely whole options are: one in this process, or an endpoint that gives log-probabilities.

    Raises:
        TongsError: it is neither.
    """
    if isinstance(model, OpenAIEndpoint):
        return model.options()
    if not decodes_tokens(model):
        raise TongsError(
            f"{model.name} gives no log-probabilities, without which options cannot be scored; take lmp.model.backend="
            "embedded, transformers, or openai with lmp.model.completion=true"
        )
    return LanguageOptions(causal_language(model))


def planner_prompt(model: LanguageModel, task: str, objects: str = "") -> str:
    """What a plan's first step follows: for the embedded model the question that it was taught, for others examples.

    Args:
        model: that goes on from it.
        task: what is asked for.
        objects: a line such as "objects = ['red block']"; "" to keep from it what is there.
    """
    if isinstance(model, EmbeddedModel):
        return planner_question(task, objects)
    examples = (resources.files("policies.lmp") / "prompts" / "planner" / "examples.txt").read_text(encoding="utf-8")
    return "\n".join([examples.rstrip("\n") + "\n", *([objects] if objects else []), f"Task: {task}\n"])
