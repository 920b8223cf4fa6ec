"""An index of a trained run finds what the metric saw, and says in one line what is wrong with it."""

import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from tests.data.test_folder import make
from tests.search.conftest import run
from xmodal.__main__ import main
from xmodal.encoders import open_picture
from xmodal.errors import UserError
from xmodal.search import Index, Trained, read_picture


@pytest.mark.parametrize("name", ["codes", "embeddings"])
def test_both_directions_give_exactly_the_ranks_that_the_metric_saw(trained, index, name):
    out = Index.open(index(name))
    saved = np.load(trained(name) / "codes.npz")  # what the test ranked
    data = out.trained.data
    positions = saved["query_index"][:30].tolist()
    queries = {"image": [data.picture(each) for each in positions], "text": [data.caption(each) for each in positions]}
    for asked, found in (("image", "text"), ("text", "image")):
        answers = out.search(**{f"{asked}s": queries[asked]}, k=len(saved["database_index"]))
        query, items = saved[f"query_{asked}"][:30], saved[f"database_{found}"]
        if name == "codes":
            near = (query[:, None] != items).sum(2)
        else:
            query, items = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (query, items))
            near = (1 - query.astype(np.float64) @ items.astype(np.float64).T).round(6)
        order = np.lexsort((np.broadcast_to(saved["database_index"], near.shape), near), axis=1)
        wanted, seen = saved["database_index"][order], answers.ids
        if name == "codes":
            assert (seen == wanted).all()
        else:  # distances of 1e-6 and less apart may come in either order
            place = np.argsort(saved["database_index"])
            rows = place[np.searchsorted(saved["database_index"], seen, sorter=place)]
            ordered = np.take_along_axis(near, rows, 1)
            assert (np.diff(ordered, axis=1) >= -2e-6).all()
            assert (seen == wanted).mean() > 0.99
        assert np.allclose(answers.distances, np.take_along_axis(near, order, 1), atol=2e-6)


@pytest.mark.parametrize("name", ["codes", "embeddings"])
def test_the_ranks_of_all_queries_give_the_number_of_the_record(trained, index, name):
    out, saved = Index.open(index(name)), np.load(trained(name) / "codes.npz")
    record = json.loads((trained(name) / "result.json").read_text())["metrics"]
    relevant = saved["query_label"].astype(int) @ saved["database_label"].T.astype(int) > 0
    place = np.argsort(saved["database_index"])
    for asked, found, way in (("image", "text", "i2t"), ("text", "image", "t2i")):
        codes = saved[f"query_{asked}"]
        codes = (
            np.packbits(codes > 0, axis=1, bitorder="little")
            if out.bits
            else codes / np.linalg.norm(codes, axis=1)[:, None]
        )
        answers = out.search(codes=codes, among=found, k=relevant.shape[1])
        if out.bits:  # many share a distance
            assert (np.diff(answers.distances, axis=1) == 0).mean() > 0.5
        hits = np.take_along_axis(relevant, place[np.searchsorted(saved["database_index"][place], answers.ids)], 1)
        precision = hits.cumsum(1) / np.arange(1, hits.shape[1] + 1)
        mean = ((precision * hits).sum(1) / hits.sum(1)).mean()
        assert mean == pytest.approx(record[f"test/map{'[stable]' if out.bits else ''}_{way}"], abs=1e-6)


def test_embeddings_are_made_in_the_precision_in_which_they_were_scored(trained):
    run, saved = Trained.open(trained("half")), np.load(trained("half") / "codes.npz")
    run.config["trainer"]["precision"] = None  # as where a GPU has chosen it; the record tells which
    made, judged = run.role("query")
    made["alone"] = run.encode("text", [run.data.caption(int(each)) for each in judged.index])
    for name, found in made.items():
        scored = saved[f"query_{name.replace('alone', 'text')}"]
        assert found == pytest.approx(scored / np.linalg.norm(scored, axis=1, keepdims=True), abs=1e-5), name


