"""Documents as text for people: plain words and aligned tables, no meaning by colour."""

from __future__ import annotations

import json
import shlex
import textwrap
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["leaderboard", "table", "text"]

Document = dict[str, Any]

#: examples shown of a long list; --json has all
_SHOWN = 5
#: columns of a screen, and the least that a text is folded to
_WIDE, _NARROW = 80, 10


def text(document: Document) -> str:
    """A command's document in words."""
    render: Callable[[Document], str] = _RENDER.get(document.get("command", ""), _plain)
    where = [f"ran on Databricks: {document['where']}"] if document.get("where") else []
    took = [f"took {_cost(document['cost'])}"] if document.get("cost") else []
    return "\n".join([render(document), *where, *took])


def _cost(cost: Document) -> str:
    """What a run took, as far as it is known."""
    words = [f"{cost['seconds']:.0f} s"]
    if cost["nodes"]:
        spot = f", {cost['spot_share']:.0%} spot" if cost["spot_share"] else ""
        words = [f"{words[0]} of {cost['nodes']} nodes{spot}: {cost['node_hours']:.3g} node hours"]
    words += [f"about {cost['dbu']:.3g} DBU"] if cost["dbu"] is not None else []
    words += [f"about {cost['amount']:.4g} {cost['currency']}".strip()] if cost["amount"] is not None else []
    each = cost["per_1000_series"]
    most = sorted(cost["by_candidate"].items(), key=lambda one: -one[1])[:_SHOWN]
    shares = f"; of the work {', '.join(f'{name} {share:.0%}' for name, share in most)}" if most else ""
    return ", ".join(words) + (f" ({each:.4g} for 1,000 series)" if each is not None else "") + shares


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns side by side; numbers to the right, three decimals; the widest text is folded to fit a narrow screen."""
    return "\n".join(_blocks(head, rows))


def _blocks(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """The table's head, its rule and its rows; a row that is folded has several lines."""
    cells = [[_cell(value) for value in row] for row in rows]
    numeric = [all(_is_number(row[i]) for row in cells) for i in range(len(head))]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    excess = sum(widths) + 2 * (len(widths) - 1) - _WIDE
    if excess > 0 and not all(numeric):
        widest = max((i for i, number in enumerate(numeric) if not number), key=widths.__getitem__)
        widths[widest] = max(widths[widest] - excess, _NARROW)

    def block(values: Sequence[str]) -> str:
        folded = [[value] if len(value) <= w else _folded(value, w) for value, w in zip(values, widths, strict=True)]
        return "\n".join(line(parts) for parts in zip_longest(*folded, fillvalue=""))

    def line(values: Sequence[str]) -> str:
        padded = (v.rjust(w) if right else v.ljust(w) for v, w, right in zip(values, widths, numeric, strict=True))
        return "  ".join(padded).rstrip()

    return [block(head), line(["-" * width for width in widths]), *map(block, cells)]


def _folded(words: str, width: int) -> list[str]:
    """What is one word, such as a path, stays whole."""
    return textwrap.wrap(words, width, break_long_words=False, break_on_hyphens=False)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.replace(".", "", 1).replace("-", "", 1).replace("+", "", 1).isdigit()


def leaderboard(rows: Sequence[Document]) -> str:
    """Candidates, best first, and under them what was not as it should be."""
    head = ["candidate", "status", "mase", "rmsse", "wql", "bias", "coverage", "skill", "seconds"]
    if any(row.get("premium") is not None for row in rows):
        head.insert(-1, "premium")
    shown = table(head, [[row["name"], *(row.get(key) for key in head[1:])] for row in rows])
    remarks = [f"  {row['name']}: {row['reason']}" for row in rows if row["reason"]]
    return "\n".join([shown, *remarks])


def _series(series: Document) -> str:
    return f"{series['total']} series: {series['ok']} ok, {series['degraded']} degraded, {series['failed']} failed"


def _quality(document: Document) -> list[str]:
    counts = document.get("quality") or {}
    repairs = [f"quality check: {', '.join(f'{name} {n}' for name, n in counts.items())}"] if counts else []
    return [*(f"alert: {alert}" for alert in document.get("alerts", ())), *repairs, *document.get("notes", ())]


def _version(ref: Document | None) -> str:
    number = f"version {ref['version']}" if ref and ref["version"] else "not registered yet"
    return f"{ref['model']}, {number}" if ref else "none"


