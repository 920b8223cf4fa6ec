#!/usr/bin/env bash
# LightningCLI beside sentence-transformers: `--trainer.limit_train_batches=1` trains on one batch, or on every batch.
#
# Versions: lightning 2.6.6, jsonargparse 4.53.0, sentence-transformers 6.2.0, torch 2.14.1, Python 3.11.
# Behaviour: Lightning's trainer takes `Optional[Union[int, float]]`, where 1 is one batch and 1.0 all of them. `typing` caches
# `Optional[...]` by equality, and `Union[float, int]` equals `Union[int, float]`: where another annotation with the other order
# is in that cache (Lightning's own `Fabric` has one; after some orders of imports it is still there), the trainer's annotation
# becomes the other one. jsonargparse tries types in their order, so that the text `1` is 1.0. No line says so.
# Seen: "steps 1 1" without, "steps 64 1.0" with `import sentence_transformers` before Lightning. Fails if that changes.
# What to do: give 2 or more batches, or import Lightning first.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q lightning==2.6.6 'jsonargparse[signatures]==4.53.0' sentence-transformers==6.2.0 torch==2.14.1
cat > "$work/one.py" << 'PYTHON'
import importlib
import sys

for name in sys.argv[1:]:
    importlib.import_module(name)
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel

given = {"limit_train_batches": 1, "max_epochs": 1, "accelerator": "cpu", "logger": "false"}
given |= {"enable_checkpointing": "false", "enable_progress_bar": "false"}
arguments = [f"--trainer.{key}={value}" for key, value in given.items()]
cli = LightningCLI(BoringModel, BoringDataModule, run=False, save_config_callback=None, args=arguments)
cli.trainer.fit(cli.model, cli.datamodule)
print("steps", cli.trainer.global_step, cli.config.trainer.limit_train_batches)
PYTHON
cd "$work"
plain=$(venv/bin/python -W ignore one.py 2> /dev/null | tail -n 1)
beside=$(venv/bin/python -W ignore one.py sentence_transformers 2> /dev/null | tail -n 1)
printf 'Lightning first:             %s\nsentence_transformers first: %s\n' "$plain" "$beside"
[ "$plain" = "steps 1 1" ] && [ "$beside" = "steps 64 1.0" ]
