"""Fixtures: a home of its own for every test that writes, the embedded data, and datasets in their real layout."""

import os
import shutil
from pathlib import Path

for variable, value in {
    "WANDB_MODE": "disabled",  # a run of it takes a second or two; tests of it say offline
    "WANDB_SILENT": "true",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}.items():
    os.environ[variable] = value

import numpy as np
import pytest
import scipy.io
import torch

CHECKOUT = Path(__file__).parents[1]
torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    """Files with tests that take long go first, so that in the end no worker waits for another one."""
    long = {item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("ddp")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(autouse=True)
def _as_in_a_new_process(monkeypatch):
    """Torch begins with another seed in every process; what a test before has imported and edited is no matter."""
    torch.manual_seed(0)
    monkeypatch.setattr("xmodal.code.IMPORTED", {})


@pytest.fixture(scope="session", autouse=True)
def _wandb_stays_inside(tmp_path_factory):
    for variable in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        os.environ[variable] = str(tmp_path_factory.mktemp("wandb"))


@pytest.fixture
def offline(monkeypatch):
    """W&B as it is without a key, with a service of its own beside every command."""
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A checkout's folders in a temporary place; the emoji caches of the checkout are read."""
    for name in ("experiments", "sweeps"):
        shutil.copytree(CHECKOUT / name, tmp_path / name)
    monkeypatch.setenv("XMODAL_HOME", str(tmp_path))
    monkeypatch.setattr("xmodal.paths.PACKAGE", tmp_path)  # as in a checkout, where the package's files are these
    monkeypatch.setenv("XMODAL_DATA", os.environ.get("XMODAL_DATA") or str(CHECKOUT / "data"))
    return tmp_path


@pytest.fixture(scope="session")
def wikipedia_root(tmp_path_factory):
    """The release's layout and sizes with made-up, class-dependent features."""
    root = tmp_path_factory.mktemp("wikipedia")
    write_wikipedia(root)
    return root


def write_wikipedia(root, seed=0):
    """Write the four files of the release; image and text of a pair share their class only."""
    rng = np.random.default_rng(seed)
    names = [f"category{number}" for number in range(1, 11)]
    (root / "categories.list").write_text("\n".join(names) + "\n")
    centres = {"I": rng.normal(size=(10, 128)), "T": rng.normal(size=(10, 10))}
    features = {}
    for part, size, file in (("tr", 2173, "trainset"), ("te", 693, "testset")):
        classes = rng.integers(10, size=size)
        for side, centre in centres.items():
            features[f"{side}_{part}"] = centre[classes] + rng.normal(size=(size, centre.shape[1]))
        lines = [f"text{row}\timage{row}\t{number + 1}" for row, number in enumerate(classes)]
        (root / f"{file}_txt_img_cat.list").write_text("\n".join(lines) + "\n")
    scipy.io.savemat(root / "raw_features.mat", features)
