"""Language models behind one interface: endpoints, models in this process, recordings, and the one that ships."""

from policies.lmp.language_models.base import Completion, LanguageModel
from policies.lmp.language_models.settings import BACKENDS, ModelSettings, make_model

__all__ = ["BACKENDS", "Completion", "LanguageModel", "ModelSettings", "make_model"]
