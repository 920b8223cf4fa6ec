"""A ViT-B/32 trained end to end by the suite's contrastive method, against a plain float32 step; one GPU and two.

The picture trunk dominates: the text side is a linear layer on made-up features. Forms, all forward + backward +
optimizer at the same batch: `plain step`, a loop by hand in float32 on one batch that lies on the device (the bare
step); `plain`, the same loop on a DataLoader of single pictures that PIL decodes; `xmodal decoding`, the suite's
Trainer in bf16, JPEGs decoded by workers in every epoch. The share of the ceiling counts the model's own operations
(FlopCounterMode, forward and backward) against an 8192-cubed bf16 matrix product timed in the same run. JPEGs of 500
x 375 are made up and lie in a zip. `largest` doubles the batch of the bare step until it does not fit. `two-gpus`
starts itself with torchrun on one GPU and on two; with `--profile` it leaves where the time of rank 0 goes.
"""

import io
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from lightning import seed_everything
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from measuring import Clock, Table, fit, peak_megabytes, reset_peak, wait
from profiling import Profiled
from xmodal.batch import Raw
from xmodal.data import CrossModalDataModule, Pairs
from xmodal.data.protocol import make_split
from xmodal.data.raw import TrunkTraining
from xmodal.data.readers.files import Files, Photos
from xmodal.encoders import TimmImage
from xmodal.losses import info_nce
from xmodal.methods import Pretrain
from xmodal.trainer import OverDevices

SIZE, TEXT, DIM = (500, 375), 384, 512


class Drawn(CrossModalDataModule):
    """Made-up JPEGs, each in several pairs, with made-up text features.

    Args:
        folder: with the zip.
        photos: their number.
        rounds: pairs of each.
        model: of timm.
    """

    name = "drawn"

    def __init__(self, folder, photos, rounds, model, **options) -> None:
        super().__init__(root=str(folder), image_scaling="none", drop_last=True, **options)
        self.photos, self.rounds, self.image_encoder = photos, rounds, TimmImage(model, "random")

    def pairs(self):
        """Pictures that are decoded when they are asked for."""
        rng, total = np.random.default_rng(0), self.photos * self.rounds + 128
        pictures = Photos(Files(self.root), [f"{number}.jpg" for number in range(self.photos)])
        text = {"pooled": rng.standard_normal((total, TEXT), np.float32).astype(np.float16)}
        label = np.ones((total, 1), np.uint8)
        return Pairs(pictures, text, label, ("all",), rows={"image": np.arange(total) % self.photos})

    def split(self):
        """All for training but what a split must hold."""
        pairs = np.arange(self.photos * self.rounds + 128)
        return make_split(pairs[64:], pairs[:64], 64, seed=1, database="test")


