"""Language modelling: predict the next token of a text."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data import Text
from experiments.config.errors import ConfigError
from experiments.training.protocols import Batch
from experiments.training.tasks.order import epoch_generator


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
        if len(self.tokens["val"]) < (needed := text.row_length or self.T + 1):
            raise ConfigError(
                f"data.val_symbols={settings.val_symbols} leaves no window of {needed} symbols to validate on; give "
                "more, or shorter windows"
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

    def validation(self) -> Batch:
        """Return all whole windows of the validation split as one batch, inputs and targets (N, T)."""
        windows = self.tokens["val"].unfold(0, self.T + 1, self.stride)
        return windows[:, :-1], windows[:, 1:]

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
