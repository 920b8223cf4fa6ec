import pynvml
import pytest
import torch

from xmodal.studies.gpus import gpu_energy


@pytest.mark.parametrize(("visible", "joules"), [(None, 3.0), ("1", 2.0), ("GPU-b,0", 3.0), ("", None)])
def test_the_counters_of_the_visible_gpus_are_added(monkeypatch, visible, joules):
    for name, answer in {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetHandleByUUID": {"GPU-a": 0, "GPU-b": 1}.__getitem__,
        "nvmlDeviceGetTotalEnergyConsumption": [1000, 2000].__getitem__,  # millijoules
    }.items():
        monkeypatch.setattr(pynvml, name, answer)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0 if visible == "" else 2)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_energy() == joules


def test_a_machine_whose_driver_tells_nothing_has_no_energy(monkeypatch):
    def none():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(pynvml, "nvmlInit", none)
    assert gpu_energy() is None