def _retrain(document: Document) -> str:
    decision = document["decision"]
    guards = [f"  {'holds ' if g['passed'] else 'FAILS '} {g['name']}: {g['detail']}" for g in decision["guards"]]
    lines = [
        f"{document['project']} as of {document['as_of']}, {document['folds']} folds, {_series(document['series'])}",
        *_quality(document),
        "",
        leaderboard(document["leaderboard"]),
        "",
        f"decision: {decision['reason']}",
        *([f"deferred: {document['deferred']}"] if document.get("deferred") else []),
        *guards,
        f"challenger: {_version(document['challenger'])}",
        f"champion:   {_version(document['champion_after'])} (before: {_version(document['champion_before'])})",
        f"run {document['run_id'] or 'not in MLflow yet'}, {document['seconds']:.1f} s",
    ]
    return "\n".join(lines)


def log_line(line: Document) -> str:
    """One line of a log."""
    return f"{line['at']}  {line['source']:<10}  {line['level']:<7}  {line['message']}"


def _logs(document: Document) -> str:
    names = ", ".join(f"{kind.replace('_', ' ')} {name}" for kind, name in document["names"].items())
    lines = [] if document.get("shown") else [log_line(line) for line in document["lines"]]
    end = f"it goes on: {names}" if not document["end"] else f"{document['end']}: {names}"
    return "\n".join([*lines, *(f"could not be asked: {one}" for one in document["unasked"]), end])


def _backfill(document: Document) -> str:
    head = ("as of", "status", "model", "rows", "note")
    rows = [[o["as_of"], o["status"], o["model_version"] or None, o["rows"], o["note"]] for o in document["origins"]]
    counts = f"{document['made']} made, {document['already']} there before, {document['failed']} failed"
    return "\n".join([table(head, rows), "", f"{counts}, {document['seconds']:.1f} s"])


def _rollback_vintage(document: Document) -> str:
    gone = [f"  {w['sink']}: {w['scenario']} of {w['issued_at']}, {w['rows']} rows" for w in document["withdrawn"]]
    now = [f"  {sink}: {issued_at or 'nothing'}" for sink, issued_at in document["latest"].items()]
    dry = document["dry_run"]
    head, then = ("would be taken back:", "latest then:") if dry else ("taken back:", "latest now:")
    origin = document["withdrawn"][0]["issued_at"]
    undo = f"that origin anew, once its data, settings or model are mended: forecastcore predict --as-of {origin}"
    return "\n".join([head, *gone, then, *now, *document["notes"], *([] if dry else [undo])])


def _kept(document: Document) -> str:
    return f"{document['versions']} versions, {document['decisions']} decisions, {document['vintages']} vintages"


def _backup(document: Document) -> str:
    return f"{document['archive']}: {_kept(document)}\nkeep its digest elsewhere: {document['digest']}"


def _restore(document: Document) -> str:
    lines = [f"restored: {_kept(document)}", f"champion: {_version(document['champion'])}"]
    return "\n".join([*lines, *document["notes"]])


def _backtest(document: Document) -> str:
    head = f"{document['project']} as of {document['as_of']}, {document['folds']} folds, {_series(document['series'])}"
    return "\n".join([head, *_quality(document), "", leaderboard(document["leaderboard"])])


def _predict(document: Document) -> str:
    by = [
        f"  {n['scenario']}: {n['covariate']} by {n['assumption']}{' (' + n['reason'] + ')' if n['reason'] else ''}"
        for n in document["assumptions"]
    ]
    made_by = f"{document['model']}, version {document['model_version']}"
    to = [f"  {p['sink']}: {_published(p)}" for p in document["published"]]
    lines = [
        f"{document['project']} from {document['issued_at']}: {document['rows']} rows by {made_by}",
        _series(document["series"]),
        *(f"  {count} series: {reason}" for reason, count in document["reasons"].items()),
        *_quality(document),
        *(["assumed:", *by] if by else []),
        "published:",
        *to,
        *([f"to look at: {document['page']}"] if document.get("page") else []),
        f"run key {document['run_key']}, {document['seconds']:.1f} s",
    ]
    return "\n".join(lines)


def _published(publication: Document) -> str:
    if publication["error"]:
        return f"FAILED: {publication['error']}"
    remark = ", there already: nothing written" if publication["already"] else ""
    return f"{publication['location']} ({publication['rows']} rows{remark})"


def _validate(document: Document) -> str:
    lines = [f"{document['file']} is valid: {', '.join(c['name'] for c in document['candidates'])}"]
    if "data" in document:
        data = document["data"]
        lines += [f"data: {data['series']} series, {data['rows']} rows, {data['first']} to {data['origin']}"]
        lines += [f"  {name}: {count}" for name, count in data["quality"].items()] or ["  nothing to repair"]
        lines += _fallbacks(data["served_by_fallback"])
        lines += [f"  {note}" for note in data["notes"]]
    return "\n".join(lines)


