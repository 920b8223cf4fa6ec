"""From JPEGs to codes: `xmodal fit` against the yardstick, whole epochs with their validation, side by side.

    python benchmarks/end_to_end.py [--workers 4,14] [--devices 1] [--epochs 5] [--csv results/end_to_end_speed.csv]

The same 8,000 made-up JPEGs of 500 x 375, ViT-B/32 with random weights, both towers trained, random crop and mirror,
5,000 training pairs, 5,500 pairs encoded in every validation. Each form is a command of its own. `first` is the time
from the end of a command's imports to the end of its first epoch: building of models, decoding and compilation
included. `epoch` is the median of the later epochs, `training` of their training parts. The share of the ceiling counts
the operations of both towers, forward and backward, against a bf16 product of 8,192 x 8,192 in the same run.
`--evaluation 20000` instead times validations of so many pairs from pictures, and the bare forward pass of both towers
over as many: the device time.
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from lightning import Callback

import yardstick
from measuring import device_name, wait
from xmodal.encoders import OpenClipImage, OpenClipText

BATCH, TRAIN, QUERY, OPERATIONS = 128, 5000, 500, 33.6e9  # of a pair with 32 tokens (FlopCounterMode)
STARTED = time.time()  # where a command imports this file: its other imports are done, nothing is built
NAMES = (
    "device",
    "devices",
    "batch_size",
    "workers",
    "form",
    "first",
    "epoch",
    "training",
    "over_yardstick",
    "ceiling",
)


class Stamps(Callback):
    """Leaves when epochs began, when their validations began, and when they ended, as JSON.

    Args:
        path: of the file.
    """

    def __init__(self, path: str) -> None:
        self.path, self.stamps = path, {"start": [STARTED], "epoch": [], "validation": [], "end": []}

    def _stamp(self, what, trainer) -> None:
        wait()
        self.stamps[what].append(time.time())
        if what == "end" and trainer.is_global_zero:
            Path(self.path).write_text(json.dumps(self.stamps))

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        """A stamp."""
        self._stamp("epoch", trainer)

    def on_validation_start(self, trainer, pl_module) -> None:
        """A stamp."""
        self._stamp("validation", trainer)

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        """A stamp."""
        self._stamp("end", trainer)


def ceiling():
    """Operations per second of a large bf16 product."""
    if not torch.cuda.is_available():
        return float("nan")
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(20):
        wait()
        started = time.perf_counter()
        for _ in range(5):
            a @ b
        wait()
        times.append((time.perf_counter() - started) / 5)
    return 2 * 8192**3 / statistics.median(times)


def plain(folder, workers):
    """Seconds to the end of the first epoch, of the second, and of its training."""
    script = Path(__file__).with_name("yardstick.py")
    command = [sys.executable, str(script), str(folder), f"--workers={workers}", "--epochs=2"]
    first, last = None, ()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            print("   yardstick:", line.strip(), flush=True)
            if line.startswith("start"):
                started = time.time()
                continue
            first = first or time.time() - started
            last = line.split()
    return first, float(last[1]), float(last[2])


def ours(folder, workers, devices, batch, epochs, options, log, train=TRAIN):
    """The same of `xmodal fit`, and the median of its later validations."""
    stamps = Path(tempfile.mkdtemp()) / "stamps.json"
    model = "{class_path: %s, init_args: {model: ViT-B-32-quickgelu, weights: random}}"
    command = [
        *(sys.executable, "-m", "xmodal", "fit", "dcmht", "mirflickr25k", "--bits=64", f"--epochs={epochs}"),
        *(f"--data.root={folder}", "--data.protocol=xmodal", f"--data.query={QUERY * 2}", f"--data.batch_size={batch}"),
        *(f"--data.train={train + QUERY}", f"--data.val={QUERY}", "--data.trunk.sides=both", "--data.trunk.crop=0.08"),
        *("--data.trunk.flip=0.5", f"--data.trunk.workers={workers}", f"--trainer.devices={devices}"),
        *("--data.image_scaling=none", "--data.text_scaling=none"),
        f"--data.image_encoder={model % 'OpenClipImage'}",
        f"--data.text_encoder={model % 'OpenClipText'}",
        *("--trainer.callbacks+=end_to_end.Stamps", f"--trainer.callbacks.path={stamps}"),
        f"--trainer.default_root_dir={stamps.parent / 'run'}",
        *options,
    ]
    environment = os.environ | {"WANDB_MODE": "disabled"}
    environment["PYTHONPATH"] = f"{Path(__file__).parent}:{environment.get('PYTHONPATH', '')}"
    started = time.time()
    with Path(log).open("a") as file:
        subprocess.run(command, check=True, env=environment, stdout=file, stderr=subprocess.STDOUT)
    total = time.time() - started
    found = json.loads(stamps.read_text())
    starts, ends = found["epoch"], found["end"]
    whole = [after - before for before, after in zip(starts[1:], [*starts[2:], ends[-1]], strict=True)]
    training = [after - before for before, after in zip(starts[1:], found["validation"][1:], strict=True)]
    checks = [after - before for before, after in zip(found["validation"][1:], ends[1:], strict=True)]
    print(
        "   ours: epochs", [round(each, 2) for each in whole], "training", [round(e, 2) for e in training],
        "first epoch alone", round(ends[0] - starts[0], 2), "command", round(total, 1), flush=True,
    )  # fmt: skip
    return ends[0] - found["start"][0], statistics.median(whole), statistics.median(training), statistics.median(checks)


def device_time(pairs, size=1024):
    """Seconds of the bare forward pass of both trunks, bf16, over so many pairs that lie on the device."""
    trunks = [
        kind("ViT-B-32-quickgelu", "random").trunk(weights=False).cuda().eval()
        for kind in (OpenClipImage, OpenClipText)
    ]
    raws = [
        {"pixels": torch.randint(256, (size, 3, 224, 224), dtype=torch.uint8, device="cuda")},
        {"ids": torch.randint(1, 49000, (size, 32), device="cuda")},
    ]
    times = []
    for trunk in trunks:
        trunk.tokens = False
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
        for _ in range(13):
            wait()
            started = time.perf_counter()
            for trunk, raw in zip(trunks, raws, strict=True):
                trunk(raw)
            wait()
            times.append(time.perf_counter() - started)
    return statistics.median(times[3:]) * pairs / size


def evaluation(options):
    """Validations of many pairs against the device time of the two towers."""
    options.folder = options.folder.with_name(f"{options.folder.name}-{options.evaluation}")
    if not (options.folder / "label.mat").is_file():
        yardstick.make(options.folder, options.evaluation + 2 * QUERY)
    few = ["--trainer.limit_train_batches=2"]
    train = options.evaluation - QUERY
    workers = int(options.workers.split(",")[-1])
    *_, seconds = ours(options.folder, workers, 1, BATCH, options.epochs, few, options.log, train)
    bare = device_time(options.evaluation)
    print(f"{options.evaluation} pairs: {seconds:.2f} s, device time {bare:.2f} s, ratio {seconds / bare:.2f}")


def main():
    """Print and write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="4,14")
    parser.add_argument("--devices", default="1", help="numbers of GPUs; every GPU has 128 pairs of a batch")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--yardstick", type=int, default=1, help="0 leaves it out")
    parser.add_argument("--forms", default="default,compiled")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "xmodal-yardstick")
    parser.add_argument("--log", default="end_to_end.log", help="what the commands print")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--evaluation", type=int, default=0, help="pairs of a validation that is timed instead")
    options = parser.parse_args()
    if options.evaluation:
        evaluation(options)
        return
    if not (options.folder / "label.mat").is_file():
        yardstick.make(options.folder, 8000)
    forms = {"default": [], "compiled": ["--data.trunk.compile=true"], "eager": ["--data.trunk.record=false"]}
    limit, table = ceiling(), []

    def keep(devices, workers, form, first, epoch, training, over):
        """Print a row and write all so far: a run that is stopped keeps them."""
        share = OPERATIONS * TRAIN / training / (limit * devices)
        cells = (f"{first:.1f}", f"{epoch:.2f}", f"{training:.2f}", f"{over:.2f}", f"{share:.3f}")
        table.append((device_name(), devices, BATCH * devices, workers, form, *cells))
        print(*table[-1], sep=" | ", flush=True)
        if options.csv:
            with options.csv.open("w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows([NAMES, *table])

    for workers in map(int, options.workers.split(",")):
        base = None
        if options.yardstick:
            base = plain(options.folder, workers)
            keep(1, workers, "yardstick", *base, 1.0)
        for devices in map(int, options.devices.split(",")):
            for form in options.forms.split(","):
                shutil.rmtree(options.folder / "features", ignore_errors=True)  # each command decodes anew
                size = BATCH * devices
                *found, _ = ours(options.folder, workers, devices, size, options.epochs, forms[form], options.log)
                keep(devices, workers, f"xmodal {form}", *found, base[1] / found[1] if base else float("nan"))


if __name__ == "__main__":
    main()
