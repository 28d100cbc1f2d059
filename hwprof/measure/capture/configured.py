"""Which module of transformers does a ``config.json`` stand for? Its class, made without weights."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hwprof.errors import InputError
from hwprof.measure.capture.fake import all_fake, make_fake, weightless
from hwprof.measure.capture.inputs import Asked, inputs_of
from hwprof.measure.capture.subject import Subject
from hwprof.measure.capture.unequal import with_kernels_of_gpus
from hwprof.specs.huggingface.own_code import in_words_of_transformers
from hwprof.specs.job.settings import Dtype
from hwprof.specs.reading import model_name

_BY_TASK = (
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_CTC_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_MAPPING_NAMES",
)
"""Tasks in the order in which a file without ``architectures`` is taken for one."""

MOST_LAYERS = 4096
"""Four times the deepest published Transformer (1,000 layers, DeepNet, arXiv:2203.00555)."""

_ASKS_FAKE = "is_fake_tensor"
_ENCODERS = "MODEL_FOR_MASKED_LM_MAPPING_NAMES"
"""Types of this task are encoders: without ``architectures`` the base model is meant, with its pooler."""

_NOT_OF_THE_MODEL = frozenset({"quantization_config", "compression_config", "quantization", "auto_map"})
"""Keys that say how weights are stored, or whose code to run; a model is counted whole, and as transformers has it."""

_FOR_ONE_PASS: dict[str, Any] = {"use_cache": False} | dict.fromkeys(
    ("layerdrop", "encoder_layerdrop", "decoder_layerdrop", "attention_layerdrop"), 0.0
)
"""What a configuration is told, where it has the key: one pass needs no cache, and skips no layer by chance."""


def transformers_of(path: Path, kind: str) -> Any:
    """The package transformers.

    Raises:
        InputError: it is not installed, or does not work with this torch.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import transformers
    except ImportError as error:
        raise InputError(
            f"{path}: model_type {kind!r} has no reader in hwprof, and transformers is not installed",
            expectation="a class of transformers can be counted by capture, without weights and without a download",
            remedy="pip install 'hwprof[transformers]'; or give your own module with --module package.module:factory",
        ) from error
    if not transformers.is_torch_available():
        raise InputError(
            f"{path}: model_type {kind!r} has no reader in hwprof, and transformers {transformers.__version__} "
            f"does not work with torch {torch.__version__}",
            remedy="install a newer torch; or give your own module with --module package.module:factory",
        )
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


@contextmanager
def _as_if_real() -> Iterator[None]:
    """Transformers looks at no value of a fake tensor, and makes masks that it would not need; ours have values."""
    from transformers.utils import import_utils

    with quietly(), with_kernels_of_gpus():
        before = getattr(import_utils, _ASKS_FAKE, None)
        if before is None:  # a version that does not ask
            yield
            return
        setattr(import_utils, _ASKS_FAKE, lambda _tensor: False)
        try:
            yield
        finally:
            setattr(import_utils, _ASKS_FAKE, before)


@contextmanager
def quietly() -> Iterator[None]:
    """What transformers warns of while a model is made and run is its own affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def model_of_config(path: Path) -> nn.Module:
    """The module that ``config.json`` describes, with its parameters' shapes and without their data.

    The class is the one that ``architectures`` names, else that of the model's main task. Attention and experts run as
    transformers runs them where nothing is said.

    Raises:
        InputError: no transformers, or none that has the class; or it refuses the file.
    """
    package, found, config = class_and_config(path)
    with quietly():
        try:
            with weightless():
                module = _made(found, config)
        except Exception as error:
            raise _refused(path, f"{found.__name__} of transformers {package.__version__}", error) from error
    return as_trained(module)


def _check_depth(path: Path, values: Any) -> None:
    """A slip in a number of layers would fill this machine's memory with modules."""
    if not isinstance(values, dict):
        return
    for key, value in values.items():
        if isinstance(value, int) and value > MOST_LAYERS and key.endswith(("layer", "layers", "depth")):
            raise InputError(
                f"{path}: {key} is {value:,}, more than the {MOST_LAYERS:,} layers that are made to be captured",
                remedy="correct it, or give fewer: layers that are alike cost alike",
            )
        _check_depth(path, value)


def in_format(inputs: dict[str, Any], wanted: torch.dtype) -> dict[str, Any]:
    """Inputs that are no whole numbers in the format of the weights."""
    return {
        name: value.to(wanted) if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for name, value in inputs.items()
    }


