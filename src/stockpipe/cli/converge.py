"""What ``provision``, ``teardown`` and ``demo`` share: showing a plan, and carrying it out."""

from __future__ import annotations

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
                for key, before, after in _by_key(name, old, new):
                    ui.note(f"        {key}: {_brief(before)} -> {_brief(after)}")
    if plan.losing_data:
        ui.note("Replacing loses what is stored; it needs --allow-replace.", "bold red")
    counted = [f"{count} to {action}" for action, count in plan.summary.items() if count]
    ui.note(f"Plan: {', '.join(counted) or 'nothing to do'}.")


def _by_key(name: str, old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    """A setting's difference; of a mapping, only the keys that differ."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [(name, old, new)]
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return [(f"{name}.{key}", old.get(key), new.get(key)) for key in keys]


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
                steps.end(what, f"  failed  {what}: {step.reason}", "red")
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
