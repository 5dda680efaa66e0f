"""What is told when: each kind of incident as two automations, one that tells of its begin and one of its end.

An automation of Prefect fires for every event that it expects. Here it also needs an event *after* which it does: the
alert comes with the first bad run after a good one, the recovery with the first good run after a bad one. So an
incident is told twice, however many runs it lasts, and the server keeps the count, not a run that may die.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from prefect.events.actions import ActionTypes

__all__ = ["ARMED", "INCIDENTS", "PULSE", "TAG", "TEST", "UNHEARD", "UNSTARTED", "Channel", "Incident", "rules"]

#: what every deployment of `prefect.yaml` is tagged with; runs without it are nobody's business here
TAG: Final = "forecastcore"
#: events of our own: a deployment is well as far as we know; somebody tries the channels
ARMED: Final = "forecastcore.alerts.armed"
TEST: Final = "forecastcore.alerts.test"
PULSE: Final = "prefect.flow-run.heartbeat"
#: heartbeats that may be missing before a run counts as dead
UNHEARD: Final = 3
#: how long a run that was taken up may take to start; it holds the place of the next one meanwhile
UNSTARTED: Final = timedelta(minutes=7)
#: how a run can end, or go to sleep, without a further heartbeat; the names that the flows give their states are among
#: them, since an automation that does not know one would crash a run that is well
_SILENT: Final = (
    *("Completed", "Degraded", "Skipped", "Held", "Failed", "Crashed", "TimedOut", "Cancelled"),
    *("Paused", "Suspended", "AwaitingRetry", "Scheduled"),
)
#: how a run is that somebody has taken up, and what can become of it
_TAKEN_UP: Final = ("Pending", "Submitting", "InfrastructurePending")
_STARTED: Final = (*_SILENT, "Running", "Retrying", "Cancelling", "AwaitingConcurrencySlot", "Late")
#: as long as a server lives; a shorter one would forget that a deployment was well
_EVER: Final = timedelta(days=36_500)


@dataclass(frozen=True)
class Channel:
    """Where a message goes to: a block on the server, by its identity.

    Attributes:
        name: type and name of the block, for people.
        block_id: of the block's document.
        webhook: whether it takes JSON; else it is a notification block, which takes subject and text.
    """

    name: str
    block_id: UUID
    webhook: bool = False


@dataclass(frozen=True)
class Incident:
    """Something that begins with one kind of state and ends with another.

    Attributes:
        name: in the automation's name.
        begins: names of the states that begin it.
        ends: names of the states that end it.
        told: what the subject says of it, and what when it is over.
        impact: what it means for those who wait, by flow; the one without a name is for all others.
        cause: a template.
        next_step: what to do, by the state's name; the one without a name is for all others.
    """

    name: str
    begins: tuple[str, ...]
    ends: tuple[str, ...]
    told: tuple[str, str]
    impact: dict[str, str]
    cause: str
    next_step: dict[str, str]


def _one_line(value: str, characters: int = 1500) -> str:
    """A template's value as plain words: one line, and no markup of Slack's or Teams', since it may hold data."""
    plain = f'({value} or "not known")|string|replace("<", "(")|replace(">", ")")|replace("](", "] (")'
    return f'{{{{ ({plain}).split()|join(" ")|truncate({characters}) }}}}'


_WHO = f"{_one_line('flow.name', 80)}/{_one_line('deployment.name', 80)}"
_PROJECT = _one_line("flow_run.parameters.project", 200)
_AGAIN = f"prefect deployment run '{_WHO}'"
_SAID = _one_line("flow_run.state.message")

