import re

import numpy as np
import pytest
import torch

from xmodal.data import Emoji
from xmodal.encoders import BagOfWords
from xmodal.errors import UserError

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def emoji(home):
    return Emoji()


def test_concepts_are_what_the_readme_says(emoji):
    said = emoji.describe()
    assert sum(said["split_sizes"][role] for role in ("train", "val_query", "query")) == len(emoji._pairs.label)
    assert 1500 < len(emoji._pairs.label) < 2000
    assert emoji._pairs.hierarchy.max(0).tolist() == [
        7,
        len({n for n in emoji._pairs.label_names if n.startswith("subgroup:")}) - 1,
    ]
    assert sum(name.startswith("keyword:") for name in emoji._pairs.label_names) == 48
    assert (emoji.image_dim, emoji.text_dim) == (1280, 384)


def test_what_the_pairs_are_made_by_has_a_hash(emoji):
    said = emoji.describe()["inputs_hash"]
    assert said == Emoji().describe()["inputs_hash"]
    assert len({said, *(other.describe()["inputs_hash"] for other in (Emoji(subset=64), Emoji(keywords=40)))}) == 3
    assert Emoji(text_encoder=BagOfWords()).describe()["inputs_hash"] != said


def test_every_concept_has_group_and_subgroup_and_they_nest(emoji):
    names = emoji._pairs.label_names
    for prefix in ("group:", "subgroup:"):
        columns = [column for column, name in enumerate(names) if name.startswith(prefix)]
        assert (emoji._pairs.label[:, columns].sum(1) == 1).all()
    pairs = {tuple(row) for row in emoji._pairs.hierarchy}
    assert len(pairs) == len({fine for _, fine in pairs})  # each subgroup has one group


def test_texts_do_not_hold_their_labels(emoji):
    words = {
        name.removeprefix("keyword:").replace("_", " ")
        for name in emoji._pairs.label_names
        if name.startswith("keyword:")
    }
    for text in emoji._index()["text"]:
        name, *others = str(text).split(", ")
        assert not words & set(others), text
        assert name


def test_features_are_of_the_pair_and_scaled_by_the_training_set(emoji):
    train = emoji.role("train")
    assert torch.allclose(train["image"]["pooled"].mean(0), torch.zeros(1280), atol=1e-3)
    assert torch.equal(train["index"], torch.as_tensor(emoji._split.train))
    raw = Emoji(image_scaling="none").role("train")["image"]["pooled"]
    assert np.allclose(raw, np.asarray(emoji._pairs.image["pooled"][emoji._split.train], np.float32))


def test_tokens_come_when_they_are_asked_for():
    batch = Emoji(tokens=True).role("val_query")
    assert batch["image"]["tokens"].shape == (200, 16, 1280)
    assert batch["text"]["tokens"].shape[::2] == (200, 384)
    assert batch["text"]["mask"].any(1).all()
    with pytest.raises(UserError, match="the text features of emoji have no tokens"):
        Emoji(tokens=True, text_encoder=BagOfWords()).role("val_query")


def test_bag_of_words_learns_from_the_training_texts_only():
    split = Emoji().split()
    encoder, texts = BagOfWords(min_count=1), Emoji()._index()["text"].tolist()
    seen = {word for index in split.train for word in set(re.findall(r"\w+", texts[index].lower()))}
    assert encoder.open([texts[index] for index in split.train])(texts)["pooled"].shape[1] == min(2000, len(seen))


def test_hierarchy_is_in_the_batch_when_the_finest_class_decides(emoji):
    assert "hierarchy" not in emoji.role("train")
    assert Emoji(relevance="finest").role("train")["hierarchy"].shape == (1029, 2)


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [("query", 0, "data.query=0"), ("batch_size", 0, "batch_size is 0"), ("subset", 3, "from 16")],
)
def test_impossible_arguments_are_refused(argument, value, message):
    with pytest.raises(UserError, match=message):
        Emoji(**{argument: value}).role("train")
