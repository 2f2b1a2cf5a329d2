"""Tiny LeRobot policies with random weights, saved as LeRobot itself saves them; nothing comes from the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robot.interface import EE_DELTA, Observation, RobotSpec

SIZE = (32, 32)
ROBOT = RobotSpec({"front": (64, 64), "wrist": (64, 64)}, ("z", "y", "x", "grip", "goal"), EE_DELTA)
STATE_NAMES = ("x", "y", "z")
GOAL_NAMES = ("goal",)
INSTRUCTIONS = ("open the left drawer", "open the right drawer halfway", "open the drawer", "open")
INFO = {
    "robot_type": "panda_mujoco",
    "fps": 10,
    "features": {
        "observation.state": {"dtype": "float32", "shape": [3], "names": list(STATE_NAMES)},
        "observation.environment_state": {"dtype": "float32", "shape": [1], "names": list(GOAL_NAMES)},
        "action": {"dtype": "float32", "shape": [7], "names": list(EE_DELTA.names)},
    },
}
ACT: dict[str, Any] = {
    "chunk_size": 6,
    "n_action_steps": 4,
    "dim_model": 32,
    "n_heads": 2,
    "dim_feedforward": 32,
    "n_encoder_layers": 1,
    "n_vae_encoder_layers": 1,
    "latent_dim": 8,
    "pretrained_backbone_weights": None,
}
DIFFUSION: dict[str, Any] = {
    "horizon": 8,
    "n_action_steps": 4,
    "down_dims": (16, 32),
    "diffusion_step_embed_dim": 16,
    "n_groups": 4,
    "spatial_softmax_num_keypoints": 4,
    "num_train_timesteps": 10,
    "num_inference_steps": 3,
}
SMOLVLA: dict[str, Any] = {
    "num_vlm_layers": 2,
    "chunk_size": 6,
    "n_action_steps": 4,
    "resize_imgs_with_padding": SIZE,
    "num_steps": 3,
}


def features(goal: bool = True) -> dict[str, Any]:
    from lerobot.configs.types import FeatureType, PolicyFeature

    inputs = {
        "observation.images.front": PolicyFeature(FeatureType.VISUAL, (3, *SIZE)),
        "observation.images.wrist": PolicyFeature(FeatureType.VISUAL, (3, *SIZE)),
        "observation.state": PolicyFeature(FeatureType.STATE, (len(STATE_NAMES),)),
    }
    if goal:
        inputs["observation.environment_state"] = PolicyFeature(FeatureType.ENV, (1,))
    outputs = {"action": PolicyFeature(FeatureType.ACTION, (EE_DELTA.dimension,))}
    return {"input_features": inputs, "output_features": outputs}


def statistics() -> dict[str, dict[str, torch.Tensor]]:
    """Such that a random network's actions stay within the bounds of the action space."""
    picture = {"mean": torch.full((3, 1, 1), 0.4), "std": torch.full((3, 1, 1), 0.3)}
    middle = (torch.tensor(EE_DELTA.low) + torch.tensor(EE_DELTA.high)) / 2
    span = (torch.tensor(EE_DELTA.high) - torch.tensor(EE_DELTA.low)) / 2
    return {
        "observation.images.front": picture,
        "observation.images.wrist": picture,
        "observation.state": {
            "mean": torch.tensor([0.1, 0.2, 0.3]),
            "std": torch.tensor([1.0, 2.0, 0.5]),
            "min": torch.tensor([-3.0, -4.0, -2.0]),
            "max": torch.tensor([3.0, 5.0, 4.0]),
        },
        "action": {"mean": middle, "std": 0.05 * span, "min": middle - 0.5 * span, "max": middle + 0.5 * span},
    }


def tiny_vlm(folder: Path) -> Path:
    """A SmolVLM of a few thousand weights with a vocabulary of a few words, as transformers saves one."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, SmolVLMConfig, SmolVLMImageProcessor, SmolVLMProcessor
    from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor

    special = {
        "image_token": "<image>",
        "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>",
        "end_of_utterance_token": "<end_of_utterance>",
    }
    words = ["<pad>", "<unk>", "<s>", "</s>", *special.values(), "open", "the", "left", "right", "drawer", "halfway"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens=special,
    )
    processor = SmolVLMProcessor(SmolVLMImageProcessor(), fast, SmolVLMVideoProcessor(), image_seq_len=4)
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    config = SmolVLMConfig(
        image_token_id=words.index("<image>"),
        pad_token_id=0,
        scale_factor=2,
        vision_config=vision | {"image_size": SIZE[0], "patch_size": 8},
        text_config=text | heads | {"vocab_size": len(words), "pad_token_id": 0},
    )
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def save(folder: Path, family: str, info: dict[str, Any] | None = INFO, goal: bool = True, **changes: Any) -> Path:
    """A checkpoint of a family with random weights; `info` describes the dataset that it pretends to come from."""
    from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors

    settings = {"act": ACT, "diffusion": DIFFUSION, "smolvla": SMOLVLA}[family] | features(goal) | changes
    if family == "smolvla":
        settings["vlm_model_name"] = str(tiny_vlm(folder.with_name(f"{folder.name}-vlm")))
    torch.manual_seed(0)
    config = make_policy_config(family, device="cpu", push_to_hub=False, **settings)
    policy = get_policy_class(family)(config)  # type: ignore[call-arg]
    preprocessor, postprocessor = make_pre_post_processors(config, dataset_stats=statistics())
    policy.save_pretrained(folder)
    preprocessor.save_pretrained(folder)
    postprocessor.save_pretrained(folder)
    if info is not None:
        (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def observation(number: int, instruction: str | None = None, time: float = 2.0) -> Observation:
    random = np.random.default_rng(number)
    return Observation(
        images={camera: random.integers(0, 256, (*size, 3), dtype=np.uint8) for camera, size in ROBOT.cameras.items()},
        state=random.normal(size=len(ROBOT.state_names)).astype(np.float32),
        instruction=INSTRUCTIONS[number % 4] if instruction is None else instruction,
        time=time,
    )
