"""Which module is captured, on which inputs? ``package.module:factory`` looked up, called and checked."""

from __future__ import annotations

import difflib
import importlib
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hwprof.errors import HwprofError, InputError
from hwprof.measure.capture.fake import ShapesOnly, all_fake, make_fake, weightless
from hwprof.specs.files import PACKAGE

_INPUT = re.compile(r"(?:(?P<name>[A-Za-z_]\w*)=)?(?P<shape>\d+(?:x\d+)*):(?P<dtype>\w+)")
_DTYPES: dict[str, torch.dtype] = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float32,
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.uint8,
        torch.bool,
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A module to capture.

    Attributes:
        name: what messages call it.
        module: the module, in the mode (train or eval) that it is in.
        arguments: positional inputs.
        keywords: inputs by name.
        loss: from the module's output to a scalar.
        fake: the mode of its fake tensors; None = its tensors are real.
        around: what to run it in.
    """

    name: str
    module: nn.Module
    arguments: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)
    loss: Callable[[Any], torch.Tensor] | None = None
    fake: ShapesOnly | None = None
    around: Callable[[], AbstractContextManager[Any]] = nullcontext

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return next((each.device for each in self.module.parameters()), torch.device("cpu"))


@dataclass(frozen=True, slots=True, kw_only=True)
class InputShape:
    """One input as it is asked for on the command line; positional without a name."""

    name: str | None
    shape: tuple[int, ...]
    dtype: torch.dtype

    def tensor(self, device: torch.device) -> torch.Tensor:
        """A tensor of this shape: zeros of whole numbers, the same random numbers each time of others."""
        if self.dtype.is_floating_point:
            return torch.randn(self.shape, generator=_generator(device), device=device).to(self.dtype)
        return torch.zeros(self.shape, dtype=self.dtype, device=device)


def parse_input(text: str) -> InputShape:
    """``8x3x224x224:float32`` or ``labels=8x128:int64``.

    Raises:
        InputError: it is not of this form, or torch has no such type.
    """
    match = _INPUT.fullmatch(text)
    if match is None or match["dtype"] not in _DTYPES:
        raise InputError(
            f"input {text!r} is no SHAPE:DTYPE",
            expectation=f"a shape such as 8x3x224x224 and one of {', '.join(_DTYPES)}",
            remedy="write for example --input 8x3x224x224:float32, or --input labels=8x128:int64 for a named argument",
        )
    shape = tuple(int(size) for size in match["shape"].split("x"))
    return InputShape(name=match["name"], shape=shape, dtype=_DTYPES[match["dtype"]])


def subject_of(
    target: str,
    *,
    inputs: Sequence[InputShape] = (),
    batch_size: int | None = None,
    seq_len: int | None = None,
    fake: bool = True,
) -> Subject:
    """Import ``package.module:factory``, call it, and complete what it returns to something that can run.

    The factory takes no arguments and returns a module, (module, inputs) or (module, inputs, loss function). Inputs are
    one tensor, a tuple, or a dict of named ones. ``inputs`` replace the factory's; without any, a module whose first
    layer is an embedding gets token ids [batch_size, seq_len].

    Raises:
        InputError: it can't be imported, raises, returns something else, or its inputs are not known.
    """
    with weightless() if fake else nullcontext():
        module, given, loss = _parts(target, _called(target, _load(target), fake=fake))
    mode = make_fake(module) if fake else None
    device = next((each.device for each in module.parameters()), torch.device("cpu"))
    if inputs:
        positional = tuple(each.tensor(device) for each in inputs if each.name is None)
        keywords = {each.name: each.tensor(device) for each in inputs if each.name is not None}
    elif given is None:
        positional, keywords = (_tokens(target, module, batch_size, seq_len, device),), {}
    else:
        positional, keywords = _split(given)
    if mode is not None:
        positional, keywords = all_fake((positional, keywords), mode)
    return Subject(name=target, module=module, arguments=positional, keywords=keywords, loss=loss, fake=mode)


def imported_since(before: Collection[str], folder: Path) -> tuple[str, ...]:
    """Files below a folder of somebody's own that were imported since the modules ``before`` were all.

    Packages that are installed below it (``site-packages``) are not its own, and neither is hwprof.
    """
    files = {getattr(module, "__file__", None) for name, module in list(sys.modules.items()) if name not in before}
    below = [Path(file) for file in files if file and Path(file).is_relative_to(folder)]
    own = [path for path in below if "site-packages" not in path.parts and not path.is_relative_to(PACKAGE)]
    return tuple(sorted(str(path.relative_to(folder)) for path in own))


def _load(target: str) -> Any:
    path, separator, name = target.partition(":")
    if not (path and separator and name):
        raise InputError(
            f"module {target!r} is no package.module:factory",
            expectation="the part before the colon is imported, the part after it is called without arguments",
            remedy="write for example --module mypackage.models:build",
        )
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(path)
    except ModuleNotFoundError as error:
        own = error.name is not None and (path == error.name or path.startswith(f"{error.name}."))
        remedy = "run in the folder that holds it, or install it" if own else f"install {error.name}"
        raise InputError(f"{path} can't be imported: {error}", remedy=remedy) from error
    except Exception as error:
        raise InputError(
            f"importing {path} raised {type(error).__name__}: {error}", remedy=f"make 'import {path}' work in python"
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise _no_attribute(path, part, found)
        found = getattr(found, part)
    return found


def _no_attribute(path: str, name: str, found: Any) -> InputError:
    known = sorted(each for each in vars(found) if not each.startswith("_") and callable(getattr(found, each)))
    near = difflib.get_close_matches(name, known, n=3)
    return InputError(
        f"{path} has no {name!r}",
        expectation=f"did you mean {' or '.join(near)}?"
        if near
        else f"it has {', '.join(known[:12]) or 'no functions'}",
        remedy="name a function without arguments that returns the module",
    )


def _called(target: str, factory: Any, *, fake: bool) -> Any:
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise _wrong_result(target, factory)
    try:
        return factory()
    except HwprofError:
        raise
    except Exception as error:
        message = (str(error).strip() or "no message").splitlines()[0]
        raise InputError(
            f"factory {target} raised {type(error).__name__}: {message}",
            expectation="it is called without arguments" + (", and parameters have shapes but no data" if fake else ""),
            remedy="call it by hand; if it works there, capture it on real tensors with --device cpu"
            if fake
            else "call it by hand",
        ) from error


def _parts(target: str, result: Any) -> tuple[nn.Module, Any, Any]:
    """Module, inputs, loss function; None for what the factory leaves out."""
    parts = result if isinstance(result, tuple) else (result,)
    if not 1 <= len(parts) <= 3 or not isinstance(parts[0], nn.Module):
        raise _wrong_result(target, result)
    module, inputs, loss = (*parts, None, None)[:3]
    if loss is not None and not callable(loss):
        raise _wrong_result(target, result)
    return module, inputs, loss


def _wrong_result(target: str, result: Any) -> InputError:
    kinds = ", ".join(type(part).__name__ for part in result) if isinstance(result, tuple) else type(result).__name__
    return InputError(
        f"{target} gives {kinds}",
        expectation="a torch.nn.Module, (module, inputs) or (module, inputs, loss function)",
        remedy="return one of these",
    )


def _split(given: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(given, Mapping):
        return (), dict(given)
    return (tuple(given) if isinstance(given, tuple | list) else (given,)), {}


def _tokens(
    target: str, module: nn.Module, batch_size: int | None, seq_len: int | None, device: torch.device
) -> torch.Tensor:
    layers = [part for part in module.modules() if next(part.parameters(recurse=False), None) is not None]
    first = layers[0] if layers else module
    if not isinstance(first, nn.Embedding):
        raise InputError(
            f"the inputs of {target} are not known: its first layer is a {type(first).__name__}",
            expectation="token ids are made up only for a module that begins with an embedding",
            remedy="say --input SHAPE:DTYPE for each argument of its forward, or return (module, inputs)",
        )
    if batch_size is None or seq_len is None:
        raise InputError(
            f"{target} reads token ids, but how many is not said",
            remedy="give --batch-size and --seq-len, or --input SHAPE:DTYPE",
        )
    shape = (batch_size, seq_len)
    return torch.randint(0, first.num_embeddings, shape, generator=_generator(device), device=device)


def _generator(device: torch.device) -> torch.Generator | None:
    """The same numbers each time, where there are any."""
    return None if device.type == "meta" else torch.Generator(device).manual_seed(0)