def _fallbacks(reasons: dict[str, str]) -> list[str]:
    """Per reason how many series the fallback will serve, and some of them."""
    by_reason: dict[str, list[str]] = {}
    for uid, reason in reasons.items():
        by_reason.setdefault(reason, []).append(uid)
    return [
        f"  {reason}: {len(ids)} series will be served by the fallback ({', '.join(ids[:_SHOWN])}"
        + (", …)" if len(ids) > _SHOWN else ")")
        for reason, ids in by_reason.items()
    ]


def _models_list(document: Document) -> str:
    if not document["models"]:
        return f"{document['project']} has no model yet: forecastcore retrain makes the first"
    head = ("version", "model", "aliases", "created", "mase", "skill", "coverage")
    return table(
        head,
        [
            [
                m["version"],
                m["model"],
                ", ".join(m["aliases"]) or "-",
                m["created_at"][:16],
                *(m["metrics"].get(k) for k in head[4:]),
            ]
            for m in document["models"]
        ],
    )


def _models_show(document: Document) -> str:
    model = document["model"]
    lines = [f"{key}: {value}" for key, value in model.items() if value not in ("", None, {}, [])]
    return "\n".join([*lines, *(f"{e['at'][:16]} {e['action']}: {e['reason']}" for e in document["decisions"])])


def _models_compare(document: Document) -> str:
    one, two = document["models"]
    names = [f"{m['version']} ({m['model']})" for m in (one, two)]
    rows = [["params", one["params"], two["params"]], ["trained until", one["trained_until"], two["trained_until"]]]
    rows += [[key, one["metrics"].get(key), two["metrics"].get(key)] for key in {**one["metrics"], **two["metrics"]}]
    return (
        table(("", *names), rows)
        + "\nMetrics are from each version's own backtest; retrain compares on the same origins."
    )


def _models_history(document: Document) -> str:
    if not document["ledger"]:
        return f"{document['project']} has no decision on record yet"
    head = ("", "at", "action", "version", "champion", "why")
    rows = [[e["seq"], e["at"][:16], e["action"], e["version"], e["champion"], e["reason"]] for e in document["ledger"]]
    return table(head, rows)


def _entry(document: Document) -> str:
    entry = document["entry"]
    return (
        f"version {entry['champion']} is the champion of {document['project']} (before: {entry['previous'] or 'none'})"
    )


def _models_rollback(document: Document) -> str:
    before, after = document["champion_before"], document["champion_after"]
    if document["dry_run"]:
        return f"version {after} would be the champion of {document['project']} (now: {before})"
    return f"{_entry(document)}\nundo: forecastcore models promote {before}"


def _plugins_list(document: Document) -> str:
    """By distribution, so that a line stays short."""
    head = ("  name", "kind", "health", "conformance", "can")
    plugins = sorted(document["plugins"], key=lambda one: (one["source"], one["distribution"]))
    shown = [
        [f"  {one['name']}", one["kind"], one["health"], one["conformance"], " ".join(one["tags"]) or None]
        for one in plugins
    ]
    titles, rule, *rows = _blocks(head, shown)
    lines, above = [titles, rule], ""
    for one, row in zip(plugins, rows, strict=True):
        hooks = " ".join(hook.removeprefix("forecastcore_") for hook in one["hooks"])
        title = f"{one['distribution']} {one['version']} ({one['source']}{'; ' + hooks if hooks else ''})"
        lines += [*([title] if title != above else []), row, *([f"    {one['reason']}"] if one["reason"] else [])]
        above = title
    return "\n".join(lines)


def _plugins_check(document: Document) -> str:
    lines = []
    for offer in document["offers"]:
        lines += [f"{offer['kind']} {offer['name']} ({offer['distribution']} {offer['version']})"]
        mine = [c for c in document["checks"] if (c["kind"], c["plugin"]) == (offer["kind"], offer["name"])]
        lines += [f"  {c['status']:8}{c['name']}{': ' + c['detail'] if c['detail'] else ''}" for c in mine]
    told = f"{document['passed']} passed, {document['failed']} failed, {document['skipped']} skipped"
    return "\n".join([*lines, f"{told}, {document['seconds']:.0f} s"])


def _plugins_new(document: Document) -> str:
    folder = document["folder"]
    return "\n".join(
        [
            f"{folder} holds a {document['kind']} that works; make it yours:",
            *(f"  {file}" for file in document["files"]),
            f"install it: pip install -e {folder}",
            f"check it:   forecastcore plugins check {document['name']}",
        ]
    )


