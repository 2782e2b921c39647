"""Density estimation: model images of zeros and ones."""

import torch
from torch import Tensor, nn

from data import Binary
from experiments.training.protocols import Batch
from experiments.training.tasks.order import Order


class DensityEstimation:
    """Model images of zeros and ones. An example is an image; the model returns the bound on its -log likelihood."""

    def __init__(self, binary: Binary, settings, seed: int, device: str):
        self.seed = seed
        self.images = {split: x.to(device) for split, x in binary.images.items()}
        self.batch_size: int = settings.batch_size
        self.eval_batch_size: int = settings.eval_batch_size
        self.order = Order(len(self.images["train"]), "images", settings, seed, device)
        self.steps_per_epoch = self.order.steps_per_epoch
        self.input_shape: tuple[int, ...] = tuple(self.images["train"].shape[1:])
        self.num_classes = 2

    def batch(self, step: int) -> Batch:
        """Return the images (N, 1, H, W) of a training step, twice: they are what is to be modelled."""
        images = self.images["train"][self.order(step)]
        return images, images

    def validation(self) -> Batch:
        """Return the validation images as one batch, twice."""
        return self.images["val"], self.images["val"]

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
