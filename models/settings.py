"""What may be set for each model: plain dataclasses, one a model, the only place where their defaults stand.

A field's metadata has its meaning with its unit ("help"), and where it has them its range, as (low, high) or as an
inequality, and its choices; --help prints them, and configurations are checked by them.
Imports no torch, so that a configuration can be composed and checked in milliseconds.
"""

from dataclasses import dataclass, field

# Beyond these a model has more parameters than any machine holds, or takes minutes to build.
MOST_LAYERS = 1000
MOST_UNITS = 2**20


@dataclass
class Cell:
    """How the recurrent cells of every model are built."""

    placement: str = field(
        default="paper",
        metadata={
            "help": "where the normaliser stands",
            "choices": ("paper", "per_gate", "cell_only", "input_only", "between_layers"),
        },
    )
    backend: str = field(
        default="auto",
        metadata={
            "help": "what computes the recurrence; reference: the equations, slower",
            "choices": ("auto", "fused", "reference"),
        },
    )
    input_scale: float = field(
        default=1.0,
        metadata={"help": "standard deviation of the summed inputs W_x x at initialisation", "range": "> 0"},
    )
    forget_bias: float = field(default=1.0, metadata={"help": "initial bias of the LSTM's forget gate"})


@dataclass
class Stack:
    """The sizes of stacked recurrent layers."""

    hidden_size: int = field(default=128, metadata={"help": "H, units of a layer", "range": (1, MOST_UNITS)})
    num_layers: int = field(default=1, metadata={"help": "recurrent layers, stacked", "range": (1, MOST_LAYERS)})


@dataclass
class RecurrentLayers(Cell, Stack):
    """What the recurrent layers of both recurrent models take."""


@dataclass
class Recurrent(RecurrentLayers):
    """A recurrent language model: input -> recurrent layers -> softmax over the vocabulary."""

    name: str = field(default="lstm", metadata={"help": "rnn (tanh), lstm or gru"})
    kind: str = field(default="text", metadata={"help": "the kind of data that it takes"})
    dropout: float = field(
        default=0.0,
        metadata={"help": "probability, on the input, between the layers and before the output", "range": "0 <= x < 1"},
    )
    input: str = field(
        default="auto",
        metadata={
            "help": "how a symbol enters; auto: onehot for at most 1000 symbols",
            "choices": ("auto", "onehot", "embedding"),
        },
    )
    embedding_size: int = field(default=128, metadata={"help": "units of an embedding", "range": (1, MOST_UNITS)})
    tied: bool = field(
        default=False, metadata={"help": "output matrix = embedding matrix; needs embedding_size = hidden_size"}
    )


@dataclass
class ImageRecurrent(RecurrentLayers):
    """A recurrent classifier of images, read row by row or pixel by pixel; the last state gives the class."""

    name: str = field(default="image_lstm", metadata={"help": "image_rnn (tanh), image_lstm or image_gru"})
    kind: str = "images"
    hidden_size: int = 100
    order: str = field(
        default="rows",
        metadata={
            "help": "what is read at each step: a row, or a pixel; permuted: pixels in one fixed random order",
            "choices": ("rows", "pixels", "permuted"),
        },
    )
    dropout: float = field(
        default=0.0, metadata={"help": "probability, between the layers and before the output", "range": "0 <= x < 1"}
    )
    state_noise: float = field(
        default=0.1,
        metadata={
            "help": "standard deviation of Gaussian noise on the initial state h_0 in training; bn over pixels needs it"
        },
    )


@dataclass
class CNN:
    """A plain stack of 3x3 convolutions, norm before ReLU, global average pooling and a linear layer."""

    name: str = "cnn"
    kind: str = "images"
    depth: int = field(
        default=6,
        metadata={
            "help": "convolutions in three equal stages; each stage halves the resolution and doubles the width",
            "range": (1, MOST_LAYERS),
        },
    )
    width: int = field(default=16, metadata={"help": "channels of the first stage", "range": (1, MOST_UNITS)})


@dataclass
class ResNet20:
    """The CIFAR ResNet-20 of He et al. 2016: 3 stages of 3 blocks, parameter-free shortcuts."""

    name: str = "resnet20"
    kind: str = "images"
    width: int = field(default=16, metadata={"help": "channels of the first stage", "range": (1, MOST_UNITS)})


