"""Only whole keys, everywhere, and one line for a value that is refused."""

import re
import sys

import pytest

from tests.conftest import CHECKOUT
from xmodal.__main__ import main
from xmodal.checks import check_numbers
from xmodal.cli import Parsed
from xmodal.errors import UserError
from xmodal.experiment import configuration, experiment, size_names


def refused(home, *arguments, files=()):
    with pytest.raises(UserError) as error:
        Parsed([*configuration("dmsf", "emoji", files), "--model.bits=16", *arguments])
    text = str(error.value)
    assert len(text) <= 200
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("model.weights.gr=0.7", "model.weights.graph"),
        ("model.init_args.weights.gr=0.7", "model.weights.graph"),
        ("model.weights={gr: 0.7}", "model.weights.graph"),
        ("trainer.max_epoch=3", "trainer.max_epochs"),
        ("trainer={max_epoch: 3}", "trainer.max_epochs"),
        ("data.trunk.sid=none", "data.trunk.sides"),
        ("data.bat=3", "data.batch_size"),
        ("seed_every=3", "seed_everything"),
        ("mod=DMSF", "model"),
        ("save=true", "save_codes"),
        ("dropout=0.2", "model.dropout"),
        ("var=x", "variant"),
    ],
)
def test_a_part_of_a_key_is_refused_with_the_nearest_whole_one(home, given, meant):
    assert f"did you mean {meant}?" in refused(home, f"--{given}")


@pytest.mark.parametrize("text", ["model: {init_args: {weights: {gr: 0.7}}}", "trainer: {max_epoch: 3}"])
def test_a_file_is_held_to_whole_keys_too(home, text):
    (home / "own.yaml").write_text(text)
    assert "is no key of the configuration; did you mean" in refused(home, files=[home / "own.yaml"])


def test_a_sweep_file_and_a_warm_start_are_held_to_whole_keys(home, capsys):
    path = home / "sweeps" / "dmsf.yaml"
    path.write_text("space:\n  model.weights.gr: {float: [0.1, 0.7]}\n")
    assert main(["sweep", "dmsf", "emoji", "--bits=16", "--trials=1"]) == 2
    assert "did you mean model.weights.graph?" in capsys.readouterr().err
    path.write_text("space:\n  model.init_args.dropout: {float: [0.1, 0.7]}\n")
    assert main(["sweep", "dmsf", "emoji", "--bits=16", "--trials=1"]) == 2
    assert "write model.dropout" in capsys.readouterr().err
    path.write_text("space:\n  model.dropout: {float: [0.1, 0.7]}\n")
    warm = home / "warm.yaml"
    warm.write_text(experiment("dmsf", "emoji").file.read_text().replace("text_hidden", "text_hid"))
    assert main(["sweep", "dmsf", "emoji", "--bits=16", "--trials=1", f"--warm_start={warm}"]) == 2
    assert "did you mean model.text_hidden?" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["model.image_dim", "model.num_labels", "data.seed"])
