"""The page of `xmodal demo` and its JSON, from a server that the test starts, without a browser and in one."""

import contextlib
import html
import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from functools import partial
from urllib.parse import urlencode, urlsplit

import pytest

from tests.conftest import CHECKOUT
from tests.records.test_page import CHROMIUM
from xmodal.commands import demo
from xmodal.search import Index, Trained, build_index

uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed: it is in the extra `web`")
web = pytest.importorskip("xmodal.search.web", reason="starlette is not installed: it is in the extra `web`")


@pytest.fixture
def server(trained, tmp_path, monkeypatch):
    """The address of a server of two runs, whose page holds the probe too."""
    page = tmp_path / "page"
    shutil.copytree(web.PAGE, page)
    shutil.copy(CHECKOUT / "tests" / "search" / "probe.js", page)
    text = (page / "index.html").read_text()
    (page / "probed.html").write_text(text.replace("</head>", '<script src="probe.js" defer></script></head>'))
    monkeypatch.setattr(web, "PAGE", page)
    places = {name: trained(name) / "index" / "emoji" for name in ("codes", "embeddings")}
    for place in places.values():
        if not place.is_dir():  # by the first of these tests
            build_index(Trained.open(place.parents[1]), place)
    shelves = {name: web.Shelf(partial(Index.open, place)) for name, place in places.items()}
    listener = demo._listen(0)
    running = uvicorn.Server(uvicorn.Config(web.app(shelves), log_level="warning"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    running.should_exit = True
    thread.join()
    listener.close()


def call(address, path, content=None, **parameters):
    """Status and JSON of a request."""
    try:
        with urllib.request.urlopen(f"{address}/api/{path}?{urlencode(parameters)}", content) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_scripts_get_json(server, trained):
    assert call(server, "indexes") == (200, ["codes", "embeddings"])
    _, about = call(server, "about", index="codes")
    assert about == {
        "method": "cca",
        "bits": 32,
        "source": "emoji",
        "sizes": {"image": 400, "text": 400},
        "examples": True,
    }
    _, examples = call(server, "examples", count=3)
    assert len(examples) == 3
    _, found = call(server, "search", text="a fruit", k=5)
    assert (found["among"], len(found["hits"])) == ("image", 5)
    distances = [hit["distance"] for hit in found["hits"]]
    assert distances == sorted(distances)
    assert {hit["right"] for hit in found["hits"]} == {None}

    _, found = call(server, "search", example=examples[0]["id"], side="image", k=200)
    data = Trained.open(trained("codes")).data
    label = {name: data.role("query")[name] for name in ("index", "label")}
    rows = {int(each): row for row, each in enumerate(label["index"])}
    own = label["label"][rows[examples[0]["id"]]]
    marks = [bool((label["label"][rows[hit["id"]]] * own).sum()) for hit in found["hits"]]
    assert [hit["right"] for hit in found["hits"]] == marks
    assert 0 < sum(marks) < 200

    with urllib.request.urlopen(f"{server}/api/picture?id={found['hits'][0]['id']}") as answer:
        content = answer.read()
        assert answer.headers["Content-Type"] == "image/webp"
    _, posted = call(server, "search", content, k=1)
    assert posted["among"] == "text"


@pytest.mark.parametrize(
    ("path", "parameters", "status", "message"),
    [
        ("search", {}, 400, "there is no query"),
        ("search", {"text": " "}, 400, "a text is empty"),
        ("search", {"text": "a", "k": "0"}, 400, "k is '0': give a whole number from 1 to 200"),
        ("search", {"example": "99999", "side": "text"}, 400, "99999 is no example of this index"),
        ("about", {"index": "none"}, 404, "there is no index 'none'; there are: codes, embeddings"),
        ("picture", {"id": "99999"}, 404, "there is no such picture"),
    ],
)
def test_what_is_wrong_is_said(server, path, parameters, status, message):
    code, answer = call(server, path, **parameters)
    assert (code, message in answer["error"]) == (status, True), answer


def test_foreign_and_huge_pictures_are_refused(server, monkeypatch):
    assert call(server, "search", b"no picture") == (
        400,
        {"error": "the picture cannot be searched with: 10 bytes that are no picture."},
    )
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%EOF\n"  # Pillow would start a program
    assert call(server, "search", script)[0] == 400
    monkeypatch.setattr(web, "LARGEST", 1000)
    assert call(server, "search", b"0" * 1001)[0] == 413


def test_more_pictures_at_a_time_than_the_server_holds_are_sent_away(server):
    place = urlsplit(server)
    content = b"no picture"
    head = f"POST /api/search HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection((place.hostname, place.port))) for _ in range(web.POSTS)]
        for each in held:
            each.sendall(head + content[:1])  # and the rest later
        deadline = time.monotonic() + 20
        while call(server, "search", content)[0] != 503:  # until all of them have begun
            assert time.monotonic() < deadline
        assert call(server, "search", text="a fruit")[0] == 200
        for each in held:
            each.sendall(content[1:])
            assert each.recv(12) == b"HTTP/1.1 400"
    assert call(server, "search", content)[0] == 400


def test_what_another_site_sends_is_refused(server):
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200)):
        asked = urllib.request.Request(f"{server}/api/search?text=red", headers={"Sec-Fetch-Site": site})
        try:
            found = urllib.request.urlopen(asked)
        except urllib.error.HTTPError as error:
            found = error
        with found:
            assert found.status == status


