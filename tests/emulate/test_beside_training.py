"""What scripts ask of torch beside training: objects of other ranks, profilers' marks, sensors, files, pipelines."""

from threading import Event, Thread

import pytest

from hwprof.emulate import start
from hwprof.emulate.recording import Memory, Recording
from hwprof.emulate.start import machine_named, recorded
from hwprof.errors import InputError, WorkError

SCRIPT = """
import queue, threading
from concurrent.futures import ThreadPoolExecutor
import torch, torch.distributed as dist, torch.distributed.checkpoint as dcp, torch.nn as nn
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.state_dict import get_model_state_dict

dist.init_process_group("nccl")
rank, names = dist.get_rank(), [None, None]
dist.all_gather_object(object_list=names, obj={"rank": rank})
assert names[rank] == {"rank": rank}
plan = [{"lr": 0.5, "by": rank}] if rank == 0 else [None]
dist.broadcast_object_list(object_list=plan, src=0)
assert plan == [{"lr": 0.5, "by": 0}]
mine = [None]
dist.scatter_object_list(
    scatter_object_output_list=mine, scatter_object_input_list=["first", "second"] if rank == 0 else None, src=0
)
assert mine == [("first", "second")[rank]]
dist.gather_object(obj=rank, object_gather_list=names if rank == 0 else None, dst=0)
try:
    torch.cuda.CUDAGraph()
    raise SystemExit("a graph")
except Exception as error:
    assert "can't be followed" in str(error)
assert (torch.cuda.CUDAGraph | None) and not isinstance(None, torch.cuda.FloatTensor | torch.cuda.CUDAGraph)
assert isinstance(torch.cuda.LongTensor([1, 2]), torch.cuda.LongTensor)
assert torch.cuda.temperature() > 0 and torch.cuda.power_draw() > 0
torch.cuda.profiler.start(); torch.cuda.cudart().cudaProfilerStop()
weights = load_file("FOLDER/weights.safetensors", device="cuda")
with safe_open("FOLDER/weights.safetensors", framework="pt") as file:
    assert file.get_slice("weight")[:2].shape == (2, 8) and file.get_tensor("bias").tolist() == [0.5] * 4
model = nn.Linear(8, 4).cuda()
model.load_state_dict(weights)
model.load_state_dict(torch.load("FOLDER/weights.pt", map_location=lambda storage, _: storage.cuda(0)))
optimizer = torch.optim.AdamW(model.parameters(), torch.tensor(plan[0]["lr"], device="cuda"), fused=True)
with ThreadPoolExecutor(2) as pool:
    assert [each.device.type for each in pool.map(torch.Tensor.cuda, [torch.ones(2), torch.ones(3)])] == ["cuda"] * 2
class Loader(torch.utils.data.DataLoader):
    def __init__(self, data, workers):
        super().__init__(data, batch_size=2)
        self.num_workers = workers
assert [batch.tolist() for batch in Loader([1, 2, 3], workers=4)] == [[1, 2], [3]]
ready, stream = queue.Queue(2), torch.cuda.Stream()
def fetch():
    with torch.cuda.stream(stream):
        for _ in range(3):
            ready.put(torch.ones(2, 8).pin_memory().cuda(non_blocking=True))
threading.Thread(target=fetch, daemon=True).start()
for step in range(3):
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.nvtx.range_push("step")
    with torch.cuda.nvtx.range("forward"):
        loss = model(ready.get(timeout=60)).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    torch.cuda.nvtx.range_pop()
    both = torch.tensor([loss.detach(), torch.ones((), device="cuda")], device="cuda")
    with torch.inference_mode():
        torch.as_tensor([loss.detach() * 2], device="cuda")
    dist.all_reduce(both)
    assert torch.allclose(loss, loss) and both.tolist() == [2.0, 2.0]
    save_file(model.state_dict(), "FOLDER/saved.safetensors")
    dcp.save({"model": get_model_state_dict(model)}, checkpoint_id="FOLDER/sharded")
    dcp.async_save({"model": model.state_dict()}, checkpoint_id="FOLDER/sharded").result()
"""


def test_another_rank_gets_what_the_first_one_has(tmp_path):
    """A linear layer of 8 x 4 on 2 samples: its products are those of the forward pass and of the weight's gradient."""
    torch, safetensors = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    held = {"weight": torch.ones(4, 8), "bias": torch.full((4,), 0.5)}
    torch.save(held, tmp_path / "weights.pt")
    safetensors.save_file(held, tmp_path / "weights.safetensors")
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.replace("FOLDER", str(tmp_path)), encoding="utf-8")
    found = recorded([str(script)], machine_named("h100-sxm", 2), rank=1)[0]
    assert found.rank == 1
    assert found.flop == 2 * (2 * 2 * 8 * 4)
    assert not (tmp_path / "sharded").exists()
    assert not (tmp_path / "saved.safetensors").exists()
    assert {"checkpoints are not written", "torch.cuda.power_draw: the script reads 500000, which is made up"} <= set(
        found.notes
    )


