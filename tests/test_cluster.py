"""The launch lines of docs/cluster.md: two processes of this machine stand for two nodes."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "cluster.md").read_text()
NODES = 2


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return str(server.getsockname()[1])


def slurm(node, port):
    """What `srun` gives a task."""
    return {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NAME": "train",  # not `bash` or `interactive`, where Lightning starts processes itself
        "SLURM_NTASKS": str(NODES),
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_NNODES": str(NODES),
        "SLURM_PROCID": str(node),
        "SLURM_NODEID": str(node),
        "SLURM_LOCALID": "0",
        "SLURM_NODELIST": "localhost",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }


def lines(launcher, node, port):
    """The command of the page for one node, on the CPU and short."""
    (command,) = re.findall(rf"^ *({launcher} (?:.*\\\n)*.*)", PAGE, re.MULTILINE)
    words = command.replace("\\\n", " ").replace("$NODE", str(node)).replace("$MAIN:29500", f"127.0.0.1:{port}").split()
    own = {"torchrun": [sys.executable, "-m", "torch.distributed.run"], "srun": []}[launcher]
    words = [*own, *words[1:]]
    if launcher == "srun":  # tasks that it would start
        words = words[words.index("python") :]
    replaced = {"python": sys.executable, "--nproc-per-node=8": "--nproc-per-node=1"}
    words = [replaced.get(word, word) for word in words]
    words[words.index("--devices") + 1] = "1"
    return [*words, "--epochs", "1", "--trainer.accelerator=cpu", "--data.subset=64", "--gallery=false"]


@pytest.mark.ddp
@pytest.mark.parametrize("launcher", ["torchrun", "srun"])
def test_two_nodes_make_one_run(launcher, home):
    port = free_port()
    started = []
    for node in range(NODES):
        environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo"} | (slurm(node, port) if launcher == "srun" else {})
        command = lines(launcher, node, port)
        started.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    outputs = [process.communicate(timeout=280) for process in started]
    assert [process.returncode for process in started] == [0, 0], [error[-2000:] for _, error in outputs]
    (record,) = home.glob("runs/dagan/emoji/*/*/result.json")
    result = json.loads(record.read_text())
    assert result["devices"] == NODES
    assert 0 < result["metrics"]["test/map"] <= 1
