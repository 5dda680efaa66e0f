"""What is registered: a fitted model as a folder of data, with all it takes to predict.

```
model.json      the manifest: which plugin, which parameters, which grid, trained until when
conformal.npz   how far quantiles lie from the point forecast
blend.npz       of an ensemble: how its members are put together
state/00000/    learned parameters of a part of the series (see `state`)
digests.json    SHA-256 of every file; its own digest is in the promotion ledger
```
"""

from __future__ import annotations

import io
import json
import re
import tempfile
import zipfile
from dataclasses import asdict, dataclass, replace
from datetime import datetime  # noqa: TC003 - pydantic reads the types at run time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
from pydantic import Field, ValidationError

from forecastcore import __version__, guard, state
from forecastcore.api import Task
from forecastcore.ensemble import Blend, merge
from forecastcore.errors import DataError, MissingColumnsError, PluginError, StateError
from forecastcore.frames import offsets, on_the_grid
from forecastcore.guard import Part
from forecastcore.intervals import Conformal, down_to_zero, least, noise, up_to_zero
from forecastcore.messages import Message, WorstSeries
from forecastcore.parcel import wrap
from forecastcore.segments import Segment
from forecastcore.timegrid import TimeGrid

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    import numpy.typing as npt

    from forecastcore.host import Host, Offer
    from forecastcore.state.digests import Verified

    Floats = npt.NDArray[np.float64]

T = TypeVar("T")

#: the files that `Package.outline` reads
OUTLINE = frozenset({"model.json", "conformal.npz", "blend.npz"})

__all__ = ["OUTLINE", "Fit", "Manifest", "MemberStamp", "Package", "PluginStamp", "pack_part"]


class PluginStamp(Message):
    """Which plugin made a model."""

    distribution: str
    version: str
    digest: str


class MemberStamp(Message):
    """A member of an ensemble; one that counts for no series has no parts, and is not needed to predict."""

    name: str
    model: str
    params: dict[str, Any]
    segments: str | None = None
    plugin: PluginStamp
    weight: float
    parts: tuple[str, ...] = ()


