"""Is `hwprof bench-server` right about a real server? `transformers serve` with a tiny random model, on this machine.

    python benchmarks/serve_tiny.py            # needs pip install 'transformers[serving]'

Starts the server on a free port of this machine, measures it with one and with four users, and prints both; the server
answers one request after the other, so that four users wait about four times as long for a first token.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hwprof.measure.server.sweep import WORDS

SERVE = (
    "import sys; from transformers.cli.transformers import main; "
    "sys.argv = ['transformers', 'serve', *sys.argv[1:]]; main()"
)
START_S = 60


def tiny(folder: Path) -> None:
    """A model whose every token is a word, so that each comes as text of its own."""
    words = ["<s>", "</s>", "<unk>", *WORDS, *(f"w{number}" for number in range(200))]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        chat_template="{% for one in messages %}{{ one['content'] }}{% endfor %}",
    )
    config = LlamaConfig(
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=len(words),
        eos_token_id=None,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = None
    model.save_pretrained(folder)
    fast.save_pretrained(folder)


def main() -> None:
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        tiny(Path(folder))
        words = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
        server = subprocess.Popen(
            [sys.executable, "-c", SERVE, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            for _ in range(START_S):
                time.sleep(1)
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
            asked = f"bench-server http://127.0.0.1:{port} --served-model {folder} --users 1,4 --rounds 4 --format json"
            lengths = "--prompt-len 64 --new-tokens 32 --quiet"
            command = [sys.executable, "-m", "hwprof", *asked.split(), *lengths.split()]
            rows = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["rows"]
        finally:
            server.terminate()
            server.wait()
    for row in rows:
        first_ms, each_ms = 1e3 * row["ttft_s"]["mean"], 1e3 * row["tpot_s"]["mean"]
        print(f"{row['users']} users: first token {first_ms:.1f} ms, a token {each_ms:.2f} ms")


if __name__ == "__main__":
    main()
