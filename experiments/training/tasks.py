"""The tasks: batches, loss and metrics. Data lie in memory as tensors and a batch is an index into them.

The order of the training data is a function of (seed, epoch) alone, so all normalisers see the same batches and a
resumed run needs no generator state. The last incomplete batch of an epoch is dropped.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data import Binary, Content, Images, Text
from experiments.config.errors import ConfigError
from experiments.training.protocols import Batch


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Return the generator of an epoch's order."""
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)


class LanguageModelling:
    """Predict the next token. An example is a window of seq_len tokens, its state starts at zero.

    Training windows do not overlap; each epoch cuts the text at a new random offset (Cooijmans et al. 2016, section
    5.2). Evaluation windows cover the split: every token but the first is predicted once.
    """

    def __init__(self, text: Text, settings, seed: int, device: str):
        self.text = text
        self.seed = seed
        self.tokens = {split: tokens.to(device) for split, tokens in text.tokens.items()}
        self.tokens["val"] = self.tokens["val"][: settings.val_symbols]
        self.batch_size: int = settings.batch_size
        self.eval_batch_size: int = settings.eval_batch_size
        self.T = text.row_length - 1 if text.row_length else settings.seq_len
        self.stride = text.row_length or settings.seq_len
        # One window fewer than fit without an offset, so that every epoch has the same number of steps.
        length = len(text.tokens["train"])
        self.windows = length // self.stride if text.row_length else (length - self.T) // self.T
        if self.windows < self.batch_size:
            raise ConfigError(
                f"data.batch_size={self.batch_size} with data.seq_len={self.T} is more than the {max(self.windows, 0)} "
                f"windows of data={settings.name}; choose a smaller batch or shorter windows"
            )
        self.steps_per_epoch = self.windows // self.batch_size
        self.input_shape: tuple[int, ...] = ()
        self.num_classes = len(text.vocabulary)
        self._epoch = -1  # whose windows start at ...
        self._starts = torch.empty(0)
        self._offsets = torch.arange(self.T + 1, device=device)

    def batch(self, step: int) -> Batch:
        """Return inputs and targets (N, T) of a training step."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = epoch_generator(self.seed, epoch)
            offset = 0 if self.text.row_length else torch.randint(self.T, (), generator=generator)
            starts = torch.randperm(self.windows, generator=generator) * self.stride + offset
            self._epoch = epoch
            self._starts = starts.to(self._offsets.device)
        starts = self._starts[index * self.batch_size : (index + 1) * self.batch_size]
        window = self.tokens["train"][starts[:, None] + self._offsets]
        return window[:, :-1], window[:, 1:]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean cross entropy in nats per token."""
        inputs, targets = batch
        return F.cross_entropy(model(inputs)[0].flatten(0, 1), targets.flatten())

    def metrics(self, loss: float) -> dict[str, float]:
        """Return the loss in the units of the field: bits per character, perplexity, nats per sequence."""
        metrics = {"loss": loss}
        if self.text.row_length:
            metrics["nll"] = loss * self.T
        elif self.text.unit == "char":
            metrics["bpc"] = loss / math.log(2)
        else:
            metrics["ppl"] = math.exp(min(loss, 700.0))  # beyond, a float overflows
        return metrics

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Return the metrics over the whole split, in evaluation mode."""
        model.eval()
        total, count = 0.0, 0
        for window in self._evaluation_windows(self.tokens[split]):
            targets = window[:, 1:]
            total += self.loss(model, (window[:, :-1], targets)).item() * targets.numel()
            count += targets.numel()
        return self.metrics(total / count)

    def _evaluation_windows(self, tokens: Tensor) -> list[Tensor]:
        """Return batches (N, T + 1) of windows that cover the tokens, the last one shorter where they do not fit."""
        count = len(tokens) // self.stride if self.text.row_length else (len(tokens) - 1) // self.T
        starts = torch.arange(count, device=tokens.device) * self.stride
        windows = [tokens[chunk[:, None] + self._offsets] for chunk in starts.split(self.eval_batch_size)]
        rest = tokens[count * self.stride :]
        if not self.text.row_length and len(rest) > 1:
            windows.append(rest[None])
        return windows


class Order:
    """Which examples a training step takes: those of an epoch in an order of its own."""

    def __init__(self, count: int, settings, seed: int, device: str):
        self.count, self.batch_size, self.seed, self.device = count, settings.batch_size, seed, device
        if count < self.batch_size:
            raise ConfigError(
                f"data.batch_size={self.batch_size} is more than the {count} training images of "
                f"data={settings.name}; choose a smaller batch"
            )
        self.steps_per_epoch = count // self.batch_size
        self._epoch = -1  # whose order is ...
        self._order = torch.empty(0)

    def __call__(self, step: int) -> Tensor:
        """Return the indices (N,) of a training step's examples."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            order = torch.randperm(self.count, generator=epoch_generator(self.seed, epoch))
            self._epoch = epoch
            self._order = order.to(self.device)
        return self._order[index * self.batch_size : (index + 1) * self.batch_size]


