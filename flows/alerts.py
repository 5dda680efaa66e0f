"""Alerts under Prefect: `python flows/alerts.py deploy`, after `prefect deploy --all`; `test` tries every channel.

Addresses come from the environment and go into Prefect's secret blocks; what is printed are the blocks' names.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

from alert_rules import ARMED, TAG, TEST, UNHEARD, UNSTARTED, Channel, rules
from prefect.blocks.notifications import MicrosoftTeamsWebhook, SlackWebhook
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.events.actions import CallWebhook, SendNotification
from prefect.events.schemas.automations import AutomationCore
from prefect.events.schemas.events import Event
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings
from pydantic import SecretStr

from forecastcore.errors import EngineError, ForecastCoreError, UsageError
from forecastcore.tracking.connect import mask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from prefect.blocks.core import Block
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.events.schemas.automations import Automation

__all__ = ["CHANNELS", "Deployed", "Tried", "deploy", "remove", "try_out"]

_HEARTBEAT: Final = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
#: seconds between heartbeats where a deployment says nothing
_USUAL_HEARTBEAT: Final = 180
#: blocks that are on the server already, as TYPE/NAME, with commas between
_NAMED: Final = "FORECASTCORE_ALERT_BLOCKS"
#: seconds that the server needs to take up new automations, and to carry out an action
_SETTLED, _PATIENCE = 2.0, 60.0
_MANY = 200
_SLACK = re.compile(r"https://hooks\.slack(-gov)?\.com/services/\w+/\w+/\w+/?")
_TEAMS = re.compile(r"https://[\w.-]+(:\d+)?(/powerautomate/\S*)?/workflows/[\w-]+/triggers/manual/paths/invoke/?\?\S+")


def _mailed(url: str) -> Block:
    # Prefect has no block for a mail server; that for Slack hands any other address on to Apprise, which has.
    plain = "" if "format" in dict(parse_qsl(urlsplit(url).query)) else "&format=text"
    return SlackWebhook(url=SecretStr(f"{url if '?' in url else url + '?'}{plain}"))


def _posted(url: str) -> Block:
    return Webhook.model_validate({"url": url, "headers": {"Content-Type": "application/json"}})


@dataclass(frozen=True)
class Kind:
    """A way to tell somebody.

    Attributes:
        name: of its block on the server, after the tag.
        slug: of the block's type.
        variable: of the environment, which holds the address.
        takes: what an address has to look like.
        expected: the same for people.
        make: the block of an address.
    """

    name: str
    slug: str
    variable: str
    takes: re.Pattern[str]
    expected: str
    make: Callable[[str], Block]


CHANNELS: Final = (
    Kind(
        "teams",
        "ms-teams-webhook",
        "FORECASTCORE_ALERT_TEAMS",
        _TEAMS,
        "the address of a Teams workflow, https://HOST/workflows/ID/triggers/manual/paths/invoke?…",
        lambda url: MicrosoftTeamsWebhook(url=SecretStr(url), include_image=False),
    ),
    Kind(
        "slack",
        "slack-webhook",
        "FORECASTCORE_ALERT_SLACK",
        _SLACK,
        "an incoming webhook of Slack, https://hooks.slack.com/services/T…/B…/…",
        lambda url: SlackWebhook(url=SecretStr(url)),
    ),
    Kind(
        "email",
        "slack-webhook",
        "FORECASTCORE_ALERT_EMAIL",
        re.compile(r"mailtos?://\S+[?&]to=\S+"),
        "mailtos://USER:PASSWORD@HOST:PORT?from=…&to=…,… (Apprise's form)",
        _mailed,
    ),
    Kind(
        "webhook",
        "webhook",
        "FORECASTCORE_ALERT_WEBHOOK",
        re.compile(r"https?://[^\s/]+(/\S*)?"),
        "an address that takes JSON by POST, https://…",
        _posted,
    ),
)


@dataclass(frozen=True)
class Deployed:
    """What the server has now.

    Attributes:
        channels: names of the blocks that messages go through.
        made: names of the automations that were written; those that were there as they should be are not.
        armed: deployments that count as well from now on.
        patience: after how long without a heartbeat a run is ended.
        unstarted: after how long a run is ended that was taken up and has not started.
    """

    channels: tuple[str, ...]
    made: tuple[str, ...]
    armed: tuple[str, ...]
    patience: timedelta
    unstarted: timedelta


@dataclass(frozen=True)
class Tried:
    """What became of a test message: through which block, whether it was taken, and why not."""

    channel: str
    taken: bool
    reason: str = ""


def deploy(tag: str = TAG, patience: timedelta | None = None, unstarted: timedelta = UNSTARTED) -> Deployed:
    """Write blocks and automations into the server; what is there as it should be stays untouched.

    Args:
        tag: of the deployments that are meant.
        patience: how long a run may go without a heartbeat. Default: three heartbeats of the slowest deployment.
        unstarted: how long a run that was taken up may take to start.

    Returns:
        What there is now.

    Raises:
        UsageError: no server is named, no deployment has the tag, or an address is none.
    """
    saved = {kind: kind.make(url) for kind, url in _addresses(os.environ)}
    with _server() as client:
        deployments = _deployments(client, tag)
        if not deployments:
            raise UsageError(f"no deployment has the tag {tag}", hint="prefect deploy --all comes first")
        patience = patience or UNHEARD * timedelta(seconds=max(map(_heartbeat, deployments)))
        there = _automations(client, tag)
        channels = _channels(client, tag, saved, there)
        wanted = rules(channels, patience, tag, unstarted)
        made = [rule.name for rule in wanted if _written(client, rule, there)]
        for name in there.keys() - {rule.name for rule in wanted}:  # of an older version, or of channels that are gone
            _delete(client, there[name])
        if made:
            time.sleep(_SETTLED)
        armed = [one for one in deployments if made or not _has_ended(client, one)]
        _emit(client, [_armed(one, tag) for one in armed])
    names = tuple(sorted(one.name for one in channels))
    return Deployed(names, tuple(made), tuple(sorted(one.name for one in armed)), patience, unstarted)


def try_out(tag: str = TAG) -> list[Tried]:
    """Send a message through every channel, by the server itself, and see what becomes of it.

    Args:
        tag: as `deploy` had it.

    Returns:
        One answer a channel.

    Raises:
        UsageError: no server is named, or no channel is there.
        EngineError: the server does not carry out automations.
    """
    with _server() as client:
        found = _automations(client, tag).get(f"{tag}: test", [])
        if not found:
            variables = ", ".join(kind.variable for kind in CHANNELS)
            hint = f"set one of {variables}, then python flows/alerts.py deploy"
            raise UsageError("there is no channel to try", hint=hint)
        (automation, *_) = found
        test = Event(
            event=TEST,
            resource={"prefect.resource.id": f"{TEST}.{tag}"},
            related=[{"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"}],
        )
        _emit(client, [test])
        channels = {at: _name(client, one) for at, one in enumerate(_used(automation))}
        told: dict[int, Tried] = {}
        deadline = time.monotonic() + _PATIENCE
        while len(told) < len(channels) and time.monotonic() < deadline:
            time.sleep(0.5)
            told = {at: _outcome(channels[at], one) for at, one in _outcomes(client, automation, test)}
    if not told:
        hint = "see its log; the services for triggers and actions have to run"
        raise EngineError(f"the server did nothing within {_PATIENCE:.0f} s", hint=hint)
    silent = f"no answer within {_PATIENCE:.0f} s"
    return [told.get(at, Tried(channel, taken=False, reason=silent)) for at, channel in channels.items()]


def remove(tag: str = TAG) -> tuple[str, ...]:
    """Take the automations and the blocks that `deploy` made out of the server.

    Args:
        tag: as `deploy` had it.

    Returns:
        Names of what was removed.
    """
    gone = []
    with _server() as client:
        for found in _automations(client, tag).values():
            _delete(client, found)
            gone += [one.name for one in found]
        for kind in CHANNELS:
            document = _block(client, kind.slug, f"{tag}-{kind.name}")
            if document is not None:
                client.delete_block_document(document.id)
                gone.append(f"{kind.slug}/{tag}-{kind.name}")
    return tuple(gone)


def _addresses(environment: Any) -> list[tuple[Kind, str]]:
    """The addresses that the environment holds; one that is none is told by its variable, never by its text."""
    found = [(kind, environment.get(kind.variable, "").strip()) for kind in CHANNELS]
    for kind, url in found:
        if url and not kind.takes.fullmatch(url):
            raise UsageError(f"{kind.variable} is not what it should be", hint=f"expected: {kind.expected}")
    return [(kind, url) for kind, url in found if url]


def _server() -> Any:
    url = get_current_settings().api.url
    if not url:
        raise UsageError("no Prefect server is named", hint="set PREFECT_API_URL; make up starts one on this machine")
    return get_client(sync_client=True)


def _deployments(client: SyncPrefectClient, tag: str) -> list[DeploymentResponse]:
    wanted = DeploymentFilter(tags=DeploymentFilterTags(all_=[tag]))
    found: list[DeploymentResponse] = []
    while len(found) % _MANY == 0:
        page = client.read_deployments(deployment_filter=wanted, limit=_MANY, offset=len(found))
        if not page:
            break
        found += page
    return found


def _heartbeat(deployment: DeploymentResponse) -> int:
    """Seconds between heartbeats of a deployment's runs."""
    said = str(((deployment.job_variables or {}).get("env") or {}).get(_HEARTBEAT, ""))
    return int(said) if said.isdecimal() else _USUAL_HEARTBEAT


