"""The page of `xmodal compare`: what it says without a browser, and what it does in one."""

import html
import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import CHECKOUT
from tests.records.records import write_run
from xmodal import paths
from xmodal.__main__ import main

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
PROBE = f"<script>{Path(__file__).with_name('probe.js').read_text()}</script>"


@pytest.fixture
def runs(home):
    """Two methods at two sizes with three seeds, a variant, and a lone run of another split."""
    for seed in range(3):
        for size in (16, 64):
            write_run(paths.runs(), "dmsf", 0.6 + size / 1000, seed, size=size, config={"graph": 0.1})
            write_run(paths.runs(), "cca", 0.4, seed, size=size)
        write_run(paths.runs(), "dmsf", 0.65, seed, variant="no_graph", config={"graph": 0.0})
    write_run(paths.runs(), "dagan", 0.7, kind="real", split="b" * 64)
    Image.new("RGB", (900, 1200), "white").save(paths.runs() / "dmsf" / "emoji" / "64" / "seed0" / "gallery.png")
    return paths.runs()


def page(capsys, *argv):
    assert main(["compare", *argv]) == 0
    shown = capsys.readouterr()
    path = paths.runs() / "compare.html"
    assert f"page: {path}" in shown.err
    return path.read_text(), shown


def words(text):
    body = re.sub(r"<(style|script|head)\b.*?</\1>", " ", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", "", body)))


def test_it_answers_which_method_is_better_on_what_by_how_much_and_is_it_significant(runs, capsys):
    text, _ = page(capsys)
    shown = words(text)
    lead = r"its lead of 0\.2\d\d to 0\.2\d\d is significant at all\."
    assert re.search(rf"both directions dmsf is best at 16 and 64 bits, {lead}", shown)
    assert re.search(
        r"dmsf 0\.6\d{3} ± 0\.\d{4} \+0\.2\d{3} over cca \[0\.2\d\d, 0\.2\d\d\], p < 0\.001 significant", shown
    )
    assert "Only one method has been run here" in shown  # the other split stands alone
    assert re.search(r"no_graph 0\.65\d\d ± \S+ -0\.0\d{3} \[.*?significant model\.graph|graph 0\.1 → 0\.0", shown)


def test_it_needs_nothing_but_itself(runs, capsys):
    text, _ = page(capsys)
    assert "default-src 'none'" in text
    assert not re.search(r"https?://|<link|src=\"(?!data:)|@import|url\(", text)
    assert "data:image/webp;base64," in text
    assert len(text) < 400_000


def test_equal_methods_are_not_called_different(home, capsys):
    for seed in (0, 1):
        write_run(paths.runs(), "dmsf", 0.501, seed)
        write_run(paths.runs(), "cca", 0.5, seed)
    shown = words(page(capsys)[0])
    assert re.search(r"dmsf is best at 64 bits, its lead of 0\.00\d is not significant\.", shown)


def test_a_lead_of_one_seed_is_marked_and_never_called_significant(home, capsys):
    write_run(paths.runs(), "dmsf", 0.8)
    for seed in (0, 1):
        write_run(paths.runs(), "cca", 0.4, seed)
    shown = words(page(capsys)[0]).split("How to read this")[0]
    assert re.search(r"dmsf is best at 64 bits, its lead of 0\.\d{3} rests on one seed\.", shown)
    assert re.search(r"p < 0\.001 one seed", shown)
    assert "≈" not in shown.split("How to read this")[0]  # nor are they called alike
    assert "significant" not in shown
    assert "if both methods were trained again" in words(page(capsys)[0])


def test_runs_without_values_per_query_are_untested(home, capsys):
    write_run(paths.runs(), "dmsf", 0.6, queries=False)
    write_run(paths.runs(), "cca", 0.4)
    shown = words(page(capsys)[0])
    assert re.search(r"its lead of 0\.\d{3} is untested\.", shown)


@pytest.mark.parametrize("count", [0, 1])
def test_few_runs_make_a_page(home, capsys, count):
    for _ in range(count):
        write_run(paths.runs())
    text, shown = page(capsys)
    assert ("No evaluated runs yet" in words(text)) == (count == 0)
    assert "undefined" not in words(text)
    assert ("alone" in words(text)) == (count == 1)
    assert ("no evaluated runs under" in shown.out) == (count == 0)


def test_tuned_against_untuned_is_marked(home, capsys):
    write_run(paths.runs(), "dmsf", 0.6, variant="tuned")
    write_run(paths.runs(), "cca", 0.4)
    assert "tuned against base" in words(page(capsys)[0])


def test_methods_that_were_tuned_in_other_numbers_of_trials_are_told(home, capsys):
    for method, trials in (("dmsf", 24), ("dcmh", 3), ("cca", None)):
        write_run(home / "runs", method, 0.6, variant="tuned", trials=trials)
    write_run(home / "runs", "dmsf", 0.6, variant="tuned", size=16, trials=12)
    words = "Not all were tuned in as many trials: on emoji at 64 bits dcmh in 3, dmsf in 24."
    assert main(["compare"]) == 0
    assert words in capsys.readouterr().err
    assert words in (home / "runs/compare.html").read_text()
    assert main(["compare", "--methods=dmsf,cca"]) == 0
    assert "Not all were tuned" not in capsys.readouterr().err


def test_competing_setups_with_values_that_a_command_gave_are_told(home, capsys):
    write_run(home / "runs", "dmsf", 0.6, overrides={"trainer.max_epochs": "2"})
    write_run(home / "runs", "dcmh", 0.6, overrides={})
    write_run(home / "runs", "cca", 0.6, variant="no_graph", overrides={"model.dim": "8"})
    words = "but by command: dmsf base (setup setup-dmsf-base-64) trainer.max_epochs 2."
    assert main(["compare"]) == 0
    assert words in capsys.readouterr().err
    assert words in (home / "runs/compare.html").read_text()


def test_values_tuned_at_another_size_compete_and_are_no_ablation(home, capsys):
    for seed in (0, 1):
        write_run(paths.runs(), "dmsf", 0.6, seed, variant="tuned-at-32")
        write_run(paths.runs(), "cca", 0.4, seed, variant="tuned")
    shown = words(page(capsys)[0])
    assert re.search(r"dmsf is best at 64 bits, its lead of 0\.2\d\d is significant\.", shown)
    assert "dmsf, tuned-at-32 0.6" in shown
    assert "tuned-at-32 against tuned" in shown
    assert "Ablations" not in shown


def test_it_shows_what_leaves_the_encoder_and_the_directions_within_a_modality(home, capsys):
    chance = {"test/random_i2t": 0.18, "test/random_t2i": 0.18}
    across = {"val/map": 0.6, "test/map": 0.6, "test/map_i2t": 0.61, "test/map_t2i": 0.59, **chance}
    within = {"test/map_i2i": 0.4321, "test/map_t2t": 0.8765}
    write_run(paths.runs(), "hierarchical", kind="real", output_size=128, metrics=across | within)
    write_run(paths.runs(), "acmr", 0.5, kind="real", size=128)
    text, _ = page(capsys)
    assert re.search(r"both directions hierarchical is best at 128 dim, its lead of 0\.\d{3} ", words(text))
    heads, *rows = re.findall(r"<tr.*?</tr>", text.split('class="sortable"')[1].split("</table>")[0], re.DOTALL)
    heads = [words(head).strip() for head in re.findall(r"<th.*?</th>", heads, re.DOTALL)]
    cells = {
        found[0].split()[0]: dict(zip(heads, found, strict=True))
        for row in rows
        if (found := [words(cell).strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)])
    }
    assert cells["hierarchical"]["size"] == "64 dim (128 out)"
    assert cells["hierarchical"]["image → image"] == "0.4321"
    assert cells["hierarchical"]["text → text"] == "0.8765"
    assert cells["acmr"]["size"] == "128 dim"
    assert cells["acmr"]["text → text"] == ""  # an old record has none


