"""Every example is run: the blocks of the README and of docs/, page by page in the page's own order, and doctests.

- `bash`: `make TARGET` has to be a target of the Makefile; the rest runs as a script in the page's folder, which starts
  as a copy of the demo project (two districts of it).
- `python`: runs in that folder; the blocks of one page share their names.
- `yaml`: a project file, or a part of one, that the demo's project file is valid with.
- `json`, `toml`: parsed. `text`, `math`: left alone.

An HTML comment right before a block changes that: `<!-- not run: reason -->` skips it, `<!-- file: name -->` writes
it into the folder of the page for the blocks that follow.
"""

import doctest
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
import tomllib
import types
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import yaml

import forecastcore
import forecastcore.demo
from forecastcore.errors import ForecastCoreError

ROOT = Path(__file__).parents[1]
DEMO = Path(forecastcore.demo.__file__).parent / "project"
#: the tutorial's pages are one story, told to a fresh clone further down
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in ROOT.glob("docs/**/*.md") if page.parent.name != "tutorial"),
    *sorted(ROOT.glob("plugins/*/README.md")),
]
#: pages of many commands, each a process of its own; what they show has tests elsewhere too
SLOW = {"README.md"} | {
    f"docs/{name}.md"
    for name in (
        "explanation/how-it-works",
        "how-to/assumptions",
        "how-to/backup",
        "how-to/databricks",
        "how-to/delivery",
        "how-to/ensembles-and-search",
        "how-to/notebooks",
        "how-to/operations",
        "how-to/plugins",
        "how-to/start-from-a-template",
        "how-to/upgrade",
        "reference/project-file",
        "reference/table",
    )
}
FENCE = re.compile(r"^(?P<indent> *)(?P<fence>```+|~~~+) *(?P<language>[\w-]*)[^`]*$")
COMMENT = re.compile(r"^<!-- (?P<kind>not run|file): (?P<text>\S.*?) -->$")
MAKE = re.compile(r"^make( |$)")


@dataclass(frozen=True)
class Block:
    place: str
    language: str
    code: str
    kind: str = ""  # "not run", "file", or nothing
    text: str = ""  # the reason, or the file's name


def blocks_of(text, page="page.md"):
    found, before, lines = [], "", enumerate(text.splitlines(), start=1)
    for number, line in lines:
        opening = FENCE.match(line)
        if opening:
            code = []
            for _, inner in lines:
                if inner.strip() == opening["fence"]:
                    break
                code.append(inner)
            else:
                pytest.fail(f"{page}:{number}: this block is never closed")
            comment = COMMENT.match(before)
            said = {"kind": comment["kind"], "text": comment["text"]} if comment else {}
            found.append(
                Block(f"{page}:{number}", opening["language"], textwrap.dedent("\n".join(code)) + "\n", **said)
            )
        before = line.strip() or before
    return found


