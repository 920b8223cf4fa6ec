"""Pairs per second of the suite's loading, against what one would write first.

    python benchmarks/loading.py [--pairs 20000] [--photos 1000] [--repeats 3] [--device cuda]
                                 [--csv results/loading_speed.csv]

In memory: an epoch of shuffled training batches on the device that computes, against a `DataLoader` over a `Dataset`
that makes one pair at a time, (a) from the arrays as they lie in the cache (float16 features, uint8 labels),
standardised there, as our loader does once for all; (b) from finished float32 tensors; both, on a GPU, through pinned
memory; and, as the limit of any loader that copies, against a copy of the same rows in order. Raw pictures: JPEGs in a
zip, through the read-ahead of the frozen encoders and through the worker processes of trained trunks, against PIL
decoding the same bytes from memory on as many threads; and the workers again against PIL decoding and the trunk's own
transform. Everything side by side in one run; compare ratios only. Processor time, on the CPU
and without workers, is disturbed less by other work on the machine.
"""

import argparse
import csv
import io
import os
import platform
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from xmodal.data.loading import EpochSampler, batch_loader, in_memory_loader
from xmodal.data.raw import RawPairs
from xmodal.data.readers.files import Files, Photos
from xmodal.encoders import TimmImage, encoded

BATCH, SIZE, WORKERS = 128, (500, 375), 2


class OneByOne(Dataset):
    """A pair at a time, from float32 tensors."""

    def __init__(self, whole):
        self.whole = whole

    def __getitem__(self, row):
        """See the class."""
        image, text = self.whole["image"]["pooled"][row], self.whole["text"]["pooled"][row]
        return {"image": image, "text": text, "label": self.whole["label"][row], "index": self.whole["index"][row]}

    def __len__(self):
        return len(self.whole["label"])


class OneByOneFromCache(OneByOne):
    """A pair at a time from the arrays of the cache, made what our batches hold."""

    def __init__(self, whole):
        super().__init__(whole)
        self.sides = {side: whole[side]["pooled"].half().numpy() for side in ("image", "text")}
        self.moments = {side: (torch.zeros(a.shape[1]), torch.ones(a.shape[1])) for side, a in self.sides.items()}
        self.label = whole["label"].to(torch.uint8).numpy()

    def __getitem__(self, row):
        """See the class."""
        pair = {"label": torch.from_numpy(self.label[row].astype(np.float32)), "index": row}
        for side, array in self.sides.items():
            mean, deviation = self.moments[side]
            pair[side] = (torch.from_numpy(array[row].astype(np.float32)) - mean) / deviation
        return pair


def per_second(batches, pairs, device="cpu", clock=time.perf_counter):
    """One pass over `batches`, each moved to the device where it is not there yet."""
    started = clock()
    for batch in batches:
        if device != "cpu":
            to(batch, device)
    if device != "cpu":
        torch.cuda.synchronize()
    return pairs / (clock() - started)


def to(value, device):
    """A tree of tensors on a device."""
    if isinstance(value, dict):
        return {key: to(part, device) for key, part in value.items()}
    return value.to(device, non_blocking=True)


def in_memory(pairs, device, clock=time.perf_counter):
    """Rates by name; the first is ours. Another clock than the wall's knows this process only, not its workers."""
    generator = torch.Generator().manual_seed(0)
    whole = {
        "image": {"pooled": torch.randn(pairs, 1280, generator=generator)},
        "text": {"pooled": torch.randn(pairs, 384, generator=generator)},
        "label": torch.ones(pairs, 24),
        "index": torch.arange(pairs),
    }
    ours = to(whole, device)
    sides = {side: ours[side]["pooled"] for side in ("image", "text")}
    copies = ({name: side[k : k + BATCH].clone() for name, side in sides.items()} for k in range(0, pairs, BATCH))
    rates = {
        "ours": per_second(in_memory_loader(ours, EpochSampler(pairs, BATCH, shuffle=True)), pairs, device, clock),
        "copy in order": per_second(copies, pairs, device, clock),
    }
    for name, plain in (("cache", OneByOneFromCache(whole)), ("float32", OneByOne(whole))):
        for workers in (0, WORKERS) if clock is time.perf_counter else (0,):
            loader = DataLoader(plain, BATCH, shuffle=True, num_workers=workers, pin_memory=device != "cpu")
            rates[f"DataLoader from {name}, {workers} workers"] = per_second(loader, pairs, device, clock)
    return rates


def raw(photos, folder):
    """Rates by name."""
    contents = {}
    for seed in range(photos):
        noise = np.random.default_rng(seed).integers(256, size=(12, 16, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noise).resize(SIZE, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        contents[f"{seed}.jpg"] = buffer.getvalue()
    with zipfile.ZipFile(folder / "images.zip", "w") as file:
        for name, content in contents.items():
            file.writestr(name, content)
    encoder = TimmImage("test_resnet", "random", size=224)
    transform = encoder.trunk().transform

    def decode(content):
        return Image.open(io.BytesIO(content)).convert("RGB")

    def alone(work):
        with ThreadPoolExecutor(WORKERS) as pool:
            return per_second(pool.map(work, contents.values()), photos)

    pictures = Photos(Files(folder), list(contents))
    whole = {"image": {}, "text": {}, "label": torch.ones(photos, 24), "index": torch.arange(photos)}
    sampler = EpochSampler(photos, 32)
    pairs = RawPairs(whole, np.arange(photos), pictures, transform, sampler)
    started = time.perf_counter()
    encoded(folder, "nothing", {}, pictures, lambda: lambda images: {"pooled": np.zeros((len(images), 1), np.float16)})
    return {
        "read-ahead": photos / (time.perf_counter() - started),
        "workers": per_second(batch_loader(pairs, sampler, WORKERS), photos),
        "PIL decoding": alone(decode),
        "PIL decoding and transform": alone(lambda content: transform(decode(content))),
    }


def main():
    """Print the medians of the repeats and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("pairs", 20000), ("photos", 1000), ("repeats", 3)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where the batches are wanted")
    parser.add_argument("--csv", type=Path, help="write the medians there")
    options = parser.parse_args()
    load = os.getloadavg()[0]  # of others, before the benchmark adds its own
    memory = [in_memory(options.pairs, options.device) for _ in range(options.repeats)]
    busy = [in_memory(options.pairs, "cpu", time.process_time) for _ in range(options.repeats)]
    files = []
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            files.append(raw(options.photos, Path(folder)))
    memory, busy, files = (
        {name: float(np.median([r[name] for r in rates])) for name in rates[0]} for rates in (memory, busy, files)
    )
    rows = [
        (what, "ours", rates["ours"], name, rate)
        for what, rates in (("in memory", memory), ("in memory, processor time", busy))
        for name, rate in rates.items()
        if name != "ours"
    ]
    rows += [
        ("raw pictures", ours, files[ours], name, files[name])
        for ours, name in (
            ("read-ahead", "PIL decoding"),
            ("workers", "PIL decoding"),
            ("workers", "PIL decoding and transform"),
        )
    ]
    device = f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads, load {load:.0f}"
    if options.device == "cuda":
        device = f"{torch.cuda.get_device_name()}; {device}"
    table = [("what", "ours", "pairs_per_second", "against", "its_pairs_per_second", "ratio", "device")]
    table += [(a, b, f"{c:.0f}", d, f"{e:.0f}", f"{c / e:.2f}", device) for a, b, c, d, e in rows]
    for row in table:
        print(*row[:-1], sep=" | ")
    if options.csv:
        with options.csv.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(table)


def processor():
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
