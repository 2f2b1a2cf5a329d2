"""Loading a LeRobot checkpoint so that nothing is missing: where LeRobot logs or passes over, this raises."""

# pyright: reportMissingImports=false

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policies.base import require_no_others
from policies.lerobot.folder import CONFIG, INSTALL, POSTPROCESSOR, PREPROCESSOR, WEIGHTS, read_json
from robot.errors import TongsError, unknown

if TYPE_CHECKING:
    from lerobot.configs.policies import PreTrainedConfig
    from lerobot.policies.pretrained import PreTrainedPolicy
    from lerobot.processor import PolicyProcessorPipeline

SAMPLING = {"act": (), "diffusion": ("num_inference_steps", "noise_scheduler_type"), "smolvla": ("num_steps",)}
"""Fields of each family's configuration that say how actions are sampled from a trained network."""
_STATISTICS = {
    "MEAN_STD": ("mean", "std"),
    "MIN_MAX": ("min", "max"),
    "QUANTILES": ("q01", "q99"),
    "QUANTILE10": ("q10", "q90"),
}


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in memory.

    Attributes:
        policy: the network, in evaluation mode on its device.
        preprocessor: what turns a batch of observations into what the network takes.
        postprocessor: what turns actions (N, A) of the network into physical ones.
        renamed: {key: feature} that the preprocessor renames.
        inputs: {feature: shape} that the network reads.
        sampling: the settings of SAMPLING that are in force.
    """

    policy: PreTrainedPolicy
    preprocessor: PolicyProcessorPipeline
    postprocessor: PolicyProcessorPipeline
    renamed: Mapping[str, str]
    inputs: Mapping[str, tuple[int, ...]]
    sampling: dict[str, Any]


def load(folder: Path, device: str, sampling: Mapping[str, Any]) -> Loaded:
    """Everything in a checkpoint folder.

    Raises:
        TongsError: LeRobot is not installed, a file is missing or damaged, weights or statistics do not fit the
            configuration, or the policy has no such sampling setting.
    """
    try:
        import lerobot  # noqa: F401
    except ImportError:
        raise TongsError(INSTALL) from None
    for name in (CONFIG, WEIGHTS, PREPROCESSOR, POSTPROCESSOR):
        if not (folder / name).is_file():
            old = name in (PREPROCESSOR, POSTPROCESSOR)
            remedy = "; LeRobot's migrate_policy_normalization makes one for a checkpoint of before 0.4" if old else ""
            raise TongsError(f"{folder} is incomplete: it has no {name}{remedy}")
    config = _configuration(folder, device, sampling)
    policy = _network(folder, config)
    preprocessor, postprocessor = _pipelines(folder, config)
    _require_statistics(folder, config, preprocessor, postprocessor)
    unused = [f"observation.images.empty_camera_{i}" for i in range(getattr(config, "empty_cameras", 0))]
    inputs = {key: tuple(of.shape) for key, of in (config.input_features or {}).items() if key not in unused}
    if config.action_feature is None:
        raise TongsError(f"{folder / CONFIG} declares no action among its output_features")
    names = SAMPLING[config.type]
    return Loaded(
        policy, preprocessor, postprocessor, _renamed(preprocessor), inputs, {n: getattr(config, n) for n in names}
    )


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """LeRobot's messages go nowhere, its errors become ours. Its option parser ends the program on bad input."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except TongsError:
        raise
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split())[:500]
        raise TongsError(f"{what}: {type(error).__name__} {reason}") from error


