"""Ablations through the command line: what is run, what is found again, and what the table says."""

import json
import re
import time

import numpy as np
import pytest
from filelock import FileLock

from tests import forks
from tests.studies.conftest import SMALL, keep
from xmodal.__main__ import main
from xmodal.commands import ablate
from xmodal.errors import UserError
from xmodal.records.setups import Setup
from xmodal.studies import trial
from xmodal.studies.processes import TrialError


def record(home, folder):
    return json.loads((home / "runs" / folder / "result.json").read_text())


def test_the_tuned_method_and_its_variants_are_run_once(home, capsys, started):
    keep(home, "dmsf", "no_graph", "no_fusion")
    command = ["ablate", "dmsf", "emoji", "--bits=16", "--seeds=0,1", *SMALL]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert started == [
        "tuned-seed0",
        "tuned-seed1",
        "no_graph-seed0",
        "no_graph-seed1",
    ]  # tuned has no fusion at 16 bits
    for folder, variant, job_type in (("tuned-seed1", "tuned", "tuned"), ("no_graph-seed1", "no_graph", "ablation")):
        found = record(home, f"dmsf/emoji/16/{folder}")
        assert (found["variant"], found["job_type"], found["group"]) == (variant, job_type, "dmsf-emoji-16")
        assert (found["seed"], found["epochs"], found["split_sizes"]["train"]) == (1, 1, 32)
    lines = out.splitlines()
    assert lines[1] == "dmsf on emoji, 16 bits: ablations, mAP@all on the query set"
    rows = {line.split("  ")[0]: line for line in lines[4:7]}
    assert list(rows) == ["full method", "no_fusion", "no_graph"]
    assert rows["no_fusion"].endswith("changes nothing here")
    scores = [record(home, f"dmsf/emoji/16/no_graph-seed{seed}")["metrics"]["test/map"] for seed in (0, 1)]
    assert f"{np.mean(scores):.4f} +- {np.std(scores, ddof=1):.4f}" in rows["no_graph"]
    assert "Full method: dmsf/tuned/emoji-16.yaml." in out
    assert "no_graph, seed 1: mAP" in err
    table = (home / "runs/dmsf/emoji/16/ablation.md").read_text()
    assert main(command) == 0
    assert len(started) == 4
    assert (home / "runs/dmsf/emoji/16/ablation.md").read_text() == table
    (home / "runs/dmsf/emoji/16/no_graph-seed0/result.json").unlink()
    assert main([*command, "--workers=2"]) == 0
    assert started[4:] == ["no_graph-seed0"]
    assert (home / "runs/dmsf/emoji/16/ablation.md").read_text() == table
    tuned = home / "experiments/dmsf/tuned/emoji-16.yaml"  # the search goes on, and its best trial stays
    tuned.write_text(re.sub(r"trials: \d+ complete, \d+ pruned", "trials: 40 complete, 8 pruned", tuned.read_text()))
    assert main(command) == 0
    assert len(started) == 5
    assert [record(home, f"dmsf/emoji/16/tuned-seed{seed}")["trials"] for seed in (0, 1)] == [48, 48]


def test_an_untuned_method_is_what_train_runs_and_a_failure_does_not_end_the_others(home, capsys, started, monkeypatch):
    keep(home, "dscmr", "no_invariance", "no_pairwise")
    assert main(["train", "dscmr", "emoji", "--dim=8", "--seed=4", *SMALL]) == 0
    run_here = trial.run_whole

    def fails(arguments, *rest):
        if "--variant=no_invariance" in arguments and "no_pairwise-seed4" not in started:
            raise TrialError("out of paper")
        return run_here(arguments, *rest)

    monkeypatch.setattr(trial, "run_whole", fails)
    command = ["ablate", "dscmr", "emoji", "--dim=8", "--seeds=4", *SMALL]
    assert main(command) == 2
    assert started == ["no_pairwise-seed4"]  # the full method's run was there
    out, err = capsys.readouterr()
    assert "no_invariance, seed 4 failed: out of paper" in err
    assert "1 of 3 runs failed: no_invariance, seed 4. The reasons are above." in err
    assert "variant" not in out
    assert main(command) == 0
    assert started[1:] == ["no_invariance-seed4"]
    assert "dscmr on emoji, 8 dim: ablations" in capsys.readouterr().out


