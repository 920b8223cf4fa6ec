"""Checkpoints: whole under their name, checked before they are read, and never a program."""

import errno
import io
import os
import pickle
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import seed_everything

from tests.methods.toy import Toy, build
from tests.methods.training import HARMLESS, train
from xmodal import files
from xmodal.__main__ import main
from xmodal.checkpoint import Best, DamagedError, WholeCheckpoints, read_checkpoint, resumable
from xmodal.errors import UserError
from xmodal.files import remove_leftovers, write_atomically

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in HARMLESS]


class Probe:
    """Makes a file where a pickle is read without care."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@dataclass(frozen=True)
class Stranger:
    """Not of this package."""

    rate: float = 1.0


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A checkpoint as a run leaves it, whose hyper-parameters hold a dataclass of weights."""
    folder = tmp_path_factory.mktemp("sound")
    seed_everything(0, verbose=False)
    data = Toy()
    trainer = train(build("dcmh", data), data, folder, plugins=[WholeCheckpoints()])
    trainer.save_checkpoint(folder / "saved.ckpt")
    return folder / "saved.ckpt"


def test_what_was_written_is_read(sound):
    read, plain = read_checkpoint(sound), torch.load(sound, weights_only=False)
    assert read["hyper_parameters"] == plain["hyper_parameters"]
    for name, value in plain["state_dict"].items():
        assert torch.equal(read["state_dict"][name], value), name


STATES = torch.eye(3).to_sparse(), torch.ones(3, dtype=torch.cfloat), {"steps": 1}


@pytest.mark.parametrize(("part", "value"), [("beta", np.ones(3)), *(("state_dict", {"a": each}) for each in STATES)])
def test_what_could_not_be_read_again_is_not_written(tmp_path, sound, part, value):
    """A method of one's own kept a NumPy array, or a sparse buffer: its run ended with a damaged checkpoint."""
    kept = read_checkpoint(sound) | {part: value}
    with pytest.raises(UserError, match="is not read with"):
        WholeCheckpoints().save_checkpoint(kept, tmp_path / "last.ckpt")
    assert not (tmp_path / "last.ckpt").exists()


def strangers(folder, sound, mark):
    """Files that are no checkpoint of the suite, by name."""
    whole = sound.read_bytes()
    good = torch.load(sound, weights_only=False)
    made = {}
    for name, content in {
        "empty": b"",
        "truncated": whole[: len(whole) // 2],
        "short": whole[:-1],
        "text": b"accuracy 0.9\n" * 100,
        "html": b"<!DOCTYPE html><html><body>404</body></html>",
        "pickle": pickle.dumps(Probe(mark)),
        "zip": b"PK\x05\x06" + bytes(18),
    }.items():
        (folder / name).write_bytes(content)
        made[name] = folder / name
    for name, content in {
        "state": good["state_dict"],
        "tensor": torch.zeros(3),
        "probe": good | {"callbacks": {"a": Probe(mark)}},
        "stranger": good | {"hyper_parameters": {"weights": Stranger()}},
        "tensors": good | {"hyper_parameters": {"bits": torch.zeros(2)}},
        "list": good | {"state_dict": {**good["state_dict"], "weight": [1, 2]}},
        "absent": good | {"state_dict": {**good["state_dict"], "weight": torch.zeros(2, device="meta")}},
        "complex": good | {"state_dict": {**good["state_dict"], "weight": torch.zeros(2, dtype=torch.complex64)}},
        "before": good | {"epoch": -1},
        "trunks": good | {"trunks": {"image": 3}},
        "no trunks": good | {"trunks": [1]},
        "loops": good | {"loops": {"fit_loop": 3}},
        "version": good | {"pytorch-lightning_version": "banana"},
        "numbers": good | {"hyper_parameters": {1: 2, "bits": 8}},
        "lightning": {key: value for key, value in good.items() if key != "hyper_parameters"},
    }.items():
        torch.save(content, folder / name)
        made[name] = folder / name
    torch.save(good["state_dict"], folder / "legacy", _use_new_zipfile_serialization=False)
    return made | {"legacy": folder / "legacy"}


def test_what_is_no_checkpoint_is_refused_and_not_run(tmp_path, sound):
    mark = tmp_path / "mark"
    for name, path in strangers(tmp_path, sound, mark).items():
        with pytest.raises(DamagedError, match="is damaged or no checkpoint of this suite") as caught:
            read_checkpoint(path)
        assert "\n" not in str(caught.value), name
    assert not mark.exists()
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="cannot read the checkpoint"):
            read_checkpoint(path)


