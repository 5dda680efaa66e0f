"""What the locks install is under licences that somebody has looked at, and the bill of materials lists it all."""

import importlib.metadata
import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def sbom():
    spec = importlib.util.spec_from_file_location("sbom", ROOT / "scripts" / "sbom.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("lock", ["runtime.txt", "dev.txt"])
def test_every_line_of_a_lock_has_a_licence_of_the_list(sbom, lock):
    told = {one.name: sbom.licence(one.name) for one in sbom.locked(lock)}
    assert len(told) > 100
    assert {name: said for name, said in told.items() if not sbom.allowed(said)} == {}


def test_what_is_looked_up_by_hand_does_not_say_it_itself(sbom):
    def says(name):
        try:
            told = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            return ""
        return told.get("License-Expression") or sbom._expression(told)

    names = {one.name for lock in ("runtime.txt", "dev.txt") for one in sbom.locked(lock)}
    assert set(sbom.UNSAID) <= names
    assert {name: says(name) for name in sbom.UNSAID if says(name)} == {}


@pytest.mark.parametrize(
    ("expression", "may"),
    [
        ("MIT", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("Artistic-1.0-Perl OR GPL-2.0-or-later", True),
        ("GPL-3.0-only", False),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-3.0-only AND (Apache-2.0 OR MIT)", False),
        ("AGPL-3.0-or-later OR SSPL-1.0", False),
        ("LicenseRef-Proprietary", False),
        ("", False),
    ],
)
def test_an_expression_is_allowed_where_it_can_be_kept_to_with_the_list(sbom, expression, may):
    assert sbom.allowed(expression) is may


def test_the_bill_of_materials_is_cyclonedx_and_has_each_line_of_the_lock_with_its_hashes(sbom):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = sbom.bill()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    parts = {part["name"]: part for part in json.loads(text)["components"]}
    lines = {one.name: one for one in sbom.locked("runtime.txt")}
    assert parts.keys() == lines.keys()
    assert "numpy" in parts
    for name, part in parts.items():
        assert part["version"] == lines[name].version
        assert {one["content"] for one in part["hashes"]} == set(lines[name].hashes) != set()
        assert part["licenses"]
        assert part["purl"] == f"pkg:pypi/{name}@{part['version']}"
