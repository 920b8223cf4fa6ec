"""Several methods in one command: who is chosen, who gets which size, and what a failure does to the others."""

from argparse import Namespace

import pytest

from tests.studies.test_sweep import SPACE, played, write  # noqa: F401 - a fixture
from xmodal.__main__ import main
from xmodal.errors import UserError
from xmodal.studies.each_method import each_method
from xmodal.studies.processes import TrialError


def run(method, *, bits=None, dim=None, data="emoji", fails=()):
    """The methods that run, with the sizes that they get."""
    seen = []

    def one(options):
        seen.append((options.method, options.bits, options.dim))
        if options.method in fails:
            raise fails[options.method]

    names = ("cca", "dmsf", "dscmr")
    try:
        options = Namespace(method=method, data=data, bits=bits, dim=dim, devices=None)
        assert each_method(options, one, names.__contains__) == 0
    except UserError as error:
        return seen, str(error)
    return seen, ""


def test_a_method_gets_the_size_that_is_its_own(home):
    assert run("all", bits="16") == ([("cca", "16", None), ("dmsf", "16", None)], "")
    assert run("all", dim="8") == ([("cca", None, "8"), ("dscmr", None, "8")], "")
    both = [("cca", "16", None), ("dmsf", "16", None), ("dscmr", None, "8")]
    assert run("all", bits="16", dim="8") == (both, "")
    assert run("dscmr,dmsf", bits="16", dim="8") == (both[:0:-1], "")
    assert run("dmsf", bits="16", dim="8") == ([("dmsf", "16", "8")], "")  # which the command refuses
    assert [name for name, *_ in run("all")[0]] == ["cca", "dmsf", "dscmr"]


def test_a_failure_is_reported_and_the_others_run(home, capsys):
    seen, message = run("dmsf,cca,dscmr", fails={"dmsf": UserError("no paper"), "cca": ZeroDivisionError()})
    assert [name for name, *_ in seen] == ["dmsf", "cca", "dscmr"]
    assert message.startswith("2 of 3 methods failed: dmsf, cca.")
    shown = capsys.readouterr().err
    assert "dmsf failed: no paper" in shown
    assert "ZeroDivisionError" in shown
    with pytest.raises(KeyboardInterrupt):
        run("dmsf,cca", fails={"dmsf": KeyboardInterrupt()})


@pytest.mark.parametrize(
    ("method", "data", "message"),
    [("dmsf,dsmf", "emoji", "METHOD is 'dsmf'"), ("cca,cca", "emoji", "or one twice"), ("all", "mars", "no method")],
)
def test_what_names_no_method_is_refused_before_any_runs(home, method, data, message):
    seen, said = run(method, data=data)
    assert not seen
    assert message in said


def test_a_sweep_of_all_methods_goes_on_after_one_that_fails(played, capsys):  # noqa: F811
    def value(keys):
        if "/dcmh/" in keys["config"]:
            raise TrialError("out of paper")
        return 0.5

    played.value = value
    for path in (played.home / "sweeps").glob("*.yaml"):
        path.unlink()
    write(played.home, SPACE)
    space = "{trials: 4, space: {model.weights.quantization: {float: [0.1, 1.0]}}}"
    (played.home / "sweeps" / "dcmh.yaml").write_text(space)
    (played.home / "sweeps" / "dscmr.yaml").write_text(space)  # real-valued, so BITS leaves it out
    assert main(["sweep", "all", "emoji", "--bits=16", "--trials=2"]) == 2
    assert {keys["group"] for keys in played.seen} == {"dcmh-emoji-16", "dmsf-emoji-16"}
    assert "Trial" in (played.home / "experiments/dmsf/tuned/emoji-16.yaml").read_text()
    shown = capsys.readouterr().err
    assert "dcmh failed: 3 trials of dcmh-emoji-16 failed one after the other" in shown
    assert "1 of 2 methods failed: dcmh." in shown
    assert "Traceback" not in shown
    before = len(played.seen)
    played.value = lambda keys: 0.5
    assert main(["sweep", "all", "emoji", "--bits=16", "--trials=2"]) == 0  # goes on with what is missing
    assert {keys["group"] for keys in played.seen[before:]} == {"dcmh-emoji-16"}
