"""The documentation's site: built strictly, no dead link, no request to anywhere, and all that comes from the code."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from forecastcore.cli.parser import build
from forecastcore.explaining.codes import codes

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^ *(```+).*?^ *\1 *$", re.MULTILINE | re.DOTALL)


def pages():
    """The hook that makes pages from the code; a script, so no package holds it."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("docs_pages", ROOT / "scripts" / "docs_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def in_navigation(entries):
    for entry in entries:
        for inner in entry.values() if isinstance(entry, dict) else [entry]:
            yield from [inner] if isinstance(inner, str) else in_navigation(inner)


def test_the_navigation_names_every_page_once():
    named = list(in_navigation(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    there = {str(page.relative_to(DOCS)) for page in DOCS.glob("**/*.md")} | set(pages().PAGES)
    assert sorted(named) == sorted(there)


def test_no_generated_page_stands_in_the_repository_too():
    assert not [uri for uri in pages().PAGES if (DOCS / uri).exists()]


@pytest.mark.parametrize(
    "path",
    [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("**/*.md"))],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_what_a_page_links_to_in_the_repository_is_there(path):
    made = {(DOCS / uri).resolve() for uri in pages().PAGES}
    for match in LINK.finditer(CODE.sub("", path.read_text())):
        link = urlsplit(match[1] or match[2])
        if not link.scheme and link.path:
            target = (path.parent / link.path).resolve()
            assert target.exists() or (target in made and DOCS in path.parents), f"{path.name}: {match[0]}"


def test_the_page_of_the_command_line_shows_every_command():
    module = pages()
    text = module.cli()
    names = [command.prog for command in module.commands(build())]
    assert len(names) > 30
    assert [name for name in names if f"## {name}\n" not in text] == []
    assert text.count("examples:") == len(names) + 1


def test_the_page_of_codes_tells_every_code():
    text = pages().codes()
    assert [name for name in codes() if f"| `{name}` |" not in text] == []


def test_the_page_of_keys_and_the_directory_describe_what_they_list():
    keys, directory = (pages().PAGES[f"reference/{name}.md"]() for name in ("keys", "plugin-directory"))
    for text in (keys, directory):
        rows = [line for line in text.splitlines() if line.startswith(("| `", "| [`"))]
        assert len(rows) > 100
        assert [row for row in rows if row.endswith("|  |")] == []
    assert "`promotion.data`" in keys
    assert "| [`lightgbm`](#model-lightgbm) |" in directory


def test_a_formula_becomes_mathml():
    text = pages().formulas("a\n\n```math\n\\frac{1}{2}\n```\n\nb")
    assert "<mfrac>" in text
    assert "```" not in text


# -- the built site


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.loaded, self.anchors = [], [], {""}

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        elif tag in {"script", "img", "iframe", "source", "video", "embed"} and found.get("src"):
            self.loaded.append(found["src"])
        elif tag == "link" and found.get("href") and found.get("rel") not in {"canonical", "next", "prev"}:
            self.loaded.append(found["href"])


@pytest.mark.slow
def test_the_site_is_built_strictly_and_every_link_in_it_leads_somewhere(tmp_path):
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read = {}
    for page in site.glob("**/*.html"):
        read[page.resolve()] = parser = Links()
        parser.feed(page.read_text(encoding="utf-8"))
    assert len(read) > 35
    dead = []
    for page, parser in read.items():
        if page.name == "404.html":  # its addresses start at the site's root
            continue
        for link in [*parser.links, *parser.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            anchors = read[target].anchors if target in read else {parts.fragment}
            if not target.exists() or unquote(parts.fragment) not in anchors:
                dead.append(f"{page.relative_to(site.resolve())}: {link}")
    assert dead == []
    assert [link for parser in read.values() for link in parser.loaded if urlsplit(link).netloc] == []
    styles = "".join(style.read_text(encoding="utf-8") for style in site.glob("**/*.css"))
    assert not re.search(r"(?:url\(|@import\s*)['\"]?(?:https?:)?//", styles)
    # The theme would fetch it for such a block, and only then.
    assert not [page for page in read if 'class="mermaid"' in page.read_text(encoding="utf-8")]