INCIDENTS: Final = (
    Incident(
        "failed",
        begins=("Failed", "Held", "Crashed", "TimedOut"),
        ends=("Completed", "Degraded"),
        told=("has failed", "is well again"),
        impact={
            "predict": "no new forecast was delivered to every sink; readers keep the one before.",
            "retrain": "nothing was learnt; the champion stays, and forecasts go on with it.",
            "monitor": "delivered forecasts were not checked, and no policy was carried out.",
            "backfill": "vintages of past origins are missing.",
            "reconcile": "what is left over on Databricks may go on costing money.",
            "": "its work was not done.",
        },
        cause=_SAID,
        next_step={
            "Held": f"look at the data: forecastcore -p '{_PROJECT}' validate --data; mend it, then {_AGAIN}",
            "Crashed": f"see whether the worker and its machine live, then {_AGAIN}; nothing is written twice.",
            "": f"do what the cause ends with, or ask: forecastcore -p '{_PROJECT}' doctor; then {_AGAIN}",
        },
    ),
    Incident(
        "degraded",
        begins=("Degraded",),
        ends=("Completed",),
        told=("is degraded", "is whole again"),
        impact={
            "predict": "a forecast was delivered, but a fallback made it for some series, or nobody did.",
            "retrain": "a model was learnt, but it cannot serve every series.",
            "monitor": "a policy has fired: forecasts are not as good, or not as complete, as they should be.",
            "": "its work was done, but not for every series.",
        },
        cause=_SAID,
        next_step={
            "": f"the run's page lists the series; forecastcore explain REASON says what to do; "
            f"forecastcore -p '{_PROJECT}' status tells the share."
        },
    ),
    Incident(
        "late",
        begins=("Late",),
        ends=("Running",),
        told=("is late", "runs again"),
        impact={
            "predict": "the forecast that is due is not being made; readers keep the one before.",
            "": "what is due is not being done.",
        },
        cause=f"nobody took up the run that was due at {_one_line('flow_run.expected_start_time')}: no worker asks for "
        f"runs of the pool {_one_line('deployment.work_pool_name', 80)}, or it is full.",
        next_step={
            "": f"prefect worker start --pool '{_one_line('deployment.work_pool_name', 80)}'; runs that are due are "
            "then caught up with."
        },
    ),
)


def rules(
    channels: Sequence[Channel], patience: timedelta, tag: str = TAG, unstarted: timedelta = UNSTARTED
) -> list[AutomationCore]:
    """All automations of the deployments with a tag.

    Args:
        channels: where messages go to; without any, only the end of dead runs is installed.
        patience: how long a run may go without a heartbeat.
        tag: of the deployments.
        unstarted: how long a run that was taken up may take to start.

    Returns:
        What the server should have, each with a name of its own that begins with the tag.
    """
    made = [_dead(patience, tag), _unstarted(unstarted, tag)]
    if channels:
        made += [rule for incident in INCIDENTS for rule in _told(incident, channels, tag)]
        made.append(_tried(channels, tag))
    return made


def _dead(patience: timedelta, tag: str) -> AutomationCore:
    # Only a heartbeat starts the clock: where events do not reach the server at all, no run is ended.
    seconds = int(patience.total_seconds())
    return _crashing(
        f"{tag}: dead runs",
        f"A run that has sent no heartbeat for {seconds} s ends as Crashed.",
        f"no heartbeat for {seconds} s: the process is gone, or its machine, or its way to this server",
        match_related=[_tagged(tag)],
        after={PULSE},
        expect={PULSE, *map(_event, _SILENT)},
        within=patience,
    )


def _unstarted(within: timedelta, tag: str) -> AutomationCore:
    # It never sent a heartbeat, so that its silence would never be noticed, and pools with a limit count it for good.
    seconds = int(within.total_seconds())
    return _crashing(
        f"{tag}: runs that nobody starts",
        f"A run that was taken up and has not started in {seconds} s ends as Crashed.",
        f"taken up, and not started in {seconds} s: the worker that took it up is gone, or its machine",
        match_related=[_tagged(tag)],
        after={*map(_event, _TAKEN_UP)},
        expect={PULSE, *map(_event, _STARTED)},
        within=within,
    )


