"""What may be set for each model: plain dataclasses, one a model, the only place where their defaults stand.

The comment behind a field, or above it, is what --help prints as its meaning.
Imports no torch, so that a configuration can be composed and checked in milliseconds.
"""

from dataclasses import dataclass, field


@dataclass
class RecurrentLayers:
    """What the recurrent layers of both recurrent models take."""

    hidden_size: int = 128  # H, units of a layer
    num_layers: int = 1  # recurrent layers, one on the other
    placement: str = "paper"  # where the normaliser stands: paper, per_gate, cell_only, input_only, between_layers
    backend: str = "auto"  # what computes the recurrence: fused, reference (the equations, slower), or auto
    input_scale: float = 1.0  # standard deviation of the summed inputs W_x x at the start
    forget_bias: float = 1.0  # start of the LSTM's forget gate bias


@dataclass
class Recurrent(RecurrentLayers):
    """A recurrent language model: input -> recurrent layers -> softmax over the vocabulary."""

    name: str = "lstm"  # rnn (tanh), lstm or gru
    kind: str = "text"  # the kind of data that it takes
    dropout: float = 0.0  # probability, on the input, between the layers and before the output
    input: str = "auto"  # onehot, embedding, or auto: onehot for at most 1000 symbols
    embedding_size: int = 128  # units of an embedding
    tied: bool = False  # output matrix = embedding matrix; needs embedding_size = hidden_size


@dataclass
class ImageRecurrent(RecurrentLayers):
    """A recurrent classifier of images, read row by row or pixel by pixel; the last state gives the class."""

    name: str = "image_lstm"  # image_rnn (tanh), image_lstm or image_gru
    kind: str = "images"
    hidden_size: int = 100
    order: str = "rows"  # rows, pixels, or permuted: the pixels in one fixed random order
    dropout: float = 0.0  # probability, between the layers and before the output
    # standard deviation of Gaussian noise on the initial state h_0 in training; bn over pixels cannot do without it
    state_noise: float = 0.1


@dataclass
class CNN:
    """A plain stack of 3x3 convolutions, norm before ReLU, global average pooling and a linear layer."""

    name: str = "cnn"
    kind: str = "images"
    depth: int = 6  # convolutions, cut into three equal stages; each stage halves the resolution and doubles the width
    width: int = 16  # channels of the first stage


@dataclass
class ResNet20:
    """The CIFAR ResNet-20 of He et al. 2016: 3 stages of 3 blocks, parameter-free shortcuts."""

    name: str = "resnet20"
    kind: str = "images"
    width: int = 16  # channels of the first stage


@dataclass
class MLP:
    """The fully connected network of Ba et al. 2016, section 6.6: 784-1000-1000-10 on MNIST."""

    name: str = "mlp"
    kind: str = "images"
    hidden_sizes: list[int] = field(default_factory=lambda: [1000, 1000])  # units of each hidden layer
    norm_output: bool = False  # normalise the logits too, as the paper's BN did and its LN did not


SCHEMAS: dict[str, type] = {
    "recurrent": Recurrent,
    "image_recurrent": ImageRecurrent,
    "cnn": CNN,
    "resnet20": ResNet20,
    "mlp": MLP,
}