def _configuration(folder: Path, device: str, sampling: Mapping[str, Any]) -> PreTrainedConfig:
    import torch

    family = read_json(folder / CONFIG)["type"]
    for name in sampling:
        if name not in SAMPLING[family]:
            raise unknown("sampling setting", name, SAMPLING[family])
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise TongsError(f"lerobot.device={device} needs a GPU that torch can use, and there is none")
    with _told(f"LeRobot cannot read {folder / CONFIG}"):
        import lerobot.policies.factory  # noqa: F401  makes the families known
        from lerobot.configs.policies import PreTrainedConfig

        changes = [f"--device={device}", *(f"--{name}={value}" for name, value in sampling.items())]
        config = PreTrainedConfig.from_pretrained(folder, cli_overrides=changes)
    if config.use_peft:
        raise TongsError(f"{folder} holds only a PEFT adapter; merge it into its base policy first")
    if hasattr(config, "pretrained_backbone_weights"):
        config.pretrained_backbone_weights = None  # type: ignore[attr-defined]  # the checkpoint's own come instead
    return config


def _network(folder: Path, config: PreTrainedConfig) -> PreTrainedPolicy:
    from safetensors.torch import load_model

    with _told(f"LeRobot cannot build the {config.type} policy of {folder}"):
        from lerobot.policies.factory import get_policy_class

        policy = get_policy_class(config.type)(config)  # type: ignore[call-arg]
    with _told(f"{folder / WEIGHTS} does not fit {CONFIG}"):
        missing, unexpected = map(sorted, load_model(policy, folder / WEIGHTS, strict=False, device=str(config.device)))
    require_no_others(missing, unexpected, f"{folder / WEIGHTS} does not fit {CONFIG}")
    return policy.to(config.device).eval()  # type: ignore[arg-type]


def _pipelines(folder: Path, config: PreTrainedConfig) -> tuple[PolicyProcessorPipeline, PolicyProcessorPipeline]:
    with _told(f"LeRobot cannot load the pre- and post-processors of {folder}"):
        from lerobot.policies.factory import make_pre_post_processors

        overrides = {"device_processor": {"device": str(config.device)}}
        return make_pre_post_processors(config, str(folder), preprocessor_overrides=overrides)


def _renamed(preprocessor: PolicyProcessorPipeline) -> dict[str, str]:
    from lerobot.processor import RenameObservationsProcessorStep

    steps: list[Any] = [step for step in preprocessor.steps if isinstance(step, RenameObservationsProcessorStep)]
    return {key: feature for step in steps for key, feature in step.rename_map.items()}


def _require_statistics(
    folder: Path,
    config: PreTrainedConfig,
    preprocessor: PolicyProcessorPipeline,
    postprocessor: PolicyProcessorPipeline,
) -> None:
    """Every feature that the configuration wants normalised must have its statistics where it is normalised.

    LeRobot's own normaliser leaves a feature without statistics as it is, without a word.
    """
    from lerobot.configs.types import FeatureType
    from lerobot.processor import NormalizerProcessorStep, UnnormalizerProcessorStep

    for features, pipeline, kind, file in (
        (config.input_features, preprocessor, NormalizerProcessorStep, PREPROCESSOR),
        (config.output_features, postprocessor, UnnormalizerProcessorStep, POSTPROCESSOR),
    ):
        steps: list[Any] = [step for step in pipeline.steps if isinstance(step, kind)]
        for key, feature in (features or {}).items():
            mode = config.normalization_mapping.get(FeatureType(feature.type).value)  # type: ignore[attr-defined]
            if mode is None or mode.value == "IDENTITY" or key.startswith("observation.images.empty_camera_"):
                continue
            doing = [step for step in steps if key in step.features and step.norm_map.get(feature.type) == mode]
            if len(doing) != 1:
                raise TongsError(
                    f"{folder / CONFIG} wants {key!r} normalised by {mode.value}, "
                    f"and {len(doing)} steps of {file} do so"
                )
            for name in _STATISTICS[mode.value]:
                values = (doing[0].stats or {}).get(key, {}).get(name)
                if values is None:
                    raise TongsError(f"{folder}: statistic {name!r} of {key!r} is missing, and {mode.value} needs it")
                if not np.isfinite(np.asarray(values)).all():
                    raise TongsError(f"{folder}: statistic {name!r} of {key!r} holds NaN or infinity")
