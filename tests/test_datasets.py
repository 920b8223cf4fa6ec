import re

import pytest

from tests.conftest import CHECKOUT
from tests.data import make, make_dialects
from xmodal.__main__ import main
from xmodal.commands import datasets
from xmodal.data.sets.protocols import PROTOCOLS


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("XMODAL_DATA", str(tmp_path))
    return tmp_path


def test_every_dataset_is_listed_with_what_is_here(root, capsys):
    (root / "fashion" / "features" / "timm-0123").mkdir(parents=True)
    make.fashion(root / "fashion", 1)
    (root / "mscoco").mkdir()
    make.coco(root / "mscoco")
    (root / "mscoco" / "annotations" / "instances_val2017.json").unlink()
    assert main(["datasets"]) == 0
    said = re.sub(r"\n {17}", " | ", capsys.readouterr().out)
    lines = {line.split()[0]: line for line in said.splitlines()}
    assert {"emoji", "wikipedia", "nuswide", "flickr8k", "fashionvc", "xmedianet"} <= lines.keys()
    assert "here (original), 1 feature caches" in lines["fashion"]
    assert "incomplete: original lacks instances_*.json" in lines["mscoco"]
    assert f"not here ({root / 'flickr30k'})" in lines["flickr30k"]
    assert "2,866 articles" in lines["wikipedia"]
    assert "protocols: hichnet, hmch, xmodal" in lines["ssense"]


def test_one_dataset_says_files_origin_and_protocols(root, capsys):
    assert main(["datasets", "mirflickr25k"]) == 0
    said = capsys.readouterr().out
    assert str(root / "mirflickr25k") in said
    assert "mirflickr25k_annotations_v080.zip" in said
    assert "mirflickr25k-iall*.mat, mirflickr25k-yall.mat" in said
    assert "RandomState(1814)" in said


@pytest.mark.parametrize("command", ["datasets", "prepare"])
def test_an_unknown_dataset_is_one_line_with_the_names(command, capsys):
    assert main([command, "mirflicker"]) == 2
    assert (
        "no dataset 'mirflicker' (did you mean mirflickr25k?); the datasets are: emoji, fashion"
        in capsys.readouterr().err
    )


def test_prepare_takes_a_protocol_and_a_dialect(root, capsys):
    (root / "mirflickr25k").mkdir()
    make_dialects.djsrh_vgg(root / "mirflickr25k", make_dialects.v73)
    assert main(["prepare", "mirflickr25k", "--dialect", "djsrh-vgg", "--protocol", "dcmh"]) == 2
    assert "written for 20,015 pairs, but these files hold 30" in capsys.readouterr().err


def test_prepare_of_missing_files_says_what_where_from(root, capsys):
    assert main(["prepare", "nuswide", "--selection", "tc10"]) == 2
    error = capsys.readouterr().err
    assert f"its files are not in {root / 'nuswide'}" in error
    assert "Expected there: Labels_sky.txt, Imagelist.txt, AllTags1k.txt" in error


def test_an_option_that_a_dataset_lacks_is_refused(capsys):
    assert main(["prepare", "flickr8k", "--selection", "tc10"]) == 2
    assert "flickr8k has no option selection" in capsys.readouterr().err


def test_prepare_encodes_and_says_so(root, capsys):
    (root / "xmedianet").mkdir()
    make_dialects.mrl(root / "xmedianet" / "xmedianet_deep_doc2vec_data.h5py")
    assert main(["prepare", "xmedianet"]) == 0
    said = capsys.readouterr().out
    assert "split_sizes: {'train': 210, 'val_query': 12, 'val_database': 12, 'query': 14, 'database': 14}" in said
    assert "image features 50-d, text features 30-d" in said


@pytest.mark.parametrize(
    "argument",
    ["image_encoder=OpenClipImage", "image_encoder=TimmImage", "text_encoder=OpenClipText", "text_encoder=BagOfWords"],
)
def test_encoders_are_chosen_by_name_on_the_command_line(home, argument):
    from xmodal.cli import Parsed
    from xmodal.experiment import configuration

    parsed = Parsed([*configuration("cca", "fashion"), "--model.dim=8", f"--data.{argument}"])
    chosen = parsed.config.data.init_args[argument.partition("=")[0]]
    assert chosen.class_path.endswith(argument.partition("=")[2])


def test_the_page_shows_the_table_of_protocols():
    page = (CHECKOUT / "docs/datasets.md").read_text()
    shown = page.split("<!-- protocols -->\n")[1].split("<!-- /protocols -->")[0]
    assert shown == datasets.protocol_table(), "print it anew: xmodal datasets --protocols"
    assert shown.count("\n") == 2 + sum(len(recipes) for recipes in PROTOCOLS.values())