def test_what_train_has_run_of_a_tuned_file_is_not_trained_again(home, started):
    """Nor are the codes lost that it was told to keep."""
    keep(home, "dmsf", "no_graph")
    assert main(["train", "dmsf", "tuned/emoji-16", "--seed=1", "--save_codes=true", *SMALL]) == 0
    before = (home / "runs/dmsf/emoji/16/tuned-seed1/result.json").read_bytes()
    assert main(["ablate", "dmsf", "emoji", "--bits=16", "--seeds=1", *SMALL]) == 0
    assert started == ["no_graph-seed1"]
    assert (home / "runs/dmsf/emoji/16/tuned-seed1/result.json").read_bytes() == before
    assert (home / "runs/dmsf/emoji/16/tuned-seed1/codes.npz").is_file()
    assert main(["ablate", "dmsf", "emoji", "--bits=16", "--seeds=1", "--save_codes=true", *SMALL]) == 0
    assert started == ["no_graph-seed1", "no_graph-seed1"]  # which kept none


def test_finished_runs_of_other_settings_are_replaced_only_where_told(home, capsys, started):
    """An hour of runs, and then one look with fewer epochs."""
    keep(home, "dmsf", "no_graph")
    command = ["ablate", "dmsf", "emoji", "--bits=16", "--seeds=0", *SMALL]
    assert main(command) == 0
    before = (home / "runs/dmsf/emoji/16/no_graph-seed0/result.json").read_bytes()
    capsys.readouterr()
    assert main([*command, "--epochs=2"]) == 2
    err = capsys.readouterr().err
    assert "holds a run with trainer.max_epochs 1, not 2: give another XMODAL_HOME to keep both, or --overwrite" in err
    assert len(started) == 2
    assert (home / "runs/dmsf/emoji/16/no_graph-seed0/result.json").read_bytes() == before
    assert main([*command, "--epochs=2", "--overwrite"]) == 0
    assert started[2:] == ["tuned-seed0", "no_graph-seed0"]
    assert record(home, "dmsf/emoji/16/no_graph-seed0")["epochs"] == 2


@pytest.mark.slow
def test_killed_in_mid_run_it_goes_on(home, started):
    keep(home, "dmsf", "no_graph")
    command = ["ablate", "dmsf", "emoji", "--bits=32", "--seeds=0", *SMALL, "--epochs=15"]
    process = forks.start(*command, out=home / "log")
    runs, deadline = home / "runs/dmsf/emoji/32", time.monotonic() + 200
    while not (runs / "no_graph-seed0" / "config.yaml").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()  # the run at work ends with it
    process.join()
    before = (runs / "tuned-seed0" / "result.json").stat().st_mtime_ns
    assert not (runs / "no_graph-seed0" / "result.json").exists()
    assert main(command) == 0
    assert (runs / "tuned-seed0" / "result.json").stat().st_mtime_ns == before
    assert started == ["no_graph-seed0"]
    assert "| no_graph |" in (runs / "ablation.md").read_text()


def test_two_at_once_in_one_place_are_refused(home, capsys, started):
    keep(home, "dmsf", "no_graph")
    (home / "runs/dmsf/emoji").mkdir(parents=True)
    with FileLock(home / "runs/dmsf/emoji/.grid.lock"):
        assert main(["ablate", "dmsf", "emoji", "--bits=16", "--seeds=0", *SMALL]) == 2
    assert "another ablate or bits is at work in" in capsys.readouterr().err
    assert not started