def test_the_snippet_of_the_docs_finds_the_tests(runs):
    text = (CHECKOUT / "docs" / "compare.md").read_text()
    [snippet] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    seen = {}
    exec(snippet, seen)
    assert seen["broken"] == []
    assert len(seen["tests"]) == len(seen["others"]) == 5
    assert any(test and test["map"].p_value < 0.05 for test in seen["tests"])


def test_a_method_and_its_tuned_form_have_a_line_and_a_colour_each_on_common_axes(home, capsys):
    write_run(paths.runs(), "dmsf", 0.6, variant="tuned")
    write_run(paths.runs(), "dmsf", 0.5)
    write_run(paths.runs(), "cca", 0.3)
    text, _ = page(capsys)
    charts = re.findall(r'<svg viewBox="0 0 460.*?</svg>', text, re.DOTALL)
    assert len(charts) == 2  # one a direction
    for chart in charts:
        lines = re.findall(r'<g class="(s\d)" data-series="([^"]*)"', chart)
        assert sorted(name for _, name in lines) == ["cca", "dmsf", "dmsf, tuned"]
        assert len({colour for colour, _ in lines}) == 3
        assert re.findall(r'class="axis">([^<]*)<', chart) == ["recall", "precision"]
        tuned = next(colour for colour, name in lines if name == "dmsf, tuned")
        assert f'<i class="key {tuned}"' in text
    ticks = [re.findall(r'text-anchor="end">([^<]*)<', chart) for chart in charts]
    assert ticks[0] == ticks[1]