def class_and_config(path: Path) -> tuple[Any, Any, Any]:
    """The package, the class that the file stands for, and the configuration as that class takes it.

    Raises:
        InputError: as ``model_of_config``.
    """
    values = in_words_of_transformers(json.loads(path.read_bytes()))
    kind = str(values.get("model_type", ""))
    _check_depth(path, values)
    package = transformers_of(path, kind)
    with quietly():
        config = _config(package, path, kind, {k: v for k, v in values.items() if k not in _NOT_OF_THE_MODEL})
        found = _class_of(package, path, kind, values.get("architectures"))
    parts = getattr(config, "sub_configs", {})
    for name, part in parts.items():  # a text model alone takes the text part, as AutoModelForCausalLM gives it
        if type(config) is not found.config_class and part is found.config_class and getattr(config, name, None):
            return package, found, getattr(config, name)
    text = config.get_text_config(decoder=True)
    if text is not config and type(text) in package.MODEL_FOR_CAUSAL_LM_MAPPING and _lacks_timm(package, config):
        return package, package.MODEL_FOR_CAUSAL_LM_MAPPING[type(text)], text
    return package, found, config


def _lacks_timm(package: Any, config: Any) -> bool:
    """Whether a tower is one of timm's, which is not installed."""
    known = package.MODEL_MAPPING
    towers = (known[type(part)].__name__ for part in _with_parts(config) if type(part) in known)
    return not find_spec("timm") and any("Timm" in each for each in towers)


