"""The networks that are trained. Knows torch, and nothing of configuration files, tracking or data sets.

models.build makes them; importing the package alone loads no torch.
"""

from models.errors import ModelError

__all__ = ["ModelError"]
