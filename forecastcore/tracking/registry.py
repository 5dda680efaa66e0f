"""Registered versions: a packed folder into MLflow's registry, and back out of it."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import warnings
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from forecastcore import __version__
from forecastcore.errors import StateError, TrackingError
from forecastcore.messages import ModelVersion
from forecastcore.tracking import connect

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as Registered
    from mlflow.models import ModelSignature

__all__ = ["Registry"]

#: Where the packed model lies in what MLflow stores: a `PythonModel`'s artifact of this name.
ARTIFACT: Final = "model"
PREFIX: Final = "forecastcore_"  # Unity Catalog takes no dots in a tag's name
#: Unity Catalog's limit for a tag's value.
TAG_CHARS: Final = 1000
#: the digest of a version that only uses its number up
USED_UP: Final = "used-up"
SERVED: Final = Path(__file__).with_name("served.py")


class Registry:
    """The versions of one registered model."""

    def __init__(self, connection: connect.Connection, model: str) -> None:
        self._connection = connection
        self.model = model

    def add(
        self, run_id: str, folder: Path, example: tuple[pd.DataFrame, pd.DataFrame], metrics: Mapping[str, float]
    ) -> ModelVersion:
        """Store a packed folder under a run, and register it; it loads with unpickling switched off.

        Raises:
            StateError: the folder is not sealed, or is not what was sealed.
        """
        given, forecast = example
        with _staged(folder) as (packed, digest):
            tags = _tags(digest, _about(packed), metrics)
            return self._registered(run_id, packed, given, _signature(given, forecast), tags)

    def prospect(self, folder: Path, metrics: Mapping[str, float]) -> ModelVersion:
        """The version that `add` will make of a packed folder; it has no number yet.

        Raises:
            StateError: the folder is not sealed, or is not what was sealed.
        """
        with _staged(folder) as (packed, digest):
            return version_of("", _tags(digest, _about(packed), metrics), int(time.time() * 1000), None)

    def added(self, run_id: str, digest: str) -> ModelVersion | None:
        """The version that a run registered of a packed folder; None where it did not."""
        return next((one for one in self.versions() if (one.run_id, one.digest) == (run_id, digest)), None)

    def add_again(self, run_id: str, folder: Path, shape: Mapping[str, Any], was: ModelVersion) -> ModelVersion:
        """Register a packed folder that was registered before, elsewhere; it gets the next number.

        Args:
            run_id: the run that stores it now.
            folder: the packed folder.
            shape: what `shape` gave.
            was: the version as it was; it keeps its digest, its run's id and its birth.

        Raises:
            StateError: the folder is not what was registered.
        """
        import pandas as pd
        from mlflow.models import ModelSignature

        given = pd.DataFrame(shape["example"]["data"], columns=shape["example"]["columns"])
        signature = ModelSignature.from_dict(shape["signature"])
        with _staged(folder) as (packed, digest):
            if digest != was.digest:
                raise StateError(f"the files of version {was.version} are not those that were registered")
            tags = _tags(digest, _about(packed), was.metrics)
            kept = {PREFIX + "run": was.run_id, PREFIX + "created_at": was.created_at.isoformat()}
            return self._registered(run_id, packed, given, signature, {**tags, **kept})

    def shape(self, version: ModelVersion, into: Path) -> dict[str, Any]:
        """Signature and input example of a version, as JSON takes them."""
        got = self._connection.call(
            f"fetch version {version.version}", lambda client: self._got(client, version, into, "")
        )
        from mlflow.models import Model

        model = Model.load(got)
        about: Any = model.saved_input_example_info
        text = (Path(got) / about["artifact_path"]).read_text(encoding="utf-8")
        example = json.loads(text, parse_constant=lambda _: None)  # MLflow writes NaN, which is no JSON
        return {"signature": model.signature.to_dict() if model.signature else {}, "example": example}

    def use_up(self, run_id: str) -> None:
        """Give the next number to nothing, as one has that was deleted; it is seen until it is dropped."""

        def used(client: MlflowClient) -> None:
            source = str(client.get_run(run_id).info.artifact_uri)
            client.create_model_version(self.model, source, run_id=run_id, tags={PREFIX + "digest": USED_UP})

        self._connection.call("use a number up", used)

    def drop(self, number: str) -> None:
        """Delete one version; its number is not given again."""
        self._asked("delete a version", lambda client: client.delete_model_version(self.model, number))

    def forget(self) -> None:
        """Delete the registered model with all its versions; their files stay where they are."""
        self._asked("delete the registered model", lambda client: client.delete_registered_model(self.model))

    def _registered(
        self, run_id: str, packed: Path, given: pd.DataFrame, signature: ModelSignature, tags: Mapping[str, str]
    ) -> ModelVersion:
        saved = packed.parent / "mlflow"
        model_id = self._connection.call("create the model", lambda client: _announce(client, run_id))
        _save(saved, packed, given, signature, model_id, run_id)
        self._connection.call("store the model", lambda client: _upload(client, model_id, saved))
        made = self._connection.call(
            "register the model",
            lambda client: client.create_model_version(
                self.model, self._source(client, model_id), run_id=run_id, tags=dict(tags), model_id=model_id
            ),
        )
        return self._version(made)

    def _source(self, client: MlflowClient, model_id: str) -> str:
        # a database registry would look a `models:/` source up in MLflow's global store, not in ours
        return (
            f"models:/{model_id}"
            if self._connection.databricks
            else client.get_logged_model(model_id).artifact_location
        )

    def versions(self) -> list[ModelVersion]:
        """All versions, newest first, without aliases."""
        found = self._connection.call("list the versions", self._listed)
        return sorted((self._version(self._whole(one)) for one in found), key=lambda v: int(v.version), reverse=True)

    def version(self, number: str) -> ModelVersion | None:
        """One version by its number; None where there is none."""
        found = self._asked("read a version", lambda client: client.get_model_version(self.model, number))
        return None if found is None else self._version(found)

    def aliases(self) -> dict[str, str]:
        """Alias → version, as the registry has them."""
        model = self._asked("read the registered model", lambda client: client.get_registered_model(self.model))
        return {} if model is None else {str(alias): str(number) for alias, number in model.aliases.items()}

    def point(self, alias: str, number: str | None) -> None:
        """Set an alias, or take it away; a version that was deleted meanwhile gets none."""
        if number is None:
            self._asked("take an alias away", lambda c: c.delete_registered_model_alias(self.model, alias))
        else:
            self._asked("set an alias", lambda c: c.set_registered_model_alias(self.model, alias, number))

    def download(self, version: ModelVersion, into: Path) -> Path:
        """Bring a version's packed folder into `into`; nothing of it is parsed.

        Raises:
            StateError: the version holds no packed folder.
        """
        got = self._connection.call(f"fetch version {version.version}", lambda client: self._got(client, version, into))
        if not Path(got).is_dir():
            raise StateError(f"version {version.version} of {self.model} holds no packed model", hint="retrain")
        return Path(got)

    def _got(
        self, client: MlflowClient, version: ModelVersion, into: Path, part: str = f"/artifacts/{ARTIFACT}"
    ) -> str:
        from mlflow.artifacts import download_artifacts

        place = f"models:/{self.model}/{version.version}"
        if not self._connection.databricks:  # elsewhere MLflow would look a `models:/` place up in its global store
            place = client.get_model_version_download_uri(self.model, version.version)
        return download_artifacts(
            f"{place.rstrip('/')}{part}",
            dst_path=str(into),
            tracking_uri=self._connection.uri,
            registry_uri=self._connection.registry,
        )

    def _listed(self, client: MlflowClient) -> list[Registered]:
        pages = [client.search_model_versions(f"name='{self.model}'", max_results=200)]
        while token := pages[-1].token:
            pages.append(client.search_model_versions(f"name='{self.model}'", max_results=200, page_token=token))
        return [version for page in pages for version in page]

    def _asked(self, what: str, work: Any) -> Any:
        try:
            return self._connection.call(what, work, unless=connect.absent)
        except Exception as error:
            if isinstance(error, TrackingError) or not connect.absent(error):
                raise
            return None

    def _whole(self, found: Registered) -> Registered:
        # Unity Catalog leaves the tags out of a listing
        if found.tags or not self._connection.databricks:
            return found
        return self._connection.call("read a version", lambda c: c.get_model_version(self.model, found.version))

    def _version(self, found: Registered) -> ModelVersion:
        return version_of(str(found.version), found.tags, found.creation_timestamp, found.run_id)


def version_of(number: str, tags: Mapping[str, str], made: int | None, run_id: str | None) -> ModelVersion:
    """A registered version from what MLflow keeps of it.

    Args:
        number: its own.
        tags: of the version.
        made: when, in milliseconds since 1970.
        run_id: of the run that logged it.
    """
    said = {key.removeprefix(PREFIX): value for key, value in tags.items() if key.startswith(PREFIX)}
    return ModelVersion(
        version=number,
        model=said.get("model", ""),
        params=_json_object(said.get("params", "{}")),
        created_at=_instant(said.get("created_at")) or datetime.fromtimestamp((made or 0) / 1000, UTC),
        metrics=_numbers(_json_object(said.get("metrics", "{}"))),
        run_id=said.get("run") or run_id or "",
        digest=said.get("digest", ""),
        trained_until=_instant(said.get("trained_until")),
    )


@contextmanager
def _staged(folder: Path) -> Iterator[tuple[Path, str]]:
    """A private copy of the folder under the artifact's name, and its digest: what is checked is what is stored."""
    from forecastcore.state import verify

    with tempfile.TemporaryDirectory(prefix="forecastcore-") as private:
        packed = Path(private, ARTIFACT)
        shutil.copytree(folder, packed, symlinks=True)
        yield packed, verify(packed)


