"""What a trunk sees of a picture: random windows, a function of (seed, epoch, pair), cut out and resized in a batch."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Filter = Literal["bilinear", "bicubic"]
RESERVE = 10 / 7  # side of the stored square over that of the trunk's: photos of 4:3 lose nothing that a trunk can see


@dataclass(frozen=True)
class View:
    """How a trunk looks at a picture, apart from augmentation.

    Args:
        size: side of the square that it reads, in pixels.
        share: of the picture's short side that the square in the middle takes; None: the whole picture, squashed.
        filter: of the resizing, as Pillow names it.
    """

    size: int
    share: float | None = 1.0
    filter: Filter = "bicubic"

    @property
    def stored(self) -> int:
        """Side of the square that a picture is kept as for random crops, in pixels."""
        return -(-round(self.size * RESERVE) // 32) * 32

    def store(self, picture: Image.Image) -> NDArray[np.uint8]:
        """(3, stored, stored): the whole picture squashed to a square, from which `look` cuts."""
        side, resampling = self.stored, Image.Resampling[self.filter.upper()]
        return np.asarray(picture.resize((side, side), resampling), np.uint8).transpose(2, 0, 1)

    def windows(self, draws: Tensor, size: Tensor, crop: float, flip: float) -> Tensor:
        """Where the trunk looks after a random crop of a picture's own shape.

        Args:
            draws: (B, 4) uniform in [0, 1).
            size: (B, 2) width and height of the pictures in pixels.
            crop: the least share of its area that a crop leaves.
            flip: probability that it is mirrored.

        Returns:
            (B, 5) left, top, width and height as shares of the whole picture, and 1 where it is mirrored.
        """
        side = (crop + (1 - crop) * draws[:, 0]).sqrt()
        corner = draws[:, 1:3] * (1 - side)[:, None]
        seen = side[:, None].expand(-1, 2)
        if self.share is not None:  # a square of pixels in the middle of the crop
            seen = self.share * side[:, None] * size.min(1, keepdim=True).values / size
            corner = corner + (side[:, None] - seen) / 2
        return torch.cat([corner, seen, (draws[:, 3:] < flip).to(seen.dtype)], 1).float()

    def look(self, pixels: Tensor, window: Tensor) -> Tensor:
        """Cut windows out of stored pictures and resize them with antialiasing, as Pillow does.

        A resizing is two products with the weights of the filter, one for each axis.

        Args:
            pixels: (B, 3, S, S) uint8, see `store`.
            window: (B, 5), see `windows`.

        Returns:
            (B, 3, size, size) whole levels from 0 to 255, as float32.
        """
        exact = (
            torch.float16 if pixels.is_cuda else torch.float32
        )  # halves hold levels and sums to an eighth of a level
        with torch.autocast(pixels.device.type, enabled=False):
            down = self._weights(window[:, 1], window[:, 3], pixels.shape[2])
            across = self._weights(window[:, 0], window[:, 2], pixels.shape[3])
            across = torch.where(window[:, 4, None, None] > 0, across.flip(1), across)
            rows = down.to(exact)[:, None] @ pixels.to(exact)
            found = rows @ across.to(exact)[:, None].mT
            return found.float().round().clamp(0, 255)

    def _weights(self, start: Tensor, length: Tensor, pixels: int) -> Tensor:
        """(B, size, pixels): how much every pixel of an axis gives to every pixel that is seen."""
        steps = torch.arange(self.size, device=start.device) + 0.5
        places = torch.arange(pixels, device=start.device) + 0.5
        scale = (length * pixels / self.size)[:, None, None]
        centre = start[:, None, None] * pixels + steps[:, None] * scale
        apart = ((places - centre) / scale.clamp_min(1)).abs()
        if self.filter == "bilinear":
            weights = (1 - apart).clamp_min(0)
        else:  # Catmull-Rom, a = -1/2
            near = (1.5 * apart - 2.5) * apart.square() + 1
            far = ((-0.5 * apart + 2.5) * apart - 4) * apart + 2
            weights = torch.where(apart < 1, near, torch.where(apart < 2, far, 0.0))
        return weights / weights.sum(2, keepdim=True)


def draws(seed: int, epoch: int, count: int) -> Tensor:
    """(count, 4) uniform numbers of an epoch; row k is a function of (seed, epoch, k) whatever the count."""
    return torch.from_numpy(np.random.default_rng([seed, epoch]).random((count, 4)))