BAD = [
    (["dsmf", "emoji"], "METHOD is 'dsmf'"),
    (["cca", "emoji", "--bits=16"], "cca has no variants"),
    (["dmsf", "emoji", "--dim=16"], "dmsf takes BITS"),
    (["dmsf", "emoji", "--bits=16,32"], "BITS is '16,32'"),
    (["dmsf", "emoji", "--seeds=0,x"], "SEEDS is 'x'"),
    (["dmsf", "emoji", "--seeds=1,1"], "SEEDS is '1,1': name every number once"),
    (["dmsf", "emoji", "--seeds="], "SEEDS is ''"),
    (["dmsf", "emoji", "--workers=0"], "WORKERS is '0'"),
    (["dmsf", "emoji", "--nonsense=1"], "nonsense"),
    (["dmsf", "emoji", "--seeds=0", "--variant=mine"], "several runs would share the folder"),
]


@pytest.mark.parametrize(("argv", "message"), BAD)
def test_what_cannot_be_run_is_said_in_one_line(home, capsys, argv, message):
    keep(home, "dmsf", "no_graph")
    assert main(["ablate", *argv]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (home / "runs").exists()


def made_up(folder, seed, i2t, t2i, **more):
    folder.mkdir()
    np.savez(folder / "evaluation.npz", query_index=np.arange(len(i2t)), ap_i2t=i2t, ap_t2i=t2i)
    scores = {"test/map_i2t": np.mean(i2t), "test/map_t2i": np.mean(t2i), "test/map": np.mean([i2t, t2i])}
    return {
        "method": "dmsf",
        "dataset": "emoji",
        "size": 16,
        "kind": "binary",
        "seed": seed,
        "metrics": scores,
        "split_hash": "a",
        "split_sizes": {"query": len(i2t)},
        "relevance": "label",
        "commit": "0123456789abcdef",
        "dirty": False,
        "path": str(folder / "result.json"),
    } | more


def test_the_table_says_the_difference_its_interval_and_a_corrected_p(tmp_path):
    ap = np.linspace(0.2, 0.8, 20)
    lower = ap - np.linspace(0.02, 0.1, 20)
    both = {
        "full method": [made_up(tmp_path / f"full{seed}", seed, ap + seed / 50, ap) for seed in (0, 1)],
        "no_graph": [made_up(tmp_path / f"graph{seed}", seed, lower, lower) for seed in (0, 1)],
        "no_intra": [made_up(tmp_path / f"intra{seed}", seed, ap + 0.02, ap + 0.01, dirty=True) for seed in (0, 1)],
    }
    both["no_fusion"] = both["full method"]
    both = {name: Setup(tuple(records)) for name, records in both.items()}
    assert ablate.table(both, "dmsf/emoji.yaml").text() == (
        "dmsf on emoji, 16 bits: ablations, mAP@all on the query set\n"
        "\n"
        "variant      i2t               t2i               mean              difference  95 % interval       p\n"
        "full method  0.5100 +- 0.0141  0.5000 +- 0.0000  0.5050 +- 0.0071\n"
        "no_graph     0.4400 +- 0.0000  0.4400 +- 0.0000  0.4400 +- 0.0000  -0.0650     "
        "[-0.0847, -0.0453]  0.0010\n"
        "no_intra     0.5200 +- 0.0000  0.5100 +- 0.0000  0.5150 +- 0.0000  +0.0100     "
        "[-0.0535, +0.0735]  0.2952  better\n"
        "no_fusion    0.5100 +- 0.0141  0.5000 +- 0.0000  0.5050 +- 0.0071"
        "                                          changes nothing here\n"
        "\n"
        "Full method: dmsf/emoji.yaml.\n"
        "Difference: variant minus full method; its 95 % interval and p (Student's t, Holm-corrected for 2 variants) "
        "are over seeds and queries together, of AP averaged over directions.\n"
        "Mean +- sample deviation over seeds 0, 1; 20 queries.\n"
        "Commit 0123456789, 0123456789+ (+: with uncommitted changes).\n"
    )
    both["other"] = Setup((made_up(tmp_path / "other", 0, ap, ap, split_hash="b"),))
    with pytest.raises(UserError, match="other answered other queries than the full method"):
        ablate.table(both, "dmsf/emoji.yaml")
