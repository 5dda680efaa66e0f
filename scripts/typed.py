"""How much of the public interface a type checker knows: the wheel is built, installed afresh, and asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
#: share of the exported symbols whose type is known
WANTED = 1.0


def completeness(folder: Path) -> tuple[float, list[str]]:
    """The score of the built wheel, and what is not known.

    Args:
        folder: for the wheel, and for what is unpacked of it.
    """
    uv = [str(BIN / "uv"), "--offline"]
    build = [*uv, "build", "--quiet", "--wheel", "--no-build-isolation", "--out-dir", str(folder), str(ROOT)]
    environment = {**os.environ, "VIRTUAL_ENV": str(BIN.parent)}
    subprocess.run(build, check=True, env=environment)
    (wheel,) = folder.glob("forecastcore-*.whl")
    target = folder / "lib"
    install = [*uv, "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True, env=environment)
    # The libraries it stands on are those of this environment, which pyright does not find behind a linked interpreter;
    # forecastcore itself is the wheel's.
    places = [str(target), sysconfig.get_path("purelib")]
    (folder / "pyrightconfig.json").write_text(json.dumps({"extraPaths": places}))
    ask = [str(BIN / "basedpyright"), "--verifytypes", "forecastcore", "--ignoreexternal", "--outputjson"]
    ask += ["--pythonpath", sys.executable]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    done = subprocess.run(ask, check=False, cwd=folder, env=environment, capture_output=True, text=True)
    told = json.loads(done.stdout)
    told_of = told["typeCompleteness"]
    unknown = [
        f"{symbol['name']}: {message['message'].splitlines()[0]}"
        for symbol in told_of["symbols"]
        if symbol["isExported"] and not symbol["isTypeKnown"]
        for message in symbol["diagnostics"][:1]
    ]
    if not told_of["modules"]:
        unknown += [message["message"] for message in told["generalDiagnostics"]]
    return float(told_of["completenessScore"]), unknown


def main() -> int:
    """Print the score; 1 where it is too low."""
    with tempfile.TemporaryDirectory() as folder:
        score, unknown = completeness(Path(folder))
    print(f"{score:.1%} of the public interface has a known type", *unknown, sep="\n  ")
    return 0 if score >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
