"""The launch lines of docs/cluster.md: two processes of this machine stand for two nodes."""

import json
import re
import socket
from pathlib import Path

import pytest

from tests import forks

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
    """The module that the page's command for one node runs, and its words, on the CPU and short."""
    (command,) = re.findall(rf"^ *({launcher} (?:.*\\\n)*.*)", PAGE, re.MULTILINE)
    words = command.replace("\\\n", " ").replace("$NODE", str(node)).replace("$MAIN:29500", f"127.0.0.1:{port}").split()
    module, words = "torch.distributed.run", [word.replace("node=8", "node=1") for word in words[1:]]
    if launcher == "srun":  # tasks that it would start
        python, m, module, *words = words[words.index("python") :]
        assert (python, m) == ("python", "-m")
    words[words.index("--devices") + 1] = "1"
    return module, [*words, "--epochs", "1", "--trainer.accelerator=cpu", "--data.subset=64", "--gallery=false"]


@pytest.mark.ddp
@pytest.mark.parametrize("launcher", ["torchrun", "srun"])
def test_two_nodes_make_one_run(launcher, home):
    port = free_port()
    started = []
    for node in range(NODES):
        more = {"GLOO_SOCKET_IFNAME": "lo"} | (slurm(node, port) if launcher == "srun" else {})
        module, words = lines(launcher, node, port)
        started.append(forks.start(*words, module=module, out=home / f"log{node}", **more))
    for process in started:
        process.join(280)
    logs = [(home / f"log{node}").read_text()[-2000:] for node in range(NODES)]
    assert [process.exitcode for process in started] == [0, 0], logs
    (record,) = home.glob("runs/dagan/emoji/*/*/result.json")
    result = json.loads(record.read_text())
    assert result["devices"] == NODES
    assert 0 < result["metrics"]["test/map"] <= 1
