"""The methods whose losses look across the batch end with the same parameters on one and on two processes."""

import pytest
import torch
from lightning import seed_everything

from tests.methods.test_every_method import fit
from tests.methods.toy import Toy, build, default

pytestmark = [
    pytest.mark.ddp,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The '.*dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:find_unused_parameters=True was specified"),
    pytest.mark.filterwarnings("ignore:It is recommended to use `self.log"),  # the losses are of the whole batch
    pytest.mark.filterwarnings("ignore:`isinstance\\(treespec, LeafSpec\\)` is deprecated"),
]


@pytest.mark.parametrize(
    "name", ["acmr", "alscor", "attention_adversarial", "dagan", "dscmr", "hierarchical_adversarial"]
)
def test_parameters_are_the_same_on_two_processes(name, tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    still = {"dropout": 0.0} if default(name, "dropout") else {}  # its draws belong to a process
    found = []
    for devices in (1, 2):
        seed_everything(0, verbose=False)
        data = Toy(batch_size=32 if name == "alscor" else 16)
        model = build(name, data, **still)
        manual = "" if model.automatic_optimization else "_find_unused_parameters_true"
        fit(
            model,
            data,
            tmp_path,
            2,
            limit_val_batches=0,
            devices=devices,
            strategy=f"ddp_fork{manual}" if devices > 1 else "auto",
        )
        found.append({key: value.clone() for key, value in model.state_dict().items()})
    for key, value in found[0].items():
        assert torch.allclose(value, found[1][key], atol=1e-4), key
    assert any(
        not torch.equal(value, before) for value, before in zip(found[1].values(), _initial(name, still), strict=True)
    )


def _initial(name, still):
    seed_everything(0, verbose=False)
    return build(name, Toy(), **still).state_dict().values()
