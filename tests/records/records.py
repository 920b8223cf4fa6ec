"""Writes runs as training leaves them, without training: records, configurations and per-query values."""

import json

import numpy as np
import yaml

QUERIES = 60


def write_run(
    runs,
    method="dmsf",
    level=0.5,
    seed=0,
    variant="base",
    size=64,
    kind="binary",
    split="a" * 64,
    config=None,
    queries=True,
    **more,
):
    """One run whose AP scatter around `level`, with noise shared by all methods as real queries have it."""
    tag = f"seed{seed}" if variant == "base" else f"{variant}-seed{seed}"
    folder = runs / method / "emoji" / (str(size) if kind == "binary" else f"dim{size}") / tag
    folder.mkdir(parents=True)
    hard = np.random.default_rng(0).normal(0, 0.1, QUERIES)
    own = np.random.default_rng([seed, *method.encode(), *variant.encode()]).normal(0, 0.02, (2, QUERIES))
    i2t, t2i = np.clip(level + hard + own, 0, 1)
    metrics = {"test/map_i2t": i2t.mean(), "test/map_t2i": t2i.mean(), "test/map": (i2t.mean() + t2i.mean()) / 2}
    record = {
        "method": method,
        "kind": kind,
        "size": size,
        "seed": seed,
        "variant": variant,
        "group": f"{method}-emoji-{size}",
        "job_type": "train",
        "dataset": "emoji",
        "relevance": "label",
        "split_hash": split,
        "split_sizes": {"train": 100, "query": QUERIES, "database": QUERIES},
        "metrics": {"val/map": level + 0.05, **metrics, "test/random_i2t": 0.18, "test/random_t2i": 0.18},
        "setup_hash": f"setup-{method}-{variant}-{size}",
        "commit": "c" * 40,
        "dirty": False,
        "device": "CPU of the test",
        "seconds": 3.5,
        "parameters": 1000,
        "wandb_id": None,
        **more,
    }
    (folder / "result.json").write_text(json.dumps(record))
    (folder / "config.yaml").write_text(
        yaml.safe_dump({"model": {"bits": size, **(config or {})}, "seed_everything": seed})
    )
    if queries:
        recall = np.linspace(0.01, 1, QUERIES)
        curve = np.stack([np.arange(1.0, QUERIES + 1), level + (1 - level) * (1 - recall) ** 2, recall], 1)
        np.savez_compressed(
            folder / "evaluation.npz",
            query_index=np.arange(QUERIES),
            ap_i2t=i2t,
            ap_t2i=t2i,
            pr_rank_i2t=curve,
            pr_rank_t2i=curve,
        )
    return folder
