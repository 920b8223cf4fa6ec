"""R@K over pictures with several captions."""

import numpy as np
import torch

from xmodal.metrics import retrieval_metrics


def test_a_picture_that_captions_share_counts_once_among_the_images():
    """20 pictures with 5 captions each, against R@K over 20 pictures and 100 captions computed plainly."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(20, 16, generator=generator, dtype=torch.float64)
    group = torch.arange(100) // 5
    image = pictures[group]
    text = image + 2.5 * torch.randn(100, 16, generator=generator, dtype=torch.float64)
    metric = retrieval_metrics("real")
    for split in ("query", "database"):
        metric.update(
            split=split, image=image, text=text, label=torch.ones(100, 1), index=torch.arange(100), group=group
        )
    result = metric.compute()
    unit = [torch.nn.functional.normalize(side).numpy() for side in (pictures, text)]
    scores = unit[0] @ unit[1].T  # (20, 100)
    for top in (1, 5, 10):
        best = np.argsort(-scores, 1)[:, :top] // 5
        assert float(result[f"hit@{top}_i2t"]) == (best == np.arange(20)[:, None]).any(1).mean()
        best = np.argsort(-scores.T, 1)[:, :top]
        assert float(result[f"hit@{top}_t2i"]) == (best == np.arange(100)[:, None] // 5).any(1).mean()
    assert 0.1 < float(result["hit@1_t2i"]) < float(result["hit@10_t2i"]) < 1


def test_relevance_by_picture_through_a_layer_of_many_classes():
    group = torch.arange(12) // 3 * 100_000  # ids need not be small
    code = torch.sign(torch.randn(12, 8, generator=torch.Generator().manual_seed(1)))
    metric = retrieval_metrics("binary", detail="map")
    for split in ("query", "database"):
        metric.update(
            split=split,
            image=code,
            text=code,
            label=torch.ones(12, 1),
            index=torch.arange(12),
            hierarchy=group[:, None],
        )
    assert 0.2 < float(metric.compute()["map_i2t"]) < 1
