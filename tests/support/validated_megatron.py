"""What does Megatron-LM itself make of argument lists? Its parser, ``validate_args``, its groups and weights.

``validated_megatron.py CHECKOUT`` reads JSON, a list of ``{name, arguments, devices, capability, queues}``, and prints
a line of JSON for each. No GPU: the capability is what the plan says, and Transformer Engine counts as the newest.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import traceback
import typing
import warnings
from pathlib import Path

import torch
import typing_extensions

sys.path.insert(0, sys.argv[1])
warnings.simplefilter("ignore")
if not hasattr(typing, "override"):  # Python 3.11 reads what is packed for 3.12
    typing.override = typing_extensions.override  # type: ignore[attr-defined]

import megatron.core.models.common.embeddings.rope_utils as rotary  # noqa: E402 (after that)
import megatron.core.models.common.embeddings.yarn_rotary_pos_embedding as yarn  # noqa: E402
import megatron.core.utils  # noqa: E402
from megatron.core import parallel_state as state  # noqa: E402
from megatron.core.distributed import DistributedDataParallelConfig  # noqa: E402
from megatron.core.models import backends  # noqa: E402
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_decoder_block_spec, get_gpt_mtp_block_spec  # noqa: E402
from megatron.core.models.gpt.gpt_model import GPTModel  # noqa: E402
from megatron.core.optimizer import OptimizerConfig  # noqa: E402
from megatron.training import arguments  # noqa: E402
from torch.testing._internal.distributed.fake_pg import FakeStore  # noqa: E402

LEFT = "--mock-data --tokenizer-type NullTokenizer --lr 1e-4"
"""What the file leaves to the user."""

IRRELEVANT = (
    *("sequence_parallel", "persist_layer_norm", "moe_grouped_gemm", "perform_initialization"),
    *("gradient_accumulation_fusion", "fp8", "fp4", "moe_permute_fusion"),
)
"""Switches that need a GPU or Transformer Engine and change no weight."""


def main() -> None:
    """A line for each list."""
    megatron.core.utils.get_te_version = lambda: megatron.core.utils.PkgVersion("99.0")
    rotary.fused_apply_rotary_pos_emb = rotary.fused_apply_rotary_pos_emb_thd = main
    torch.cuda.is_available = lambda: True
    torch.cuda.Stream = object
    backends.DotProductAttention = Weightless
    yarn.get_pos_emb_on_this_cp_rank = lambda embedding, *_: embedding
    torch.cuda.current_device = lambda: "meta"
    torch.Tensor.cuda = lambda self, *_, **__: self
    for asked in json.load(sys.stdin):
        major, minor = asked["capability"]
        torch.cuda.get_device_capability = lambda *_, found=(major, minor): found
        torch.cuda.get_device_properties = lambda *_, found=(major, minor): Device(*found)
        for name in [name for name in os.environ if name.startswith(("CUDA_DEVICE", "NVTE_"))]:
            del os.environ[name]
        os.environ |= asked["queues"] | {"WORLD_SIZE": str(asked["devices"]), "RANK": "0"}
        sys.argv = ["pretrain_gpt.py", *asked["arguments"], *LEFT.split()]
        said = sys.stdout
        sys.stdout = sys.stderr
        try:
            found = validated()
        except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever it refuses is said)
            at = traceback.extract_tb(error.__traceback__)[-1]
            found = {"error": f"{type(error).__name__}: {error}", "at": f"{Path(at.filename).name}: {at.line}"}
        finally:
            sys.stdout = said
            leave()
        sys.stdout.write(json.dumps({"name": asked["name"]} | found) + "\n")


def leave() -> None:
    """No groups are left for the next list."""
    if torch.distributed.is_initialized():
        state.destroy_model_parallel()
        torch.distributed.destroy_process_group()


class Weightless(torch.nn.Module):
    """Stands for the attention between projections, which only Transformer Engine has for all shapes."""

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()


class Device(typing.NamedTuple):
    """As ``get_device_properties`` gives it."""

    major: int
    minor: int


def validated() -> dict[str, typing.Any]:
    """As ``initialize_megatron`` does: what was said, what became of it, and the model's configuration."""
    args = arguments.parse_args()
    said = plain(vars(args))
    arguments.validate_args(args)
    config = arguments.core_transformer_config_from_args(args)
    sums = [plain(vars(of_fields(kind, args))) for kind in (OptimizerConfig, DistributedDataParallelConfig)]
    return {"said": said, "args": plain(vars(args)), "optimizer": sums[0], "ddp": sums[1]} | built(args, config)


