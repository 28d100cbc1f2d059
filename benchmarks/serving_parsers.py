"""Do the parsers of vLLM and SGLang accept the settings that ``hwprof deploy`` writes for them?

    python benchmarks/serving_parsers.py

It needs ``vllm`` and ``sglang`` importable, which a machine without a GPU has from the Python files of their wheels
(``pip install --no-deps``) and what these import. Only arguments are parsed; nothing is loaded or started. TensorRT-LLM
can't be imported without a GPU's driver.
"""

from __future__ import annotations

import argparse
import itertools
import shlex
from collections.abc import Callable, Sequence
from importlib.metadata import version

from hwprof.deploy.engine import engine_file
from hwprof.deploy.formats import formats_of
from hwprof.deploy.links import links_of
from hwprof.deploy.names import known_model
from hwprof.deploy.passes import Deployment
from hwprof.deploy.settings import settings_of
from hwprof.deploy.space import Demand, offers_of
from hwprof.specs.catalogue.lookup import load_device


def vllm_parse() -> Callable[[Sequence[str]], object]:
    """The parser of ``vllm serve``; it asks for the platform when it is made."""
    import vllm.platforms
    from vllm.platforms.cpu import CpuPlatform

    vars(vllm.platforms)["_current_platform"] = CpuPlatform()
    from vllm.entrypoints.common.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    return make_arg_parser(FlexibleArgumentParser()).parse_args


def sglang_parse() -> Callable[[Sequence[str]], object]:
    """The parser of ``sglang.launch_server``."""
    from sglang.srt.server_args import ServerArgs

    parser = argparse.ArgumentParser()
    ServerArgs.add_cli_args(parser)
    return parser.parse_args


def commands() -> dict[str, set[str]]:
    """Settings of servers of all sorts of layouts, by engine."""
    found: dict[str, set[str]] = {"vllm": set(), "sglang": set()}
    device = load_device("h200-sxm5-141gb")
    for name, accepted, reused, two in itertools.product(("8b", "deepseek-r1"), (None, 2.5), (0.0, 0.5), (False, True)):
        model = known_model(name)
        formats = formats_of(model, device, "fp8-block" if model.sparse else "fp8")
        deployment = Deployment(model=model, device=device, formats=formats, links=links_of(device.id), two_batches=two)
        demand = Demand(prompt=1024, new=512, users=(16,), accepted=accepted, reused=reused)
        for offer in offers_of(deployment, "vllm", demand, engine_file(), most_devices=16).offers:
            for setting in settings_of(offer, demand, name):
                if setting.engine in found:
                    found[setting.engine].add(setting.command)
    return found


def main() -> None:
    parsers = {"vllm": vllm_parse, "sglang": sglang_parse}
    programs = {"vllm": 2, "sglang": 3}
    for engine, lines in commands().items():
        parse = parsers[engine]()
        for line in lines:
            parse(shlex.split(line)[programs[engine] :])
        print(f"{engine} {version(engine)} accepts {len(lines)} commands")


if __name__ == "__main__":
    main()