def _doctor(document: Document) -> str:
    lines = []
    for check in document["checks"]:
        lines.append(f"{check['status']:8}{check['name']}: {check['detail']}")
        lines += [f"{'':8}mend: {check['mend']}"] if check["mend"] else []
    counts = {status: sum(c["status"] == status for c in document["checks"]) for status in ("ok", "failed", "skipped")}
    return "\n".join([*lines, ", ".join(f"{count} {status}" for status, count in counts.items())])


def _plan(document: Document) -> str:
    reads, fits, writes, promotes = (document[key] for key in ("reads", "fits", "writes", "promotes"))
    where = f" {reads['location']}" if reads["location"] else ""
    lines = [
        f"reads    {reads['source']}{where}: {reads['series']} series, {reads['rows']} rows until {reads['origin']}",
        *(f"           {note}" for note in reads["notes"]),
        f"fits     {fits['total']} times in the backtest; {fits['then']}"
        if fits["total"]
        else f"fits     {fits['then']}",
        *(f"           {c['name']} ({c['scope']}): {c['fits']} {_shown(c)}".rstrip() for c in fits["candidates"]),
        f"writes   runs in {writes['tracking']}",
        *([f"           registers {writes['registers']}"] if "registers" in writes else []),
        *(
            f"           {s['sink']} {s['location'] or ''}: {s['scenario']}, {_vintage(s, writes)}"
            for s in writes["sinks"]
        ),
    ]
    if promotes:
        rules = ", ".join(f"{key} {value}" for key, value in promotes["rules"].items() if not isinstance(value, dict))
        lines.append(f"promotes mode {promotes['mode']}, champion {promotes['champion'] or 'none yet'}; {rules}")
    costs, submits = document["costs"], document["submits"]
    lines.append(f"submits  {submits['jobs']} jobs; engine {submits['engine']}")
    if "payload" in submits:
        wheels = ", ".join(f"{one['wheel']} ({one['bytes']} bytes)" for one in submits["wheels"])
        lines.append(
            f"         wheels {wheels}" if wheels else f"         from an index {', '.join(submits['releases'])}"
        )
        lines += [f"         {line}" for line in _indented(submits["payload"])]
    seconds = "" if costs["seconds"] is None else f"{costs['seconds']:.1f} s, "
    lines.append(f"costs    {seconds}{costs['note']}")
    lines += [f"         at most {_cost(costs['at_most'])}"] if "at_most" in costs else []
    return "\n".join(lines)


def _indented(payload: Document) -> list[str]:
    return json.dumps(payload, indent=2).splitlines()


def _shown(candidate: Document) -> str:
    params = " ".join(f"{key}={value}" for key, value in candidate["params"].items())
    return f"{params} in {candidate['trials']} trials" if candidate["trials"] else params


def _vintage(sink: Document, writes: Document) -> str:
    state = {None: "cannot be asked", True: "there already, nothing is written", False: f"{writes['rows']} rows"}
    return f"{state[sink['already']]} (run key {sink['run_key'][:12]}…)"


def _reconcile(document: Document) -> str:
    lines = [
        f"{one['kind']}: {'; '.join(filter(None, (one['what'], one['url'])))}\n"
        f"  {'done' if one['fixed'] else 'to do'}: {one['mend']}"
        for one in document["orphans"]
    ]
    rest = "" if document["fix"] or not lines else "\nnothing was changed: --fix does it"
    lines += [f"could not be looked at: {words}" for words in document["unasked"]]
    return "\n".join(lines or ["nothing is left over"]) + rest


def _bundle(document: Document) -> str:
    jobs = [
        f"  {name}: {said['quartz_cron_expression']} {said['timezone_id']}" if said else f"  {name}: no schedule"
        for name, said in document["jobs"].items()
    ]
    return "\n".join(
        [
            f"written to {document['folder']}: {len(document['files'])} files, for {', '.join(document['targets'])}",
            f"jobs, on the schedules of {document['schedules'] or 'every day and every week'}:",
            *jobs,
            *(f"note: {note}" for note in document["notes"]),
            f"next: cd {shlex.quote(document['folder'])} && databricks bundle validate && databricks bundle deploy",
        ]
    )


def _init(document: Document) -> str:
    folder = document["folder"]
    there = shlex.quote(folder)
    engine = " --on local" if document["template"] == "databricks" else ""
    return "\n".join(
        [
            f"{folder} holds a project ({document['template']}):",
            *(f"  {file}" for file in document["files"]),
            "next:",
            f"  forecastcore -p {there} validate --data",
            f"  forecastcore -p {there} retrain{engine}",
            f"  forecastcore -p {there} predict{engine}",
        ]
    )


