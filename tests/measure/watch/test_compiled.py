"""Claims about real compiled models on the CPU, held against the same models run eagerly under hooks."""

import shutil
from collections import Counter

import pytest
import torch
from torch import nn
from torch._inductor import config
from torch.fx.experimental.proxy_tensor import make_fx
from torch.profiler import record_function

from hwprof.measure.attribute.attribution import attribute
from hwprof.measure.their_loop.model import see
from hwprof.measure.watch.annotate import phase_range, profiler
from hwprof.measure.watch.compiled import CompiledGraphs, elements_of
from hwprof.measure.watch.owners import Modules
from hwprof.measure.watch.trace_file import read_whole
from hwprof.spans.marks import WINDOW

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler on a CPU")

pytestmark = [  # of inductor's and dynamo's own code
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning"),
]

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::_scaled_dot_product_flash_attention_for_cpu")


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(32, 32, bias=False) for _ in range(3))
        self.module = nn.Linear(32, 32, bias=False)  # as DistributedDataParallel calls what it wraps

    def forward(self, value):
        heads = [part(value).view(2, 16, 2, 16).transpose(1, 2) for part in (self.query, self.key, self.value)]
        mixed = nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
        return self.module(mixed.transpose(1, 2).reshape(2, 16, 32))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention_norm, self.ffn_norm = nn.LayerNorm(32), nn.LayerNorm(32)
        self.attention = Attention()
        self.up, self.activation, self.down = nn.Linear(32, 96), nn.GELU(), nn.Linear(96, 32)

    def forward(self, value):
        value = value + self.attention(self.attention_norm(value))
        return value + self.down(self.activation(self.up(self.ffn_norm(value))))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 32)
        self.layers = nn.ModuleList([Layer(), Layer()])
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 50, bias=False)

    def forward(self, tokens):
        value = self.embedding(tokens)
        for layer in self.layers:
            value = layer(value)
        return self.head(self.norm(value))


class Mixer(nn.Module):
    """Products of matrices: inductor joins backward's products of query, key and value with the sum of gradients."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(32, 32, bias=False) for _ in range(3))

    def forward(self, value):
        return self.query(value) * self.key(value).exp() * self.value(value)


class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.norm, self.mixer = nn.Embedding(50, 32), nn.LayerNorm(32), Mixer()

    def forward(self, tokens):
        return self.mixer(self.norm(self.embedding(tokens.flatten())))


def _profiled(how, folder, make=Model):
    """(attribution of one step of a model that ``how`` compiles, what was heard)."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    root = how(make())
    seen = see(root)
    tokens = torch.randint(0, 50, (2, 16))
    with seen.modules.listening():
        for _ in range(2):
            root(tokens).square().mean().backward()
        with seen.modules.ranges([]), profiler(torch.device("cpu")) as session:
            _step(root, tokens)
            with record_function(WINDOW):
                _step(root, tokens)
    path = folder / "trace.json"
    session.export_chrome_trace(str(path))
    graphs = seen.modules.graphs.graphs if seen.modules.graphs else ()
    return attribute(read_whole(path), device="cpu", steps=1, graphs=graphs), seen


def _step(root, tokens):
    with phase_range("forward"):
        logits = root(tokens)
    with phase_range("loss"):
        loss = logits.square().mean()
    with phase_range("backward"):
        loss.backward()


def _by_layer(model):
    for layer in model.layers:
        layer.compile()
    return model


@pytest.fixture(scope="module")
def eager(tmp_path_factory):
    return _profiled(lambda model: model, tmp_path_factory.mktemp("eager"))[0]


@pytest.fixture(scope="module", params=[torch.compile, _by_layer], ids=["whole", "layer by layer"])
def compiled(request, tmp_path_factory):
    return _profiled(request.param, tmp_path_factory.mktemp("compiled"))


def _products(summary):
    """How often each module runs each kind of matrix product."""
    counts = Counter()
    for kernel in summary.kernels:
        if kernel.name.startswith(PRODUCTS):
            kind = "attention" if "attention" in kernel.name else "product"
            counts[kernel.label, kernel.direction, kind] += kernel.calls
    return counts


