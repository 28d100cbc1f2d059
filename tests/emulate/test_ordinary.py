"""What people do beside training: logs, schedules, scalers, checks for infinity, evaluation, checkpoints, averages."""

from hwprof.emulate.start import machine_named, recorded

SCRIPT = """
import argparse, logging, math, time
import torch, torch.distributed as dist, torch.nn as nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

class Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a * b
    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        return grad * b, grad * a

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(64, 128), nn.Linear(64, 128), nn.Linear(128, 10)
    def forward(self, x):
        return self.c(Gate.apply(self.a(x), self.b(x)))

args = argparse.ArgumentParser()
args.add_argument("--lr", type=float, default=0.1)
args = args.parse_args()
logging.basicConfig(level=logging.INFO)
dist.init_process_group("nccl")
local = dist.get_rank() % torch.cuda.device_count()
torch.cuda.set_device(local)
model = nn.parallel.DistributedDataParallel(Model().cuda(), device_ids=[local])
ema = torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
averaged = torch.optim.swa_utils.AveragedModel(model.module, multi_avg_fn=ema)
optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=100)
scaler = torch.amp.GradScaler("cuda")
data = TensorDataset(torch.randn(512, 64), torch.randint(0, 10, (512,)))
sampler = DistributedSampler(data)
loader = DataLoader(data, 8, sampler=sampler, num_workers=2, pin_memory=True, persistent_workers=True)
names = [None] * dist.get_world_size()
dist.all_gather_object(names, {"rank": dist.get_rank()})
for x, y in loader:
    begin = time.time()
    with torch.autocast("cuda", torch.float16):
        loss = nn.functional.cross_entropy(model(x.cuda(non_blocking=True)), y.cuda(non_blocking=True))
    if not torch.isfinite(loss) or torch.isnan(loss) or loss > 100 or not math.isfinite(loss.item()):
        raise RuntimeError("diverged")
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    schedule.step()
    averaged.update_parameters(model.module)
    torch.cuda.synchronize()
    used, most = torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
    assert 0 < used <= most <= torch.cuda.memory_reserved() < torch.cuda.mem_get_info()[1]
    logging.info("%.3f %.3f %.3f %.1f", loss.item(), norm.item(), schedule.get_last_lr()[0], time.time() - begin)
    with torch.no_grad():
        right = (averaged(x.cuda()).argmax(1) == y.cuda()).float().mean()
    dist.all_reduce(right, op=dist.ReduceOp.AVG)
    if dist.get_rank() == 0:
        torch.save({"model": model.module.state_dict(), "optimizer": optimizer.state_dict()}, "FOLDER/last.pt")
    dist.barrier()
"""


def test_a_script_as_people_write_it_runs_to_its_steps(tmp_path):
    """A sample takes 2 x 64 x 128 and 128 x 10 multiply-adds; the first layers need no gradient of their input."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.replace("FOLDER", str(tmp_path)), encoding="utf-8")
    found = recorded([str(script), "--lr", "0.01"], machine_named("h100-sxm", 8))[0]
    first, last = 2 * 64 * 128, 128 * 10
    assert found.flop == 2 * 8 * (first * 2 + last * 3 + first + last)
    sent = {(found.collectives[place].op, found.collectives[place].size_bytes) for place in found.count(1)}
    assert sent == {("all_reduce", 4 * (first + 2 * 128 + last + 10)), ("all_reduce", 4)}
    assert not (tmp_path / "last.pt").exists()  # nothing is written where nothing was computed
    assert found.host_s
    assert len(found.host_s) == len(found.events)
