import numpy as np
import pytest

from xmodal.encoders import BagOfWords, MiniLM, encode_texts, label_embeddings
from xmodal.errors import UserError


def test_word_vectors_of_labels_are_near_for_near_words():
    vectors = label_embeddings(["keyword:dog", "puppy", "aeroplane", "sub_category:swim wear"])
    assert vectors.shape == (4, 384)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert unit[0] @ unit[1] > unit[0] @ unit[2]
    assert np.allclose(label_embeddings(["dog"])[0], vectors[0])


def test_tokens_end_with_the_longest_text(tmp_path):
    texts = ["a dog", "a man on a bicycle"]
    arrays = encode_texts(tmp_path, {}, MiniLM(), texts, [], "hash")
    assert arrays["tokens"].shape == (2, 7, 384)
    assert arrays["mask"].sum(1).tolist() == [4, 7]
    pooled = encode_texts(tmp_path / "pooled", {}, MiniLM(), texts, [], "hash", tokens=False)
    assert pooled.keys() == {"missing", "pooled"}


def test_a_vocabulary_belongs_to_its_split(tmp_path):
    texts = ["red dog", "red cat", "blue cat"]
    first = encode_texts(tmp_path, {}, BagOfWords(min_count=1), texts, texts[:1], "first")
    second = encode_texts(tmp_path, {}, BagOfWords(min_count=1), texts, texts[1:], "second")
    assert first["pooled"].tolist() == [[1, 1], [0, 1], [0, 0]]
    assert second["pooled"].shape == (3, 3)


def test_no_frequent_word_is_an_error():
    with pytest.raises(UserError, match="no word occurs in 2 of the 1 training texts"):
        BagOfWords().open(["red dog"])
