"""The house itself: members, locks, set-up, import weight, and the wheels as they are shipped."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import forecastcore

ROOT = Path(__file__).parents[1]
CORE = tomllib.loads((ROOT / "pyproject.toml").read_text())
PLUGINS = {path.parent.name: tomllib.loads(path.read_text()) for path in sorted(ROOT.glob("plugins/*/pyproject.toml"))}
PACKAGES = {name: name.replace("-", "_") for name in PLUGINS}
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)(?: ; (.+?))? \\$", re.MULTILINE)
FRAMES = {"numpy", "pandas", "pyarrow"}
HEAVY = {"databricks", "deltalake", "holidays", "joblib", "lightgbm", "matplotlib", "mlflow", "prefect", "pyspark"}
HEAVY |= {"scipy", "skops", "sklearn", "sqlalchemy", "statsforecast", "statsmodels"}


def run(*command, cwd=ROOT, **environment):
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def ok(result):
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def pins(lock):
    """Locked versions for this very interpreter."""
    here = default_environment()
    found = {}
    for name, version, marker in PIN.findall(lock.read_text()):
        if not marker or Requirement(f"x ; {marker}").marker.evaluate(here):
            found[canonicalize_name(name)] = version
    return found


# -- members


def test_every_plugin_folder_is_a_member_named_everywhere_it_has_to_be():
    contracts = {contract["id"]: contract for contract in CORE["tool"]["importlinter"]["contracts"]}
    packages = set(PACKAGES.values())
    assert packages
    assert {project["project"]["name"] for project in PLUGINS.values()} == set(PLUGINS)
    assert set(CORE["project"]["optional-dependencies"]["shelf"]) == set(PLUGINS)
    assert set(CORE["tool"]["uv"]["sources"]) == {"forecastcore", *PLUGINS}
    assert set(CORE["tool"]["importlinter"]["root_packages"]) == {"forecastcore", *packages}
    assert set(contracts["plugin-boundary"]["source_modules"]) == packages
    assert set(contracts["plugins-apart"]["modules"]) == packages
    assert packages <= set(contracts["core-names-no-plugin"]["forbidden_modules"])


def test_the_version_in_the_code_is_the_version_of_the_distribution():
    assert CORE["project"]["version"] == forecastcore.__version__


def test_every_member_asks_for_the_same_python():
    assert {project["project"]["requires-python"] for project in [CORE, *PLUGINS.values()]} == {">=3.11"}


# -- locks


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_pins_and_hashes_everything_and_names_no_address(lock):
    text = lock.read_text()
    entries = [line for line in text.splitlines() if line and not line.lstrip().startswith(("--hash=sha256:", "#"))]
    assert entries
    assert len(entries) == len(PIN.findall(text))
    assert len(re.findall(r"\\\n    --hash=sha256:[0-9a-f]{64}", text)) >= len(entries)
    assert not re.search(r"://|file:|index-url|find-links|^-", text, re.MULTILINE)


@pytest.mark.parametrize(("lock", "group"), [("runtime.txt", "build"), ("dev.txt", "dev")])
def test_a_lock_satisfies_what_the_members_ask_for_today(lock, group):
    locked = pins(ROOT / "requirements" / lock)
    groups = CORE["dependency-groups"]
    asked = [entry for entry in [*groups["build"], *groups[group]] if isinstance(entry, str)]
    for project in [CORE, *PLUGINS.values()]:
        extras = dict(project["project"].get("optional-dependencies", {}))
        if group == "build":
            extras.pop("spark", None)  # half a gigabyte that no demo needs, and a cluster has its own
        asked += [*project["project"]["dependencies"], *(entry for extra in extras.values() for entry in extra)]
    wanted = [Requirement(entry) for entry in asked]
    wanted = [one for one in wanted if canonicalize_name(one.name) not in {"forecastcore", *PLUGINS}]
    unmet = [str(one) for one in wanted if locked.get(canonicalize_name(one.name), "") not in one.specifier]
    assert wanted
    assert unmet == [], "make lock"


def test_all_locks_agree_on_every_version():
    runtime = pins(ROOT / "requirements" / "runtime.txt")
    assert runtime.items() <= pins(ROOT / "requirements" / "dev.txt").items()
    assert pins(ROOT / "requirements" / "uv.txt").items() <= runtime.items()


# -- set-up


def fake_python(folder, name, *, new):
    # Says of itself only whether it is new enough; that is all the script asks first.
    path = folder / name
    path.write_text(f"#!/bin/sh\nexit {0 if new else 1}\n")
    path.chmod(0o755)
    return path


def test_set_up_refuses_an_old_python_that_was_asked_for(tmp_path):
    old = fake_python(tmp_path, "python3.9", new=False)
    result = run("/bin/sh", "scripts/venv.sh", tmp_path / "venv", old)
    assert result.returncode == 1
    assert f"PYTHON={old} is not Python 3.11 or newer" in result.stderr
    assert not (tmp_path / "venv").exists()


def test_set_up_without_any_new_python_says_what_to_do(tmp_path):
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        fake_python(tmp_path, name, new=False)
    result = run("/bin/sh", "scripts/venv.sh", tmp_path / "venv", "python3", PATH=f"{tmp_path}:/nowhere")
    assert result.returncode == 1
    assert "no Python 3.11 or newer on the PATH" in result.stderr


def test_set_up_refuses_to_put_another_python_into_an_environment_that_is_there(tmp_path):
    other = tmp_path / "other"
    other.write_text('#!/bin/sh\ncase "$2" in *print*) echo 3.99;; esac\n')
    other.chmod(0o755)
    result = run("/bin/sh", "scripts/venv.sh", sys.prefix, other)
    assert result.returncode == 1
    assert "VENV=.venv-3.99" in result.stderr


def test_make_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE).group(1).split()
    listed = [line.split()[1] for line in ok(run("make", "--no-print-directory", "help", MAKEFLAGS="")).splitlines()]
    assert sorted(listed) == sorted(targets)


@pytest.mark.slow
def test_a_clean_clone_with_an_empty_cache_sets_itself_up_and_then_has_nothing_to_do(tmp_path):
    clone = tmp_path / "clone"
    ok(run("git", "clone", "--quiet", ROOT, clone))
    clean = {"UV_CACHE_DIR": str(tmp_path / "cache"), "MAKEFLAGS": "", "VENV": ".venv", "VIRTUAL_ENV": ""}
    ok(run("make", "setup", f"PYTHON={sys.executable}", cwd=clone, **clean))
    found = ok(run(".venv/bin/python", "-c", "import forecastcore; print(forecastcore.__file__)", cwd=clone))
    assert Path(found.strip()) == clone / "forecastcore" / "__init__.py"
    again = run("make", "setup", f"PYTHON={sys.executable}", cwd=clone, **clean)
    assert "Nothing to be done" in ok(again)
    assert ok(run("git", "status", "--short", cwd=clone)) == ""


# -- import weight


def imported_by(module):
    code = f"import sys, json, {module}; print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    return set(json.loads(ok(run(sys.executable, "-c", code))))


def test_the_command_line_and_the_plugin_api_import_nothing_heavy():
    # `--help` answers in 0.3 s, and a broken library does not keep the command from starting.
    light = ("forecastcore", "forecastcore.api", "forecastcore.errors", "forecastcore.hookspecs", "forecastcore.cli")
    for module in [name for name in light if importlib.util.find_spec(name)]:
        assert imported_by(module).isdisjoint(HEAVY | FRAMES), module


@pytest.mark.parametrize("package", PACKAGES.values())
def test_looking_at_a_plugin_does_not_import_its_library(package):
    assert imported_by(package).isdisjoint(HEAVY)


# -- wheels


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    build = ("build", "--quiet", "--all-packages", "--wheel", "--no-build-isolation", "--no-index", "--offline")
    ok(run(sys.executable, "-m", "uv", *build, "--python", sys.executable, "--out-dir", folder))
    return {path.name.split("-")[0]: path for path in sorted(folder.glob("*.whl"))}


@pytest.fixture(scope="module")
def installed(wheels, tmp_path_factory):
    """An environment with the wheels, and for everything else this one's libraries without its editable members."""
    venv = tmp_path_factory.mktemp("fresh") / "venv"
    uv = (sys.executable, "-m", "uv")
    ok(run(*uv, "venv", "--quiet", "--python", sys.executable, venv))
    python = venv / "bin" / "python"
    ok(run(*uv, "pip", "install", "--quiet", "--no-deps", "--no-index", "--python", python, *wheels.values()))
    [site] = venv.glob("lib/python*/site-packages")
    # A path in a .pth file is only put on sys.path; the .pth files in it, the editable members, are not read.
    (site / "libraries.pth").write_text(str(Path(pytest.__file__).parents[1]))
    return venv