def test_flipped_bytes_never_change_what_is_read(tmp_path, sound):
    whole, good = sound.read_bytes(), read_checkpoint(sound)["state_dict"]
    draws, refused = random.Random(0), 0
    for _ in range(30):
        bad = bytearray(whole)
        for place in draws.sample(range(len(bad)), 50):
            bad[place] ^= 1 << draws.randrange(8)
        (tmp_path / "bad.ckpt").write_bytes(bad)
        try:
            read = read_checkpoint(tmp_path / "bad.ckpt")["state_dict"]
        except DamagedError:
            refused += 1
        else:
            assert all(torch.equal(read[name], value) for name, value in good.items())
    assert refused == 30


def test_test_says_a_strange_checkpoint_in_one_line(home, capsys, tmp_path, sound):
    mark = tmp_path / "mark"
    made = strangers(tmp_path, sound, mark)
    for path in (made["truncated"], made["pickle"], made["probe"], made["state"], sound, tmp_path):
        command = ["test", "dcmh", "emoji", "--bits=16", "--data.subset=64", f"--ckpt_path={path}"]
        assert main(command) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1, err
    assert not mark.exists()


@pytest.mark.parametrize(
    ("last", "best", "want"),
    [
        ("sound", "sound", "last.ckpt"),
        ("bad", "sound", "best.ckpt"),
        (None, "sound", "best.ckpt"),
        ("sound", "bad", None),
        ("sound", None, None),
        ("bad", "bad", None),
        (None, None, None),
        ("early", None, "last.ckpt"),  # killed before its first validation: it began anew, and again at the next kill
    ],
)
def test_an_interrupted_run_goes_on_from_what_is_sound(tmp_path, capsys, sound, last, best, want):
    content = torch.load(sound, weights_only=False)
    for name, state in (("last.ckpt", last), ("best.ckpt", best)):
        if state == "bad":
            (tmp_path / name).write_bytes(sound.read_bytes()[:1000])
        elif state:
            score = {"best_model_score": torch.tensor(0.2) if state == "sound" else None}
            torch.save(content | {"callbacks": {Best(tmp_path).state_key: score}}, tmp_path / name)
    found = resumable(tmp_path)
    assert (found and found.name) == want
    err = capsys.readouterr().err
    for name, state in (("last.ckpt", last), ("best.ckpt", best)):
        assert (tmp_path / f"{name}.damaged").exists() == (state == "bad")
        assert (f"{name} is damaged" in err) == (state == "bad")
    assert (tmp_path / "last.ckpt.aside").exists() == ((last, best) in {("sound", "bad"), ("sound", None)})
    again = resumable(tmp_path)  # another process, or the same command again
    assert (again is None) == (found is None)
    if again:
        assert again.read_bytes() == found.read_bytes()
        assert (tmp_path / "last.ckpt").exists()


def test_a_folder_that_was_copied_while_its_run_went_on_goes_on_from_the_best_that_is_there(tmp_path, capsys, sound):
    """The score of a later epoch stood beside the test of an earlier one's weights, in silence."""
    content, key = torch.load(sound, weights_only=False), Best(tmp_path).state_key
    for name, score in (("best.ckpt", 0.2), ("last.ckpt", 0.3)):
        content["callbacks"][key] = {"best_model_score": torch.tensor(score)}
        torch.save(content, tmp_path / name)
    assert resumable(tmp_path) == tmp_path / "best.ckpt"
    assert "last.ckpt knows a better epoch than best.ckpt holds" in capsys.readouterr().err
    assert (tmp_path / "last.ckpt").read_bytes() == (tmp_path / "best.ckpt").read_bytes()
    torch.save(content, tmp_path / "best.ckpt")  # killed between the two: the epoch is repeated
    assert resumable(tmp_path) == tmp_path / "last.ckpt"


