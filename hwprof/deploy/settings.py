"""How is a server told to vLLM, SGLang and TensorRT-LLM? One command each, by their documented arguments."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

from hwprof.deploy.memory import PAGE_TOKENS, USABLE
from hwprof.deploy.server import CHUNK_TOKENS, DRAFTED
from hwprof.deploy.space import Demand, Offer

MARGIN_TOKENS = 64
"""What a chat template adds to a prompt, so that a request of the longest length is not refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What starts one server.

    Attributes:
        engine: of which.
        command: the shell's line.
        file_name, file_text: a file that the command reads; empty where it needs none.
        lacks: in words, what of the layout the engine has no argument for.
    """

    engine: str
    command: str
    file_name: str = ""
    file_text: str = ""
    lacks: tuple[str, ...] = ()


def settings_of(offer: Offer, demand: Demand, model: str) -> tuple[EngineSettings, ...]:
    """Settings of a kind of server for all three engines."""
    return _vllm(offer, demand, model), _sglang(offer, demand, model), _trtllm(offer, demand, model)


def _length(demand: Demand) -> int:
    return -(-(demand.prompt + demand.new + MARGIN_TOKENS) // PAGE_TOKENS) * PAGE_TOKENS


def _lacks(offer: Offer) -> tuple[str, ...]:
    lacks = []
    if offer.ep > 1 and offer.moe_tp > 1:
        lacks.append(f"experts over {offer.ep} of {offer.ep * offer.moe_tp} ranks")
    if offer.apart:
        lacks.append(f"the router before {offer.prefillers} servers for prompts and one for tokens: one server's line")
    return tuple(lacks)


def _line(program: str, arguments: list[str]) -> str:
    return f"{program} " + shlex.join(arguments)


def _vllm(offer: Offer, demand: Demand, model: str) -> EngineSettings:
    """``vllm serve``, as of docs.vllm.ai "Engine Arguments", "Data Parallel Deployment", "Speculative Decoding"."""
    words = [model, "--tensor-parallel-size", str(offer.tp)]
    if offer.pp > 1:
        words += ["--pipeline-parallel-size", str(offer.pp)]
    if offer.dp > 1:
        words += ["--data-parallel-size", str(offer.dp)]
    if offer.ep > 1:
        words.append("--enable-expert-parallel")
    words += ["--max-num-seqs", str(-(-offer.users // offer.dp)), "--max-model-len", str(_length(demand))]
    words += ["--max-num-batched-tokens", f"{CHUNK_TOKENS:.0f}", "--gpu-memory-utilization", str(USABLE)]
    if offer.deployment.two_batches and offer.dp > 1:
        words.append("--enable-dbo")
    if offer.deployment.formats.cache_bytes == 1:
        words += ["--kv-cache-dtype", "fp8"]
    if not demand.reused:
        words.append("--no-enable-prefix-caching")
    if demand.accepted is not None:
        drafts = {"method": "mtp", "num_speculative_tokens": int(DRAFTED)}
        words += ["--speculative-config", json.dumps(drafts)]
    return EngineSettings(engine="vllm", command=_line("vllm serve", words), lacks=_lacks(offer))


def _sglang(offer: Offer, demand: Demand, model: str) -> EngineSettings:
    """``sglang.launch_server``, as of docs.sglang.io "Server Arguments": data attention counts in the tensor degree."""
    ranks = offer.tp * offer.dp
    words = ["--model-path", model, "--tp-size", str(ranks)]
    if offer.pp > 1:
        words += ["--pp-size", str(offer.pp)]
    if offer.dp > 1:
        words += ["--dp-size", str(offer.dp), "--enable-dp-attention"]
    if offer.ep > 1:
        words += ["--ep-size", str(offer.ep)]
    words += ["--max-running-requests", str(offer.users), "--context-length", str(_length(demand))]
    words += ["--chunked-prefill-size", f"{CHUNK_TOKENS:.0f}", "--mem-fraction-static", str(USABLE)]
    if offer.deployment.two_batches and offer.dp > 1:
        words.append("--enable-two-batch-overlap")
    if offer.deployment.formats.cache_bytes == 1:
        words += ["--kv-cache-dtype", "fp8_e4m3"]
    if not demand.reused:
        words.append("--disable-radix-cache")
    if demand.accepted is not None:
        steps = int(DRAFTED)
        words += ["--speculative-algorithm", "EAGLE", "--speculative-num-steps", str(steps)]
        words += ["--speculative-eagle-topk", "1", "--speculative-num-draft-tokens", str(steps + 1)]
    return EngineSettings(engine="sglang", command=_line("python -m sglang.launch_server", words), lacks=_lacks(offer))


def _trtllm(offer: Offer, demand: Demand, model: str) -> EngineSettings:
    """``trtllm-serve`` and its file of further options, as of nvidia.github.io/TensorRT-LLM, "trtllm-serve"."""
    words = [model, "--backend", "pytorch", "--tp_size", str(offer.tp * offer.dp)]
    if offer.pp > 1:
        words += ["--pp_size", str(offer.pp)]
    if offer.ep > 1:
        words += ["--ep_size", str(offer.ep)]
    words += ["--max_batch_size", str(-(-offer.users // offer.dp)), "--max_num_tokens", f"{CHUNK_TOKENS:.0f}"]
    words += ["--max_seq_len", str(_length(demand)), "--extra_llm_api_options", "trtllm.yaml"]
    cache = "fp8" if offer.deployment.formats.cache_bytes == 1 else "auto"
    lines = [
        f"enable_attention_dp: {str(offer.dp > 1).lower()}",
        "kv_cache_config:",
        f"  dtype: {cache}",
        f"  enable_block_reuse: {str(demand.reused > 0).lower()}",
        f"  free_gpu_memory_fraction: {USABLE}",
        "cuda_graph_config:",
        "  enable_padding: true",
        f"  max_batch_size: {-(-offer.users // offer.dp)}",
    ]
    if demand.accepted is not None:
        lines += ["speculative_config:", "  decoding_type: MTP", f"  num_nextn_predict_layers: {int(DRAFTED)}"]
    return EngineSettings(
        engine="trtllm",
        command=_line("trtllm-serve", words),
        file_name="trtllm.yaml",
        file_text="\n".join(lines) + "\n",
        lacks=(*_lacks(offer), *(("two halves of a batch in turn",) if offer.deployment.two_batches else ())),
    )
