"""How are the processes of a plan started? The ``torchrun`` line of each node."""

from __future__ import annotations

from hwprof.plan.settings.launch import Launch, Settings, told

FRAMEWORK = "torchrun"
FILE_NAME = "torchrun.sh"


def settings_for(launch: Launch) -> Settings:
    """A shell script that starts a node's processes; its arguments are the program and what that takes."""
    lacks = told([(launch.backend == "other", f"processes on {launch.device}: not started by torchrun")])
    if lacks:
        return Settings(framework=FRAMEWORK, file_name=FILE_NAME, lacks=lacks)
    return Settings(framework=FRAMEWORK, file_name=FILE_NAME, text="\n".join(_lines(launch)) + "\n")


def launcher(launch: Launch) -> list[str]:
    """The words before the program, quoted for a shell."""
    per_node = f"--nproc-per-node={launch.devices_per_node}"
    if launch.nodes == 1:
        return ["torchrun", "--standalone", per_node]
    return [
        "torchrun",
        f"--nnodes={launch.nodes}",
        per_node,
        '--node-rank="${NODE_RANK:?number of this node, from 0}"',
        '--master-addr="${MASTER_ADDR:?address of node 0}"',
        '--master-port="${MASTER_PORT:-29500}"',
    ]


def _lines(launch: Launch) -> list[str]:
    return [
        "#!/bin/sh",
        *(f"# {line}" for line in launch.about),
        "# on each node: sh torchrun.sh PROGRAM ARGUMENTS...",
        "exec " + " ".join(launcher(launch)) + ' "$@"',
    ]
