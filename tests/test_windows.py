"""Ready for Windows, as far as it shows elsewhere: its paths, and what Python lacks there."""

import json
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest

from forecastcore.config import absolute_uri
from forecastcore.engines.databricks.belongings import lies_inside
from forecastcore.errors import BackupError, UsageError
from forecastcore.runs.archive import LISTING, unpack
from forecastcore.tracking.connect import Connection

ROOT = PureWindowsPath(r"C:\Users\Ada Lovelace\demand")
#: what Windows has not
ABSENT = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "readline", "_posixshmem")
GONE = (
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "fork",
    "killpg",
    "setsid",
    "getpgid",
    "getloadavg",
    "sysconf",
    "chown",
)


@pytest.mark.parametrize(
    ("uri", "root", "expected"),
    [
        ("sqlite:///mlflow.db", ROOT, "sqlite:///C:/Users/Ada Lovelace/demand/mlflow.db"),
        ("sqlite:///runs/mlflow.db", ROOT, "sqlite:///C:/Users/Ada Lovelace/demand/runs/mlflow.db"),
        ("sqlite:///C:/runs/mlflow.db", ROOT, "sqlite:///C:/runs/mlflow.db"),
        ("sqlite:///D:/runs/mlflow.db", ROOT, "sqlite:///D:/runs/mlflow.db"),
        ("sqlite:///mlflow.db", PureWindowsPath(r"\\server\share\demand"), "sqlite://///server/share/demand/mlflow.db"),
        ("sqlite:///mlflow.db", PurePosixPath("/srv/demand"), "sqlite:////srv/demand/mlflow.db"),
        ("https://mlflow.example.org", ROOT, "https://mlflow.example.org"),
        ("databricks", ROOT, "databricks"),
        ("databricks://profile", ROOT, "databricks://profile"),
    ],
)
def test_an_address_has_forward_slashes_and_keeps_its_drive(uri, root, expected):
    assert absolute_uri(uri, root) == expected


@pytest.mark.parametrize("uri", [r"C:\mlruns", r"c:\mlruns", "d:/mlruns", r"\\server\share\mlruns", r".\mlruns"])
def test_a_drive_is_no_scheme_of_a_server(uri, tmp_path):
    with pytest.raises(UsageError, match="is a folder"):
        Connection(uri, tmp_path)


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("data/sales.csv", True),
        (r"data\sales.csv", True),
        ("data sales/ü.csv", True),
        (r"C:\data\sales.csv", False),
        ("C:/data/sales.csv", False),
        ("C:sales.csv", False),
        (r"\sales.csv", False),
        ("/sales.csv", False),
        (r"\\server\share\sales.csv", False),
        (r"..\sales.csv", False),
        (r"data\..\..\sales.csv", False),
        (r"\\?\C:\sales.csv", False),
    ],
)
def test_a_file_that_goes_along_lies_below_the_project(path, inside):
    told = PureWindowsPath(path)
    assert lies_inside(told) is inside
    if inside:
        assert (ROOT / told).is_relative_to(ROOT)
        assert "\\" not in told.as_posix()


@pytest.mark.parametrize(
    "name",
    [
        r"..\evil",
        r"a\..\..\evil",
        r"C:\evil",
        "C:/evil",
        "C:evil",
        "a/b:stream",
        r"\evil",
        r"\\server\share\evil",
        "/evil",
        "../evil",
    ],
)
def test_an_archive_that_would_write_elsewhere_on_windows_is_refused_everywhere(name, tmp_path):
    source = tmp_path / "hostile.zip"
    listed = {name: {"sha256": sha256(b"x").hexdigest(), "size": 1}}
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr(LISTING, json.dumps({"schema": "forecastcore/backup/1", "files": listed}))
        archive.writestr(name, b"x")
    with pytest.raises(BackupError):
        unpack(source, tmp_path / "into")
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]


BLOCKER = f"""
import sys
import platformdirs  # it asks which system this is, and would take what is Windows' own there

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
for name in {ABSENT!r}:
    sys.modules.pop(name, None)
import os
for name in {GONE!r}:
    if hasattr(os, name):
        delattr(os, name)
from forecastcore.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["retrain", "--help"],
        ["completion", "powershell"],
        pytest.param(["-p", "{demo}", "validate", "--data"], marks=pytest.mark.slow),
        pytest.param(["-p", "{demo}", "--json", "plugins", "list"], marks=pytest.mark.slow),
    ],
)
def test_the_command_starts_without_what_windows_lacks(words, tmp_path):
    import forecastcore.demo

    demo = Path(forecastcore.demo.__file__).parent / "project"
    typed = [word.replace("{demo}", str(demo)) for word in words]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKER, *typed], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if "list" in words:
        assert {plugin["health"] for plugin in json.loads(done.stdout)["plugins"]} == {"ok"}
