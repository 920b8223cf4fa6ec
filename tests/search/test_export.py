"""What `xmodal export` writes is what the record was made from, in each format."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.io
import torch

from xmodal.__main__ import main
from xmodal.data import Emoji
from xmodal.relevance import Relevance
from xmodal.search import Trained
from xmodal.search.export import ROLES, to_parquet


def export(capsys, run, form, out):
    capsys.readouterr()
    code = main(["export", str(run), "--to", form, "--out", str(out)])
    shown = capsys.readouterr()
    assert shown.out == f"{out}\n"
    return code, shown.err


def evaluated(capsys, file):
    capsys.readouterr()
    assert main(["evaluate", str(file), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_run_whose_encoder_has_other_weights_by_now_is_refused(trained, capsys, tmp_path):
    """They are a file that another run may have written anew: what is encoded would be of neither."""
    copy = Path(shutil.copytree(trained("words"), tmp_path / "copy"))
    record = json.loads((copy / "result.json").read_text())
    key = "data.init_args.image_encoder.init_args.model"
    assert key in record["own_code"]
    record["own_code"][key] = "other"
    (copy / "result.json").write_text(json.dumps(record))
    for command in (["export", str(copy), "--to", "npz"], ["index", str(copy)]):
        capsys.readouterr()
        assert main(command) == 2
        assert f"{key} of {copy} has changed since it was trained" in capsys.readouterr().err


def test_a_run_whose_class_is_edited_by_now_is_told(tmp_path, home, monkeypatch, capsys):
    """A method of one's own encodes otherwise than the one that was scored."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    text = "from xmodal.methods import CCA\n\nclass Sooth(CCA):\n    name = 'sooth'\n"
    (tmp_path / "sooth.py").write_text(text)
    assert main(["train", "sooth.Sooth", "emoji", "--bits=8", "--gallery=false"]) == 0
    run = home / "runs/sooth/emoji/8/seed0"
    (tmp_path / "sooth.py").write_text(f"{text}    supervised = False\n")
    monkeypatch.setattr("xmodal.code.IMPORTED", {})  # as in another process
    code, err = export(capsys, run, "npz", tmp_path / "codes.npz")
    assert code == 0
    assert f"sooth.Sooth of {run} has changed since (own_code " in err


def test_a_run_whose_dataset_has_other_inputs_by_now_is_told(trained, capsys, tmp_path, monkeypatch):
    """Features or texts of a benchmark that were replaced under the same labels: the numbers are not the record's."""
    run, real = trained("codes"), Emoji.pairs
    monkeypatch.setattr(Emoji, "pairs", lambda self: replace(real(self), text={"pooled": -real(self).text["pooled"]}))
    code, err = export(capsys, run, "npz", tmp_path / "codes.npz")
    was = json.loads((run / "result.json").read_text())["inputs_hash"]
    assert code == 0
    assert err.count(f"the inputs are not those of {run} (inputs_hash {was}, not ") == 1


@pytest.mark.parametrize("name", ["codes", "embeddings"])
@pytest.mark.parametrize("form", ["npz", "mat"])
def test_evaluating_the_file_gives_the_numbers_of_the_record(trained, capsys, tmp_path, name, form):
    file = tmp_path / f"codes.{form}"
    assert export(capsys, trained(name), form, file) == (0, "")
    found = evaluated(capsys, file)
    record = json.loads((trained(name) / "result.json").read_text())["metrics"]
    for key, value in record.items():
        if key.startswith("test/") and key != "test/map":
            assert found[key.removeprefix("test/")] == pytest.approx(value, abs=1e-6), key


def test_a_script_of_the_field_gets_the_same_number_from_the_mat_file(trained, capsys, tmp_path):
    export(capsys, trained("codes"), "mat", tmp_path / "codes.mat")
    file = scipy.io.loadmat(tmp_path / "codes.mat")
    relevant = file["q_l"] @ file["r_l"].T > 0
    near = (file["q_img"].shape[1] - file["q_img"] @ file["r_txt"].T) / 2
    precisions = []
    for query in range(len(near)):  # as DCMH's and its successors' scripts: ties in the order of the items
        hits = relevant[query][np.argsort(near[query], kind="stable")]
        ranks = np.flatnonzero(hits) + 1
        precisions.append((np.arange(1, len(ranks) + 1) / ranks).mean())
    record = json.loads((trained("codes") / "result.json").read_text())["metrics"]
    assert np.mean(precisions) == pytest.approx(record["test/map[stable]_i2t"], abs=1e-6)


