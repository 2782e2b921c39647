"""Graphs of a layer: torch.compile, torch.export, torch.jit.trace and make_fx; and the operators by themselves."""

import copy
import io

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from models.errors import ModelError
from models.norms import BatchNorm
from models.recurrent import CELLS, Recurrent, cpu, operator
from models.recurrent.spec import Spec, Statistics
from tests.helpers.fused import assert_close, cotangents, make, noise, states_of


@pytest.fixture
def graphs():
    """Nothing compiled before or after; returns how many graphs have been."""
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    yield lambda: torch._dynamo.utils.counters["stats"]["unique_graphs"]
    torch.compiler.reset()


def values(run, layer: Recurrent, x: torch.Tensor, **settings) -> dict[str, torch.Tensor]:
    """Outputs and gradients, by name, of run(x, states): the layer, compiled or not."""
    leaves = {"x": x.clone().requires_grad_(), **dict(layer.named_parameters())}
    states = states_of(layer, x.shape[1])
    y, final = run(leaves["x"], states if len(states) == 2 else states[0], **settings)
    outputs = (y, *final) if isinstance(final, tuple) else (y, final)
    found = torch.autograd.grad(outputs, list(leaves.values()), cotangents(outputs))
    by_name = {name: out.detach() for name, out in zip(("y", "h_n", "c_n"), outputs, strict=False)}
    return by_name | {f"d {name}": gradient for name, gradient in zip(leaves, found, strict=True)}


# --- torch.compile ----------------------------------------------------------------------------------------------------

KINDS = [
    ("rnn", "ln", "paper", True),
    ("lstm", "none", "paper", True),
    ("lstm", "gn", "cell_only", False),
    ("lstm", "wn", "paper", False),
    ("gru", "rms", "input_only", False),
    ("gru", "ln", "between_layers", False),
]


@pytest.mark.parametrize("cell, norm, placement, bidirectional", KINDS)
def test_a_compiled_layer_computes_the_same(cell, norm, placement, bidirectional, graphs):
    layer, x = make(cell, 7, norm, placement, bidirectional=bidirectional), noise(4, 3, 5)
    run = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert_close(values(run, layer, x), values(layer, layer, x), 1e-12)
    with torch.no_grad():
        assert torch.equal(run(x)[0], layer(x)[0])


def test_inductor_calls_the_operators(graphs):
    """Without biases, whose sum would be code for a compiler."""
    layer, x = make("lstm", 7, "ln", "input_only", bias=False), noise(4, 3, 5)
    run = torch.compile(layer, fullgraph=True)
    assert_close(values(run, layer, x), values(layer, layer, x), 1e-12)


def test_one_graph_serves_every_length(graphs):
    layer = make("lstm", 7, "ln")
    run = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for T, N in ((4, 3), (6, 4), (300, 2), (9, 5)):
        x = noise(T, N, 5)
        assert_close(values(run, layer, x), values(layer, layer, x), 1e-12)
    assert graphs() == 2, "one for the first sizes, one for all others"


def test_compiled_batch_normalisation_moves_its_statistics(graphs):
    """A sequence longer than the one before; then evaluation beyond the known steps."""
    layer = make("rnn", 7, "bn", "per_gate", options={"unbiased": True})
    other = copy.deepcopy(layer)
    run = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for T, training in ((3, True), (5, True), (7, False)):
        layer.train(training), other.train(training)
        x = noise(T, 4, 5, seed=T)
        assert_close(values(run, layer, x), values(other, other, x), 1e-12)
        for buffer, expected in zip(layer.buffers(), other.buffers(), strict=True):
            torch.testing.assert_close(buffer, expected, rtol=1e-12, atol=1e-12)
    assert all(len(norm.running_mean) == 5 for norm in layer.modules() if isinstance(norm, BatchNorm))


def test_what_no_kernel_can_run_is_left_out_of_the_graph(graphs):
    """It would be unrolled: here 12 operations for each of 300 steps."""
    layer, x, seen = make("lstm", 7, "ln", backend="auto"), noise(300, 3, 5), []
    layer.norm_hh_l0.register_forward_hook(lambda *_: seen.append(1))
    expected = layer(x)[0]
    assert torch.equal(torch.compile(layer, backend="aot_eager")(x)[0], expected)
    assert len(seen) == 2 * 300
    with pytest.raises(torch._dynamo.exc.Unsupported, match="disable"):
        torch.compile(layer, fullgraph=True, backend="eager")(x)


def test_sequences_of_several_lengths_are_left_out_of_the_graph(graphs):
    layer, x, lengths = make("gru", 7, "ln"), noise(4, 3, 5), torch.tensor([2, 4, 1])
    run = torch.compile(layer, backend="aot_eager")
    assert torch.equal(run(x, lengths=lengths)[0], layer(x, lengths=lengths)[0])


