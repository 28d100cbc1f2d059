"""What is trained where only the way matters? A model as small as it can be, in few and short steps."""

from pathlib import Path

SIZES = {
    "model": str(Path(__file__).with_name("catalogue") / "models" / "played.toml"),
    "micro_batch": 1,
    "seq_len": 16,
    "steps": 2,
    "warmup_steps": 1,
    "profiled_steps": 1,
    "workers": 0,
}