def test_every_role_is_there_with_labels_and_positions(trained, capsys, tmp_path):
    pq, faiss = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("faiss")
    for form in ("npz", "parquet", "faiss"):
        export(capsys, trained("codes"), form, tmp_path / form)
    run, arrays = Trained.open(trained("codes")), np.load(tmp_path / "npz")
    table = pq.read_table(tmp_path / "parquet").to_pydict()
    assert pq.read_schema(tmp_path / "parquet").metadata[b"bits"] == b"32"
    for role in ROLES:
        positions = run.data.positions(role)
        assert (arrays[f"{role}_index"] == positions).all()
        rows = [row for row, name in enumerate(table["role"]) if name == role]
        assert [table["index"][row] for row in rows] == positions.tolist()
        for side in ("image", "text"):
            packed = arrays[f"{role}_{side}_packed"]
            assert ((arrays[f"{role}_{side}"] > 0) == np.unpackbits(packed, axis=1, bitorder="little")).all()
            assert [table[side][row] for row in rows] == [code.tobytes() for code in packed]
            index = faiss.read_index_binary(str(tmp_path / "faiss" / f"{role}-{side}.faiss"))
            distances, ids = index.search(packed[:5], 3)
            near = (arrays[f"{role}_{side}"][:5, None] != arrays[f"{role}_{side}"]).sum(2)
            assert (np.sort(near, 1)[:, :3] == distances).all()
            assert (ids[:, 0] == positions[near.argmin(1)]).all()
        labels = arrays[f"{role}_label"]
        assert [table["label"][row] for row in rows] == [np.flatnonzero(label).tolist() for label in labels]


def test_parquet_says_what_is_relevant_also_without_labels(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    judged = Relevance(torch.arange(3), torch.eye(3), torch.tensor([[0, 1], [0, 2], [1, 3]]), torch.tensor([7, 7, 8]))
    sides = dict.fromkeys(("image", "text"), np.zeros((3, 1), np.uint8))
    run = SimpleNamespace(bits=8, method=SimpleNamespace(name="made up"), folder=tmp_path)
    to_parquet(run, {"query": (sides, judged)}, tmp_path / "codes.parquet")
    table = pq.read_table(tmp_path / "codes.parquet").to_pydict()
    assert table["hierarchy"] == judged.hierarchy.tolist()
    assert table["group"] == [7, 7, 8]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["words", "reranking"])
def test_onnx_encoders_give_the_same_codes(trained, capsys, tmp_path, name, monkeypatch):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr("xmodal.search.onnx.CHECKED", 20)
    code, err = export(capsys, trained(name), "onnx", tmp_path / "onnx")
    assert code == 0, err
    assert [line for line in err.splitlines() if ".onnx" in line] == [
        f"{side}.onnx: 20 of 20 queries get the same code" for side in ("image", "text")
    ]
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "image.onnx")
    about = session.get_modelmeta().custom_metadata_map
    assert about["checkpoint"] == Trained.open(trained(name)).checkpoint
    pixels = np.zeros((3, *session.get_inputs()[0].shape[1:]), np.uint8)  # not the number that it was traced with
    assert session.run(None, {"pixels": pixels})[0].shape[0] == 3


def test_an_encoder_that_has_no_onnx_form_is_one_line(trained, capsys, tmp_path, monkeypatch):
    """As one with torch's orthogonal parametrization: it ended in a traceback of a hundred lines."""
    pytest.importorskip("onnxscript")
    monkeypatch.setattr("xmodal.search.onnx.CHECKED", 2)

    def fails(*arguments, **options):
        raise torch.onnx.OnnxExporterError("step 3 of 3") from TypeError("no function for\n<householder>")

    monkeypatch.setattr(torch.onnx, "export", fails)
    run = trained("codes")
    capsys.readouterr()
    assert main(["export", str(run), "--to=onnx", f"--out={tmp_path}/onnx"]) == 2
    words = "torch cannot write the image encoder of cca as ONNX: no function for <householder>"
    assert capsys.readouterr().err.endswith(f"xmodal export: {words}\n")
