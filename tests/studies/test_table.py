"""`xmodal table`: one rule for every cell, a killed one goes on, and a full one only writes its tables."""

import csv
import json
import re
from argparse import Namespace
from contextlib import nullcontext
from itertools import count, product

import optuna
import pytest
import yaml
from optuna.distributions import FloatDistribution

from tests.records.records import write_run
from xmodal.__main__ import main
from xmodal.commands import table
from xmodal.errors import UserError
from xmodal.files import text_hash
from xmodal.records.results import CELLS, COLUMNS, LEADS, write
from xmodal.studies.grid import Run
from xmodal.studies.space import Parameter, Search

METHODS = "dcmht,twdh"
ARGUMENTS = ("table", f"--methods={METHODS}", "--data=emoji", "--sizes=8,16", "--trials=1", "--seeds=0,1")


@pytest.fixture
def small(home):
    """Runs of a second: 64 pairs, one epoch."""
    for method in METHODS.split(","):
        file = home / "experiments" / method / "emoji.yaml"
        content = yaml.safe_load(file.read_text())
        content["data"].setdefault("init_args", {})["subset"] = 64
        content.setdefault("trainer", {})["max_epochs"] = 1
        content["gallery"] = False
        file.write_text(yaml.safe_dump(content))
        for tuned in (home / "experiments" / method / "tuned").glob("*"):
            tuned.unlink()
    return home


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def written(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")}


@pytest.mark.slow
def test_a_table_is_filled_once_by_one_rule(small, started, capsys, monkeypatch):
    monkeypatch.setattr(table, "gpu_energy", count(0.0, 2500.0).__next__)  # joules, by each reading
    assert main(ARGUMENTS) == 0
    ledgers = {path.stem: json.loads(path.read_text()) for path in (small / "runs" / "table").glob("*.json")}
    assert sorted(ledgers) == ["dcmht-emoji-bits-16", "dcmht-emoji-bits-8", "twdh-emoji-bits-8-16"]
    for name, kept in ledgers.items():
        assert kept["trials"] == 1
        assert len(kept["records"]) == (4 if name.startswith("twdh") else 2)  # all its lengths in one
    epochs = [json.loads(path.read_text())["epochs"] for path in (small / "runs/twdh").rglob("tuned-*/result.json")]
    assert epochs == [1, 1, 1, 1]
    assert len([*(small / "runs/twdh").rglob("tuned-*/checkpoints/last.ckpt")]) == 2  # two seeds, one training each
    measured = rows(small / "runs" / "table" / "measured.csv")
    assert {(row["method"], row["size"]) for row in measured} == set(product(METHODS.split(","), ("8 bits", "16 bits")))
    assert {row["seeds"] for row in measured} == {"0,1"}
    assert {row["variant"] for row in measured} == {"tuned"}
    leads = rows(small / "runs" / "table" / "leads.csv")
    assert {(row["size"], row["direction"]) for row in leads} == set(
        product(("8 bits", "16 bits"), ("both", "i2t", "t2i"))
    )
    for row in leads:
        assert (row["verdict"] == "significant") == (float(row["p"]) < 0.05)
        assert row["seeds"] == "2"
    cells = rows(small / "runs" / "table" / "cells.csv")
    assert len(cells) == len(measured)
    assert all(float(row["minutes a run"]) >= 0 and row["device"] for row in cells)
    assert {row["GPU kJ"] for row in cells} == {"2.5"}
    assert (small / "runs" / "table.html").is_file()

    before = written(small / "runs")
    capsys.readouterr()
    assert main(ARGUMENTS) == 0
    assert "minutes" not in capsys.readouterr().err  # nothing was filled
    assert written(small / "runs") == before
    assert rows(small / "runs" / "table" / "measured.csv") == measured

    lost = small / "runs" / "dcmht" / "emoji" / "8" / "tuned-seed1" / "result.json"  # killed in its last run
    lost.unlink()
    assert main(ARGUMENTS) == 0
    after = written(small / "runs")
    assert {path for path in after if after[path] != before.get(path)} == {lost}


def test_nobody_leads_where_rows_by_another_rule_may_be_second(home):
    """They have no values of each query."""
    filled = {}
    for method, level in (("dmsf", 0.5), ("dcmht", 0.6)):
        record = write_run(home / "runs", method, level).relative_to(home / "runs") / "result.json"
        kept = {"records": [str(record)], "trials": 24, "search_minutes": 1.0}
        filled[table.Cell(method, "emoji", "bits", (64,))] = kept
    for method, relevance, size, score, leads, left in (
        ("scahn", "label", "32 bits", "0.9", 3, 3),
        ("scahn", "finest", "64 bits", "0.9", 3, 3),
        ("scahn", "label", "64 bits", "0.9 +- 0.1", 0, 3),
        ("scahn", "label", "64 bits", "0.1 +- 0.1", 3, 3),  # third
        ("dmsf", "finest", "64 bits", "0.9", 3, 3),
        ("dmsf", "label", "64 bits", "0.9", 3, 2),  # replaced
    ):
        older = [method, "emoji", size, "tuned-at-64", *(score for _ in COLUMNS[4:])]
        older[COLUMNS.index("relevance")] = relevance
        (home / "tables").mkdir(exist_ok=True)
        (home / "tables" / "measured.csv").write_text("\n".join([",".join(COLUMNS), ",".join(older), ""]))
        write(filled.values(), home / "tables")
        assert len(rows(home / "tables" / "leads.csv")) == leads
        assert len(rows(home / "tables" / "measured.csv")) == left


def test_what_other_machines_have_written_stays(home):
    """A command fills a part of the table, here and there: what it does not touch is kept, leads and costs too."""
    ledgers = []
    for method, level in (("dmsf", 0.5), ("dcmht", 0.6)):
        record = write_run(home / "runs", method, level).relative_to(home / "runs") / "result.json"
        ledgers.append({"records": [str(record)], "trials": 24, "search_minutes": 1.0})
    contested = [("emoji", "label", "64 bits"), ("emoji", "finest", "64 bits"), ("fashion", "label", "64 bits")]
    cost = [("dmsf", "emoji", "64 bits"), ("scahn", "emoji", "64 bits"), ("cca", "fashion", "64 bits")]
    (home / "tables").mkdir()
    for name, columns, keys in (("leads", LEADS, contested), ("cells", CELLS, cost)):
        with (home / "tables" / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([columns, *((*key, *("old" for _ in columns[3:])) for key in keys)])
    for gone, left in (((), 2), ({("cca", "fashion")}, 1)):
        write(ledgers, home / "tables", gone)
        leads, cells = (rows(home / "tables" / f"{name}.csv") for name in ("leads", "cells"))
        assert [tuple(row.values())[:3] for row in leads if row["p"] == "old"] == contested[1:][:left]
        assert len(leads) == 3 + left
        assert [tuple(row.values())[:3] for row in cells if row["device"] == "old"] == cost[1:][:left]
        assert len(cells) == 2 + left


def test_a_cell_of_other_data_is_neither_filled_nor_shown(home, capsys, monkeypatch):
    """Their configurations are the same: pictures that were replaced, say, after the first method."""
    options = Namespace(trials="1", seeds="0", epochs=None)
    for method in ("cca", "untrained"):
        cell = table.Cell(method, "emoji", "bits", (64,))
        record = write_run(home / "runs", method, 0.5, config_hash=method) / "result.json"
        kept = {"rule": cell.rule(options), "records": {str(record.relative_to(home / "runs")): method}}
        cell.ledger.parent.mkdir(exist_ok=True)
        cell.ledger.write_text(json.dumps(kept | {"trials": 0, "search_minutes": 0.0}))

    def fill(cell, options, pool, rule):
        raise UserError("the data have changed")

    monkeypatch.setattr(table.Cell, "fill", fill)
    command = ["table", "--methods=cca,untrained", "--data=emoji", "--sizes=64", "--trials=1", "--seeds=0"]
    monkeypatch.setattr(table, "changed_data", lambda record, known: None)
    assert main(command) == 2  # embeddings
    measured = home / "runs" / "table" / "measured.csv"
    assert {row["method"] for row in rows(measured)} == {"cca", "untrained"}
    of_cca = {"cca": "training_hash"}
    monkeypatch.setattr(table, "changed_data", lambda record, known: of_cca.get(record["method"]))
    assert main(command) == 2
    assert [row["method"] for row in rows(measured)] == ["untrained"]
    assert "cca-emoji-bits-64: its data have changed since it was filled, and its rows are" in capsys.readouterr().err


@pytest.mark.parametrize("left", [None, 0.5, 1.0])
def test_what_has_no_values_of_its_queries_is_run_again(home, left):
    """They are lost, or a copy was cut: no lead of such a run can be tested."""
    cell = table.Cell("cca", "emoji", "bits", (64,))
    folder = write_run(home / "runs", "cca", 0.5, config_hash=text_hash("here"))
    cell.ledger.parent.mkdir()
    name = str((folder / "result.json").relative_to(home / "runs"))
    cell.ledger.write_text(json.dumps({"rule": {}, "records": {name: text_hash("here")}}))
    whole = (folder / "evaluation.npz").read_bytes()
    (folder / "evaluation.npz").write_bytes(whole[: int(len(whole) * (left or 0))])
    if left is None:
        (folder / "evaluation.npz").unlink()
    run = Run((), folder, "here", "")
    assert (len(cell.found()[1]), run.record() is not None) == ((1, True) if left == 1 else (0, False))


@pytest.mark.parametrize(
    ("drawn", "message"),
    [
        ([], "the study dmsf-emoji-64 has a warm start, which the rule does not give: fill this table elsewhere"),
        ([1.0, 1.0], "the study dmsf-emoji-64 has 2 trials, and the rule gives 1: fill this table elsewhere"),
        ([2.0], "the study dmsf-emoji-64 has trials of another space (model.lr): fill this table elsewhere"),
        ([-1.0], "the study dmsf-emoji-64 has trials of another search (--sampler random): fill this table elsewhere"),
        ([1.0], None),
    ],
)
def test_a_cell_is_filled_by_its_rule_only(home, drawn, message):
    """Others may have searched the same study for longer, or in a space that the sweep file had before."""
    study = optuna.create_study()
    if not drawn:
        study.set_user_attr("warm start", {"{}": 24})
    for high in drawn:
        space, by = {"model.lr": FloatDistribution(0, abs(high))}, {"drawn": " --sampler random" * (high < 0)}
        own = {"params": {"model.lr": 0.5}, "distributions": space, "user_attrs": {"source": by}}
        study.add_trial(optuna.create_trial(value=0.5, **own))
    sought = Search(1, None, None, None, {"model.lr": Parameter("float", (0, 1), {}, {})})
    search = Namespace(name="dmsf-emoji-64", sought=sought, open=lambda: nullcontext(Namespace(study=study)))
    with pytest.raises(UserError, match=re.escape(message)) if message else nullcontext():
        assert len(table.Cell("dmsf", "emoji", "bits", (64,))._check(search)) == 1


def test_code_of_ones_own_is_part_of_the_rule(home, monkeypatch):
    options = Namespace(trials="1", seeds="0", epochs=None)
    cell = table.Cell("cca", "emoji", "bits", (64,))
    before = cell.rule(options)
    monkeypatch.setattr(table, "own_files", lambda config: {"mine.Mine": "edited"} if "model" in config else {})
    assert cell.rule(options) == before | {"mine.Mine": "edited"}


def test_cells_are_listed_and_nothing_is_run(small, capsys):
    assert main([*ARGUMENTS, "--list"]) == 0
    listed = capsys.readouterr().err.splitlines()
    assert listed == ["dcmht-emoji-bits-8, 1 of 3", "dcmht-emoji-bits-16, 2 of 3", "twdh-emoji-bits-8-16, 3 of 3"]
    assert main(["table", "--methods=cca,dscmr", "--data=emoji", "--sizes=8", "--list"]) == 0
    cells = [line.split(",")[0] for line in capsys.readouterr().err.splitlines()]
    assert cells == ["cca-emoji-bits-8", "cca-emoji-dim-8", "dscmr-emoji-dim-8"]
    assert main(["table", "--methods=mith,cca,alscor", "--data=emoji,wikipedia", "--sizes=64,128", "--list"]) == 0
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "alscor-emoji-dim-64",  # 128 dimensions ask for more pairs than there are
        *(f"cca-emoji-{kind}-{size}" for kind in ("bits", "dim") for size in (64, 128)),
        "mith-emoji-bits-64",  # whose argument `dim` is the width of its tokens
        "mith-emoji-bits-128",
        "alscor-wikipedia-dim-64",  # and no CCA of ten-dimensional texts
        "alscor-wikipedia-dim-128",
    ]
    assert not (small / "runs").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--methods=nobody", "nobody is no method of these datasets"),
        ("--data=nowhere", "no method has an experiment file for 'nowhere'"),
        ("--sizes=8,8", "name every number once"),
        ("--trials=0", "TRIALS is '0'"),
    ],
)
def test_what_there_is_not_is_one_line(home, capsys, more, message):
    assert main(["table", more]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("seeds", ["0,1,2,3,4", "0"])
def test_a_cell_that_cannot_be_filled_is_named_and_replaces_no_row(small, capsys, monkeypatch, seeds):
    def fill(cell, options, pool, rule):
        raise UserError("seven components are all there are")

    monkeypatch.setattr(table.Cell, "fill", fill)
    monkeypatch.setattr("xmodal.arguments.runs.TABLED", "emoji")
    monkeypatch.setattr("xmodal.arguments.runs.SIZES", "8")
    kept = small / "results" / "measured.csv"
    kept.parent.mkdir()
    row = ["cca", "emoji", "8 bits", "base", *("0" for _ in COLUMNS[4:])]
    kept.write_text("\n".join([",".join(COLUMNS), ",".join(row), ""]))
    before = kept.read_text()
    assert main(["table", "--methods=cca", f"--seeds={seeds}"]) == 2
    err = capsys.readouterr().err
    assert "cca-emoji-dim-8: seven components" in err
    assert "2 of 2 cells are empty: cca-emoji-bits-8, cca-emoji-dim-8" in err
    assert kept.read_text() == before
    other = small / "runs" / "table" / "measured.csv"  # a table by another rule does not touch the results
    assert other.is_file() == (seeds == "0")


@pytest.mark.slow
def test_a_method_that_is_filled_replaces_its_rows_of_the_results_and_no_others(small, started, monkeypatch):
    for name, value in (("TABLED", "emoji"), ("SIZES", "8,16"), ("TRIALS", "1"), ("SEEDS", "0")):
        monkeypatch.setattr(f"xmodal.arguments.runs.{name}", value)
    old = {
        ("dcmht", "tuned-at-64", "label"): False,  # replaced
        ("dcmht", "tuned", "finest"): True,  # another contest
        ("dcmht", "no_quantization", "label"): True,
        ("mith", "tuned", "label"): True,
    }
    (small / "results").mkdir()
    with (small / "results" / "measured.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, restval="old")
        table.writeheader()
        for method, variant, relevance in old:
            setup = {"method": method, "dataset": "emoji", "size": "8 bits", "variant": variant}
            table.writerow({**setup, "relevance": relevance})
    for sizes, replaced in (("8", False), ("16", True)):
        assert main(["table", "--methods=dcmht", f"--sizes={sizes}"]) == 0
        found = rows(small / "results" / "measured.csv")
        assert any(row["mean"] != "old" for row in found) == replaced
    assert [(row["method"], row["variant"], row["relevance"]) for row in found if row["mean"] == "old"] == [
        key for key, stays in old.items() if stays
    ]
    assert [(row["method"], row["size"]) for row in found if row["mean"] != "old"] == [
        ("dcmht", "8 bits"),
        ("dcmht", "16 bits"),
    ]
    assert not (small / "runs" / "table" / "measured.csv").exists()
