"""Writes new projects: `projects/` holds a commented project file per template, `data.py` makes their histories.

Every template validates, retrains and predicts as it is written; `databricks` only with its engine replaced.
"""

from __future__ import annotations

import json
import re
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

from forecastcore import scaffold
from forecastcore.errors import UsageError
from forecastcore.host import Host
from forecastcore.schema import json_schema
from forecastcore.templates import data

if TYPE_CHECKING:
    from pathlib import Path

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["TEMPLATES", "write"]

#: template -> what it is for
TEMPLATES = {
    "minimal": "three daily series and a model of your own: the least that is a project",
    "energy-load": "hourly load with temperature, holidays and a heatwave as a what-if",
    "retail-demand": "sixty daily series, many short or rare, with promotions that are known ahead",
    "databricks": "the minimal project with a job cluster as its engine",
    "plugin-team": "a project and, beside it, a distribution with the team's own model",
}
SCHEMA = "forecast.schema.json"
#: the sample plugin, where the template has one
PLUGIN = "plugins/my_model.py"
_DISTRIBUTION = "team-model"
_IGNORED = "mlflow.db*\n.mlflow.db.lock\nmlartifacts/\n.forecastcore/\nout/\n__pycache__/\n"


def write(template: str, folder: Path) -> Path:
    """Write a project: `forecast.yaml`, its schema for editors, data, a sample plugin and its test, a README.

    Args:
        template: one of `TEMPLATES`.
        folder: made where it is not there; its name becomes the project's.

    Returns:
        The folder, absolute.

    Raises:
        UsageError: there is no such template, or the folder holds something.
    """
    if template not in TEMPLATES:
        raise UsageError(f"there is no template {template!r}", hint=f"there are {', '.join(TEMPLATES)}")
    root = folder.absolute()
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root} is a file", hint="name a folder that is not there yet")
    if root.is_dir() and any(root.iterdir()):
        raise UsageError(f"{root} is not empty", hint="name a folder that is not there yet: nothing is written over")
    name = re.sub(r"[^a-z0-9]+", "-", root.name.lower()).strip("-")[:100] or template
    words = {"name": name, "schema": SCHEMA, "what": TEMPLATES[template], "template": template}
    files = {
        "forecast.yaml": Template(_text(f"{template}.yaml")).substitute(words),
        "README.md": Template(_text("README.md")).substitute(words, more=_text(f"{template}.md").rstrip()),
        ".gitignore": _IGNORED,
    }
    if template == "plugin-team":
        package = scaffold.write("model", _DISTRIBUTION, root)
        plugin = package / package.name.replace("-", "_") / "__init__.py"
    else:
        plugin = root / PLUGIN
        files[PLUGIN] = scaffold.rendered("model.py", "model", "my-model")
        files["tests/test_plugin.py"] = _text("test_plugin.py")
    for place, text in files.items():
        target = root / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    schema = json_schema(Host.discover(files=[plugin]))
    (root / SCHEMA).write_text(json.dumps(schema, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    data.write(template, root / "data")
    return root


def _text(name: str) -> str:
    return resources.files(__name__).joinpath("projects", f"{name}.template").read_text(encoding="utf-8")
