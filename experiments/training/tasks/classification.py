"""Classification: predict the class of an image."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data import Images
from experiments.training.protocols import Batch
from experiments.training.tasks.order import Order


class Classification:
    """Predict an image's class. An example is an image."""

    def __init__(self, images: Images, settings, seed: int, device: str):
        self.seed = seed
        self.images = {split: x.to(device) for split, x in images.images.items()}
        self.labels = {split: y.to(device) for split, y in images.labels.items()}
        self.batch_size: int = settings.batch_size
        self.eval_batch_size: int = settings.eval_batch_size
        self.order = Order(len(images.labels["train"]), "images", settings, seed, device)
        self.steps_per_epoch = self.order.steps_per_epoch
        self.input_shape: tuple[int, ...] = tuple(images.images["train"].shape[1:])
        self.num_classes = images.num_classes

    def batch(self, step: int) -> Batch:
        """Return images (N, C, H, W) and labels (N,) of a training step."""
        chosen = self.order(step)
        return self.images["train"][chosen], self.labels["train"][chosen]

    def validation(self) -> Batch:
        """Return the validation images and labels as one batch."""
        return self.images["val"], self.labels["val"]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean cross entropy in nats per image, the negative log likelihood."""
        images, labels = batch
        return F.cross_entropy(model(images), labels)

    def metrics(self, loss: float) -> dict[str, float]:
        return {"loss": loss}

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Return loss, accuracy and error (both in percent) over the whole split, in evaluation mode."""
        return evaluate_classes(model, self.images[split], self.labels[split], self.eval_batch_size)


@torch.no_grad()
def evaluate_classes(model: nn.Module, inputs: Tensor, labels: Tensor, batch_size: int) -> dict[str, float]:
    """Return the mean cross entropy, and the share of labels with the largest logit and its rest, both in percent."""
    model.eval()
    total, correct = 0.0, 0
    for x, y in zip(inputs.split(batch_size), labels.split(batch_size), strict=True):
        logits = model(x)
        total += F.cross_entropy(logits, y, reduction="sum").item()
        correct += (logits.argmax(1) == y).sum().item()
    accuracy = 100.0 * correct / len(labels)
    return {"loss": total / len(labels), "accuracy": accuracy, "error": 100.0 - accuracy}