def _has_ended(client: SyncPrefectClient, deployment: DeploymentResponse) -> bool:
    """Whether a run of it has ever ended; the automations then know how it stands."""
    from prefect.client.schemas.filters import (
        DeploymentFilterId,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import TERMINAL_STATES

    ended = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(TERMINAL_STATES))))
    this = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
    return bool(client.read_flow_runs(flow_run_filter=ended, deployment_filter=this, limit=1))


def _automations(client: SyncPrefectClient, tag: str) -> dict[str, list[Automation]]:
    """The automations of a tag by name."""
    found: dict[str, list[Automation]] = {}
    for one in client.read_automations():
        if one.name.startswith(f"{tag}: "):
            found.setdefault(one.name, []).append(one)
    return found


def _channels(
    client: SyncPrefectClient, tag: str, saved: dict[Kind, Block], there: dict[str, list[Automation]]
) -> list[Channel]:
    """Blocks that are saved now, those that are named, and those that the automations use already."""
    for kind, block in saved.items():
        save: Any = block.save
        save(f"{tag}-{kind.name}", overwrite=True, _sync=True)
    names = [f"{kind.slug}/{tag}-{kind.name}" for kind in saved]
    names += [name.strip() for name in os.environ.get(_NAMED, "").split(",") if name.strip()]
    used = {one for automations in there.values() for automation in automations for one in _used(automation)}
    names += [name for name in (_name(client, one) for one in used) if name]
    return [_channel(client, name) for name in sorted(set(names))]


