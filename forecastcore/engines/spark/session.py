"""The Spark session that an engine works in, and what Spark says when it fails."""

from __future__ import annotations

import os
import re
import shutil
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from forecastcore.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import SparkSession

__all__ = ["check_session", "interrupt", "mend", "open_session", "said", "tagged"]

#: what is in the environment where a session is there to be had: on Databricks, under spark-submit, with a server named
_SESSION_THERE = ("DATABRICKS_RUNTIME_VERSION", "PYSPARK_GATEWAY_PORT", "SPARK_REMOTE")
#: of a session on this machine: it serves nobody else, and what its small jobs say is not worth a page
_LOCAL = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.sql.session.timeZone": "UTC",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
_JAVA = "install Java 17 or newer, such as Debian's default-jre-headless"
_INSTALL = "pip install 'forecastcore[spark]'; on Databricks it is there"
_WORDS = 300


def open_session(master: str | None, remote: str | None, conf: Mapping[str, Any]) -> SparkSession:
    """The session that settings ask for; one that is open in this process is used again.

    Args:
        master: where to run a session of our own; None for no such.
        remote: a Spark Connect server; None for no such.
        conf: Spark settings of a session made here.

    Raises:
        EngineError: it cannot be had, or the server does not answer.
    """
    check_session(master, remote)
    from pyspark.sql import SparkSession

    if master is None and remote is None and (active := SparkSession.getActiveSession()) is not None:
        return active
    builder: Any = SparkSession.builder
    local = _is_local(master)
    if local:
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    if master is not None:
        # Spark's workers would be started with whatever python3 is on their PATH.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        builder = builder.master(master)
    if remote is not None:
        builder = builder.remote(remote)
    for key, value in {**(_LOCAL if local else {}), **conf}.items():
        builder = builder.config(key, value)
    try:
        session: SparkSession = builder.getOrCreate()
    except Exception as error:
        raise EngineError(f"no Spark session can be had: {said(error)}", hint=mend(str(error), remote)) from error
    return session


def check_session(master: str | None, remote: str | None) -> None:
    """See what can be seen before a session is opened; for the arguments see there.

    Raises:
        EngineError: pyspark or Java is not there, or no session is named and none is there.
    """
    if find_spec("pyspark") is None:
        raise EngineError("engine.type spark needs pyspark, which is not installed", hint=_INSTALL)
    if _is_local(master) and not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        raise EngineError("a local Spark needs Java, and there is none", hint=_JAVA)
    if master is None and remote is None and not any(name in os.environ for name in _SESSION_THERE):
        from pyspark.sql import SparkSession

        if SparkSession.getActiveSession() is None:
            raise EngineError(
                "engine.type spark names no session, and none is active here",
                hint="write engine: {type: spark, master: 'local[2]'}, or remote: sc://host:15002",
            )


def _is_local(master: str | None) -> bool:
    return master is not None and master.startswith("local")


def tagged(spark: SparkSession, tag: str) -> None:
    """Mark what this thread has Spark do from now on, so that it can be interrupted."""
    if hasattr(spark, "addTag"):  # a session of Spark 3.5 that is not Connect's has none
        spark.addTag(tag)


def interrupt(spark: SparkSession, tag: str, *, own: bool) -> None:
    """End what is marked and under way; of a session that was made here, all of it.

    In a process with its own Spark a mark is known to the thread that set it, and to no other.
    """
    if hasattr(spark, "interruptAll"):
        spark.interruptAll() if own else spark.interruptTag(tag)


def mend(words: str, remote: str | None = None) -> str | None:
    """What to do about what Spark says."""
    if "JAVA" in words:
        return _JAVA
    if "No module named" in words:
        return "Spark's workers need forecastcore and the project's plugins installed, as the driver has them"
    return f"is a Spark Connect server at {remote}?" if remote is not None else None


def said(error: Exception) -> str:
    """The one line of what Spark says that tells the cause."""
    words = str(error)
    causes = re.findall(r"^(?:: |Caused by: )?(?:[\w$]+\.)*([\w$]+(?:Error|Exception): .+)$", words, re.MULTILINE)
    named = [cause for cause in causes if ": [" in cause]  # Spark's own errors have a class, such as [TABLE_NOT_FOUND]
    line = next(iter([*named, *reversed(causes), *words.strip().splitlines()]), type(error).__name__)
    return line.strip()[:_WORDS]
