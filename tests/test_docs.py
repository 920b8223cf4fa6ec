"""The documentation builds into a site without a warning, leads nowhere wrong, and works from the disk, offline."""

import ast
import html
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest

from tests.conftest import CHECKOUT
from tests.records.test_page import CHROMIUM
from xmodal import methods

PAGES = sorted(path.relative_to(CHECKOUT / "docs").with_suffix("") for path in (CHECKOUT / "docs").rglob("*.md"))
BUILD = [sys.executable, "-m", "zensical", "build", "--strict"]
SEARCH = """<script>
addEventListener("load", () => setTimeout(() => {
  const inner = (each) => (each.shadowRoot ? all(each.shadowRoot) : []);
  const all = (root) => [...root.querySelectorAll("*")].flatMap((each) => [each, ...inner(each)]);
  document.querySelector(".md-search__button").click();
  setTimeout(() => {
    const input = all(document).find((each) => each.tagName === "INPUT" && !["checkbox", "radio"].includes(each.type));
    input.value = "tie-aware";
    input.dispatchEvent(new Event("input", { bubbles: true }));
    setTimeout(() => {
      const found = all(document).filter((each) => each.tagName === "A" && each.querySelector("mark"));
      document.documentElement.dataset.seen = JSON.stringify(found.map((each) => each.href));
    }, 3000);
  }, 1000);
}, 500));
</script>"""


class References(HTMLParser):
    """Where a page leads to, what it fetches, and the anchors that it offers."""

    def __init__(self, text):
        super().__init__()
        self.links, self.fetched, self.anchors = set(), set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found[key] for key in ("id", "name") if found.get(key)}
        if tag == "a" and found.get("href"):
            self.links.add(found["href"])
        elif where := found.get("src") or found.get("srcset") or (tag == "link" and found.get("href")):
            self.fetched.add(where)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built strictly from a copy: a warning fails."""
    folder = tmp_path_factory.mktemp("site")
    for name in ("docs", "src"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("mkdocs.yml", "CHANGELOG.md"):
        shutil.copy(CHECKOUT / name, folder)
    done = subprocess.run(BUILD, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build" / "site"


@pytest.fixture(scope="module")
def pages(site):
    return {path: References(path.read_text()) for path in site.rglob("*.html")}


def test_every_package_that_exports_names_is_in_the_reference():
    packages = {
        path.parent.name for path in (CHECKOUT / "src/xmodal").glob("*/__init__.py") if "__all__" in path.read_text()
    }
    pages = [page.read_text() for page in (CHECKOUT / "docs/api").glob("*.md")]
    shown = {name for text in pages for name in re.findall(r"^::: xmodal\.(\w+)", text, re.M)}
    assert packages - {"cuda_graphs"} <= shown  # that one is of the trainer alone


SNIPPETS = [
    (page.as_posix(), code)
    for page in PAGES
    for code in re.findall(r"```python\n(.*?)```", (CHECKOUT / "docs" / f"{page}.md").read_text(), re.DOTALL)
]


@pytest.mark.parametrize(("page", "code"), SNIPPETS)
def test_what_a_snippet_imports_is_there(page, code):
    tree = ast.parse(code)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), page, "exec"), {})


def test_every_page_is_built_and_stands_in_the_navigation(site, pages):
    reached = pages[site / "index.html"].links
    for page in PAGES:
        assert {f"{page.as_posix()}.html", f"./{page.as_posix()}.html"} & reached or page.name == "index", page


@pytest.mark.parametrize("method", sorted(methods.registry()))
def test_a_methods_page_begins_with_its_idea_and_a_drawing(method):
    title, idea, drawing, *_ = (CHECKOUT / "docs" / "methods" / f"{method}.md").read_text().split("\n\n")
    assert title.startswith("# ")
    assert len(re.findall(r"\.(?=\s|$)", idea)) == 3, "three sentences"
    assert drawing.startswith("```text\n")
    assert "->" in drawing


def test_no_link_is_broken(site, pages):
    broken = []
    for path, page in pages.items():
        for link in page.links | page.fetched:
            parts = urlsplit(link)
            if parts.scheme or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.is_relative_to(site) or not target.is_file():
                broken.append(f"{path.relative_to(site)}: {link}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                broken.append(f"{path.relative_to(site)}: {link} (no such heading)")
    assert not broken, broken


def test_nothing_is_fetched_from_a_network(site, pages):
    for path, page in pages.items():
        assert not {each for each in page.fetched if urlsplit(each).scheme in ("http", "https")}, path
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import )['\"]?https?:", sheet.read_text()), sheet


def test_a_broken_link_stops_the_build(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# Page\n\n[nowhere](nowhere.md)\n")
    (tmp_path / "mkdocs.yml").write_text("site_name: test\n")
    done = subprocess.run(BUILD, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "page does not exist" in done.stdout + done.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed; .ci/run installs it where it can")
def test_the_search_works_from_the_disk(site, tmp_path):
    page = site / "glossary.html"
    probed = site / "probed.html"
    probed.write_text(page.read_text().replace("</body>", SEARCH + "</body>"))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'chromium'}"]
    command += ["--virtual-time-budget=15000", "--dump-dom", probed.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    probed.unlink()
    found = json.loads(html.unescape(re.search(r'data-seen="([^"]*)"', done.stdout).group(1)))
    assert any("/metrics.html" in link for link in found), found