@needs_compiler
def test_products_of_a_compiled_model_belong_to_the_modules_of_the_eager_one(compiled, eager):
    products = _products(compiled[0])
    assert sum(products.values()) == 3 * (2 * 6 + 1) + 2 * 2  # each twice as often backward; attention once each way
    assert products == _products(eager)


@needs_compiler
def test_products_that_are_joined_with_sums_belong_to_their_own_modules(tmp_path):
    found, plain = (_profiled(how, tmp_path, Flat)[0] for how in (torch.compile, lambda model: model))
    assert [kernel.name for kernel in found.kernels if kernel.name == "aten::addmm"]
    assert _products(found) == _products(plain)


@needs_compiler
def test_fused_kernels_belong_to_modules_that_have_elementwise_work(compiled, eager):
    made = [kernel for kernel in compiled[0].kernels if "cpp_fused" in kernel.name]
    labels = {label for kernel in made for label in kernel.label.removesuffix(" (fused)").split(" + ")}
    assert len(made) >= 8
    assert labels <= {op.label for op in eager.ops}
    assert {"layers.*.activation", "layers.*.attention_norm", "layers.*.ffn_norm"} <= labels


@needs_compiler
def test_nearly_every_kernel_of_a_compiled_graph_has_a_module(compiled):
    made = [kernel for kernel in compiled[0].kernels if "cpp_fused" in kernel.name]
    unknown = sum(kernel.calls for kernel in made if kernel.label == "model")
    assert unknown <= 0.1 * sum(kernel.calls for kernel in made)


@needs_compiler
def test_inductor_is_left_as_it_was(compiled):
    from torch._inductor.graph import GraphLowering

    assert compiled[1].modules.why_hidden() == ""
    assert config.post_grad_custom_post_pass is None
    assert not config.cpp.enable_kernel_profile
    assert config.trace.provenance_tracking_level == 0
    before = GraphLowering.save_output_code
    graphs = CompiledGraphs(Model())
    with graphs:
        assert GraphLowering.save_output_code is not before
    graphs.close()
    assert GraphLowering.save_output_code is before


def test_work_of_an_operation_is_what_it_writes_or_of_a_reduction_reads():
    def work(value):
        spread, _ = torch.var_mean(value, dim=1)
        return value.t(), value.view(32).neg(), value.sum(dim=1), spread, value @ value.t()

    graph = make_fx(work, tracing_mode="fake")(torch.ones(4, 8)).graph
    assert {node.target.__name__: elements_of(node) for node in graph.nodes if node.op == "call_function"} == {
        "var_mean.correction": 32,
        "getitem": 0,
        "t.default": 0,
        "view.default": 0,
        "neg.default": 32,
        "sum.dim_IntList": 32,
        "mm.default": 16,
    }


def test_what_was_compiled_before_is_said_to_be_unheard():
    seen = see(torch.compile(Model(), backend="eager"))
    with seen.modules.listening():
        seen.root(torch.randint(0, 50, (2, 16)))
    assert "it was compiled before, or by another backend" in seen.modules.why_hidden()


def test_torch_that_keeps_no_list_is_said_to_keep_none(monkeypatch):
    from torch._inductor import debug

    monkeypatch.delattr(debug, "_inductor_triton_kernel_to_post_grad_node_info")
    graphs = CompiledGraphs(Model())
    with graphs:
        assert config.post_grad_custom_post_pass is None
    assert graphs.unheard == f"torch {torch.__version__} does not tell which operations the kernels it makes compute"


def test_parts_that_are_not_compiled_are_annotated_and_compiled_ones_are_not():
    model = Model()
    assert Modules.compiled(model, "hidden").named == ()
    for layer in model.layers:
        layer.compile(backend="eager")
    assert [path for path, _ in Modules.compiled(model, "hidden").named] == ["embedding", "layers", "norm", "head"]
