"""torchvision, also beside a CPU-only torch."""

import sys


def datasets():
    """`torchvision.datasets`.

    torchvision's usual wheel is built for CUDA. Beside a CPU-only torch its compiled part does not load, and importing
    it fails on the missing operators `nms` and `qnms`, which no data set uses. Then their signatures are declared,
    without code behind them: the import succeeds, and calling them still fails with torchvision's own message.
    """
    try:
        import torchvision.datasets
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
        for module in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[module]  # half imported
        import torch

        for operator in ("nms", "qnms"):
            signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{operator}", signature)
        import torchvision.datasets
    return torchvision.datasets
