"""TRL's SFTTrainer on a small Qwen2, texts as numbers of equal length."""

import json
import tempfile

from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from trl import SFTConfig, SFTTrainer

BATCH, LENGTH = 4, 24
words = {"<pad>": 0, "<eos>": 1} | {f"w{place}": place for place in range(2, 90)}
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(WordLevel(words, unk_token="<pad>")), pad_token="<pad>", eos_token="<eos>"
)
model = Qwen2ForCausalLM(
    Qwen2Config(
        vocab_size=90, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True,
    )
)  # fmt: skip
count = sum(one.numel() for one in model.parameters())
texts = Dataset.from_list(
    [{"input_ids": [(3 * row + place) % 88 + 2 for place in range(LENGTH)]} for row in range(160)]
)
with tempfile.TemporaryDirectory() as folder:
    settings = SFTConfig(
        folder,
        per_device_train_batch_size=BATCH,
        max_steps=30,
        report_to=[],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        disable_tqdm=True,
        max_length=LENGTH,
    )
    SFTTrainer(model=model, args=settings, train_dataset=texts, processing_class=tokenizer).train()
print("TRUTH" + json.dumps({"parameters": count, "trainable": count, "tokens": BATCH * LENGTH}))