def test_compiled_resets_and_recomputation(graphs):
    layer, x = make("lstm", 7, "ln", recompute=True), noise(4, 3, 5)
    reset = noise(4, 3, seed=1) > 0.5
    run = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert_close(values(run, layer, x, reset=reset), values(layer, layer, x, reset=reset), 1e-12)


# --- the operators ----------------------------------------------------------------------------------------------------

CASE, BATCH, FROZEN = Statistics("case", 1e-5, (16,)), Statistics("batch", 1e-5, unbiased=True), Statistics("frozen")
GATES = Statistics("case", 1e-5, (32, 32))
SPECS = {
    "rnn": Spec("rnn", True, CASE),
    "lstm": Spec("lstm", False, GATES, None, CASE, reverse=True),
    "gru": Spec("gru", False, BATCH, BATCH),
    "frozen": Spec("lstm", False, FROZEN, None, FROZEN, recompute=True),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_spec_is_read_as_it_was_written(spec):
    assert Spec.read(str(spec)) == spec


@pytest.mark.parametrize("cell", CELLS)
def test_the_operators_are_as_torch_expects(cell):
    """torch.library.opcheck: the schema, the fake implementation with sizes that are symbols, autograd.

    It compares what is kept for backward, too: of sizes that leave no gaps in it.
    """
    spec, (T, N, I, H) = str(SPECS[cell]), (4, 4, 5, 16)  # noqa: E741
    m = CELLS[cell].gates * H
    shapes = {"x": (T, N, I), "W_ih": (m, I), "W_hh": (m, H), "h0": (N, H), "b_ih": (m,), "g_ih": (m,)}
    if cell == "lstm":
        shapes |= {"c0": (N, H), "g_cell": (H,), "b_cell": (H,)}
    if cell == "gru":
        shapes |= {"b_hh": (m,), "g_hh": (m,)}
    tensors = [noise(*shapes[name]) if name in shapes else None for name in cpu.Tensors._fields]
    namespace, needed = getattr(torch.ops, operator.NAMESPACE), [tensor is not None for tensor in tensors]
    y, _, _, kept, _ = namespace.sequence(spec, True, *tensors, [], None)
    arguments = (spec, *tensors, [], None, y, kept, noise(T, N, H), None, None, needed)
    torch.library.opcheck(namespace.sequence_backward.default, arguments)
    tensors = [None if tensor is None else tensor.requires_grad_() for tensor in tensors]
    torch.library.opcheck(namespace.sequence.default, (spec, True, *tensors, [], None))


# --- torch.export, torch.jit.trace, make_fx ---------------------------------------------------------------------------


class Outputs(torch.nn.Module):
    def __init__(self, layer: Recurrent):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


def nodes(program: torch.export.ExportedProgram) -> str:
    return " ".join(str(node.target) for node in program.graph.nodes)


@pytest.mark.parametrize("strict", [False, True], ids=["non_strict", "strict"])
def test_an_exported_layer_has_operations_of_torch_alone_and_any_batch(strict, graphs):
    model, x = Outputs(make("lstm", 7, "ln", backend="auto")).eval(), noise(4, 3, 5)
    sizes = ({1: torch.export.Dim("batch", min=2)},)
    program = torch.export.export(model, (x,), dynamic_shapes=sizes, strict=strict)
    assert operator.NAMESPACE not in nodes(program)
    x = noise(4, 8, 5)
    torch.testing.assert_close(program.module()(x), model(x), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("strict", [False, True], ids=["non_strict", "strict"])
def test_an_exported_layer_with_the_kernels_has_any_batch_and_length(strict, graphs):
    model, x = Outputs(make("gru", 7, "ln", backend="fused")).eval(), noise(4, 3, 5)
    sizes = ({0: torch.export.Dim("steps", min=2), 1: torch.export.Dim("batch", min=2)},)
    program = torch.export.export(model, (x,), dynamic_shapes=sizes, strict=strict)
    assert operator.NAMESPACE in nodes(program)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    for again in (program, program.run_decompositions(), torch.export.load(file)):
        x = noise(9, 12, 5)[:, ::2]
        assert torch.equal(again.module()(x), model(x))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("norm", ["none", "ln", "bn"])
@pytest.mark.parametrize("cell", CELLS)
def test_traces_and_graphs_of_operations(cell, norm):
    layer = make(cell, 7, norm, backend="auto")
    layer(noise(4, 3, 5))
    model, x, other = Outputs(layer).eval(), noise(4, 3, 5), noise(4, 3, 5, seed=1)
    for graph in (torch.jit.trace(model, (x,)), make_fx(model)(x)):
        torch.testing.assert_close(graph(other), model(other), rtol=1e-11, atol=1e-11)
    layer.backend = "fused"
    with pytest.raises(ModelError, match=r"torch\.jit is tracing") as caught:
        torch.jit.trace(model, (x,))
    assert "\n" not in str(caught.value)