def _about(packed: Path) -> dict[str, Any]:
    """What the packed model says of itself."""
    try:
        about = json.loads((packed / "model.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StateError(f"{packed.name} has no readable model.json", hint="pack the model again") from error
    return about if isinstance(about, dict) else {}


def _announce(client: MlflowClient, run_id: str) -> str:
    experiment = client.get_run(run_id).info.experiment_id
    made = client.create_logged_model(experiment, name=ARTIFACT, source_run_id=run_id, model_type="forecast")
    return str(made.model_id)


def _save(
    saved: Path,
    packed: Path,
    given: pd.DataFrame,
    signature: ModelSignature,
    model_id: str,
    run_id: str,
) -> None:
    """Write the models-from-code folder. MLflow's own `log_model` would go through its global state and guess."""
    requirements = map(str, _about(packed).get("requirements", ()))
    with warnings.catch_warnings():
        # advice on type hints in MLflow's own modules
        warnings.simplefilter("ignore", UserWarning)
        from mlflow.models import Model
        from mlflow.pyfunc import save_model

        save_model(
            str(saved),
            python_model=str(SERVED),
            artifacts={ARTIFACT: str(packed)},
            signature=signature,
            input_example=given,
            pip_requirements=[f"forecastcore=={__version__}", *requirements],
            mlflow_model=Model(run_id=run_id, model_id=model_id, model_uuid=model_id),
        )


def _signature(given: pd.DataFrame, forecast: pd.DataFrame) -> ModelSignature:
    """Inputs and outputs, which Unity Catalog wants both; MLflow's `datetime` would refuse instants with a zone."""
    from mlflow.models import ModelSignature, infer_signature
    from mlflow.types.schema import AnyType, ColSpec, Schema

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # advice on integer columns
        inferred = infer_signature(given, forecast)
    anything: Any = AnyType
    loose = {"ds": anything()}
    columns: list[Any] = [
        ColSpec(loose.get(column.name, column.type), column.name, required=column.required and column.name != "y")
        for column in inferred.inputs
    ]
    return ModelSignature(inputs=Schema(columns), outputs=inferred.outputs)


def _upload(client: MlflowClient, model_id: str, saved: Path) -> None:
    from mlflow.entities import LoggedModelOutput

    try:
        client.log_model_artifacts(model_id, str(saved))
    except BaseException:
        client.finalize_logged_model(model_id, "FAILED")
        raise
    client.finalize_logged_model(model_id, "READY")
    run_id = client.get_logged_model(model_id).source_run_id
    client.log_outputs(str(run_id), [LoggedModelOutput(model_id, step=0)])


def _tags(digest: str, about: Mapping[str, Any], metrics: Mapping[str, float | None]) -> dict[str, str]:
    family = about.get("model") or about.get("family") or ""
    tags = {
        "digest": digest,
        "model": str(family),
        "trained_until": str(about.get("trained_until") or ""),
        "metrics": _fitting(about.get("metrics") or metrics),
        "params": _fitting(_shown(about)),
    }
    return {PREFIX + key: value[:TAG_CHARS] for key, value in tags.items() if value}


def _shown(about: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a version, and of an ensemble how much each member counts."""
    weights = {member["name"]: round(member["weight"], 4) for member in about.get("members") or ()}
    return {**(about.get("params") or {}), **({"weights": weights} if weights else {})}


def _fitting(values: Mapping[str, Any]) -> str:
    """JSON of as many values as a tag holds, in their order."""
    kept: dict[str, Any] = {}
    for name, value in values.items():
        if len(json.dumps({**kept, name: value})) > TAG_CHARS:
            break
        kept[name] = value
    return json.dumps(kept)


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: number for name, number in values.items() if isinstance(number, int | float)}


def _instant(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