def of_fields(kind: type, args: typing.Any) -> typing.Any:
    """As ``get_model`` and ``get_megatron_optimizer_config`` fill them."""
    names = [each.name for each in dataclasses.fields(kind) if each.init and hasattr(args, each.name)]
    found = {name: getattr(args, name) for name in names}
    if kind is DistributedDataParallelConfig:
        found["grad_reduce_in_fp32"] = args.accumulate_allreduce_grads_in_fp32
    return kind(**found)


def built(args: typing.Any, config: typing.Any) -> dict[str, typing.Any]:
    """Groups of each stage's first rank, and the weights of all its stages, made of nothing on the meta device."""
    for name in IRRELEVANT:
        setattr(config, name, False)
    config.context_parallel_size, config.use_cpu_initialization = 1, True
    stages, weights = args.pipeline_model_parallel_size, 0
    for stage in range(stages):
        torch.distributed.init_process_group(
            "fake", store=FakeStore(), rank=stage * (args.world_size // stages), world_size=args.world_size
        )
        state.initialize_model_parallel(
            args.tensor_model_parallel_size,
            stages,
            args.virtual_pipeline_model_parallel_size,
            context_parallel_size=args.context_parallel_size,
            expert_model_parallel_size=args.expert_model_parallel_size,
            expert_tensor_parallel_size=args.expert_tensor_parallel_size,
            num_distributed_optimizer_instances=args.num_distributed_optimizer_instances,
            create_gloo_process_groups=False,
        )
        with torch.device("meta"):
            for chunk in range(args.virtual_pipeline_model_parallel_size or 1) if buildable(args) else ():
                part = model(args, config, chunk)
                weights += sum(whole(each, args) for each in part.parameters())
                weights += sum(each.numel() for name, each in part.named_buffers() if name.endswith("expert_bias"))
        sizes = {
            "data": state.get_data_parallel_world_size(),
            "data_and_context": state.get_data_parallel_world_size(with_context_parallel=True),
            "shards": state.get_data_parallel_world_size(with_context_parallel=True, partial_data_parallel=True),
            "expert": state.get_expert_model_parallel_world_size(),
            "expert_tensor": state.get_expert_tensor_parallel_world_size(),
            "expert_data": state.get_expert_data_parallel_world_size(),
        }
        leave()
    return {"groups": sizes, "weights": weights or None}


def buildable(args: typing.Any) -> bool:
    """Without Transformer Engine there are no layers for queries that have no narrow vector, but keys that have one."""
    return not args.multi_latent_attention or args.q_lora_rank is not None


def whole(weight: torch.nn.Parameter, args: typing.Any) -> int:
    """Elements over all ranks that hold a part of it; a tied embedding's second copy is none."""
    of_expert = not getattr(weight, "allreduce", True)
    split = args.expert_tensor_parallel_size if of_expert else args.tensor_model_parallel_size
    times = (split if getattr(weight, "tensor_model_parallel", False) else 1) * (
        args.expert_model_parallel_size if of_expert else 1
    )
    return weight.numel() * times * (not getattr(weight, "shared_copy", False))


def model(args: typing.Any, config: typing.Any, chunk: int) -> torch.nn.Module:
    """As ``pretrain_gpt.py`` builds a chunk, of Megatron-Core's own layers."""
    place = chunk if args.virtual_pipeline_model_parallel_size else None
    spec = get_gpt_decoder_block_spec(config, use_transformer_engine=False, vp_stage=place)
    ahead = None
    if args.mtp_num_layers:
        ahead = get_gpt_mtp_block_spec(config, spec, use_transformer_engine=False, vp_stage=place)
    rows = 128 * args.tensor_model_parallel_size
    last = state.is_pipeline_last_stage(ignore_virtual=False, vp_stage=place)
    made = GPTModel(
        config=config,
        transformer_layer_spec=spec,
        mtp_block_spec=ahead,
        vocab_size=-(-args.vocab_size // rows) * rows,
        max_sequence_length=args.max_position_embeddings,
        pre_process=state.is_pipeline_first_stage(ignore_virtual=False, vp_stage=place),
        post_process=last,
        share_embeddings_and_output_weights=not args.untie_embeddings_and_output_weights,
        position_embedding_type=args.position_embedding_type,
        rotary_percent=args.rotary_percent,
        rotary_base=args.rotary_base,
        vp_stage=place,
    )
    if last and not args.untie_embeddings_and_output_weights and args.pipeline_model_parallel_size > 1:
        made.output_layer.weight.shared_copy = True
    return made


def plain(values: dict[str, typing.Any]) -> dict[str, typing.Any]:
    """What JSON can say of them."""
    return {key: value for key, value in values.items() if isinstance(value, (int, float, str, bool, list, type(None)))}


if __name__ == "__main__":
    main()
