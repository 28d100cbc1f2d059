"""sentence-transformers' Trainer on a small BERT: two sentences of each pair, a loss over all pairs."""

import json
import tempfile
from pathlib import Path

from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.losses import MultipleNegativesRankingLoss
from sentence_transformers.models import Pooling, Transformer
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

BATCH, WORDS = 4, 6
words = {"<pad>": 0, "<unk>": 1} | {f"w{place}": place for place in range(2, 60)}
inner = Tokenizer(WordLevel(words, unk_token="<unk>"))
inner.pre_tokenizer = pre_tokenizers.Whitespace()
with tempfile.TemporaryDirectory() as folder:
    bert = str(Path(folder) / "bert")
    PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>").save_pretrained(bert)
    BertModel(
        BertConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    ).save_pretrained(bert)
    body = Transformer(bert)
    model = SentenceTransformer(modules=[body, Pooling(32)], device="cpu")
    count = sum(one.numel() for one in model.parameters())
    sentence = [" ".join(f"w{(row + place) % 58 + 2}" for place in range(WORDS)) for row in range(160)]
    pairs = Dataset.from_dict({"anchor": sentence, "positive": sentence[::-1]})
    settings = SentenceTransformerTrainingArguments(
        folder,
        per_device_train_batch_size=BATCH,
        max_steps=30,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
    )
    SentenceTransformerTrainer(
        model=model, args=settings, train_dataset=pairs, loss=MultipleNegativesRankingLoss(model)
    ).train()
print("TRUTH" + json.dumps({"parameters": count, "trainable": count, "tokens": 2 * BATCH * WORDS}))
