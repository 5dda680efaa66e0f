"""A process that others are forked from, each to send one run away and wait for it: `python databricks_caller.py`.

Reads a JSON line per run: `{"root": …, "engine": {…}, "options": {…}}`. The fork stops itself before it begins, so
that faults can be aimed at its number, which is printed first; then comes how it ended.
"""

import json
import os
import signal
import sys
from pathlib import Path

from forecastcore.config.engines import DatabricksEngine
from forecastcore.engines.databricks.supervise import interruptible, supervise
from forecastcore.engines.databricks.supervisor import Supervisor
from forecastcore.engines.databricks.tickets import Tickets
from forecastcore.engines.databricks.workspace import Workspace
from forecastcore.errors import ForecastCoreError
from forecastcore.messages import RunRequest
from forecastcore.ports import Steps


def request(options):
    return RunRequest(command="predict", options=options, recipe="{}", version="0")


def call(root, engine, options):
    with interruptible():
        workspace = Workspace(pause=0.02)
        boss = Supervisor(workspace, Tickets(Path(root)), DatabricksEngine(**engine), "small")
        return supervise(boss, "predict", request(options), [], Steps())


def forked(asked):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.kill(os.getpid(), signal.SIGSTOP)
    try:
        call(**asked)
    except KeyboardInterrupt:
        os._exit(130)
    except ForecastCoreError as error:
        sys.stderr.write(f"{error}\n")
        os._exit(1)
    os._exit(0)


def say(number):
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def main():
    import databricks.sdk  # noqa: F401 - loaded once, before the forks

    for line in sys.stdin:
        child = os.fork()
        if not child:
            forked(json.loads(line))
        os.waitpid(child, os.WUNTRACED)
        say(child)
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    main()