def test_what_is_derived_is_not_given(home, key):
    assert f"{key} is derived from" in refused(home, f"--{key}=3")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("model.fusion=cubist", "model.fusion is 'cubist'; give none, concat, attention, labelnet."),
        ("model.bits=1.5", "model.bits is '1.5'; give a whole number."),
        ("model.bits=null", "model.bits is null: give a whole number."),
        ("model.dropout=abc", "model.dropout is 'abc'; give a number."),
        ("save_codes=maybe", "save_codes is 'maybe'; give true or false."),
        ("data.trunk.compile=x", "none, default, reduce-overhead, max-autotune."),
        ("data.trunk.flip=often", "data.trunk.flip is 'often'; give a number."),
        ("data.trunk.flip=2", "data.trunk.flip is 2"),
        (
            "data.image_encoder={class_path: TimmImage, init_args: {fit: maybe}}",
            "data.image_encoder.fit is 'maybe'; give ",
        ),
        ("data.trunk=5", "data.trunk is '5'; give keys below it, such as data.trunk."),
        ("model.weights={graph: abc}", "model.weights.graph is 'abc'; give a number."),
        ("model.image_hidden=[a]", "model.image_hidden is '[a]'; give a list such as [a whole number, ...]."),
        ("trainer.max_epochs=abc", "trainer.max_epochs is 'abc'; give a whole number or null."),
        ("trainer.precision=7", "trainer.precision is '7'; give 64, 32, 16"),
        ("trainer.logger=abc", "trainer.logger is 'abc'; give a Logger as class_path"),
        ("model=DMFS", "model.class_path is 'DMFS': no method; such as xmodal.methods.DMSF."),
        ("model=xmodal.methods.Foo", "model.class_path is 'xmodal.methods.Foo': no method"),
        ("data.class_path=Emojis", "such as xmodal.data.Emoji."),
        ("model.dropout=2", "model.dropout is 2.0: give a number from 0, below 1."),
        ("model.weights.graph=-1", "model.weights.graph is -1.0: give a finite number from 0 to 1e9."),
        ("model.weights.graph=1e30", "model.weights.graph is 1e+30: give a finite number from 0 to 1e9."),
        ("model.weights.graph=.nan", "model.weights.graph is nan: give a finite number from 0 to 1e9."),
        ("model.image_hidden=[0]", "model.image_hidden is (0,): give a whole number from 1 to"),
        ("data.batch_size=0", "data.batch_size is 0: give"),
        ("data.val=0", "data.val is 0: give"),
        ("data.trunk.crop=0", "data.trunk.crop is 0.0: give a number above 0, up to 1."),
        ("trainer.limit_test_batches=0.5", "trainer.limit_test_batches is 0.5: but an evaluation is of all pairs"),
        ("trainer.limit_train_batches=1.0", "is 1.0: leave it out for all batches, or give 2 of them at least."),
        ("trainer.max_steps=10", "trainer.max_steps is 10: a run is counted in epochs, give trainer.max_epochs."),
        ("trainer.max_time=00:00:01:00", "trainer.max_time is 00:00:01:00: a run is counted in epochs"),
        ("trainer.min_steps=10", "trainer.min_steps is 10: a run is counted in epochs, give trainer.min_epochs."),
        ("trainer={min_epochs: 3, max_epochs: 2}", "trainer.min_epochs is 3: give at most trainer.max_epochs, 2."),
        ("trainer={check_val_every_n_epoch: 3, max_epochs: 2}", "check_val_every_n_epoch is 3: give at most"),
        ("trainer.strategy=ddp_spawn", "trainer.strategy is ddp_spawn: give auto"),
        ("trainer.strategy=DDPStrategy", "trainer.strategy is DDPStrategy: give auto"),
        ("trainer.num_sanity_val_steps=2", "or a search takes the score of an untrained model for that of an epoch"),
        ("trainer.num_sanity_val_steps=null", "trainer.num_sanity_val_steps is None: give 0"),
        ("trainer.enable_checkpointing=false", "but a run evaluates its best checkpoint"),
        ("trainer.limit_predict_batches=1", "but a run predicts nothing"),
        ("trainer.sync_batchnorm=true", "which drops activations"),
        ("trainer.enable_autolog_hparams=false", "loggers get the whole configuration in any case"),
        ("trainer.model_registry=mine", "but nothing is sent there"),
        ("trainer.gradient_clip_algorithm=value", "give trainer.gradient_clip_val as well"),
        ("trainer.plugins=DoublePrecision", "DoublePrecision: give a cluster environment, or trainer.precision."),
        ("trainer.callbacks=BackboneFinetuning", "for a `backbone`, which no method has"),
        (
            "trainer.callbacks={class_path: ModelPruning, init_args: {pruning_fn: l1_unstructured}}",
            "which prunes what was validated before",
        ),
        (
            "trainer.callbacks={class_path: OnExceptionCheckpoint, init_args: {dirpath: here}}",
            "which a run would go on from in the midst of an epoch",
        ),
        ("trainer.val_check_interval=0.5", "val_check_interval is 0.5: but epochs are chosen by their ends"),
        ("trainer.precision=64", "trainer.precision is 64: give 32-true, 16-mixed or bf16-mixed."),
        ("trainer.precision=bf16-true", "trainer.precision is bf16-true: give 32-true, 16-mixed or bf16-mixed."),
        ("trainer.callbacks=EMAWeightAveraging", "a WeightAveraging, which copies the model before"),
        (
            "trainer.callbacks=[{class_path: StochasticWeightAveraging, init_args: {swa_lrs: 1}}]",
            "which copies the model",
        ),
        ("trainer.callbacks+=LearningRateFinder", "trains with another value than the configuration says"),
        ("trainer.callbacks+=BatchSizeFinder", "trains with another value than the configuration says"),
        (
            "trainer.callbacks=[{class_path: Timer, init_args: {duration: '00:00:01:00'}}]",
            "whose clock cannot be repeated",
        ),
        (
            "trainer.callbacks=[{class_path: GradientAccumulationScheduler, init_args: {scheduling: {0: 4}}}]",
            "of which no schedule knows: give trainer.accumulate_grad_batches",
        ),
        ("trainer.use_distributed_sampler=true", "which pads: say false"),
        ("trainer.devices=9999", "trainer.devices is 9999: give a number from 1 to"),
        ("seed_everything=-1", "seed_everything is -1: give an int from 0"),
        ("variant=../../x", "variant is '../../x': give up to 100 letters, digits and . _ - = only."),
        ("variant=..", "variant is '..'"),
    ],
)
def test_a_value_is_refused_with_key_value_and_what_is_allowed(home, given, words):
    assert words in refused(home, f"--{given}")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("limit_val_batches", 0, "but an evaluation is of all pairs, take data.subset."),
        ("limit_test_batches", 1, "but an evaluation is of all pairs, take data.subset."),
        ("val_check_interval", 3, "but epochs are chosen by their ends, take check_val_every_n_epoch."),
    ],
)
def test_every_evaluation_is_whole_and_at_the_end_of_an_epoch(home, key, value, words):
    """A whole number may be parsed as 1.0: see `check_trainer`."""
    said = refused(home, f"--trainer.{key}={value}")
    assert re.fullmatch(rf"trainer\.{key} is {value}(\.0)?: {re.escape(words)}", said)


