"""What do TRL and axolotl make of written files? TRL's parser and its configurations, axolotl's schema.

Reads JSON, a list of ``{name, framework, task, devices, file}``, and prints a line of JSON for each. Nothing is
trained: axolotl is told of GPUs of Hopper's capability, TRL that it is to use the CPU.
"""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import yaml

warnings.simplefilter("ignore")

GPU = {"bf16": True, "tf32": True, "fp8": False, "n_node": 1, "compute_capability": "sm_90"}


def by_axolotl(asked: dict[str, Any]) -> dict[str, Any]:
    """Its configuration, filled."""
    from axolotl.utils.config import prepare_plugins, validate_config
    from axolotl.utils.dict import DictDefault

    config = DictDefault(yaml.safe_load(Path(asked["file"]).read_text()))
    prepare_plugins(config)
    return dict(validate_config(config, GPU | {"n_gpu": asked["devices"]}, {"torch_version": "2.13.0"}))


def by_trl(asked: dict[str, Any]) -> dict[str, Any]:
    """Arguments of its trainer and of its model."""
    from trl import DPOConfig, ModelConfig, RewardConfig, SFTConfig, TrlParser

    kind = {"sft": SFTConfig, "dpo": DPOConfig, "reward": RewardConfig}[asked["task"]]
    words = ["--config", asked["file"], "--model_name_or_path", "MODEL", "--output_dir", "outputs", "--use_cpu", "true"]
    trainer, model = TrlParser((kind, ModelConfig)).parse_args_and_config(words)
    return trainer.to_dict() | vars(model)


def main() -> None:
    """A line for each file."""
    for asked in json.load(sys.stdin):
        with contextlib.redirect_stdout(sys.stderr):
            try:
                found = {"found": {"axolotl": by_axolotl, "trl": by_trl}[asked["framework"]](asked)}
            except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever it refuses is said)
                found = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps({"name": asked["name"]} | found, default=str) + "\n")


main()