class Page:
    """Runs the blocks of one page, in a folder and a namespace of their own."""

    def __init__(self, folder, module):
        self.folder = folder
        self.module = module

    def run(self, block):
        if block.kind == "file":
            target = (self.folder / block.text).resolve()
            assert target.is_relative_to(self.folder.resolve()), f"{block.place}: {block.text} leaves the page's folder"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.code)
        if block.kind != "not run":
            checks = {"bash": self.bash, "python": self.python, "yaml": self.yaml, "json": self.json, "toml": self.toml}
            checks |= dict.fromkeys(("text", "math"), self.leave)
            assert block.language in checks, f"{block.place}: `{block.language}` is none of {', '.join(checks)}"
            checks[block.language](block)

    def bash(self, block):
        targets = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
        script = []
        for line in block.code.splitlines():
            if MAKE.match(line):
                asked = [word for word in line.partition("#")[0].split()[1:] if "=" not in word]
                assert set(asked) <= set(targets), f"{block.place}: `{line}` asks for what the Makefile has not"
            else:
                script.append(line)
        if block.kind == "file" or not any(script):
            return
        bin_folder = Path(sys.prefix) / "bin"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join(script)],
            cwd=self.folder,
            env={**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"{block.place}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"

    def python(self, block):
        code = compile(block.code, block.place, "exec")
        if block.kind != "file":
            exec(code, self.module.__dict__)

    def yaml(self, block):
        part = yaml.safe_load(block.code)
        assert isinstance(part, dict), f"{block.place}: not a mapping"
        demo = yaml.safe_load((self.folder / "forecast.yaml").read_text())
        whole = part if {"name", "source"} <= part.keys() else demo | part
        path = self.folder / "checked-by-the-docs.yaml"
        path.write_text(yaml.safe_dump(whole))
        try:
            forecastcore.Project.load(path)
        except ForecastCoreError as error:
            pytest.fail(f"{block.place}: {error}")
        finally:
            path.unlink()

    @staticmethod
    def json(block):
        json.loads(block.code)

    @staticmethod
    def toml(block):
        tomllib.loads(block.code)

    @staticmethod
    def leave(block):
        """Text and pictures have nothing to run."""


@pytest.fixture
def page(tmp_path, monkeypatch):
    folder = tmp_path / "page"
    shutil.copytree(DEMO, folder)
    data = folder / "data" / "ferrara-water.parquet"
    table = pd.read_parquet(data)
    table[table["unique_id"].isin(["DMA_01", "DMA_02"])].to_parquet(data, index=False)
    (folder / ".venv").symlink_to(sys.prefix)
    monkeypatch.chdir(folder)
    module = types.ModuleType("docs_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return Page(folder, module)


def _page(path):
    name = str(path.relative_to(ROOT))
    return pytest.param(path, id=name, marks=[pytest.mark.slow] if name in SLOW else [])


@pytest.mark.parametrize("path", [_page(path) for path in PAGES])
def test_every_block_of_a_page_works(path, page):
    for block in blocks_of(path.read_text(), str(path.relative_to(ROOT))):
        page.run(block)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_newcomer_types_the_tutorial_into_a_fresh_clone_word_for_word(tmp_path):
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    ours = {"VIRTUAL_ENV", "VENV", "MAKEFLAGS", "PYTHONPATH", "UV_CACHE_DIR"}
    environment = {name: value for name, value in os.environ.items() if name not in ours and "PREFECT" not in name}
    environment |= {"FORECASTCORE_CACHE": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    ran, started = [], time.monotonic()
    for path in sorted((clone / "docs" / "tutorial").glob("[1-9]-*.md")):
        for block in blocks_of(path.read_text(), path.name):
            if block.kind == "file":
                target = clone / block.text
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(block.code)
            elif not block.kind and block.language in {"bash", "python"}:
                python = [str(clone / ".venv/bin/python"), "-W", "error::DeprecationWarning:__main__", "-c"]
                typed = ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else python
                done = subprocess.run(
                    [*typed, block.code],
                    cwd=clone,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == 0, f"{block.place}: {block.code}\n{done.stdout}\n{done.stderr}"
                assert "Traceback" not in done.stderr, f"{block.place}: {done.stderr}"
                ran.append(block.place)
    assert len(ran) >= 15
    print(f"the tutorial took {(time.monotonic() - started) / 60:.1f} minutes of this machine")  # noqa: T201


def module_name(path):
    package = next(parent for parent in path.parents if not (parent.parent / "__init__.py").exists())
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules_with_examples():
    sources = [*ROOT.glob("forecastcore/**/*.py"), *ROOT.glob("plugins/*/forecastcore_*/**/*.py")]
    return sorted(module_name(path) for path in sources if ">>> " in path.read_text())


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_in_a_modules_docstrings_work(name, page):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted
    assert not result.failed


# -- the mechanism itself


def works(page, text):
    for block in blocks_of(textwrap.dedent(text)):
        page.run(block)


def test_blocks_run_in_order_in_one_folder_and_python_blocks_share_their_names(page):
    works(
        page,
        """
        ```bash
        echo 41 > number.txt   # a remark
        test -d data && test -x .venv/bin/python
        ```
        1. indented:

           ```python
           from pathlib import Path
           number = int(Path("number.txt").read_text())
           ```
        ```python
        assert number + 1 == 42
        Path("seen").touch()
        ```
        """,
    )
    assert (page.folder / "seen").exists()


def test_a_block_marked_as_a_file_is_there_for_the_blocks_after_it(page):
    works(
        page,
        """
        <!-- file: sub/mine.py -->
        ```python
        raise RuntimeError("only written, not run")
        ```
        ```bash
        grep -q "not run" sub/mine.py
        ```
        """,
    )


def test_a_block_marked_with_a_reason_is_not_run(page):
    works(page, "<!-- not run: it would serve for ever -->\n\n```bash\nexit 7\n```")


def test_a_part_of_a_project_file_is_valid_when_the_demo_s_file_is_with_it(page):
    works(page, "```yaml\nhorizon: 24\nmodels:\n  - type: seasonal-naive\n```")
    assert "horizon: 168" in (page.folder / "forecast.yaml").read_text()


def test_a_whole_project_file_stands_alone_and_can_be_written_for_the_blocks_that_follow(page):
    works(
        page,
        """
        <!-- file: small/forecast.yaml -->
        ```yaml
        name: small
        source: {type: parquet, path: ../data/ferrara-water.parquet}
        frequency: h
        horizon: 24
        ```
        ```python
        import forecastcore as fc
        assert fc.Project.load("small/forecast.yaml").config.horizon == 24
        ```
        """,
    )


@pytest.mark.parametrize(
    "text",
    [
        "```yaml\nhorizont: 24\n```",
        "```yaml\nmodels:\n  - type: gradient-bosting\n```",
        "```yaml\nname: alone\nsource: {type: parquet, path: x.parquet}\n```",
    ],
)
def test_a_project_file_with_a_mistake_fails_its_page_and_names_the_place(page, text):
    with pytest.raises(pytest.fail.Exception, match=r"page\.md:1: "):
        works(page, text)


@pytest.mark.parametrize(
    "text",
    [
        "<!-- not run: -->\n```bash\nexit 7\n```",
        "```bash\nforecastcore-is-not-called-this\n```",
        "```bash\nfalse | true\n```",
        "```bash\nmake coffee\n```",
        "```json\n{'a': 1}\n```",
        "```toml\na = \n```",
        "```yaml\n- a\n- list\n```",
        "```shell\ntrue\n```",
        "```\nno language\n```",
        "<!-- file: ../escape.txt -->\n```text\nx\n```",
    ],
)
def test_a_block_that_does_not_work_fails_its_page(page, text):
    with pytest.raises((AssertionError, ValueError)):
        works(page, text)


def test_an_error_in_python_names_the_page_and_the_line_of_the_block(page):
    with pytest.raises(ZeroDivisionError) as error:
        works(page, "text\n\n```python\nx = 1 / 0\n```")
    assert str(error.traceback[-1].path).endswith("page.md:3")


def test_a_block_that_is_never_closed_fails_its_page():
    with pytest.raises(pytest.fail.Exception, match=r"page\.md:1: this block is never closed"):
        blocks_of("```bash\ntrue\n")


def test_make_lines_are_checked_against_the_makefile_and_not_run(page):
    works(page, "```bash\nmake help   # says what there is\nmake setup VENV=.venv-3.12\n```")
    assert not (page.folder / ".venv-3.12").exists()