FORMATS: dict[Dtype, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """Which weights get no gradient.

    Attributes:
        names: of modules or parameters, whole or the end of their path.
        all: every one, as beside adapters; then the vectors of the tokens have gradients, as PEFT lets them.
    """

    names: tuple[str, ...] = ()
    all: bool = False


NOTHING_FROZEN = Frozen()


def subject_of_config(path: Path, asked: Asked, weights: Dtype = "fp32", frozen: Frozen = NOTHING_FROZEN) -> Subject:
    """The module with its inputs, fake, ready to be captured.

    Args:
        path: the file.
        asked: how much goes in.
        weights: format of the weights, and of inputs that are no whole numbers.
        frozen: which of them are not trained.

    Raises:
        InputError: as ``model_of_config``, or its inputs are not known, or nothing is called as what is to be frozen.
    """
    module = model_of_config(path)
    freeze(module, frozen)
    narrow(module, FORMATS[weights])
    mode = make_fake(module)
    name = model_name(path)
    inputs = all_fake(in_format(inputs_of(module, asked, name), FORMATS[weights]), mode)
    return Subject(name=name, module=module, keywords=inputs, fake=mode, around=_as_if_real)


def narrow(module: nn.Module, wanted: torch.dtype) -> None:
    """Weights and tables in one format; complex tables, such as rotations, have no narrower one and stay."""
    apply: Any = module._apply  # noqa: SLF001 (what .to asks, which has no types)
    apply(lambda tensor: tensor.to(wanted) if tensor.is_floating_point() else tensor)


def freeze(module: nn.Module, frozen: Frozen) -> None:
    """Take the gradients of some weights away.

    Raises:
        InputError: nothing is called so.
    """
    for name in frozen.names:
        found = [each for path, each in module.named_parameters() if _is_part(path, name)]
        if not found:
            parts = sorted({path for path, _ in module.named_modules() if path and path.count(".") < _NEAR})
            raise InputError(
                f"the model has no weights called {name!r} to freeze",
                expectation=f"the name of a module, such as {', '.join(parts[:12])}",
                remedy="change --freeze",
            )
        for each in found:
            each.requires_grad = False
    if frozen.all:
        module.requires_grad_(requires_grad=False)
        first = _embedding_of(module)
        if first is not None:
            first.register_forward_hook(_with_gradient)


_NEAR = 2
"""Modules at least so near to the root are named where a name is wrong."""


def _is_part(path: str, name: str) -> bool:
    """Whether a parameter's path has these names in a row."""
    return f".{name}." in f".{path}."


def _embedding_of(module: nn.Module) -> nn.Module | None:
    """What makes vectors of the inputs; the first part with weights where a class does not say which that is."""
    told: Any = getattr(module, "get_input_embeddings", None)
    with suppress(NotImplementedError):
        found: nn.Module | None = told() if told else None
        return found
    return next((part for part in module.modules() if next(part.parameters(recurse=False), None) is not None), None)


def _with_gradient(_module: nn.Module, _given: Any, vectors: Any) -> Any:
    return vectors.requires_grad_() if isinstance(vectors, torch.Tensor) else vectors


def _config(package: Any, path: Path, kind: str, values: dict[str, Any]) -> Any:
    try:
        known = package.CONFIG_MAPPING[kind]
    except KeyError as error:
        raise InputError(
            f"{path}: neither hwprof nor transformers {package.__version__} knows model_type {kind!r}",
            expectation="a model_type that one of them has"
            + (": the file's own code (auto_map) is not run" if "auto_map" in json.loads(path.read_text()) else ""),
            remedy="give its file in transformers' words, which often lies in a repository whose name ends in -hf, the "
            "module itself with --module package.module:factory, or describe it in TOML (`hwprof specs show tiny > "
            "mine.toml`); a newer transformers may know it",
        ) from error
    try:
        config = _whole(known.from_dict, values)
    except Exception as error:
        raise _refused(path, f"{known.__name__} of transformers {package.__version__}", error) from error
    for each in _with_parts(config):
        for name, value in _FOR_ONE_PASS.items():
            if hasattr(each, name):
                setattr(each, name, value)
    return config


def _whole(made: Any, values: dict[str, Any]) -> Any:
    """The configuration; keys of the text model that stand beside its parts, as in older files, are that model's."""
    config = made(values)
    text = getattr(config, "text_config", None)
    if not hasattr(text, "model_type") or "text_config" in values:
        return config
    own = {field.name for field in fields(config)} if is_dataclass(config) else vars(type(config)())
    inside = {key: value for key, value in values.items() if key not in own}
    if all(getattr(text, key, value) == value for key, value in inside.items()):
        return config
    return made(values | {"text_config": inside})


def _with_parts(config: Any) -> Iterator[Any]:
    """A configuration and those of its parts."""
    yield config
    for name in getattr(config, "sub_configs", {}):
        part = getattr(config, name, None)
        if part is not None:
            yield from _with_parts(part)


def _class_of(package: Any, path: Path, kind: str, names: Any) -> Any:
    if names:
        found = _named(package, str(names[0]), kind) or _for_task(package, str(names[0]), kind)
        if found is None or found.forward is nn.Module.forward:
            others = [each for each in dir(_module_of(package, kind)) if "For" in each and hasattr(package, each)]
            raise InputError(
                f"{path}: "
                + (
                    f"{names[0]!r} has no forward pass"
                    if found
                    else f"transformers {package.__version__} has no class {names[0]!r}"
                ),
                expectation=f"it has {', '.join(others)}" if others else "",
                remedy="correct 'architectures', or give the module itself with --module package.module:factory",
            )
        return found
    from transformers.models.auto import modeling_auto

    tasks = ("MODEL_MAPPING_NAMES",) if kind in getattr(modeling_auto, _ENCODERS) else _BY_TASK
    for task in tasks:
        name = getattr(modeling_auto, task).get(kind)
        for each in name if isinstance(name, tuple | list) else [name]:
            found = getattr(package, each, None) if each else None
            if found is not None:
                return found
    raise InputError(
        f"{path}: transformers {package.__version__} has no class for model_type {kind!r} alone",
        remedy="name it under 'architectures' in the file",
    )


def _named(package: Any, name: str, kind: str) -> Any:
    """The class of a name; of the code that comes with a model the name may differ in its underscores alone."""
    found = getattr(package, name, None)
    if found is None:
        of_kind = _module_of(package, kind)
        plain = _plain(name)
        found = next((vars(of_kind)[e] for e in vars(of_kind or package) if _plain(e) == plain), None)
    return found


def _module_of(package: Any, kind: str) -> Any:
    return getattr(getattr(package.models, kind, None), f"modeling_{kind}", None)


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _for_task(package: Any, name: str, kind: str) -> Any:
    """The class that does what one of the type's own code does, where transformers has it under another type's name."""
    from transformers.models.auto import modeling_auto

    own, _, task = name.rpartition("For")
    tables = [table for key, table in vars(modeling_auto).items() if key.endswith("_MAPPING_NAMES")]
    found = [each for table in tables if isinstance(each := table.get(kind), str) and each.endswith(f"For{task}")]
    return getattr(package, found[0], None) if found and _plain(own) == _plain(kind) else None


def _made(found: Any, config: Any) -> nn.Module:
    """Of the class itself, not of an Auto class; attention and experts as transformers runs them by default."""
    module: nn.Module = found._from_config(config)  # noqa: SLF001 (the only way that takes no weights)
    return module


def as_trained(module: nn.Module) -> nn.Module:
    """What does the same in every pass, with the dropout of training; no layer is skipped by chance."""
    module.eval()
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.train()
    return module


def _refused(path: Path, who: str, error: Exception) -> InputError:
    message = " ".join(str(error).split()) or "no message"
    missing = isinstance(error, ImportError)
    return InputError(
        f"{path}: {who} {'needs more' if missing else 'refuses it'}: {type(error).__name__}: {message:.300}",
        remedy="install what it names"
        if missing
        else "correct the file; it has to load with transformers' AutoConfig and the class it names",
    )
