"""What a person gets wrong, and the whole text that each mistake is answered with.

The mistakes and their answers are data: `tests/mistakes/`. After a change of words, `FORECASTCORE_REWRITE=1` with this
file's tests writes what is told now; read the difference before you keep it.
"""

import os
import re
import shlex
from pathlib import Path

import pytest
import yaml

from forecastcore.cli import main

HERE = Path(__file__).parent / "mistakes"
GOOD = (HERE / "good.yaml").read_text()


class _Block(yaml.SafeDumper):
    """Texts of several lines as they would be typed."""


def _written(dumper, text):
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Block.add_representer(str, _written)


def cases(name):
    return yaml.safe_load((HERE / name).read_text())


CONFIG, USAGE, FINE = cases("config.yaml"), cases("usage.yaml"), cases("fine.yaml")


def compared(name, title, told):
    """Compare with the file, or write into it what is told."""
    if os.environ.get("FORECASTCORE_REWRITE"):
        every = cases(name)
        next(case for case in every if case["title"] == title)["told"] = told
        text = yaml.dump(every, Dumper=_Block, sort_keys=False, allow_unicode=True, width=1000)
        (HERE / name).write_text(text)
    (case,) = [case for case in cases(name) if case["title"] == title]
    assert told == case["told"]


def _placeless(text, site):
    """The text without what only this run of the test has: its folder, and how long each step took."""
    return re.sub(r"^\S.* +\d+\.\d s\n", "", text, flags=re.MULTILINE).replace(str(site.folder), "FOLDER")


@pytest.fixture
def site(make_site, monkeypatch):
    made = make_site(bare=True)
    (made.folder / "forecast.yaml").write_text(GOOD)
    monkeypatch.chdir(made.folder)
    return made


@pytest.mark.parametrize("case", CONFIG, ids=[case["title"] for case in CONFIG])
def test_a_wrong_project_file_is_answered_with(case, site, capsys):
    assert GOOD.count(case["replace"]) == 1
    (site.folder / "forecast.yaml").write_text(GOOD.replace(case["replace"], case["by"]))
    capsys.readouterr()
    assert main(["validate"]) == 2
    told = capsys.readouterr()
    assert not told.out
    compared("config.yaml", case["title"], _placeless(told.err, site))


@pytest.mark.parametrize("case", USAGE, ids=[case["title"] for case in USAGE])
def test_a_wrong_command_line_is_answered_with(case, site, capsys):
    capsys.readouterr()
    code = main(shlex.split(case["words"]))
    told = capsys.readouterr()
    assert code in {1, 2, 4}
    assert not told.out
    assert "Traceback" not in told.err
    compared("usage.yaml", case["title"], f"exit code {code}\n{_placeless(told.err, site)}")
    assert not site.written - {"mlflow.db"}


@pytest.mark.parametrize("case", FINE, ids=[case["title"] for case in FINE])
def test_a_good_project_file_is_valid_without_a_word_and_can_be_planned(case, site, capsys, monkeypatch):
    monkeypatch.setenv("HISTORY", "history.parquet")
    said = {key: value for key, value in yaml.safe_load(GOOD).items() if key not in case.get("drop", ())}
    for path, value in case.get("set", {}).items():
        *above, key = path.split(".")
        (said[above[0]] if above else said)[key] = value
    (site.folder / "forecast.yaml").write_text(yaml.safe_dump(said))
    capsys.readouterr()
    assert main(["validate"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert len(told.out.splitlines()) == 1
    assert main(["plan", "retrain"]) == 0
    assert capsys.readouterr().err == ""
    assert not site.written


def test_there_are_as_many_as_was_promised():
    assert (len(CONFIG) >= 60, len(USAGE) >= 30, len(FINE) >= 30) == (True, True, True)
    for corpus in (CONFIG, USAGE, FINE):
        assert len({case["title"] for case in corpus}) == len(corpus)
