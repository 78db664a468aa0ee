"""What ``provision``, ``teardown`` and ``demo`` share: showing a plan, and carrying it out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from stockpipe.cli import ui

if TYPE_CHECKING:
    from stockpipe.infra.apply import Step
    from stockpipe.infra.plan import Change, Plan

MARKS = {"create": "+", "update": "~", "replace": "-/+", "keep": "=", "delete": "-"}
STYLES = {"create": "green", "update": "yellow", "replace": "red", "delete": "red"}
CHANGES = 3
"""Exit code of ``--plan --detailed-exitcode`` when there are some."""


def show(plan: Plan) -> None:
    """The plan for people: changes in full; of what is kept, only what needs a reason."""
    for change in plan.changes:
        if change.action == "keep" and not change.reason:
            continue
        why = f"  ({change.reason})" if change.reason else ""
        mark, style = MARKS[change.action], STYLES.get(change.action)
        ui.note(f"  {mark:>3} {change.resource.kind} {change.resource.name}{why}", style)
        if change.action in ("update", "replace"):
            for name, (old, new) in change.settings.items():
                for key, before, after in leaves(name, old, new):
                    ui.note(f"        {key}: {_brief(before)} -> {_brief(after)}")
    if plan.losing_data:
        ui.note("Replacing loses what is stored; it needs --allow-replace.", "bold red")
    counted = [f"{count} to {action}" for action, count in plan.summary.items() if count]
    ui.note(f"Plan: {', '.join(counted) or 'nothing to do'}.")


def leaves(name: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """What differs, as far down as it can be named: a widened policy shows the one action.

    Statements of a policy are named by their Sid; of lists of plain values, what only one has.
    """
    before, after = _members(old), _members(new)
    if before is not None and after is not None:
        for key in dict.fromkeys([*before, *after]):
            if before.get(key) != after.get(key):
                yield from leaves(f"{name}.{key}", before.get(key), after.get(key))
    elif (
        isinstance(old, list)
        and isinstance(new, list)
        and sorted(map(str, old)) != sorted(map(str, new))
    ):
        yield name, [one for one in old if one not in new], [one for one in new if one not in old]
    else:
        yield name, old, new


def _members(value: Any) -> Mapping[str, Any] | None:
    """A value's parts by name; None for what has none."""
    if isinstance(value, Mapping):
        return value
    named = isinstance(value, list) and all(isinstance(o, Mapping) and "Sid" in o for o in value)
    return {one["Sid"]: one for one in value} if named and value else None


def _brief(value: Any) -> str:
    text = ui.plain(value)
    return text if len(text) <= 60 else text[:57] + "..."


def converge(plan: Plan, *, allow_replace: bool = False) -> None:
    """Carry a plan out with a live line per resource; raises ProvisionError."""
    from stockpipe.infra.apply import apply

    done, stopped = 0, list[str]()
    with ui.Steps(len(plan.pending)) as steps:

        def on_step(step: Step) -> None:
            nonlocal done
            what = _subject(step.change)
            if step.phase == "done":
                done += 1
                steps.end(what, f"  done    {what}")
            elif step.phase == "failed":
                steps.end(what, f"  failed  {what}", "red")
            elif step.phase == "stopped":
                stopped.append(f"{step.change.resource.kind} {step.change.resource.name}")
                steps.end(what, f"  stopped {what}", "yellow")
            else:
                steps.begin(what, step.reason)

        try:
            apply(plan, on_step, allow_replace=allow_replace)
        except KeyboardInterrupt:
            ui.note(
                f"Interrupted: {done} of {len(plan.pending)} steps are done and stand"
                + (f"; begun and not finished: {', '.join(stopped)}" if stopped else "")
                + ". The same command goes on from here.",
                "yellow",
            )
            raise


def _subject(change: Change) -> str:
    return f"{change.action} {change.resource.kind} {change.resource.name}"