@dataclass
class MLP:
    """The fully connected network of Ba et al. 2016, section 6.6: 784-1000-1000-10 on MNIST."""

    name: str = "mlp"
    kind: str = "images"
    hidden_sizes: list[int] = field(
        default_factory=lambda: [1000, 1000], metadata={"help": "units of each hidden layer", "range": (1, MOST_UNITS)}
    )
    norm_output: bool = field(
        default=False, metadata={"help": "normalise the logits too, as the paper's BN did and its LN did not"}
    )


@dataclass
class Draw(Cell):
    """DRAW (Gregor et al. 2015): a recurrent encoder and decoder that draw an image in glimpses."""

    name: str = "draw"
    kind: str = "binary"
    hidden_size: int = field(
        default=256, metadata={"help": "H, units of the encoder and of the decoder", "range": (1, MOST_UNITS)}
    )
    placement: str = "cell_only"
    glimpses: int = field(default=64, metadata={"help": "T, steps in which an image is drawn", "range": (1, 2**16)})
    latent_size: int = field(default=100, metadata={"help": "latent variables z of a step", "range": (1, MOST_UNITS)})
    read_size: int = field(default=2, metadata={"help": "filters of the reading window, a side", "range": (1, 2**10)})
    write_size: int = field(default=5, metadata={"help": "filters of the writing window, a side", "range": (1, 2**10)})


@dataclass
class Handwriting(Cell):
    """Stacked LSTM layers that predict a pen trajectory, with shortcuts from the input and to the output."""

    name: str = "handwriting"
    kind: str = "strokes"
    hidden_size: int = field(default=400, metadata={"help": "H, units of a layer", "range": (1, MOST_UNITS)})
    num_layers: int = field(default=3, metadata={"help": "LSTM layers, stacked", "range": (1, MOST_LAYERS)})
    input_units: int = field(
        default=64, metadata={"help": "units of tanh through which a point enters", "range": (1, MOST_UNITS)}
    )
    mixtures: int = field(default=20, metadata={"help": "Gaussians of the next step's density", "range": (1, 1000)})
    window: int = field(
        default=0,
        metadata={
            "help": "Gaussians of the window over the text that is written; 0: no text, and whole sequences at once",
            "range": (0, 1000),
        },
    )


@dataclass
class OrderEmbedding(RecurrentLayers):
    """Order embeddings of sentences (Vendrov et al. 2016): word vectors, a GRU, its last output."""

    name: str = "order_embedding"
    kind: str = "pairs"
    hidden_size: int = field(
        default=1024, metadata={"help": "H, units of the GRU and of an embedding", "range": (1, MOST_UNITS)}
    )
    embedding_size: int = field(default=300, metadata={"help": "units of a word's vector", "range": (1, MOST_UNITS)})
    margin: float = field(
        default=0.05,
        metadata={"help": "m, by which the right sentence's score has to be above another's", "range": "> 0"},
    )
    shared: bool = field(
        default=True,
        metadata={"help": "one GRU for both sentences of a pair; false: each side its own, as for two languages"},
    )


@dataclass
class AttentiveReader(Cell):
    """The attentive reader (Hermann et al. 2015): LSTMs over passage and question, attention over the passage."""

    name: str = "attentive_reader"
    kind: str = "cloze"
    hidden_size: int = field(
        default=240, metadata={"help": "H, units of an LSTM in each direction", "range": (1, MOST_UNITS)}
    )
    embedding_size: int = field(default=240, metadata={"help": "units of an embedding", "range": (1, MOST_UNITS)})
    bidirectional: bool = field(default=True, metadata={"help": "whether both LSTMs read in both directions"})
    dropout: float = field(
        default=0.0,
        metadata={"help": "probability, on the embeddings and before the output", "range": "0 <= x < 1"},
    )


@dataclass
class SkipThoughts(Cell):
    """Skip-thoughts (Kiros et al. 2015): a GRU reads a sentence, two predict the sentences before and after it."""

    name: str = "skip_thoughts"
    kind: str = "sentences"
    hidden_size: int = field(
        default=2400, metadata={"help": "H, units of a GRU and of a sentence's state", "range": (1, MOST_UNITS)}
    )
    embedding_size: int = field(default=620, metadata={"help": "units of a word's vector", "range": (1, MOST_UNITS)})


SCHEMAS: dict[str, type] = {
    "recurrent": Recurrent,
    "image_recurrent": ImageRecurrent,
    "cnn": CNN,
    "resnet20": ResNet20,
    "mlp": MLP,
    "draw": Draw,
    "handwriting": Handwriting,
    "order_embedding": OrderEmbedding,
    "attentive_reader": AttentiveReader,
    "skip_thoughts": SkipThoughts,
}