@pytest.mark.parametrize(
    "path", sorted((CHECKOUT / "experiments").glob("*/tuned/*.yaml"))[:3], ids=lambda path: path.stem
)
def test_what_a_run_writes_is_read_again(home, path):
    first = Parsed(configuration(None, None, [path]))
    copy = home / "copy.yaml"
    copy.write_text(first.yaml)
    assert Parsed(configuration(None, None, [copy])).hash == first.hash


def test_a_weight_is_any_number_whatever_an_argument_of_its_name_is():
    """`balance` is a share in DJSRH, and a weight here."""
    parsed = Parsed([*configuration("dcmh", "emoji"), "--model.weights.balance=10"])
    assert parsed.config.model.init_args.weights.balance == 10


def test_a_constructor_says_what_it_takes_in_python_too():
    from xmodal.methods import DMSF

    with pytest.raises(UserError, match=r"model.dropout is 2.0: give a number from 0, below 1."):
        DMSF(bits=16, dropout=2)
    with pytest.raises(UserError, match=r"model.bits is 4097: give a whole number from 1 to 4,096"):
        DMSF(bits=4097)
    with pytest.raises(UserError, match=r"model.layers is 1000000: give a whole number from 0 to 1,000."):
        check_numbers("model", {"layers": 1_000_000})


def test_a_class_that_is_called_otherwise_now_says_its_new_name(home):
    words = refused(home, "--trainer.callbacks+=xmodal.graphs.CudaGraphs")
    assert "is called xmodal.cuda_graphs.CudaGraphs now" in words


def test_a_class_to_be_appended_that_is_none_is_named(home):
    words = refused(home, "--trainer.callbacks+=lightning.Nothing")
    assert words.startswith("trainer.callbacks is 'lightning.Nothing'; give a list such as")


def test_a_learning_rate_of_trunks_is_refused_where_none_is_trained(home):
    command = [*configuration("dcmht", "emoji"), "--model.bits=16"]
    Parsed([*command, "--model.trunk_lr=1e-5"])  # its default, as a run's own configuration says it
    with pytest.raises(UserError, match=r"^model.trunk_lr is 0.001 and acts on trained trunks: say which with data.tr"):
        Parsed([*command, "--model.trunk_lr=1e-3"])


def test_a_size_that_goes_through_kwargs_is_one(home, monkeypatch):
    """Of a class of one's own, whose signature names what it adds alone."""
    monkeypatch.chdir(home)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", "")
    body = "from xmodal.methods import DCMH\nclass Wide(DCMH):\n    name = 'wide'\n"
    (home / "wide.py").write_text(
        f"{body}    def __init__(self, more: int = 1, **kwargs): super().__init__(**kwargs)\n"
    )
    assert size_names(str(home / "wide.py")) == ("bits",)
