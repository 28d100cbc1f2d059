"""Count every type that transformers has, in a small configuration each, against its own module; write the table.

    python benchmarks/architectures.py                 # all tasks, about seven minutes; docs/architectures.md
    python benchmarks/architectures.py causal ctc      # these alone, nothing is written
    python benchmarks/architectures.py --shard 1/2 --out a.json; ... --shard 2/2 --out b.json; ... --merge a.json b.json

A type counts as *read* or *captured* where parameters, forward and training FLOP equal those of the module under
torch's ``FlopCounterMode``; as *refused* where hwprof says that it can't; as *wrong* where the numbers differ. Small
configurations are made from the defaults of the type: fewer and narrower layers, and what :data:`OWN` says. Types that
can't be made small so are *not tried*.
Needs transformers.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.simplefilter("ignore")

import torch  # noqa: E402
import transformers  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402
from transformers.models.auto import modeling_auto  # noqa: E402

from hwprof.count.blocks.parameters import parameters  # noqa: E402
from hwprof.count.blocks.transformer import Precision, model_ops  # noqa: E402
from hwprof.count.job.totals import total_cost  # noqa: E402
from hwprof.errors import HwprofError  # noqa: E402
from hwprof.measure.capture.inputs import Asked, inputs_of  # noqa: E402
from hwprof.measure.capture.subject import parse_input  # noqa: E402
from hwprof.session.captured import Shapes, counted_model  # noqa: E402

TASKS = {
    "causal": ("causal language models", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"),
    "vision-language": ("vision and language", "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES"),
    "masked": ("masked language models", "MODEL_FOR_MASKED_LM_MAPPING_NAMES"),
    "seq2seq": ("encoder-decoders", "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES"),
    "pairs": ("pairs of towers (CLIP)", "MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES"),
    "ctc": ("speech (CTC)", "MODEL_FOR_CTC_MAPPING_NAMES"),
    "images": ("classes of images", "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES"),
}
"""Task -> what people call it, and transformers' table of its types."""

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architectures.md"
MARKS = ("<!-- types -->", "<!-- end of types -->")
_RULES: dict[str, Any] = json.loads(Path(__file__).with_name("small_types.json").read_text())
OWN: dict[str, dict[str, Any]] = _RULES["types"]
"""Type -> keys of its small configuration where the rule of :data:`SMALL` makes none; null takes a key away."""

INPUTS: dict[str, list[str]] = _RULES["inputs"]
"""Type, or task and type -> arguments of its forward where hwprof makes others, as ``--input`` takes them."""

REASONS: dict[str, str] = _RULES["reasons"]
"""Type, or task and type -> why it is not counted, where its error does not say it shortly."""

SMALL = {name: int(size) for size, names in _RULES["small"].items() for name in names}
"""Key -> what it is at most."""

WIDTHS = frozenset(_RULES["kept"])
"""What a second try leaves as it is."""

LARGEST = 400_000_000
"""More parameters are not made for real."""

EXPERTS = "_experts_implementation_internal"
"""Where a configuration says how its module runs experts, once it is made."""

DROPS = ("layerdrop", "encoder_layerdrop", "decoder_layerdrop")
"""Keys of layers that are skipped by chance."""

SECONDS = 90
"""Of computing; a type that takes longer is not tried."""