def test_the_page_asks_nobody_else_and_answers_this_machine_only(server):
    with urllib.request.urlopen(server) as answer:
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    for path in web.PAGE.iterdir():
        assert not re.search(r"https?://|innerHTML =|insertAdjacent", path.read_text()) or path.name.startswith("probe")
    foreign = urllib.request.Request(f"{server}/api/indexes", headers={"Host": "elsewhere.example"})
    with pytest.raises(urllib.error.HTTPError, match="400") as refused:
        urllib.request.urlopen(foreign)
    refused.value.close()


def test_a_taken_port_is_said(capsys, trained):
    from xmodal.__main__ import main

    listener = demo._listen(0)
    assert main(["demo", str(trained("codes")), f"--port={listener.getsockname()[1]}"]) == 2
    assert "cannot be had (Address already in use): give another one with --port." in capsys.readouterr().err
    listener.close()


def test_runs_at_hand_are_offered(trained):
    folders = [trained("codes"), trained("embeddings")]
    assert set(folders) <= set(demo._runs())
    assert [demo._name(folder) for folder in folders] == ["codes", "embeddings"]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed; .ci/run installs it where it can")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_it_works_in_a_browser(server, tmp_path, width, dark):
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'chromium'}"]
    command += [f"--window-size={width},900", "--enable-logging=stderr", "--virtual-time-budget=60000"]
    command += [f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--dump-dom", f"{server}/probed.html"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    # the refused query is an answer of status 400, which the browser mentions
    lines = [line for line in done.stderr.splitlines() if "CONSOLE" in line and "status of 400" not in line]
    assert not lines
    found = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert found, done.stdout[-2000:]
    seen = json.loads(html.unescape(found.group(1)))
    assert seen["start"] == "400 images and 400 texts of emoji"
    assert seen["words"] == {"asked": "&lt;b&gt;a fruit&lt;/b&gt;", "hits": 12, "pictures": 12, "marks": 0}
    assert seen["fewer"] == 6
    assert set(seen["example"]["marks"]) <= {"right", "wrong"}
    assert len(seen["example"]["hits"]) == 6
    assert (seen["picture"]["images"], seen["picture"]["marks"]) == (0, 6)  # texts are found
    assert seen["dropped"]["asked"] == "mine.webp"
    assert seen["dropped"]["marks"] == 0
    assert seen["other"]["unit"].startswith("1. distance 0.")
    assert seen["other"]["asked"] == "mine.webp"
    assert seen["refused"] == "a text is empty: give words."
    assert seen["broken"] == seen["unlabelled"] == 0
    assert not seen["wide"], "the page scrolls sideways"
    assert seen["scheme"][1] == dark