def test_contests_come_before_methods_that_stand_alone(home, capsys):
    write_run(paths.runs(), "acmr", 0.5, kind="real", size=16, split="0" * 64)  # alone in a protocol that sorts first
    for size in (16, 64):
        write_run(paths.runs(), "dmsf", 0.6, size=size)
    write_run(paths.runs(), "cca", 0.4, size=64)
    text, _ = page(capsys)
    first, second = re.findall(r'<section class="protocol">.*?</section>', text, re.DOTALL)
    assert "Only one method has been run here" in words(second)
    winners = re.findall(r'<th scope="row">(.*?)</th>', first.split('class="winners"')[1].split("</table>")[0])
    assert winners == ["64 bits", "16 bits"]


def test_a_broken_record_is_named_and_counted(runs, capsys):
    bad = runs / "cca" / "emoji" / "16" / "seed0" / "result.json"
    bad.write_text("{<b>")
    (runs / "cca" / "emoji" / "16" / "seed1" / "config.yaml").write_text("a: [")
    text, shown = page(capsys)
    assert "1 record left out." in words(text)
    assert str(bad) in words(text)
    assert str(bad) in shown.err


def test_names_cannot_write_markup(home, capsys):
    write_run(paths.runs(), method="<script>alert(1)</script>".replace("/", ""), variant="base")
    assert "<script>alert" not in page(capsys)[0]


def test_a_choice_of_runs(runs, capsys):
    _, shown = page(capsys, "--methods=dmsf,cca", "--data=emoji", "--bits=16")
    assert [line.split()[0] for line in shown.out.splitlines()[1:]] == ["dmsf", "cca"]
    assert main(["compare", "--methods=dsmf"]) == 2
    assert "METHODS is 'dsmf', and no run has dsmf; there are: cca, dmsf, dagan." in capsys.readouterr().err.replace(
        "dagan, dmsf", "dmsf, dagan"
    )


def test_a_page_that_cannot_be_written_is_said_below_the_table(runs, capsys):
    (runs / "compare.html").mkdir()
    assert main(["compare"]) == 2
    shown = capsys.readouterr()
    assert shown.out.startswith("method")
    assert f"cannot write {runs / 'compare.html'}" in shown.err
    assert not list(runs.glob(".compare*")), "a partial file is left"


def test_300_runs_take_seconds(home, capsys):
    for number in range(100):
        for seed in range(3):
            write_run(paths.runs(), f"method{number % 25:02}", 0.3 + number / 300, seed, size=2 ** (4 + number // 25))
    started = time.process_time()
    page(capsys)
    assert time.process_time() - started < 5


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed; .ci/run installs it where it can")
@pytest.mark.parametrize("width", [1400, 390])
def test_it_works_in_a_browser(runs, capsys, tmp_path, width):
    text, _ = page(capsys)
    probed = tmp_path / "probed.html"
    probed.write_text(text.replace("</body>", PROBE + "</body>"))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'chromium'}"]
    command += [f"--window-size={width},900", "--enable-logging=stderr", "--dump-dom", probed.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    seen = json.loads(html.unescape(re.search(r'data-seen="([^"]*)"', done.stdout).group(1)))
    assert seen["first"] == ["dmsf", "cca", "dmsf", "cca"]
    assert seen["rising"] == sorted(seen["falling"])
    assert seen["falling"] == sorted(seen["falling"], reverse=True) != seen["rising"]
    assert seen["aria"] == "ascending"
    assert seen["names"] == ["cca", "cca", "dmsf", "dmsf"]
    assert seen["seeds"] == [["seed_everything", "0", "1"]]
    assert seen["variant"] == [["model.graph", "0.1", "0.0"]]
    assert seen["same"] == [[], "0 settings differ, 3 are the same."]
    assert seen["images"] == 1
    assert [(paths.runs() / link).is_file() for link in seen["links"]] == [True] * 4
    assert seen["toggle"] == [False, True, False]
    assert seen["theme"][0] != seen["theme"][1]
    assert seen["unlabelled"] == seen["unreachable"] == 0
    assert not seen["wide"], "the page scrolls sideways"
    assert not (seen["cut"] and width == 1400), "a table scrolls sideways"
    assert seen["width"] <= max(width, 500)  # as narrow as this browser's window goes