def shrunk(values: dict[str, Any], *, widths: bool) -> dict[str, Any]:
    """A configuration with fewer and narrower layers; lists by layer are left to the class."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if key in {"layer_types", "mlp_layer_types", "layers_block_type", "transformers_version", "dtype"}:
            continue
        whole = isinstance(value, int) and not isinstance(value, bool)
        if isinstance(value, dict) and (key.endswith("config") or "model_type" in value):
            found[key] = shrunk(value, widths=widths)
        elif key in SMALL and whole and value > 0 and (widths or key not in WIDTHS):
            found[key] = min(value, SMALL[key])
        elif whole and key.endswith(("token_id", "token_index")) and value >= SMALL["vocab_size"]:
            found[key] = 100 + sum(map(ord, key)) % 50
        else:
            found[key] = value
    return found


def merged(values: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """With keys of its own; null takes one away."""
    found = dict(values)
    for key, value in own.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, dict) and isinstance(found.get(key), dict):
            found[key] = merged(found[key], value)
        else:
            found[key] = value
    return found


def small_configurations(kind: str, name: str) -> Iterator[dict[str, Any]]:
    """Configurations of a type to try, smallest first."""
    made = transformers.CONFIG_MAPPING[kind]
    try:
        defaults = made().to_dict()
    except Exception:  # noqa: BLE001 (some types have no defaults that they accept)
        defaults = made(**copy.deepcopy(OWN.get(kind, {}))).to_dict()
    for widths in (True, False):
        yield {
            "model_type": kind,
            **merged(shrunk(defaults, widths=widths), OWN.get(kind, {})),
            "architectures": [name],
        }


def _with_parts(config: Any) -> Iterator[Any]:
    yield config
    for name in getattr(config, "sub_configs", {}):
        part = getattr(config, name, None)
        if part is not None:
            yield from _with_parts(part)


def witness(values: dict[str, Any], asked: Asked) -> tuple[int, int, int]:
    """Parameters, forward and training FLOP of the real module; experts one by one, which torch's counter sees."""
    config = transformers.CONFIG_MAPPING[values["model_type"]].from_dict(copy.deepcopy(values))
    made = getattr(transformers, values["architectures"][0])
    for name, part in getattr(config, "sub_configs", {}).items():
        if type(config) is not made.config_class and part is made.config_class:
            config = getattr(config, name)
    for part in _with_parts(config):
        for key, value in {"_attn_implementation": "eager", "use_cache": False, **dict.fromkeys(DROPS, 0.0)}.items():
            if hasattr(part, key):
                setattr(part, key, value)
    with torch.device("meta"):
        size = sum(each.numel() for each in made._from_config(copy.deepcopy(config)).parameters())  # noqa: SLF001
    if size > LARGEST:
        raise ValueError(f"{size:.2g} parameters")
    module = made._from_config(config).eval()  # noqa: SLF001
    for part in _with_parts(module.config):
        if getattr(part, EXPERTS, None):
            setattr(part, EXPERTS, "eager")
    inputs = inputs_of(module, asked, "it")
    with FlopCounterMode(display=False) as forward:
        output = module(**inputs)
    trained = next((output[name] for name in ("loss", "logits") if output.get(name) is not None), output)
    roots = [leaf for leaf in tree_leaves(trained) if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
    with FlopCounterMode(display=False) as backward:
        torch.autograd.backward(roots, [torch.ones_like(root) for root in roots])
    flop = forward.get_total_flops()
    return sum(each.numel() for each in module.parameters()), flop, flop + backward.get_total_flops()


def asked_of(task: str, kind: str) -> Asked:
    """How much goes into a type."""
    given = tuple(map(parse_input, given_to(task, kind)))
    return Asked(batch_size=2, seq_len=3200 if task == "ctc" else 24, inputs=given)


def given_to(task: str, kind: str) -> tuple[str, ...]:
    """Arguments of a type's forward that hwprof does not make itself, as they are typed."""
    return tuple(INPUTS.get(f"{task}:{kind}", INPUTS.get(kind, ())))


def counted(values: dict[str, Any], asked: Asked, given: tuple[str, ...]) -> tuple[bool, tuple[int, int, int]]:
    """Whether it was captured, and the same numbers as hwprof counts them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(values, default=str))
        shapes = Shapes(batch_sizes=(asked.batch_size,), seq_len=asked.seq_len, dtype="fp32", inputs=given)
        spec = counted_model(str(path), shapes)
    sides = {"target_len": asked.seq_len} if spec.two_sided else {}
    how = {"batch_size": asked.batch_size, "seq_len": asked.seq_len, "precision": Precision.of("fp32"), **sides}
    ops = model_ops(spec, **how)
    totals = [int(total_cost(ops, *directions).matmul_flop) for directions in (("forward",), ("forward", "backward"))]
    return spec.captured is not None, (parameters(spec).total, *totals)


class _TooLongError(Exception):
    pass


def _stop(*_: Any) -> None:
    raise _TooLongError(f"more than {SECONDS} s")


def tried(task: str, kind: str, name: str) -> tuple[str, str]:
    """What became of a type, and why."""
    why, asked = "", asked_of(task, kind)
    for values in small_configurations(kind, name):
        try:
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            expected = witness(values, asked)
        except Exception as error:  # noqa: BLE001 (whatever a type raises, the next one is tried)
            why = why or f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
            continue
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        try:
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            captured, found = counted(values, asked, given_to(task, kind))
        except HwprofError as error:
            return "refused", str(error)[:200]
        except Exception as error:  # noqa: BLE001
            return "refused", f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        if found != expected:
            return "wrong", f"counted {found}, the module {expected}"
        return ("captured" if captured else "read"), ""
    return "not tried", why


def walk(tasks: list[str], shard: tuple[int, int]) -> dict[str, dict[str, list[str]]]:
    """Every type of these tasks, those of one shard."""
    found: dict[str, dict[str, list[str]]] = {}
    for task in tasks:
        table = sorted(getattr(modeling_auto, TASKS[task][1]).items())
        for number, (kind, name) in enumerate(table):
            if number % shard[1] != shard[0]:
                continue
            one = name if isinstance(name, str) else name[0]
            try:
                what = tried(task, kind, one)
            except Exception as error:  # noqa: BLE001
                what = "not tried", f"{type(error).__name__}: {error}"[:160]
            found.setdefault(task, {})[kind] = list(what)
            print(task, kind, *what, flush=True)
    return found


def table_of(found: dict[str, dict[str, list[str]]]) -> str:
    """The table of the documentation, and why each type that is not counted is not."""
    lines = ["| task | types | read | captured | refused | wrong | not tried |", "|---|---|---|---|---|---|---|"]
    for task, (words, _) in TASKS.items():
        if task in found:
            counts = Counter(what for what, _ in found[task].values())
            numbers = (counts[each] for each in ("read", "captured", "refused", "wrong", "not tried"))
            lines.append(f"| {words} | {len(found[task])} | {' | '.join(map(str, numbers))} |")
    done = {kind for types in found.values() for kind, (what, _) in types.items() if what in {"read", "captured"}}
    left = {
        (f"`{kind}`" + f", {TASKS[task][0]}" * (kind in done), what, _reason(task, kind, why))
        for task, types in found.items()
        for kind, (what, why) in types.items()
        if what not in {"read", "captured"}
    }
    rows = [f"| {kind} | {what} | {why} |" for kind, what, why in sorted(left)]
    why = ["", "| type | | why |", "|---|---|---|", *rows] if rows else []
    return "\n".join([f"transformers {transformers.__version__}, a small configuration each:", "", *lines, *why])


def _reason(task: str, kind: str, why: str) -> str:
    return REASONS.get(f"{task}:{kind}") or REASONS.get(kind) or why.split(". ", maxsplit=1)[0].replace("|", "/")


def write(found: dict[str, dict[str, list[str]]]) -> None:
    """Put the table into the page, between its marks."""
    text = PAGE.read_text()
    before, rest = text.split(MARKS[0])
    PAGE.write_text(f"{before}{MARKS[0]}\n{table_of(found)}\n{MARKS[1]}{rest.split(MARKS[1])[1]}")


def main() -> int:
    """Walk, and write the table where all tasks were walked."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tasks", nargs="*", default=[])
    parser.add_argument("--shard", default="1/1")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--merge", type=Path, nargs="*", default=[])
    given = parser.parse_args()
    transformers.logging.set_verbosity_error()
    signal.signal(signal.SIGPROF, _stop)
    found: dict[str, dict[str, list[str]]] = {}
    if given.merge:
        for path in given.merge:
            for task, types in json.loads(path.read_text()).items():
                found.setdefault(task, {}).update(types)
        write(found)
        return 0
    part, of = map(int, given.shard.split("/"))
    found = walk(given.tasks or list(TASKS), (part - 1, of))
    if given.out:
        given.out.write_text(json.dumps(found, indent=1))
    elif not given.tasks and of == 1:
        write(found)
    return int(any(what == "wrong" for types in found.values() for what, _ in types.values()))


if __name__ == "__main__":
    sys.exit(main())