def _completion(document: Document) -> str:
    return str(document["script"])


def _demo(document: Document) -> str:
    return "\n".join(document["lines"])


def _plain(document: Document) -> str:
    return "\n".join(f"{key}: {value}" for key, value in document.items())


def _diff(document: Document) -> str:
    from forecastcore.explaining.words import diff_lines

    return "\n".join(diff_lines(document, table))


def _failures(document: Document) -> str:
    counts = document["series"]
    whose = f"{document['run_key'][:12]}, from {_minute(document['issued_at'])} UTC"
    if not document["reasons"]:
        return f"all {counts['total']} series of {whose} are as they should be"
    lines = [f"{counts['degraded']} of {counts['total']} series degraded, {counts['failed']} failed in {whose}"]
    for one in document["reasons"]:
        more = f" and {one['count'] - len(one['series'])} more" if one["count"] > len(one["series"]) else ""
        lines += ["", f"{one['reason']}: {one['count']} {one['status']}: {', '.join(one['series'])}{more}"]
        lines += [f"  {name:6}{one[name]}" for name in ("told", "cause", "mend") if one[name]]
    return "\n".join([*lines, "", f"when it is mended: {document['rerun']}"])


def _explain(document: Document) -> str:
    from forecastcore.explaining.words import lines

    return "\n".join(lines(document))


def _status(document: Document) -> str:
    champion, vintage, fresh = document["champion"], document["vintage"], document["freshness"]
    decision, degraded = document["decision"], document["degraded"]
    lines = ["champion   none yet: forecastcore retrain makes the first"]
    if champion:
        since = f"since {_minute(champion['since'])} UTC ({champion['age_days']:.1f} days)"
        until = f"trained until {_minute(champion['trained_until'])}"
        lines = [f"champion   {champion['model']}, version {champion['version']}, {since}, {until}"]
    if decision:
        lines.append(f"decision   {_minute(decision['at'])} {decision['action']}: {decision['reason']}")
    if vintage:
        lines.append(
            f"vintage    from {_minute(vintage['issued_at'])} UTC, made {_minute(vintage['created_at'])},"
            f" {vintage['rows']} rows in {vintage['sink']}"
        )
    lines.append(f"freshness  {'STALE' if fresh['stale'] else 'fresh'}: {fresh['reason']}")
    if degraded:
        lines.append(f"degraded   {degraded['share']:.1%} ({degraded['not_ok']} of {degraded['series']} series)")
    lines += [f"runs       {_deployment(one)}" for one in document["deployments"]]
    return "\n".join([*lines, *(f"           {note}" for note in document["notes"])])


def _deployment(one: Document) -> str:
    following = "paused" if one["paused"] else f"next {_minute(one['next_run'])}" if one["next_run"] else "on demand"
    last = f"last {one['last_run']['state']} at {_minute(one['last_run']['at'])}" if one["last_run"] else "not run yet"
    return f"{one['name']}: {following}, {last}"


def _minute(text: str | None) -> str:
    return text[:16].replace("T", " ") if text else "unknown"


def _drill(document: Document) -> str:
    lines = [f"{'holds' if c['passed'] else 'FAILS'}  {c['name']}: {c['detail']}" for c in document["checks"]]
    end = "the forecast is delivered as it must be" if document["passed"] else "the forecast would not be delivered"
    return "\n".join([*lines, f"{document['kind']}: {end}"])


def _monitor(document: Document) -> str:
    from forecastcore.watching.words import lines

    return "\n".join(lines(document, table))


_RENDER = {
    "backfill": _backfill,
    "backtest": _backtest,
    "backup": _backup,
    "bundle": _bundle,
    "completion": _completion,
    "demo": _demo,
    "diff": _diff,
    "doctor": _doctor,
    "drill": _drill,
    "explain": _explain,
    "failures": _failures,
    "logs": _logs,
    "init": _init,
    "models compare": _models_compare,
    "models history": _models_history,
    "models list": _models_list,
    "models promote": _entry,
    "models rollback": _models_rollback,
    "models show": _models_show,
    "monitor": _monitor,
    "plan predict": _plan,
    "plan retrain": _plan,
    "restore": _restore,
    "plugins check": _plugins_check,
    "plugins list": _plugins_list,
    "plugins new": _plugins_new,
    "predict": _predict,
    "reconcile": _reconcile,
    "retrain": _retrain,
    "rollback-vintage": _rollback_vintage,
    "status": _status,
    "validate": _validate,
}