def test_an_operator_that_torch_has_no_rule_for_is_named(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import torch\n"
        "scores = torch.randn(50, 2, 8, device='cuda').log_softmax(2)\n"
        "words, lengths = torch.ones(2, 10, dtype=torch.long, device='cuda'), torch.tensor([50, 50])\n"
        "torch.nn.functional.ctc_loss(scores, words, lengths, torch.tensor([10, 10]))\n",
        encoding="utf-8",
    )
    with pytest.raises(WorkError, match=r"train.py:4: torch has no rule for what aten::_use_cudnn_ctc_loss gives"):
        recorded([str(script)], machine_named("h100-sxm", 1))


@pytest.mark.parametrize(
    ("typed", "script"),
    [
        ("train.py --lr 1", "train.py --lr 1"),
        ("python3 -u train.py --data x.py", "train.py --data x.py"),
        ("python -m package.train", "-m package.train"),
        ("torchrun --standalone --nproc-per-node 8 train.py --lr 1", "train.py --lr 1"),
        ("python -m torch.distributed.run --nnodes 2 src/train.py", "src/train.py"),
        ("accelerate launch --config_file fsdp.yaml train.py", "train.py"),
    ],
)
def test_a_script_is_found_behind_what_starts_its_ranks(typed, script):
    assert " ".join(start.script_of(typed.split())) == script


def test_a_launcher_without_a_file_is_refused():
    with pytest.raises(InputError, match="torchrun starts ranks"):
        start.script_of(["torchrun", "--nproc-per-node", "8", "-m", "package.train"])


def _ended(number, *, awaits=-1, failure=""):
    memory = Memory(peak_bytes=0, reserved_bytes=0, kinds={}, refusal=None)
    made = {"calls": (), "collectives": (), "events": (), "call_count": 0, "made_up": {}, "notes": ()}
    whole = {"device": "cuda", "software": "torch", "tf32": False, "line": "train.py:7", "memory": memory}
    return Recording(rank=number, devices=4, steps=1, awaits=awaits, failure=failure, **whole, **made)


@pytest.fixture
def emulated_in_turn(monkeypatch, tmp_path):
    """Ranks that wait for each other as they are told, and the order in which they run: rank -> for which it waits."""

    def run(waits, rank):
        script, order, done = tmp_path / "train.py", [], set()
        script.write_text("", encoding="utf-8")

        def child(asked, _believed):
            number = asked["rank"]
            order.append(number)
            for awaited in waits.get(number, ()):
                if awaited not in done:
                    return _ended(number, awaits=awaited, failure=f"it waits for an object of rank {awaited}")
            done.add(number)
            return _ended(number)

        monkeypatch.setattr(start, "_in_child", child)
        return recorded([str(script)], machine_named("h100-sxm", 4), rank=rank), order

    return run


def test_a_rank_waits_for_one_that_is_already_on_the_list(emulated_in_turn):
    found, order = emulated_in_turn({3: (1, 2), 2: (1, 0), 1: (0,)}, 3)
    assert [each.rank for each in found] == [3, 0, 1, 2]
    assert order == [3, 1, 0, 1, 3, 2, 3]


def test_a_rank_that_goes_on_longer_than_the_one_it_hears_from_has_its_step(monkeypatch, tmp_path):
    script = tmp_path / "train.py"
    script.write_text("", encoding="utf-8")

    def child(asked, _believed):
        return _ended(0) if asked["rank"] == 0 else _ended(1, awaits=0, failure="it waits")

    monkeypatch.setattr(start, "_in_child", child)
    found = recorded([str(script)], machine_named("h100-sxm", 4), rank=1)
    assert [(each.rank, each.failure) for each in found] == [(1, ""), (0, "")]


def test_ranks_that_wait_in_a_circle_end_with_the_line(emulated_in_turn):
    with pytest.raises(WorkError, match=r"train.py:7: it waits for an object of rank 3"):
        emulated_in_turn({3: (2,), 2: (1,), 1: (3,)}, 3)


def test_a_thread_that_leaves_puts_back_what_it_found_itself():
    torch = pytest.importorskip("torch")
    from hwprof.emulate.run.cuda.accelerator import Mode

    mode, inside, leave = Mode(), Event(), Event()

    def other():
        with mode:
            inside.set()
            leave.wait(60)

    thread = Thread(target=other)
    with mode:
        thread.start()
        assert inside.wait(60)
        with mode:
            leave.set()
            thread.join()
            assert torch._C._only_lift_cpu_tensors()
        assert torch._C._only_lift_cpu_tensors()
    assert not torch._C._only_lift_cpu_tensors()