def test_a_picture_alone_gets_the_code_that_it_got_among_all(trained):
    run = Trained.open(trained("codes"))
    codes, _ = run.role("query")
    for row, position in enumerate(run.data.positions("query")[:3].tolist()):
        assert (run.encode("image", [run.data.picture(position)])[0] == codes["image"][row]).all()
        assert (run.encode("text", [run.data.caption(position)])[0] == codes["text"][row]).all()


def test_a_folder_of_ones_own_is_searched_by_words_and_by_pictures(trained, index, pictures, capsys):
    out = index("codes", "--folder", pictures, "--captions", pictures.parent / "captions.csv")
    about = json.loads((out / "index.json").read_text())
    assert about["bits"] == 32
    assert about["run"] == str(trained("codes"))
    assert about["source"] == {"folder": str(pictures)}
    assert about["encoders"]["text"]["encoder"] == "all-MiniLM-L6-v2"
    assert set(about["versions"]) >= {"xmodal", "faiss", "torch"}
    code, printed, _ = run(
        capsys, "search", out, "--text", "red fruit", "--image", pictures / "00.png", "-k", "3", "--json"
    )
    assert code == 0
    by_words, by_picture = map(json.loads, printed.splitlines())
    assert (by_words["among"], by_picture["among"]) == ("image", "text")
    assert [hit["rank"] for hit in by_words["hits"]] == [1, 2, 3]
    assert all((pictures / hit["name"]).is_file() for hit in by_words["hits"])
    code, printed, _ = run(
        capsys, "search", out, "--image", pictures / "00.png", "-k", "1", "--among", "image", "--json"
    )
    assert json.loads(printed)["hits"] == [{"rank": 1, "id": 0, "distance": 0, "name": "00.png"}]
    code, printed, _ = run(capsys, "search", out, "--text", "red fruit", "-k", "2")
    assert re.search(r"red fruit\n +rank +distance +id  image\n +1 +\d+ +\d+  (deep/)?\d\d\.(png|webp)\n", printed)


def test_a_picture_that_is_gone_is_shown_as_no_other(index, pictures, tmp_path):
    """A deleted cat/0.png was shown, and would have been read by a second stage, as dog/0.png."""
    for name, folder in (("00.png", "cat"), ("02.png", "dog")):
        (pictures / folder).mkdir()
        (pictures / name).rename(pictures / folder / "0.png")
    table = tmp_path / "other.csv"  # its names are those of another machine
    table.write_text("file,text\n/home/me/all/cat/0.png,a cat\n/home/me/all/dog/0.png,a dog\n")
    folder = index("codes", "--folder", pictures, "--captions", table)
    assert None not in [Index.open(folder).item("image", row) for row in (0, 1)]
    (pictures / "cat" / "0.png").unlink()
    gone, there = (Index.open(folder).item("image", row) for row in (0, 1))
    assert (gone, there is not None) == (None, True)


