"""Whatever number a constructor is given: one line that names the argument, or a step of training that stays finite."""

import dataclasses
import inspect
import math

import pytest

from tests.methods.toy import REGISTRY, Toy, build
from tests.methods.training import HARMLESS, make_trainer, train
from xmodal.cli import LINKED
from xmodal.errors import DivergedError, UserError

pytestmark = [
    *(pytest.mark.filterwarnings(f"ignore:{message}") for message in HARMLESS),
    pytest.mark.filterwarnings("ignore:`LightningModule.configure_optimizers` returned `None`"),
]
VALUES = [0, -1, math.nan, math.inf, -math.inf, 1e300, 10**18, None]


def tried(name, data, given, folder):
    """What a method says to some arguments; nothing after a step that leaves all parameters finite."""
    try:
        model = build(name, data, **given)
    except UserError as error:
        return str(error)
    train(model, data, folder, limit_train_batches=1, limit_val_batches=0)
    return "" if all(each.isfinite().all() for each in model.parameters()) else "not finite"


@pytest.mark.parametrize("name", REGISTRY)
def test_an_extreme_value_is_refused_or_trains(name, tmp_path):
    parameters, data = inspect.signature(REGISTRY[name]).parameters, Toy()
    cases = [(key, value, {key: value}) for key in parameters for value in VALUES]
    if "weights" in parameters:
        weights = parameters["weights"].default
        for field in dataclasses.fields(weights):  # test_weights trains with a weight of 0
            changed = [(value, dataclasses.replace(weights, **{field.name: value})) for value in VALUES[1:]]
            cases += [(f"weights.{field.name}", value, {"weights": each}) for value, each in changed]
    for key, value, given in cases:
        said = tried(name, data, given, tmp_path)
        linked = key in LINKED and "tokens" in said  # "reads tokens: set data.tokens=true"
        assert said == "" or ("\n" not in said and (key in said or linked)), (key, value, said)


def test_outputs_that_are_not_finite_are_said_so(tmp_path):
    data = Toy()
    model = build("dcmh", data)
    for parameter in model.parameters():
        parameter.data.fill_(1e38)
    with pytest.raises(DivergedError, match="the query image holds NaN or infinite values"):
        make_trainer(tmp_path).test(model, datamodule=data, verbose=False)
