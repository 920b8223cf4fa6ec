"""The yardstick of the end-to-end table: the training loop that people use, written plainly, in float32.

    python benchmarks/yardstick.py FOLDER [--pairs 8000] [--workers 4] [--epochs 2]

DCHMT as its public trainers run it: a DataLoader of single pictures, PIL, torchvision's RandomResizedCrop and mirror,
texts tokenised when they are read, both towers of CLIP ViT-B/32 trained, BertAdam that goes through the tensors one
by one, and, every epoch, the query and database pairs encoded and ranked by a full sort. The folder holds index.mat,
caption.mat and label.mat in the layout of those trainers; where it does not, made-up JPEGs are written first.
"""

import argparse
import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import open_clip
import scipy.io
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T

SIZE, CLASSES, TOKENS, BITS, BATCH = (500, 375), 24, 32, 64, 128
WORDS = [
    f"{first}{last}"
    for first in ("ma", "to", "li", "bre", "ku", "so")
    for last in ("n", "rra", "lek", "si", "dom", "ve")
]


def make(folder, pairs):
    """Made-up JPEGs whose colours follow their labels, captions of six to thirty words, and the three files."""
    photos = folder / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng(0)
    label = (draws.random((pairs, CLASSES)) < 0.1).astype(np.uint8)
    label[np.arange(pairs), draws.integers(CLASSES, size=pairs)] = 1
    paths, captions = [f"photos/{number}.jpg" for number in range(pairs)], []
    for row in label:
        named = [WORDS[k] for k in np.flatnonzero(row)[:4]]
        captions.append(" ".join([*named, *draws.choice(WORDS, draws.integers(5, 30))]))

    def one(number):
        own = np.random.default_rng(number)
        grid = own.integers(256, size=(12, 16, 3)).astype(np.float32)
        for k in np.flatnonzero(label[number]):  # every label colours two cells
            grid[k % 12, k // 2 : k // 2 + 2] = np.random.default_rng(10_000 + k).integers(256, size=3)
        picture = Image.fromarray(grid.astype(np.uint8)).resize(SIZE, Image.Resampling.BICUBIC)
        noisy = np.asarray(picture, np.float32) + own.normal(0, 8, (SIZE[1], SIZE[0], 1)).astype(np.float32)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / paths[number], "JPEG", quality=90)

    with ThreadPoolExecutor() as pool:
        list(pool.map(one, range(pairs)))
    scipy.io.savemat(folder / "index.mat", {"index": np.array(paths, object)[:, None]})
    scipy.io.savemat(folder / "caption.mat", {"caption": np.array(captions, object)[:, None]})
    scipy.io.savemat(folder / "label.mat", {"label": label})


class Pairs(Dataset):
    """A picture, the token ids of its text, and its labels."""

    def __init__(self, folder, rows, augmented):
        self.folder, self.rows = folder, rows
        names, texts = (scipy.io.loadmat(folder / f"{n}.mat")[n] for n in ("index", "caption"))
        self.names, self.texts = ([str(cell[0]) for cell in column[:, 0]] for column in (names, texts))
        self.label = scipy.io.loadmat(folder / "label.mat")["label"].astype(np.float32)
        self.tokenizer = open_clip.get_tokenizer("ViT-B-32", context_length=TOKENS)
        bicubic, tail = T.InterpolationMode.BICUBIC, [T.ToTensor(), T.Normalize((0.48,) * 3, (0.27,) * 3)]
        head = [T.Resize(224, bicubic), T.CenterCrop(224)]
        if augmented:
            head = [T.RandomResizedCrop(224, interpolation=bicubic), T.RandomHorizontalFlip()]
        self.transform = T.Compose(head + tail)

    def __getitem__(self, number):
        row = self.rows[number]
        picture = self.transform(Image.open(self.folder / self.names[row]).convert("RGB"))
        return picture, self.tokenizer([self.texts[row]])[0], self.label[row]

    def __len__(self):
        return len(self.rows)


