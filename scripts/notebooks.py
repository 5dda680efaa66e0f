"""The example notebooks, one for each template, executed: `python scripts/notebooks.py [TEMPLATE …]` writes them."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from forecastcore.templates import TEMPLATES

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples" / "notebooks"
#: seconds for a cell; a retrain of the largest template takes a minute or two
_PATIENCE = 1200


def notebook(template: str) -> Any:
    """The cells for a template, not executed."""
    cells = [
        new_markdown_cell(
            f"# {template}\n\nFrom the template to a picture, {TEMPLATES[template]}. No server is needed."
        ),
        new_code_cell(
            "import forecastcore as fc\nfrom forecastcore.cli import main\n\n"
            f'main(["init", "my-project", "--template", "{template}"])'
        ),
        new_markdown_cell(
            "All on this machine, in this process; leave the override out to use the project's own engine."
        ),
        new_code_cell(
            'project = fc.Project.load("my-project", overrides=["engine={type: local, workers: 0}"])\nproject'
        ),
        new_markdown_cell("Learn: every candidate on the same past origins, the best against the champion."),
        new_code_cell("report = fc.retrain(project)\nreport"),
        new_code_cell("report.leaderboard"),
        new_markdown_cell("Forecast with what was stored, and deliver."),
        new_code_cell("fc.predict(project)"),
        new_code_cell(
            'table = fc.forecasts(project)\ntable[["unique_id", "ds", "forecast", "q10", "q90", "status"]].head()'
        ),
        new_code_cell('table.plot(table["unique_id"].iloc[0])'),
    ]
    for number, cell in enumerate(cells):
        cell["id"] = f"{template}-{number}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def executed(made: Any, folder: Path) -> Any:
    """The same with what its cells answer, run in a folder.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    NotebookClient(made, timeout=_PATIENCE, resources={"metadata": {"path": str(folder)}}).execute()
    for cell in made["cells"]:
        cell["metadata"].pop("execution", None)
        if cell["cell_type"] == "code":
            cell["outputs"] = [out for out in cell["outputs"] if out.get("name") != "stderr"]
    told = nbformat.writes(made).replace(str(folder), "/home/you")
    return nbformat.reads(told, as_version=4)


def main() -> None:
    """Execute and write the notebooks that are named, or all."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for template in sys.argv[1:] or TEMPLATES:
        with tempfile.TemporaryDirectory() as folder:
            made = executed(notebook(template), Path(folder).resolve())
        (FOLDER / f"{template}.ipynb").write_text(nbformat.writes(made) + "\n", encoding="utf-8")
        print(f"{template}: executed")


if __name__ == "__main__":
    main()
