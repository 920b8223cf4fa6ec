"""Labels in tables of one's own, as people write them."""

import json

import pytest

from tests.data.test_listing import write_csv
from xmodal.data.readers.listing import read_listing
from xmodal.errors import UserError


@pytest.mark.parametrize(("there", "not_there"), [("1", "-1"), ("yes", "no"), ("1.0", "")])
def test_a_column_of_a_label_says_whether_it_is_there(tmp_path, there, not_there):
    """CelebA's 1 and -1 were the classes owl:1 and owl:-1, of which all pairs without an owl were relevant."""
    rows = [{"file": f"{k}", "text": "x", "owl": (there, not_there)[k], "red": (not_there, there)[k]} for k in (0, 1)]
    assert read_listing(write_csv(tmp_path / "t.csv", rows), label=["owl", "red"]).labels == [("owl",), ("red",)]


def test_vectors_and_mixed_columns_are_no_labels(tmp_path):
    """Of [0, 1, 0] the labels were 0 and 1, and nearly all pairs had the label 0."""
    for cell in ([0, 1, 0], "[0 1 0]", "0,1,0", "0 1", [False, True], "[0., 1.]"):
        table = tmp_path / "pairs.jsonl"
        table.write_text("".join(json.dumps({"file": f"{k}", "text": "x", "label": cell}) + "\n" for k in (1, 2)))
        with pytest.raises(UserError, match=r"column 'label' holds .*: several labels are their names"):
            read_listing(table, label="label", separator="," if "," in cell else None)
    row = {"file": "1", "text": "x", "owl": 1, "red": 0, "blue": -1, "kind": "bird"}
    table = write_csv(tmp_path / "t.csv", [row])
    with pytest.raises(UserError, match="columns owl, red, blue hold 0 and -1"):
        read_listing(table, label=["owl", "red", "blue"])
    with pytest.raises(UserError, match="column 'owl' is a label that is there or not, column 'kind' holds 'bird'"):
        read_listing(table, label=["owl", "kind"])