def test_there_is_a_wheel_for_each_member_and_it_holds_only_its_own_typed_package(wheels):
    assert set(wheels) == {"forecastcore", *PACKAGES.values()}
    for package, wheel in wheels.items():
        names = zipfile.ZipFile(wheel).namelist()
        assert {name.split("/")[0] for name in names} == {package, f"{package}-{wheel.name.split('-')[1]}.dist-info"}
        assert f"{package}/py.typed" in names
        assert not [name for name in names if "/tests/" in name or "__pycache__" in name]


def test_the_core_wheel_carries_the_demo_and_both_licences(wheels):
    names = set(zipfile.ZipFile(wheels["forecastcore"]).namelist())
    demo = {f"forecastcore/demo/project/{name}" for name in ("forecast.yaml", "data/ferrara-water.parquet")}
    assert demo | {"forecastcore/demo/project/data/LICENSE-DATA.txt"} <= names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_installed_wheels_are_what_gets_imported_and_every_plugin_is_found(installed, tmp_path):
    code = (
        "import json, forecastcore, importlib.metadata as m;"
        "points = m.entry_points(group='forecastcore');"
        "print(json.dumps([forecastcore.__file__] + [[p.dist.name, p.name, p.load().__file__] for p in points]))"
    )
    core, *found = json.loads(ok(run(installed / "bin" / "python", "-c", code, cwd=tmp_path)))
    points = {name: one["project"]["entry-points"]["forecastcore"] for name, one in PLUGINS.items()}
    offered = {(name, point) for name in points for point in points[name]}
    assert Path(core).is_relative_to(installed)
    assert {(distribution, point) for distribution, point, _ in found} == offered
    assert all(Path(place).is_relative_to(installed) for _, _, place in found)


def test_the_commands_of_the_core_wheel_show_their_help(installed, tmp_path):
    scripts = {name: target.split(":")[0] for name, target in CORE["project"]["scripts"].items()}
    for name in [name for name, module in scripts.items() if importlib.util.find_spec(module)]:
        assert name in ok(run(installed / "bin" / name, "--help", cwd=tmp_path))
    assert {path.name for path in (installed / "bin").iterdir()} >= set(scripts)
