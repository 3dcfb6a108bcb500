"""The site builds without a warning, from the repository alone; its links lead somewhere, and nothing is fetched from elsewhere."""

import html.parser
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from . import blocks

pytest.importorskip("mkdocs", reason="needs the docs extra")


class Page(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if "id" in found:
            self.ids.add(found["id"] or "")
        if tag == "a" and found.get("href"):
            self.links.append(found["href"] or "")
        elif tag in ("img", "script", "iframe") and found.get("src"):
            self.fetched.append(found["src"] or "")
        elif tag == "link" and found.get("rel") in ("stylesheet", "icon", "preload", "modulepreload", "preconnect"):
            self.fetched.append(found["href"] or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # the theme's remark on a later MkDocs, which is not installed
    done = subprocess.run(command, cwd=blocks.ROOT, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path.read_text()) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}


def test_every_internal_link_leads_to_a_page_and_a_place_on_it(site, pages):
    broken = []
    for path, page in pages.items():
        for link in [*page.links, *page.fetched]:
            if re.match(r"(https?|mailto|data|javascript):", link):
                continue
            target, _, anchor = link.partition("#")
            aim = (path.parent / unquote(target)).resolve() if target else path
            if not aim.exists() or (anchor and aim in pages and unquote(anchor) not in pages[aim].ids):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert not broken, broken


def test_nothing_is_fetched_from_elsewhere(site, pages):
    assert not [src for page in pages.values() for src in page.fetched if re.match(r"(https?:)?//", src)]
    styles = "\n".join(path.read_text() for path in site.rglob("*.css"))
    assert not re.findall(r"(?:url\(|@import )['\"]?https?://[^)'\"]*", styles)


def test_every_public_op_has_its_place(pages):
    from scripts.pages import families

    there = set().union(*(page.ids for path, page in pages.items() if path.parent.name == "ops"))
    functions = {name for found in families.public().values() for name in found}
    assert functions <= there
    assert len(functions) > 60


def test_every_page_of_docs_is_in_the_navigation(site, pages):
    first = pages[site / "index.html"]
    linked = {link.partition("#")[0] for link in first.links}
    names = {p.relative_to(site).as_posix() for p in pages} - {"index.html"}
    tests = {name for name in names if name.startswith("ops/tests/")}  # to which the table of implementations leads, test_shown.py
    assert not names - tests - linked, names - tests - linked
    assert tests


@pytest.mark.parametrize("path", blocks.PAGES, ids=lambda p: p.relative_to(blocks.ROOT).as_posix())
def test_links_between_files_lead_somewhere(path: Path):
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.S | re.M)
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
        assert (path.parent / target).exists(), target