def _used(automation: Automation) -> list[UUID]:
    """The blocks that an automation sends by, in the order of its actions."""
    return [one.block_document_id for one in automation.actions if isinstance(one, SendNotification | CallWebhook)]


def _channel(client: SyncPrefectClient, name: str) -> Channel:
    slug, _, own = name.partition("/")
    document = _block(client, slug, own)
    if document is None:
        raise UsageError(f"{_NAMED}: there is no block {name}", hint="TYPE/NAME, as `prefect block ls` has them")
    return Channel(name, document.id, webhook=slug == "webhook")


def _block(client: SyncPrefectClient, slug: str, name: str) -> Any:
    try:
        return client.read_block_document_by_name(name, slug, include_secrets=False)
    except ObjectNotFound:
        return None


def _name(client: SyncPrefectClient, block_id: UUID) -> str:
    try:
        document = client.read_block_document(block_id, include_secrets=False)
    except ObjectNotFound:
        return ""
    return f"{document.block_type.slug if document.block_type else 'block'}/{document.name}"


def _written(client: SyncPrefectClient, rule: AutomationCore, there: dict[str, list[Automation]]) -> bool:
    """Write an automation unless it is there; one that somebody has paused stays paused, a second one goes."""
    found = there.get(rule.name, [])
    _delete(client, found[1:])
    if not found:
        client.create_automation(rule)
        return True
    wanted = rule.model_copy(update={"enabled": found[0].enabled})
    if AutomationCore.model_validate(found[0].model_dump()) == AutomationCore.model_validate(wanted.model_dump()):
        return False
    client.update_automation(found[0].id, wanted)
    return True