def test_data_of_ones_own_are_indexed_by_their_file(trained, index, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XMODAL_DATA", str(tmp_path / "data"))  # caches of data of one's own lie there
    table = make(tmp_path, pairs=20)["table"]
    assert run(capsys, "init", "data", "pictures", table, "--name=mine")[0] == 0
    found = Index.open(index("codes", "--data", "mine.yaml"))
    assert (found.about["source"]["dataset"], found.data.name, len(found.ids["image"])) == ("mine", "mine", 4)
    number = int(found.ids["image"][2])
    assert (
        found.item("image", 2).tobytes() == open_picture((tmp_path / f"pictures/{number}.jpg").read_bytes()).tobytes()
    )
    code, printed, _ = run(capsys, "prepare", "mine.yaml", "--query", "6")
    assert code == 0
    assert "'query': 6" in printed
    (tmp_path / f"pictures/{number}.jpg").unlink()  # the answers of all queries ended with it
    assert Index.open(found.folder).item("image", 2) is None


def test_a_gallery_shows_pictures_and_needs_nothing_but_itself(index, pictures, capsys, tmp_path):
    out = index("codes", "--folder", pictures)
    page = tmp_path / "page.html"
    assert run(capsys, "search", out, "--text", "<b>fruit", "-k", "2", "--html", page)[0] == 0
    text = page.read_text()
    assert text.count("data:image/webp;base64,") == 2
    assert "&lt;b&gt;fruit" in text
    assert not re.search(r"https?://|<b>", text)


def test_queries_come_from_a_file_and_from_stdin(index, pictures, capsys, tmp_path, monkeypatch):
    out = index("codes", "--folder", pictures)
    (tmp_path / "queries.txt").write_text(f"a fruit\n\n{pictures / '00.png'}\n")
    _, printed, _ = run(capsys, "search", out, "--queries", tmp_path / "queries.txt", "--json", "-k", "1")
    assert [json.loads(line)["query"] for line in printed.splitlines()] == ["a fruit", str(pictures / "00.png")]
    monkeypatch.setattr("sys.stdin", io.StringIO("a fruit\na cat\n"))
    _, printed, _ = run(capsys, "search", out, "--json", "-k", "1")
    assert [json.loads(line)["query"] for line in printed.splitlines()] == ["a fruit", "a cat"]


def test_the_cross_attention_orders_the_first_hits(index, trained, monkeypatch):
    out = Index.open(index("reranking"))
    method = out.trained.method
    monkeypatch.setattr("xmodal.search.index.TOGETHER", 2)
    position = int(out.trained.data.positions("query")[7])
    text = out.trained.data.caption(position)
    first = out.search(codes=out.trained.encode("text", [text]), among="image", k=method.reranks)
    again = out.search(texts=[text], k=method.reranks)
    others = [out.trained.data.caption(int(each)) for each in out.trained.data.positions("query")[:2]]
    more = out.search(texts=[*others, text], k=method.reranks + 5)  # read two and one at a time
    assert more[2][: method.reranks] == again[0]
    behind = out.search(codes=out.trained.encode("text", [text]), among="image", k=method.reranks + 5)
    assert more[2][method.reranks :] == behind[0][method.reranks :]
    scores = [hit.score for hit in again[0]]
    assert scores == sorted(scores, reverse=True)
    assert {hit.id for hit in again[0]} == {hit.id for hit in first[0]}
    assert [hit.id for hit in again[0]] != [hit.id for hit in first[0]]
    saved = out.trained.data.role("query")
    rows = {int(each): row for row, each in enumerate(saved["index"])}
    of = [rows[hit.id] for hit in again[0]]
    image = {name: each[of].float() for name, each in saved["image"].items()}
    words = {name: each[[rows[position]] * len(of)].float() for name, each in saved["text"].items() if name != "mask"}
    words |= {"mask": saved["text"]["mask"][[rows[position]] * len(of)]} if "mask" in saved["text"] else {}
    expected = method.pair_scores(image, words).detach().numpy()
    assert np.allclose(scores, expected, atol=2e-3)  # cached features are of half precision


def test_unknown_words_are_named(index, capsys):
    out = index("words")
    code, _, err = run(capsys, "search", out, "--text", "qwzx flurb")
    assert code == 2
    assert re.fullmatch(
        r"xmodal search: no word of 'qwzx flurb' is in the vocabulary .*: it does not know flurb, qwzx; .*\n", err
    )
    known = json.loads((out / "index.json").read_text())["vocabulary"][0]
    code, _, err = run(capsys, "search", out, "--text", f"{known} qwzx")
    assert code == 0
    assert f"'{known} qwzx': this bag-of-words run does not know qwzx\n" in err


def test_a_killed_encoding_goes_on_where_it_was(trained, pictures, capsys, tmp_path, monkeypatch):
    from xmodal.search import trained as module

    monkeypatch.setattr("xmodal.encoders.cache.SAVED", 1)
    made, encode = [], module.Trained.encode

    def counted(self, side, items):
        made.append(len(items))
        if len(made) == 3:
            raise KeyboardInterrupt
        return encode(self, side, items)

    monkeypatch.setattr(module.Trained, "encode", counted)
    monkeypatch.setattr("xmodal.encoders.TimmImage.batch_size", 4, raising=False)
    opened = module.Trained.encoder

    def small(self, side):
        encoder = opened(self, side)
        encoder.batch_size = 4
        return encoder

    monkeypatch.setattr(module.Trained, "encoder", small)
    out = tmp_path / "index"
    assert main(["index", str(trained("codes")), "--folder", str(pictures), "--out", str(out)]) == 130
    assert not out.exists()
    assert main(["index", str(trained("codes")), "--folder", str(pictures), "--out", str(out)]) == 0
    assert made == [4, 4, 4, 4]  # the third was killed, the first two are not made again
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == [".index.lock"]
    whole = tmp_path / "whole"
    assert main(["index", str(trained("codes")), "--folder", str(pictures), "--out", str(whole)]) == 0
    assert (whole / "image" / "index.faiss").read_bytes() == (out / "image" / "index.faiss").read_bytes()


def test_damaged_pictures_are_named_and_left_out(trained, index, pictures, capsys):
    (pictures / "03.png").write_bytes(b"no picture")
    out = index("codes", "--folder", pictures)
    found = Index.open(out)
    assert len(found.ids["image"]) == 12
    assert "03.png" not in [found.names["image"][row] for row in range(12)]


def test_what_is_wrong_is_said_in_one_line(trained, index, pictures, capsys, tmp_path, monkeypatch):
    out, run_folder = index("codes", "--folder", pictures), trained("codes")
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    (tmp_path / "no.png").write_bytes(b"GIF89a no")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    Image.new("1", (9_000, 9_000)).save(tmp_path / "large.png")
    code, _, err = run(capsys, "index", run_folder, "--folder", pictures, "--out", tmp_path / "empty")
    assert (code, "exists and is no index" in err) == (2, True)

    def says(message, *argv):
        code, printed, err = run(capsys, *argv)
        assert (code, printed, err.count("\n")) == (2, "", 1), err
        assert re.search(message, err), err

    says("there is no run nowhere", "index", "nowhere")
    says("holds no picture", "index", run_folder, "--folder", tmp_path / "empty")
    says("there is no folder", "index", run_folder, "--folder", tmp_path / "none")
    says(
        "which column of .*wrong.csv holds the file",
        "index",
        run_folder,
        "--folder",
        pictures,
        "--captions",
        tmp_path / "wrong.csv",
    )
    says("give --data or --folder", "index", run_folder, "--folder", pictures, "--data", "emoji")
    says("no dataset 'none'", "index", run_folder, "--data", "none")
    says("wikipedia brings features of its own", "index", run_folder, "--data", "wikipedia")
    says("there is no index in", "search", tmp_path, "--text", "a")
    says("a text is empty", "search", out, "--text", " ")
    says("there is no picture", "search", out, "--image", tmp_path / "none.png")
    says("9 bytes that are no picture", "search", out, "--image", tmp_path / "no.png")
    says("too many pixels, 64 million at most", "search", out, "--image", tmp_path / "huge.png")
    says("9000 x 9000 pixels, 64 million at most", "search", out, "--image", tmp_path / "large.png")
    says("-k is 0", "search", out, "--text", "a", "-k", "0")
    says("holds no texts, only images", "search", out, "--text", "a", "--among", "text")
    says("holds 32 bits, and .* makes 16 bits", "search", out, "--text", "a", "--run", trained("words"))
    about = json.loads((out / "index.json").read_text())
    (out / "index.json").write_text(json.dumps(about | {"checkpoint": "0" * 64}))
    says(r"is of cca in .* \(checkpoint 00000000\), and .* has other weights", "search", out, "--text", "a")
    (out / "index.json").write_text(json.dumps(about | {"form": 99}))
    says(r"is of form 99 \(xmodal .*\), this version reads 2", "search", out, "--text", "a")
    (out / "index.json").write_text("{")
    says("index.json is damaged", "search", out, "--text", "a")
    (out / "index.json").write_text(json.dumps(about))
    codes = out / "image" / "index.faiss"
    content = codes.read_bytes()
    codes.write_bytes(content[:-4])
    says(r"index.faiss is truncated or missing \(\d+ bytes expected\)", "search", out, "--text", "a")
    codes.write_bytes(content)
    with pytest.raises(UserError, match="68 MiB: a picture to search with has 64 at most"):
        read_picture(b"0" * (68 * 2**20))