def _crashing(name: str, description: str, message: str, **trigger: Any) -> AutomationCore:
    """Ends a run as Crashed after an event that is followed by none of those that are expected.

    Args:
        name: of the automation.
        description: of it.
        message: of the state that the run gets.
        trigger: whose runs, which events start the clock and which stop it, and how long there may be none.
    """
    each = {"match": {"prefect.resource.id": "prefect.flow-run.*"}, "for_each": {"prefect.resource.id"}}
    return AutomationCore(
        name=name,
        description=description,
        trigger=EventTrigger(**each, **trigger, posture=Posture.Proactive, threshold=1),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=message)],
    )


def _event(state: str) -> str:
    """The event that a flow run sends when it comes into a state."""
    return f"prefect.flow-run.{state}"


def _told(incident: Incident, channels: Sequence[Channel], tag: str) -> list[AutomationCore]:
    begins, ends = ({*map(_event, names)} for names in (incident.begins, incident.ends))
    alert, recovery = (f"forecastcore: {_WHO} {words}" for words in incident.told)
    link = "{{ flow_run|ui_url }}"
    body = (
        f"Impact: {_chosen(incident.impact, 'flow.name')}\n\nCause: {_one_line('flow_run.state.name', 80)}: "
        f"{incident.cause}\n\nLink: {link}\n\nNext step: {_chosen(incident.next_step, 'flow_run.state.name')}"
    )
    over = (
        f"Impact: none any more.\n\nCause: {_one_line('flow_run.state.name', 80)}: {_SAID}\n\nLink: {link}\n\n"
        "Next step: nothing to do."
    )
    return [
        _rule(f"{tag}: {incident.name}", (ends | {ARMED}, begins), _sent(channels, alert, body, incident.name), tag),
        _rule(f"{tag}: {incident.name}, over", (begins, ends), _sent(channels, recovery, over, "recovered"), tag),
    ]


def _rule(name: str, events: tuple[set[str], set[str]], actions: list[ActionTypes], tag: str) -> AutomationCore:
    after, expect = events
    return AutomationCore(
        name=name,
        description="Told once an incident: after one of the first kind of events, with the next of the second kind.",
        trigger=EventTrigger(
            match_related=[_tagged(tag), {"prefect.resource.role": "deployment"}],
            for_each={"related:deployment:prefect.resource.id"},
            after=after,
            expect=expect,
            posture=Posture.Reactive,
            threshold=1,
            within=_EVER,
        ),
        actions=actions,
    )


def _tried(channels: Sequence[Channel], tag: str) -> AutomationCore:
    body = (
        "Impact: none, this is a test.\n\nCause: somebody wants to know whether alerts arrive here.\n\n"
        "Link: {{ automation|ui_resource_events_url }}\n\nNext step: nothing to do."
    )
    return AutomationCore(
        name=f"{tag}: test",
        description="`python flows/alerts.py test` sends a message through every channel.",
        trigger=EventTrigger(match_related=[_tagged(tag)], expect={TEST}, posture=Posture.Reactive),
        actions=_sent(channels, "forecastcore: alerts arrive", body, "test"),
    )


def _tagged(tag: str) -> dict[str, Any]:
    return {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{tag}"}


def _sent(channels: Sequence[Channel], subject: str, body: str, kind: str) -> list[ActionTypes]:
    payload = (
        f"{{% set subject %}}{subject}{{% endset %}}{{% set text %}}{body}{{% endset %}}"
        f'{{"kind": {json.dumps(kind)}, "subject": {{{{ subject|tojson }}}}, "text": {{{{ text|tojson }}}}}}'
    )
    return [
        CallWebhook(block_document_id=one.block_id, payload=payload)
        if one.webhook
        else SendNotification(block_document_id=one.block_id, subject=subject, body=body)
        for one in channels
    ]


def _chosen(words: dict[str, str], by: str) -> str:
    """A template that says what belongs to a name; words are templates themselves."""
    tests = "".join(
        f'{{% {"if" if at == 0 else "elif"} {by} == "{name}" %}}{text}'
        for at, (name, text) in enumerate(pair for pair in words.items() if pair[0])
    )
    return f"{tests}{{% else %}}{words['']}{{% endif %}}" if tests else words[""]
