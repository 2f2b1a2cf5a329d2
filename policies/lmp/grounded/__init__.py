"""Grounded Decoding (arXiv 2303.00855): words that a language model finds likely and the world finds possible.

    words = CausalLanguage(model, tokenizer)
    can = Affordance(lambda options, state: value_head(options, state), options=skills)
    chosen = decode(words, "Task: clear the table\\nStep 1:", [can, Safety(("knife",))], state, beams=3)
    chosen.text, chosen.tokens

`causal_language` and `option_language` make of a configured language model what is needed. The baseline is SayCan's
scoring of whole options, `score_options`.
"""

from policies.lmp.grounded.decoding import CausalLanguage, Decoded, GroundedLogitsProcessor, TokenScore, decode
from policies.lmp.grounded.grounders import Affordance, Grounder, OptionValue, Preference, PrefixScore, Safety, squash
from policies.lmp.grounded.models import causal_language, decodes_tokens, option_language, planner_prompt
from policies.lmp.grounded.options import EndpointOptions, LanguageOptions, OptionLanguage, Scored, score_options
from policies.lmp.grounded.planning import Plan, Step, plan

__all__ = [
    "Affordance",
    "CausalLanguage",
    "Decoded",
    "EndpointOptions",
    "GroundedLogitsProcessor",
    "Grounder",
    "LanguageOptions",
    "OptionLanguage",
    "OptionValue",
    "Plan",
    "PrefixScore",
    "Preference",
    "Safety",
    "Scored",
    "Step",
    "TokenScore",
    "causal_language",
    "decode",
    "decodes_tokens",
    "option_language",
    "plan",
    "planner_prompt",
    "score_options",
    "squash",
]
