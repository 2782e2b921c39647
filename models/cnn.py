"""Convolutional image classifiers: images (N, C, H, W) -> logits (N, num_classes). Norm before ReLU throughout."""

from torch import Tensor, nn
from torch.nn import functional as F

from .create_norm import NormLayer
from .errors import ModelError
from .settings import CNN, ResNet20


def conv3x3(inputs: int, outputs: int, stride: int, norm_layer: NormLayer) -> nn.Sequential:
    """Return a 3x3 convolution with its normaliser, initialised after He et al. 2015."""
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return norm_layer.after(conv)


class PlainCNN(nn.Module):
    """`depth` convolutions without shortcuts, in three stages of widths w, 2w, 4w."""

    def __init__(self, settings: CNN, input_shape: tuple[int, ...], num_classes: int, norm_layer: NormLayer):
        super().__init__()
        if settings.depth < 3 or settings.depth % 3:
            raise ModelError(f"model.depth={settings.depth} cannot be cut into three equal stages; choose 3, 6, 9, ...")
        self.convs = nn.ModuleList()
        channels = input_shape[0]
        for i in range(settings.depth):
            stage, first = divmod(i, settings.depth // 3)
            width = settings.width * 2**stage
            stride = 2 if stage and not first else 1
            self.convs.append(conv3x3(channels, width, stride, norm_layer))
            channels = width
        self.output = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = F.relu(conv(x))
        return self.output(x.mean((2, 3)))


class Block(nn.Module):
    """y = relu( x + norm(conv(relu(norm(conv(x))))) ); a shortcut that changes shape subsamples and pads with zeros."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm_layer: NormLayer):
        super().__init__()
        self.conv1 = conv3x3(inputs, outputs, stride, norm_layer)
        self.conv2 = conv3x3(outputs, outputs, 1, norm_layer)
        self.stride, self.padding = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.padding))
        return F.relu(y + shortcut)


class CIFARResNet20(nn.Module):
    """ResNet-20 of He et al. 2016, section 4.2 (option A shortcuts)."""

    def __init__(self, settings: ResNet20, input_shape: tuple[int, ...], num_classes: int, norm_layer: NormLayer):
        super().__init__()
        width = settings.width
        self.stem = conv3x3(input_shape[0], width, 1, norm_layer)
        plan = [(width * 2 ** max(stage - 1, 0), width * 2**stage, 2 if stage else 1) for stage in range(3)]
        blocks = []
        for inputs, outputs, stride in plan:
            blocks.append(Block(inputs, outputs, stride, norm_layer))
            blocks += [Block(outputs, outputs, 1, norm_layer) for _ in range(2)]
        self.blocks = nn.Sequential(*blocks)
        self.output = nn.Linear(4 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.blocks(F.relu(self.stem(x))).mean((2, 3)))