class Model(nn.Module):
    """Both towers of CLIP and a hashing head for each, 2 probabilities a bit."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.clip = open_clip.create_model("ViT-B-32", force_custom_text=True)
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 2 * BITS)) for _ in range(2)
        )

    def forward(self, pixels, ids):
        """(B, 2 K) probabilities of pictures and of texts."""
        text = self.clip.text(nn.functional.pad(ids, (0, self.clip.text.context_length - ids.shape[1])))
        found = self.clip.visual(pixels), text
        return [
            head(part).unflatten(1, (BITS, 2)).softmax(2).flatten(1)
            for head, part in zip(self.heads, found, strict=True)
        ]


def loss(image, text, label):
    """Distances of similar pairs, and what is missing of a margin for the others."""
    similar, margin = (label @ label.T > 0).float(), math.sqrt(BITS)
    total = 0
    for one, other in ((image, text), (image, image), (text, text)):
        apart = torch.cdist(one, other)
        total = total + (similar * apart**2 + (1 - similar) * (margin - apart).clamp_min(0) ** 2).mean()
    return total


class BertAdam(torch.optim.Optimizer):
    """Adam without bias correction, every tensor clipped and updated by itself."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self):
        """One step."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["mean"], state["square"] = torch.zeros_like(p), torch.zeros_like(p)
                nn.utils.clip_grad_norm_(p, 1.0)
                state["mean"].mul_(0.9).add_(p.grad, alpha=0.1)
                state["square"].mul_(0.98).addcmul_(p.grad, p.grad, value=0.02)
                update = state["mean"] / (state["square"].sqrt() + 1e-6) + 0.2 * p
                p.add_(update, alpha=-group["lr"])


def mean_average_precision(query, database, query_label, database_label):
    """By a full sort for every query."""
    found = []
    for code, own in zip(query, query_label, strict=True):
        order = (BITS - code @ database.T).argsort()
        relevant = (own @ database_label.T > 0)[order].float()
        ranks = relevant.nonzero()[:, 0] + 1
        if len(ranks):
            found.append((torch.arange(1, len(ranks) + 1, device=ranks.device) / ranks).mean().item())
    return sum(found) / len(found)


def run(folder, workers, epochs, train, query, device, report=print):
    """Seconds of every epoch with its validation: `train` pairs trained, `query` more and all those encoded.

    Args:
        folder: of the three files.
        workers: of the DataLoader.
        epochs: how many.
        train: pairs that are trained, and searched in.
        query: pairs that are searched for.
        device: where to compute.
        report: called with (epoch, seconds, seconds of its training, mAP of both directions).
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.manual_seed(0)
    rows = np.random.default_rng(0).permutation(train + query)
    loaders = [
        DataLoader(Pairs(folder, part, augmented), BATCH, shuffle=augmented, num_workers=workers, pin_memory=True)
        for part, augmented in ((rows[:train], True), (rows[train:], False), (rows[:train], False))
    ]
    model = Model().to(device)
    optimizer = BertAdam(
        [{"params": model.clip.parameters(), "lr": 1e-5}, {"params": model.heads.parameters()}], lr=1e-3
    )
    seconds = []
    for epoch in range(epochs):
        started = time.perf_counter()
        model.train()
        for pixels, ids, label in loaders[0]:
            pixels, ids, label = (each.to(device, non_blocking=True) for each in (pixels, ids, label))
            value = loss(*model(pixels, ids), label)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            value.item()  # the running loss that is printed
        trained = time.perf_counter() - started
        model.eval()
        codes = []
        with torch.no_grad():
            for loader in loaders[1:]:
                parts = []
                for pixels, ids, label in loader:
                    both = model(pixels.to(device), ids.to(device))
                    parts.append([*((h[:, 1::2] > 0.5).float() * 2 - 1 for h in both), label.to(device)])
                codes.append([torch.cat(part) for part in zip(*parts, strict=True)])
        (qi, qt, ql), (di, dt, dl) = codes
        scores = mean_average_precision(qi, dt, ql, dl), mean_average_precision(qt, di, ql, dl)
        seconds.append(time.perf_counter() - started)
        report(epoch, seconds[-1], trained, scores)
    return seconds


def main():
    """Make the pictures where they are missing, and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for option, default in (("pairs", 8000), ("workers", 4), ("epochs", 2), ("train", 5000), ("query", 500)):
        parser.add_argument(f"--{option}", type=int, default=default)
    options = parser.parse_args()
    if not (options.folder / "label.mat").is_file():
        make(options.folder, options.pairs)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print("start", flush=True)
    run(
        options.folder, options.workers, options.epochs, options.train, options.query, device,
        lambda *found: print(*found, flush=True),
    )  # fmt: skip


if __name__ == "__main__":
    main()