def _delete(client: SyncPrefectClient, automations: Sequence[Automation]) -> None:
    for one in automations:
        client.delete_automation(one.id)


def _armed(deployment: DeploymentResponse, tag: str) -> Event:
    # Without it, the first run of a deployment could fail and nobody would hear: there was no good one before.
    return Event(
        event=ARMED,
        resource={"prefect.resource.id": f"{ARMED}.{deployment.id}"},
        related=[
            {"prefect.resource.id": f"prefect.deployment.{deployment.id}", "prefect.resource.role": "deployment"},
            {"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"},
        ],
    )


def _emit(client: Any, events: Sequence[Event]) -> None:
    if events:
        client.request("POST", "/events", json=[one.model_dump(mode="json") for one in events]).raise_for_status()


def _outcomes(client: Any, automation: Automation, test: Event) -> list[tuple[int, dict[str, Any]]]:
    """By action: the event that tells what became of it."""
    wanted = {
        "event": {"prefix": ["prefect.automation.action."]},
        "resource": {"id": [f"prefect.automation.{automation.id}"]},
        "occurred": {"since": test.occurred.isoformat(), "until": datetime.now(UTC).isoformat()},
    }
    told = client.request("POST", "/events/filter", json={"filter": wanted, "limit": 50}).json()["events"]
    ended = [one for one in told if not one["event"].endswith(".triggered")]
    cause = f"prefect.event.{test.id}"
    mine = [one for one in ended if any(r["prefect.resource.id"] == cause for r in one["related"])]
    return [(one["payload"]["action_index"], one) for one in mine]


def _outcome(channel: str, event: dict[str, Any]) -> Tried:
    payload = event["payload"]
    status = payload.get("status_code") or 0
    if event["event"].endswith(".failed"):
        return Tried(channel, taken=False, reason=mask(str(payload.get("reason", ""))))
    if status >= 400:  # noqa: PLR2004 - HTTP's own
        return Tried(channel, taken=False, reason=f"it answers with HTTP status {status}")
    return Tried(channel, taken=True)


def _say_deployed(tag: str, minutes: float) -> int:
    done = deploy(tag, unstarted=timedelta(minutes=minutes))
    seconds, taken_up = (int(one.total_seconds()) for one in (done.patience, done.unstarted))
    print(f"automations  {len(done.made)} written" if done.made else "automations  as they should be")
    print(f"dead runs    end as Crashed after {seconds} s without a heartbeat")
    print(f"             and {taken_up} s after they were taken up, where nobody has started them")
    if done.channels:
        print(f"channels     {', '.join(done.channels)}")
        print("try them: python flows/alerts.py test")
    else:
        print(f"channels     none: nobody is told. Set one of {', '.join(kind.variable for kind in CHANNELS)}")
    return 0


def _say_tried(tag: str) -> int:
    tried = try_out(tag)
    for one in tried:
        print(f"{one.channel}  {'taken' if one.taken else 'NOT TAKEN: ' + one.reason}")
    return 0 if all(one.taken for one in tried) else 1


def _say_removed(tag: str) -> int:
    gone = remove(tag)
    print("\n".join(f"removed {name}" for name in gone) or "there was nothing to remove")
    return 0


def _main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("deploy", "test", "remove"))
    parser.add_argument("--tag", default=TAG, help="of the deployments (default: %(default)s)")
    parser.add_argument(
        "--start-within",
        type=float,
        default=UNSTARTED.total_seconds() / 60,
        metavar="MINUTES",
        help="deploy: a run that was taken up and takes longer to start ends as Crashed (default: %(default)g)",
    )
    asked = parser.parse_args(words)
    try:
        if asked.command == "deploy":
            return _say_deployed(asked.tag, asked.start_within)
        return _say_tried(asked.tag) if asked.command == "test" else _say_removed(asked.tag)
    except ForecastCoreError as error:
        print(mask(str(error)), file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(_main())