class Manifest(Message):
    """The first page of a packed model."""

    schema_: str = Field("forecastcore/model/1", alias="schema")
    project: str
    name: str
    model: str
    params: dict[str, Any]
    segments: str | None = None
    plugin: PluginStamp
    requirements: tuple[str, ...] = ()
    trained_until: datetime
    frequency: str
    timezone: str
    phase_ns: int
    horizon: int
    quantiles: tuple[float, ...]
    season: int
    seasons: tuple[int, ...]
    covariates: tuple[str, ...]
    seed: int = 0
    max_missing: float = 1.0
    gaps: str = "fill"
    metrics: dict[str, float | None] = Field(default_factory=dict)
    fallback_spread: tuple[float, ...] = ()
    worst: tuple[WorstSeries, ...] = ()
    parts: tuple[str, ...] = ()
    members: tuple[MemberStamp, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of a packed model, its digest checked.

        Raises:
            StateError: the folder is not what was stored, or a newer release stored it.
        """
        return _parsed("model.json", _manifest_from, state.open_verified(folder, wanted="model.json".__eq__))

    def to_json(self) -> dict[str, Any]:
        """As it is stored: without `segments` where there are none, which releases before them do not know."""
        document = super().to_json()
        for one in (document, *document["members"]):
            if one["segments"] is None:
                del one["segments"]
        return document

    @property
    def models(self) -> Sequence[Manifest | MemberStamp]:
        """What was fitted: the model itself; of an ensemble, the members that count."""
        return [member for member in self.members if member.parts] or [self]

    @property
    def grid(self) -> TimeGrid:
        """The time grid that the model was trained on."""
        return TimeGrid(self.frequency, self.timezone, pd.Timedelta(self.phase_ns, "ns"))

    def differs(self, task: Task, grid: TimeGrid) -> str:
        """In what a task is another question than the one trained for, in words; empty where it is the same."""
        asked = {
            "frequency": ((self.frequency, self.phase_ns), (grid.frequency, grid.phase.value)),
            "horizon": (self.horizon, task.horizon),
            "quantiles": (list(self.quantiles), list(task.quantiles)),
            "covariates": (list(self.covariates), list(task.covariates)),
        }
        changed = [
            f"{key} {then}, the project file now says {now}" for key, (then, now) in asked.items() if then != now
        ]
        return f"was trained with {changed[0]}" if changed else ""

    def task(self, origin: pd.Timestamp) -> Task:
        """The task of predicting from an origin."""
        return Task(
            origin=origin,
            frequency=self.frequency,
            horizon=self.horizon,
            quantiles=self.quantiles,
            season=self.season,
            seasons=self.seasons,
            timezone=self.timezone,
            covariates=self.covariates,
            seed=self.seed,
        )


def _manifest_from(data: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        unknown = [".".join(map(str, one["loc"])) for one in error.errors() if one["type"] == "extra_forbidden"]
        if not unknown:
            raise
        made = [name for name in json.loads(data).get("requirements", ()) if name.startswith("forecastcore==")]
        words = f"the model was stored by a newer forecastcore than {__version__}, which does not know {unknown[0]}"
        hint = f"install {made[0]}, or retrain with this one" if made else "install that, or retrain with this one"
        raise StateError(words, hint=hint) from error


def pack_part(part: Part) -> bytes:
    """Learned parameters of some of the series as a parcel of the files below `state/00000`."""
    about = {"ids": part.ids, "failures": dict(part.failures), "fitted": part.fitted is not None}
    if part.segment is not None:
        about["segment"] = asdict(part.segment)
    with tempfile.TemporaryDirectory(prefix="forecastcore-") as scratch:
        folder = Path(scratch)
        (folder / "part.json").write_text(json.dumps(about, sort_keys=True), encoding="utf-8")
        if part.fitted is not None:
            state.save(part.fitted, folder / "fitted")
        return wrap(folder)


def _write_conformal(conformal: Conformal, path: Path) -> None:
    with path.open("wb") as out:
        np.savez(
            out,
            levels=np.asarray(conformal.levels),
            offsets=conformal.offsets,
            plain=conformal.plain,
            relative=np.asarray(conformal.relative),
            ids=np.asarray(conformal.ids, dtype=np.str_),
            sizes=conformal.sizes,
            scales=conformal.scales,
            noise=conformal.noise,
            season=np.asarray(conformal.season),
            place=np.asarray(-1 if conformal.place is None else conformal.place),
        )


def _conformal_from(data: bytes) -> Conformal:
    with np.load(io.BytesIO(data), allow_pickle=False) as kept:
        return Conformal(
            levels=tuple(kept["levels"].tolist()),
            offsets=kept["offsets"],
            plain=kept["plain"],
            relative=float(kept["relative"]),
            ids=kept["ids"].tolist(),
            sizes=kept["sizes"],
            scales=kept["scales"],
            noise=kept["noise"],
            season=int(kept["season"]),
            place=int(kept["place"]) if kept["place"] >= 0 else None,
        )


def _blend_bytes(blend: Blend) -> bytes:
    out = io.BytesIO()
    np.savez(
        out,
        method=np.asarray(blend.method, dtype=np.str_),
        weights=blend.weights,
        ids=np.asarray(list(blend.choices), dtype=np.str_),
        choices=np.asarray(list(blend.choices.values()), dtype=np.int64),
    )
    return out.getvalue()


def _blend_from(data: bytes) -> Blend:
    with np.load(io.BytesIO(data), allow_pickle=False) as kept:
        choices = dict(zip(kept["ids"].tolist(), kept["choices"].tolist(), strict=True))
        return Blend(str(kept["method"]), kept["weights"], choices)  # type: ignore[arg-type]  # sealed by `seal`


@dataclass(frozen=True)
class Fit:
    """A fitted model of a package.

    Attributes:
        offer: the plugin that made it, as installed here.
        parts: learned parameters.
    """

    offer: Offer
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Package:
    """A fitted model with its manifest, or an ensemble of several, ready to predict.

    Attributes:
        manifest: what it is.
        fits: the fitted model; of an ensemble, those that count.
        conformal: quantiles for rows that the model gives none.
        blend: of an ensemble, how `fits` are put together.
        digest: of the stored folder.
    """

    manifest: Manifest
    fits: tuple[Fit, ...]
    conformal: Conformal
    blend: Blend | None = None
    digest: str = ""

    @property
    def uses_covariates(self) -> bool:
        """Whether covariates change the forecast."""
        return any(fit.offer.spec.capabilities.covariates for fit in self.fits)

    @staticmethod
    def seal(folder: Path, manifest: Manifest, conformal: Conformal, blend: Blend | None = None) -> str:
        """Complete a folder that holds `state/…` already, and return its digest."""
        if blend is not None:
            (folder / "blend.npz").write_bytes(_blend_bytes(blend))
        (folder / "model.json").write_text(json.dumps(manifest.to_json(), indent=1, sort_keys=True), encoding="utf-8")
        _write_conformal(conformal, folder / "conformal.npz")
        return state.seal(folder)

    @classmethod
    def load(cls, folder: Path, host: Host | None = None, digest: str | None = None) -> Package:
        """Read a packed model; every byte is checked against `digests.json` before it is parsed.

        Args:
            folder: as `seal` left it.
            host: where plugins come from; default: all installed ones.
            digest: what the folder's digest must be, where it is known.

        Raises:
            StateError: the folder is not what was stored.
            PluginError: a plugin is missing or of another major version.
        """
        outline = cls.outline(folder, host, digest)
        return outline.with_parts(folder, [name for model in outline.manifest.models for name in model.parts])

    @classmethod
    def outline(cls, folder: Path, host: Host | None = None, digest: str | None = None) -> Package:
        """Read a packed model without its learned parameters; arguments and errors are those of `load`."""
        from forecastcore.host import Host

        files = state.open_verified(folder, digest, OUTLINE.__contains__)
        manifest = _parsed("model.json", _manifest_from, files)
        host = host or Host.discover()
        fits = tuple(Fit(_offer(model.model, model.plugin, host), ()) for model in manifest.models)
        blend = _parsed("blend.npz", _blend_from, files) if manifest.members else None
        return cls(manifest, fits, _parsed("conformal.npz", _conformal_from, files), blend, files.digest)

    def with_parts(self, folder: Path, names: Collection[str]) -> Package:
        """The same with some of its learned parameters read from its folder.

        Raises:
            StateError: the folder is not what was stored.
        """
        files = state.open_verified(folder, self.digest, _below([f"state/{name}" for name in names]))
        fits = tuple(
            Fit(fit.offer, tuple(_part(files.sub(f"state/{n}"), fit.offer) for n in model.parts if n in names))
            for model, fit in zip(self.manifest.models, self.fits, strict=True)
        )
        return replace(self, fits=fits)

    def series_of(self, folder: Path, only: Collection[str] | None = None) -> dict[str, Part]:
        """Which series each part takes, by its name; nothing of what was learned.

        Args:
            folder: as `seal` left it, or with some of the parts.
            only: names of the parts that are there; default: all.

        Raises:
            StateError: the folder is not what was stored.
        """
        every = [name for model in self.manifest.models for name in model.parts]
        names = every if only is None else [name for name in every if name in only]
        listed = {f"state/{name}/part.json" for name in names}
        files = state.open_verified(folder, self.digest, listed.__contains__)
        about = {name: json.loads(files.read(f"state/{name}/part.json")) for name in names}
        return {name: _reach(said) for name, said in about.items()}

    def forecast(
        self,
        context: pd.DataFrame,
        future: pd.DataFrame,
        origin: pd.Timestamp,
        barred: Mapping[str, str] | None = None,
        *,
        as_made: bool = False,
    ) -> pd.DataFrame:
        """Apply the stored parameters to newer data.

        Args:
            context: the frame contract, none later than `origin`.
            future: `unique_id, ds, step, <covariates>`, sorted.
            origin: last instant of the context, UTC.
            barred: series that the model must not be given, and why.
            as_made: leave forecasts as the model makes them, to compare it (see `up_to_zero`).

        Returns:
            `unique_id, ds, step, forecast, q10 …, model, status, reason`, in the order of `future`.
        """
        task = self.manifest.task(origin)
        screened = {**(barred or {}), **guard.screen(context, self.manifest.max_missing)}
        answers = [guard.answer(fit.offer, fit.parts, context, future, task, screened) for fit in self.fits]
        answer = answers[0] if self.blend is None else merge(self.blend, answers, future["unique_id"].tolist())
        made = np.isfinite(answer.forecast)
        ids, steps = future["unique_id"].to_numpy()[made].tolist(), future["step"].to_numpy()[made]
        changes, smallest, largest = self._seen(context, ids)
        quantiles = self.conformal.quantiles(
            ids,
            steps,
            answer.forecast[made],
            answer.quantiles[made],
            changes,
            self.manifest.grid.number(origin) % task.season,
        )
        answer.quantiles[made] = down_to_zero(quantiles, self.conformal.levels, smallest)
        if not as_made:
            answer.forecast[made] = up_to_zero(answer.forecast[made], smallest, largest)
        spread = np.asarray(self.manifest.fallback_spread) if self.manifest.fallback_spread else None
        return guard.with_fallback(answer, context, future, task, model=self.manifest.model, spread=spread)

    def _seen(self, context: pd.DataFrame, ids: Sequence[str]) -> tuple[dict[str, float], Floats, Floats]:
        """The `noise` of each series by its name, and of each named one the `least` and the largest value."""
        starts, y = offsets(context), context["y"].to_numpy()
        there, seasons = context["unique_id"].to_numpy()[starts[:-1]], self.manifest.seasons or (self.manifest.season,)
        changes = noise(y, starts, starts[1:, None], seasons, self.manifest.horizon)[:, 0]
        place = pd.Index(there).get_indexer(pd.Index(ids, dtype=object))
        extremes = least(y, starts, starts[1:, None])[:, 0], np.fmax.reduceat(y, starts[:-1])
        smallest, largest = (np.where(place >= 0, one[place], 0.0) for one in extremes)
        return dict(zip(there.tolist(), changes.tolist(), strict=True)), smallest, largest

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Forecast from one long frame, as MLflow's `pyfunc` hands it over.

        Args:
            frame: `unique_id, ds, y, <covariates>`; history with `y`, then the rows asked for, whose `y` is null. Times
                without a zone are UTC.

        Returns:
            `unique_id, ds, step, forecast, q10 …, model, status, reason` for the rows asked for.

        Raises:
            DataError: the frame lacks a column, holds no history or a row twice, or asks for what the model cannot say.
        """
        rows = self._rows(frame)
        origin = rows.loc[rows["y"].notna(), "ds"].max()
        if origin is pd.NaT:
            raise DataError("the frame holds no history", hint="give past rows with y, and future rows without")
        grid, horizon = self.manifest.grid, self.manifest.horizon
        future = rows[rows["ds"] > origin].drop(columns="y").reset_index(drop=True)
        step = grid.ahead(origin, horizon).get_indexer(pd.DatetimeIndex(future["ds"])) + 1
        if not step.all():
            raise DataError(
                f"{int((step == 0).sum())} of the rows asked for are not among the {horizon} steps of {grid.frequency}"
                f" after {origin}, such as {future['ds'].iloc[int(np.argmin(step))]}",
                hint="ask for instants of the grid, no later than the model's horizon",
            )
        future.insert(2, "step", step.astype(np.int32))
        context = on_the_grid(rows[rows["ds"] <= origin].reset_index(drop=True), grid, origin, self.manifest.gaps)
        return self.forecast(context, future, origin)

    def _rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The columns that matter, typed and sorted."""
        columns = ["unique_id", "ds", "y", *self.manifest.covariates]
        missing = [name for name in columns if name not in frame]
        if missing:
            raise MissingColumnsError(missing, list(frame.columns), "the frame")
        numbers = frame[columns[2:]].astype(float)
        ds = pd.to_datetime(frame["ds"], utc=True).astype("datetime64[ns, UTC]")
        rows = numbers.assign(unique_id=frame["unique_id"].astype(str), ds=ds)[columns]
        twice = int(rows.duplicated(["unique_id", "ds"]).sum())
        if twice:
            raise DataError(f"{twice} rows stand twice in the frame", hint="give each series and instant once")
        return rows.sort_values(["unique_id", "ds"], kind="stable", ignore_index=True)


def _parsed(name: str, parse: Callable[[bytes], T], files: Verified) -> T:
    """What a file of the core's own says; whoever sealed it may have put anything into it.

    Raises:
        StateError: it is not what the core writes.
    """
    data = files.read(name)
    try:
        return parse(data)
    except (ValueError, TypeError, KeyError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise StateError(f"{name} of the stored model is not what forecastcore writes", hint="retrain") from error


def _below(folders: Sequence[str]) -> Callable[[str], bool]:
    starts = tuple(f"{folder}/" for folder in folders)
    return lambda name: name.startswith(starts)


def _offer(model: str, stamp: PluginStamp, host: Host) -> Offer:
    install = f"pip install '{stamp.distribution}=={stamp.version}'"
    try:
        offer = host.offer("model", model)
    except PluginError as error:
        raise PluginError(
            f"the stored model needs it, and it is not there: {error.message}", plugin=model, hint=install
        ) from error
    if _major(offer.version) != _major(stamp.version):
        message = f"the stored model was made by version {stamp.version}, here is {offer.version}"
        raise PluginError(message, plugin=model, version=offer.version, hint=install)
    _check_same_bytes(model, stamp, offer)
    return offer


def _major(version: str) -> str:
    """The first number; what follows a plus is no part of it: a file's version is `0+` and its hash."""
    return re.split(r"[.+]", version, maxsplit=1)[0]


def _check_same_bytes(model: str, stamp: PluginStamp, offer: Offer) -> None:
    """One version is one content: learned parameters are handed to the code that learned them, and to no other.

    Raises:
        PluginError: the plugin has the version that made the model, and other code.
    """
    if offer.source != "file" and offer.version != stamp.version:
        return
    if not stamp.digest or not offer.digest or stamp.digest == offer.digest:
        return
    if offer.source == "file":
        put_back = f"put {offer.distribution} back as it was"
    else:
        put_back = (
            f"pip install --force-reinstall '{stamp.distribution}=={stamp.version}' brings back what was released"
        )
    raise PluginError(
        f"the stored model was made by {stamp.distribution} {stamp.version} with other code than is here now: its hash "
        f"was {stamp.digest[:12]}…, here it is {offer.digest[:12]}…",
        plugin=model,
        version=offer.version,
        hint=f"{put_back}; forecastcore retrain makes a model with the code that is here",
    )


def _part(files: state.Verified, offer: Offer) -> Part:
    about = json.loads(files.read("part.json"))
    factory = offer.spec.factory
    root = str(getattr(factory, "__module__", "")).split(".")[0]
    fitted = (
        state.load(files.sub("fitted"), packages=(root,), trusted=offer.spec.capabilities.trusted)
        if about["fitted"]
        else None
    )
    return replace(_reach(about), fitted=fitted)


def _reach(about: Mapping[str, Any]) -> Part:
    """What `part.json` says of the series that a part takes, without what was learned."""
    ids: Iterable[str] | None = about["ids"]
    segment = Segment(**about["segment"]) if "segment" in about else None
    return Part(None if ids is None else tuple(ids), None, about["failures"], segment)
