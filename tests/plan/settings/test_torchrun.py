"""Does torchrun read its line as it is meant?"""

from __future__ import annotations

import shlex
import subprocess

from torch.distributed.run import get_args_parser

from hwprof.plan.settings.torchrun import settings_for


def words(text, *arguments, **environment):
    """What a shell makes of the script, with torchrun and exec replaced by printing."""
    script = text.replace("exec torchrun", "printf '%s\\n'")
    found = subprocess.run(["sh", "-c", script, "sh", *arguments], env=environment, capture_output=True, check=False)
    return found.returncode, found.stdout.decode().splitlines()


def test_several_nodes_meet_at_node_0(launch):
    text = settings_for(launch()).text
    code, found = words(text, "train.py", "--lr", "1 e", NODE_RANK="1", MASTER_ADDR="node0", PATH="/usr/bin:/bin")
    args = get_args_parser().parse_args(found)
    assert code == 0
    assert (args.nnodes, args.nproc_per_node, args.node_rank) == ("2", "8", 1)
    assert (args.master_addr, args.master_port) == ("node0", 29500)
    assert (args.training_script, args.training_script_args) == ("train.py", ["--lr", "1 e"])


def test_a_node_without_a_number_is_told_to_have_one(launch):
    code, _ = words(settings_for(launch()).text, "train.py", PATH="/usr/bin:/bin")
    assert code != 0


def test_one_node_needs_nothing(launch):
    one = launch(nodes=1, layout={"data_parallel": 8})
    code, found = words(settings_for(one).text, "train.py", PATH="/usr/bin:/bin")
    args = get_args_parser().parse_args(found)
    assert (code, args.standalone, args.nproc_per_node) == (0, True, "8")


def test_a_tpu_is_started_in_another_way(launch):
    found = settings_for(launch(backend="other", device="tpu-v5p"))
    assert (found.text, found.lacks) == ("", ("processes on tpu-v5p: not started by torchrun",))


def test_a_name_can_not_leave_its_comment(launch):
    plain = launch()
    spoiled = plain.job.model.model_copy(update={"name": "x\nrm -rf /\r$(boom)"})
    from dataclasses import replace

    text = settings_for(replace(plain, job=plain.job.model_copy(update={"model": spoiled}))).text
    assert not [line for line in text.splitlines() if not line.startswith(("#", "exec torchrun "))]
    assert shlex.split(text.splitlines()[-1], comments=True)[:2] == ["exec", "torchrun"]