def draw(folder, photos):
    """Write the JPEGs."""

    def one(seed):
        noise = np.random.default_rng(seed).integers(256, size=(12, 16, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noise).resize(SIZE, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        return buffer.getvalue()

    with zipfile.ZipFile(folder / "images.zip", "w") as file, ThreadPoolExecutor() as pool:
        for number, content in enumerate(pool.map(one, range(photos))):
            file.writestr(f"{number}.jpg", content)


def bf16_ceiling():
    """TFLOP/s of a large bf16 product of random matrices; not a number without a GPU."""
    if not torch.cuda.is_available():
        return float("nan")
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    times = []
    for number in range(23):
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        a @ b
        after.record()
        torch.cuda.synchronize()
        if number >= 3:
            times.append(before.elapsed_time(after))
    return 2 * 8192**3 / (float(np.median(times)) * 1e9)


def device():
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class ByHand:
    """A model and a step as one would write them first.

    Args:
        model: of timm.
        checkpointing: compute activations again in the backward pass.
        precision: of autocast; None: float32.
    """

    def __init__(self, model, *, checkpointing=False, precision=None) -> None:
        self.trunk = TimmImage(model, "random").trunk().to(device())
        self.trunk.tokens = False
        if checkpointing:
            self.trunk.set_checkpointing()
        self.precision = precision
        width = self.trunk(self.pixels(1))["pooled"].shape[1]
        self.heads = torch.nn.ModuleList([torch.nn.Linear(width, DIM), torch.nn.Linear(TEXT, DIM)]).to(device())
        self.optimizer = torch.optim.AdamW([*self.trunk.parameters(), *self.heads.parameters()], 1e-4)

    def pixels(self, batch_size):
        """A batch of them on the device."""
        side = self.trunk.transform(Image.new("RGB", (64, 64))).shape[-1]
        shape = (batch_size, 3, side, side)
        return Raw(pixels=torch.randint(0, 256, shape, dtype=torch.uint8, device=device()))

    def loss(self, raw, text):
        """InfoNCE."""
        with torch.autocast(device().type, self.precision, enabled=self.precision is not None):
            image = F.normalize(self.heads[0](self.trunk(raw)["pooled"]))
            return info_nce(image, F.normalize(self.heads[1](text)), torch.tensor(0.07, device=device()))

    def step(self, raw, text):
        """Forward, backward, AdamW."""
        self.optimizer.zero_grad()
        self.loss(raw, text).backward()
        self.optimizer.step()


def flops(model):
    """Of one picture, forward and backward."""
    hand = ByHand(model)
    raw, text = hand.pixels(2), torch.randn(2, TEXT, device=device())
    with FlopCounterMode(display=False) as counter:
        hand.loss(raw, text).backward()
    return counter.get_total_flops() / 2


def plain_step(options):
    """Pictures per second of the bare step."""
    hand = ByHand(options.model)
    raw, text = hand.pixels(options.trunk_batch), torch.randn(options.trunk_batch, TEXT, device=device())
    times = []
    reset_peak()
    for _ in range(8):
        started = time.perf_counter()
        hand.step(raw, text)
        wait()
        times.append(time.perf_counter() - started)
    return options.trunk_batch / float(np.median(times[2:]))


class OneByOne(Dataset):
    """A decoded picture and its text."""

    def __init__(self, folder, photos, pairs, transform) -> None:
        self.folder, self.photos, self.pairs, self.transform = folder, photos, pairs, transform
        self.file = None

    def __getitem__(self, row):
        """See the class."""
        self.file = self.file or zipfile.ZipFile(self.folder / "images.zip")
        content = self.file.read(f"{row % self.photos}.jpg")
        return self.transform(Image.open(io.BytesIO(content)).convert("RGB")), torch.randn(TEXT)

    def __len__(self):
        return self.pairs


def plain(options, folder):
    """Pictures per second of the step on a DataLoader with as many workers as ours has."""
    hand, workers = ByHand(options.model), min(os.cpu_count() or 1, 16)
    pairs = OneByOne(folder, options.photos, 8 * options.trunk_batch, hand.trunk.transform)
    loader = DataLoader(pairs, options.trunk_batch, num_workers=workers, pin_memory=torch.cuda.is_available())
    reset_peak()
    for _ in range(2):  # the second pass counts
        started = time.perf_counter()
        for pixels, text in loader:
            hand.step(Raw(pixels=pixels.to(device(), non_blocking=True)), text.to(device(), non_blocking=True))
        wait()
    return len(pairs) / (time.perf_counter() - started)


FORMS = {  # of ours: whether the trunk is compiled
    "xmodal decoding": False,
    "xmodal decoding compiled": True,
}


def ours(options, folder, form, *, callbacks=(), batch_size=None, **settings):
    """Pictures per second through the suite's Trainer: bf16, compiled, fused."""
    batch_size = batch_size or options.trunk_batch
    training = TrunkTraining("image", compile=FORMS[form])
    data = Drawn(folder, options.photos, options.rounds, options.model, batch_size=batch_size, trunk=training)
    seed_everything(0, verbose=False)
    model = Pretrain(DIM, "projected", trunk_lr=1e-4, image_dim=data.image_dim, text_dim=data.text_dim)
    clock, epochs = Clock(), 3  # no stop by time: processes would not stop together
    if settings.get("devices", 1) > 1:
        settings["strategy"] = OverDevices(model)
    fit(model, data, clock, epochs=epochs, precision="bf16-mixed", callbacks=callbacks, **settings)
    return data.num_train // batch_size * batch_size / clock.seconds_per_epoch


def trunk(options):
    """Every form on one GPU."""
    table, ceiling = Table(options.out, "trunk"), bf16_ceiling()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder, options.photos)
        if options.profile:
            path = options.folder / "profile_trunk.txt"
            for form in FORMS:
                title = f"{options.model}, batch {options.trunk_batch}, {form}"
                ours(options, folder, form, callbacks=[Profiled(title, path)])
            return
        each = flops(options.model)
        print(f"bf16 ceiling {ceiling:.0f} TFLOP/s; {each / 1e9:.2f} GFLOP for a picture", flush=True)
        found = {}
        for form, measure, base in (
            ("plain step", lambda: plain_step(options), "plain step"),
            *((form, lambda form=form: ours(options, folder, form), "plain step") for form in FORMS),
            ("plain", lambda: plain(options, folder), "plain"),
        ):
            try:
                rate = found[form] = measure()
            except Exception:  # the others go on
                print(f"{form} failed", flush=True)
                traceback.print_exc()
                continue
            share = rate * each / (ceiling * 1e12)
            plain_rate = found.get(base, math.nan)
            table.add(options.model, options.trunk_batch, form, rate, plain=plain_rate, ceiling=share)


def largest(options):
    """The largest batch of the bare step that fits, among powers of two, and its rate."""
    table = Table(options.out, "largest")
    if not torch.cuda.is_available():
        sys.exit("the largest batch that fits is a matter of GPUs: there is none here")
    for form, settings in (
        ("largest batch, float32", {}),
        ("largest batch, bf16", {"precision": torch.bfloat16}),
        ("largest batch, bf16, checkpointing", {"precision": torch.bfloat16, "checkpointing": True}),
    ):
        hand, size, fits = ByHand(options.model, **settings), 1024, None
        while size <= 65536:
            try:
                raw, text = hand.pixels(size), torch.randn(size, TEXT, device=device())
                reset_peak()
                for _ in range(2):  # the second has the optimizer's state
                    started = time.perf_counter()
                    hand.step(raw, text)
                    wait()
                fits = size, size / (time.perf_counter() - started), peak_megabytes()
            except torch.OutOfMemoryError:
                break
            size *= 2
        hand.optimizer.zero_grad()
        del hand, raw, text
        torch.cuda.empty_cache()
        if fits:
            table.add(options.model, fits[0], form, fits[1], peak=fits[2])


TWO = [  # form, GPUs, batches of the first
    ("xmodal decoding", 1, 1),
    ("xmodal decoding", 2, 2),
]


def two_gpus(options):
    """The same run by torchrun on one GPU and on two, with 256 pairs per GPU and with 256 in all."""
    table, found = Table(options.out, "two-gpus"), {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder, options.photos)
        started = time.perf_counter()
        for form, devices, batches in TWO[1:2] if options.profile else TWO:
            batch_size = batches * options.trunk_batch
            if time.perf_counter() - started > 60 * options.minutes:
                print(f"{devices} devices, {form}, batch {batch_size}: no time left", flush=True)
                continue
            result = folder / "result.json"
            result.unlink(missing_ok=True)
            launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={devices}"]
            given = {"part": "worker", "folder": folder, "trunk_batch": batch_size, "device": options.device}
            given |= {"model": options.model, "photos": options.photos, "rounds": options.rounds, "forms": form}
            script = [str(Path(__file__).with_name("training.py")), *(f"--{k}={v}" for k, v in given.items())]
            script += ["--profile"] if options.profile else []
            try:
                subprocess.run([sys.executable, *launcher, *script], timeout=180, check=True)
                rate, peak = json.loads(result.read_text())
            except (subprocess.SubprocessError, OSError) as error:
                print(f"{devices} devices, {form}, batch {batch_size} failed: {error}", flush=True)
                continue
            if options.profile:
                (options.folder / "profile_two-gpus.txt").write_text((folder / "profile_worker.txt").read_text())
                return
            found.setdefault(form, rate)
            table.add(options.model, batch_size, form, rate, plain=found[form], peak=peak, devices=devices)


def worker(options):
    """One process of torchrun; rank 0 leaves the rate and its peak memory."""
    world, first, (form,) = int(os.environ["WORLD_SIZE"]), os.environ["RANK"] == "0", options.forms
    title = f"{options.model}, batch {options.trunk_batch}, {form}, {world} GPUs, rank 0"
    rate = ours(
        options,
        options.folder,
        form,
        callbacks=[Profiled(title, options.folder / "profile_worker.txt")] if options.profile and first else [],
        device=options.device,
        devices=world,
    )
    if first:
        (options.folder / "result.json").write_text(json.dumps([rate, peak_megabytes()]))
