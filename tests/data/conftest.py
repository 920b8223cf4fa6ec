import numpy as np
import pytest


class MeanColour:
    """An image encoder without weights: 3 + 1 numbers of a picture."""

    name, batch_size = "mean", 8

    def key(self):
        return {"encoder": "mean colour"}

    def open(self):
        def encode(images):
            means = np.stack([np.asarray(image, np.float32).mean((0, 1)) for image in images]).astype(np.float16)
            return {"pooled": means, "tokens": np.repeat(means[:, None], 4, 1)}

        return encode


@pytest.fixture
def colour():
    return MeanColour()