class Classification:
    """Predict an image's class. An example is an image."""

    def __init__(self, images: Images, settings, seed: int, device: str):
        self.seed = seed
        self.images = {split: x.to(device) for split, x in images.images.items()}
        self.labels = {split: y.to(device) for split, y in images.labels.items()}
        self.batch_size: int = settings.batch_size
        self.eval_batch_size: int = settings.eval_batch_size
        self.order = Order(len(images.labels["train"]), settings, seed, device)
        self.steps_per_epoch = self.order.steps_per_epoch
        self.input_shape: tuple[int, ...] = tuple(images.images["train"].shape[1:])
        self.num_classes = images.num_classes

    def batch(self, step: int) -> Batch:
        """Return images (N, C, H, W) and labels (N,) of a training step."""
        chosen = self.order(step)
        return self.images["train"][chosen], self.labels["train"][chosen]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean cross entropy in nats per image, the negative log likelihood."""
        images, labels = batch
        return F.cross_entropy(model(images), labels)

    def metrics(self, loss: float) -> dict[str, float]:
        return {"loss": loss}

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Return loss, accuracy and error (both in percent) over the whole split, in evaluation mode."""
        model.eval()
        total, correct = 0.0, 0
        chunks = (content[split].split(self.eval_batch_size) for content in (self.images, self.labels))
        for images, labels in zip(*chunks, strict=True):
            logits = model(images)
            total += F.cross_entropy(logits, labels, reduction="sum").item()
            correct += (logits.argmax(1) == labels).sum().item()
        count = len(self.labels[split])
        accuracy = 100.0 * correct / count
        return {**self.metrics(total / count), "accuracy": accuracy, "error": 100.0 - accuracy}


class DensityEstimation:
    """Model images of zeros and ones. An example is an image; the model returns the bound on its -log likelihood."""

    def __init__(self, binary: Binary, settings, seed: int, device: str):
        self.seed = seed
        self.images = {split: x.to(device) for split, x in binary.images.items()}
        self.batch_size: int = settings.batch_size
        self.eval_batch_size: int = settings.eval_batch_size
        self.order = Order(len(self.images["train"]), settings, seed, device)
        self.steps_per_epoch = self.order.steps_per_epoch
        self.input_shape: tuple[int, ...] = tuple(self.images["train"].shape[1:])
        self.num_classes = 2

    def batch(self, step: int) -> Batch:
        """Return the images (N, 1, H, W) of a training step, twice: they are what is to be modelled."""
        images = self.images["train"][self.order(step)]
        return images, images

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean bound in nats per image."""
        return model(batch[0]).mean()

    def metrics(self, loss: float) -> dict[str, float]:
        return {"loss": loss, "bound": loss}

    @torch.no_grad()
    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Return the bound over the whole split, in evaluation mode."""
        model.eval()
        total = sum(model(images).sum().item() for images in self.images[split].split(self.eval_batch_size))
        return self.metrics(total / len(self.images[split]))


DataTask = LanguageModelling | Classification | DensityEstimation


def make_task(content: Content, settings, seed: int, device: str) -> DataTask:
    """Return the task of a data set. Raises ConfigError when not even one batch fits.

    settings: a dataclass of data.settings.
    """
    if isinstance(content, Text):
        return LanguageModelling(content, settings, seed, device)
    if isinstance(content, Images):
        return Classification(content, settings, seed, device)
    return DensityEstimation(content, settings, seed, device)
