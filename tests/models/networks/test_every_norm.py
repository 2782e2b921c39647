"""Every model with every normaliser."""

import pytest
import torch
from torch import nn

from models.norms import NORMS
from models.recurrent import Recurrent
from tests.helpers.networks import COMBINATIONS, batch, loss_of, tiny


@pytest.mark.parametrize("model, norm", COMBINATIONS)
def test_one_training_step(model, norm):
    """Finite gradients for every parameter, a step that lowers the loss on its batch, an evaluation."""
    network = tiny(model, norm)
    x, targets = batch(model)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    loss = loss_of(network, x, targets)
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    torch.optim.SGD(network.parameters(), lr=1e-2).step()
    assert any(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    assert loss_of(network, x, targets) < loss
    assert loss_of(network.eval(), x, targets).isfinite()


@pytest.mark.parametrize("model, norm", [(model, norm) for model, norm in COMBINATIONS if norm != "none"])
def test_the_same_seed_gives_every_norm_the_same_weights(model, norm):
    """Or a difference between norms could be one between starts. For WN the weights are those it makes of g and v."""

    def start(network):
        tensors = {}
        for name, module in network.named_modules():
            if isinstance(module, (nn.Linear, nn.Conv2d, nn.Embedding)):
                tensors[name] = module.weight
            elif isinstance(module, Recurrent):
                tensors |= {f"{name}.{weight}": getattr(module, weight) for weight in module.weight_names}
                tensors |= {name: p for name, p in module.named_parameters(recurse=False) if name.startswith("bias")}
        return tensors

    plain, normalised = start(tiny(model)), start(tiny(model, norm))
    assert plain.keys() == normalised.keys() and len(plain) >= 2
    for name in plain:
        if norm == "wn":
            torch.testing.assert_close(normalised[name], plain[name], rtol=1e-6, atol=1e-7)
        else:
            assert torch.equal(normalised[name], plain[name]), name
    assert not torch.equal(next(iter(start(tiny(model, seed=1)).values())), next(iter(plain.values())))


@pytest.mark.parametrize("model", ["cnn", "resnet20", "mlp", "mlp_norm_output"])
@pytest.mark.parametrize("norm", NORMS)
def test_every_hidden_layer_is_normalised(model, norm):
    network = tiny(model, norm)
    wanted = {"cnn": 3, "resnet20": 19, "mlp": 2, "mlp_norm_output": 2}[model]
    assert sum(type(module) is NORMS[norm].cls for module in network.modules()) == wanted


@pytest.mark.parametrize("model", ["cnn", "mlp", "mlp_norm_output"])
def test_weight_norm_with_data_init_starts_every_normalised_layer_standardised(model):
    network = tiny(model, "wn", data_init=True)
    x, _ = batch(model)
    seen = []
    for module in network.modules():
        if type(module) is NORMS["wn"].cls:
            module.register_forward_hook(lambda module, args, out: seen.append(out))
    network(x)
    assert len(seen) >= 2
    for out in seen:
        axes = [axis for axis in range(out.dim()) if axis != 1]
        torch.testing.assert_close(out.mean(axes), torch.zeros(out.shape[1]), rtol=0, atol=1e-5)
        torch.testing.assert_close(out.var(axes, correction=0), torch.ones(out.shape[1]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("model", ["cnn", "mlp", "mlp_norm_output"])
def test_weight_norm_with_data_init_learns_from_its_first_batch(model):
    """The batch that sets g and b is trained on as well: its gradients are those of the network it has set."""
    network = tiny(model, "wn", data_init=True)
    x, targets = batch(model)
    parameters = dict(network.named_parameters())
    first, again = (
        torch.autograd.grad(loss_of(network, x, targets), parameters.values(), allow_unused=True) for _ in range(2)
    )
    for name, a, b in zip(parameters, first, again, strict=True):
        assert a is not None, f"{name} has no gradient from the first batch"
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