def test_a_run_does_not_go_on_from_the_midst_of_an_epoch(tmp_path, capsys, sound):
    """A ModelCheckpoint of one's own may write last.ckpt there; the pairs of half an epoch were then drawn again."""
    amid = read_checkpoint(sound)
    amid["loops"]["fit_loop"]["epoch_progress"]["current"]["ready"] += 1
    amid["callbacks"][Best(tmp_path).state_key] = {"best_model_score": torch.tensor(0.5)}
    WholeCheckpoints().save_checkpoint(amid, tmp_path / "last.ckpt")
    amid["loops"]["fit_loop"]["epoch_progress"]["current"]["ready"] -= 1
    WholeCheckpoints().save_checkpoint(amid, tmp_path / "best.ckpt")
    assert resumable(tmp_path) == tmp_path / "best.ckpt"
    assert "last.ckpt was written in the midst of an epoch" in capsys.readouterr().err


def test_no_memory_is_no_damage(monkeypatch, tmp_path, sound):
    def full(*args, **kwargs):
        raise MemoryError

    (tmp_path / "best.ckpt").write_bytes(sound.read_bytes())
    monkeypatch.setattr(torch, "load", full)
    with pytest.raises(UserError, match="memory is too small"):
        resumable(tmp_path)
    assert (tmp_path / "best.ckpt").exists()


class Killed(BaseException):
    """Stands for a process that is killed."""


def test_a_kill_while_a_checkpoint_is_written_leaves_the_old_one(monkeypatch, tmp_path):
    path, written = tmp_path / "checkpoints" / "last.ckpt", WholeCheckpoints()
    written.save_checkpoint({"epoch": 1}, path)
    monkeypatch.setenv("TMPDIR", "/nowhere")

    def killed(descriptor):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        patch.setattr(Path, "unlink", lambda self, **_: None)
        with pytest.raises(Killed):
            written.save_checkpoint({"epoch": 2}, path)
    assert torch.load(path) == {"epoch": 1}
    assert len(list(path.parent.iterdir())) == 2
    (path.parent / ".theirs.partial").touch()
    (tmp_path / "hpc_ckpt_1.ckpt").touch()  # Lightning's, on a signal of SLURM
    remove_leftovers(tmp_path)
    assert sorted(each.name for each in path.parent.iterdir()) == [".theirs.partial", "last.ckpt"]
    assert list(tmp_path.iterdir()) == [path.parent]


def test_a_full_disk_leaves_the_old_file(monkeypatch, tmp_path):
    path = tmp_path / "result.json"
    write_atomically(path, "old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*No space left on device"):
        write_atomically(path, "new", lasting=True)
    assert [each.name for each in tmp_path.iterdir()] == ["result.json"]
    assert path.read_text() == "old"


def test_too_little_memory_for_a_checkpoint_is_called_so(tmp_path):
    class Small(io.BytesIO):
        def write(self, content):
            if self.tell() + len(content) > 10_000:
                raise MemoryError
            return super().write(content)

    with pytest.raises(MemoryError):
        write_atomically(tmp_path / "last.ckpt", lambda _: torch.save({"a": torch.zeros(10_000)}, Small()))
    assert not list(tmp_path.iterdir())


SIZES = (300, 20_000, 10_000_000)  # bytes: too small for the configuration, for the metrics or a checkpoint, for none


@pytest.mark.parametrize("limit", SIZES)
def test_a_command_says_in_one_line_that_it_cannot_write(home, capfd, limit):
    """A limit on the size of a file stands for a full disk."""
    import resource

    command = ["train", "dcmh", "emoji", "--bits=16", "--epochs=1", "--data.subset=64", "--gallery=false"]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        code = main(command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    err = capfd.readouterr().err
    left = {path.name for path in (home / "runs").rglob("*") if path.is_file() and "wandb" not in path.parts}
    if limit == max(SIZES):
        assert code == 0
    else:
        assert code == 2
        assert err.count("\n") == 1
        assert "cannot write" in err
        assert not any(name.endswith((".ckpt", ".partial", "result.json")) for name in left)
