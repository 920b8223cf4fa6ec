"""Pairs per second of the suite's loading, against what one would write first.

    python benchmarks/loading.py [--pairs 20000] [--photos 2000] [--repeats 3]

In memory: an epoch of shuffled training batches, against `DataLoader` with a `Dataset` that gives one pair. Raw
pictures: JPEGs in a zip through the read-ahead of the encoders with an encoder that costs nothing, against PIL decoding
the same bytes from memory on as many threads: the ratio is what zip, threads and order add to decoding.
"""

import argparse
import io
import os
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from xmodal.data.files import Files, Photos
from xmodal.data.loading import EpochSampler, in_memory_loader
from xmodal.encoders import encoded

BATCH, SIZE = 128, (160, 120)


class OneByOne(Dataset):
    """A pair at a time, from the same arrays."""

    def __init__(self, whole):
        self.whole = whole

    def __getitem__(self, row):
        """See the class."""
        image, text = self.whole["image"]["pooled"][row], self.whole["text"]["pooled"][row]
        return {"image": image, "text": text, "label": self.whole["label"][row], "index": self.whole["index"][row]}

    def __len__(self):
        return len(self.whole["label"])


def pairs_per_second(batches, pairs):
    """One pass over `batches`."""
    started = time.perf_counter()
    for batch in batches:
        _ = batch["index"] if isinstance(batch, dict) else batch
    return pairs / (time.perf_counter() - started)


def in_memory(pairs):
    """Ours, and the plain loader without and with workers."""
    generator = torch.Generator().manual_seed(0)
    whole = {
        "image": {"pooled": torch.randn(pairs, 1280, generator=generator)},
        "text": {"pooled": torch.randn(pairs, 384, generator=generator)},
        "label": torch.ones(pairs, 24),
        "index": torch.arange(pairs),
    }
    ours = pairs_per_second(in_memory_loader(whole, EpochSampler(pairs, BATCH, shuffle=True)), pairs)
    plain = {
        workers: pairs_per_second(DataLoader(OneByOne(whole), BATCH, shuffle=True, num_workers=workers), pairs)
        for workers in (0, 2)
    }
    return ours, plain


def raw(photos, folder):
    """Ours through a zip, and PIL alone on the same bytes."""
    contents = {}
    for seed in range(photos):
        noise = np.random.default_rng(seed).integers(256, size=(12, 16, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noise).resize(SIZE, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        contents[f"{seed}.jpg"] = buffer.getvalue()
    with zipfile.ZipFile(folder / "images.zip", "w") as file:
        for name, content in contents.items():
            file.writestr(name, content)

    def decode(content):
        return Image.open(io.BytesIO(content)).convert("RGB")

    started = time.perf_counter()
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        for _ in pool.map(decode, contents.values()):
            pass
    alone = photos / (time.perf_counter() - started)
    pictures = Photos(Files(folder), list(contents))
    started = time.perf_counter()
    encoded(folder, "nothing", {}, pictures, lambda: lambda images: {"pooled": np.zeros((len(images), 1), np.float16)})
    return photos / (time.perf_counter() - started), alone


def main():
    """Print the medians of the repeats."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("pairs", 20000), ("photos", 2000), ("repeats", 3)):
        parser.add_argument(f"--{option}", type=int, default=default)
    options = parser.parse_args()
    found = [in_memory(options.pairs) for _ in range(options.repeats)]
    ours = np.median([mine for mine, _ in found])
    print(f"in memory, ours: {ours:,.0f} pairs/s")
    for workers in (0, 2):
        plain = np.median([others[workers] for _, others in found])
        print(
            f"in memory, DataLoader with {workers} workers: {plain:,.0f} pairs/s, ours is {ours / plain:.1f} times that"
        )
    rates = []
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            rates.append(raw(options.photos, Path(folder)))
    mine, alone = np.median(rates, 0)
    print(
        f"raw pictures, ours from a zip: {mine:,.0f}/s; PIL alone: {alone:,.0f}/s; ours is {mine / alone:.2f} of that"
    )


if __name__ == "__main__":
    main()
