"""Waiting: what is told meanwhile, what ends it, and what is said when it took too long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context

import pytest
from botocore.exceptions import ClientError

from stockpipe.errors import ProvisionError
from stockpipe.infra import waiting
from stockpipe.infra.waiting import Stopped, Watch, await_known, once_visible, watch


class Observer:
    """Whoever carries out a step: hears what is waited for, and may have enough of it."""

    def __init__(self, *, patience: int = 99) -> None:
        self.told: list[str] = []
        self.patience, self.stopping = patience, threading.Event()

    def hear(self, what: str) -> None:
        self.told.append(what)
        if len(self.told) == self.patience:
            self.stopping.set()

    def during(self, wait: Callable[[], str]) -> str:
        def watched() -> str:
            watch.set(Watch(self.stopping, self.hear))
            return wait()

        return copy_context().run(watched)


class Late:
    """Answers only when it is asked for the third time; before that None, or an error."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.asked = error, 0

    def __call__(self) -> str | None:
        self.asked += 1
        if self.asked > 2:
            return "there"
        if self.error:
            raise self.error
        return None

    def text(self) -> str:
        return str(self())


def missing(code: str = "NoSuchBucket") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no such thing"}}, "Put")


def test_what_is_not_known_yet_is_asked_for_until_it_is() -> None:
    seen = Observer()
    assert seen.during(lambda: await_known("what it watches", Late())) == "there"
    assert seen.told == ["until it is known what it watches"] * 2


def test_what_is_never_known_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "BUDGET_S", 0.0)
    with pytest.raises(ProvisionError, match="not known what it watches") as failed:
        await_known("what it watches", lambda: None)
    assert "same command again" in (failed.value.hint or "")


def test_what_was_just_made_may_be_absent_for_a_while() -> None:
    seen = Observer()
    assert seen.during(lambda: once_visible(Late(missing()).text, "NoSuchBucket")) == "there"
    assert len(seen.told) == 2
    assert "no such thing" in seen.told[0]


def test_what_never_becomes_visible_raises_what_the_service_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "VISIBLE_S", 0.0)
    with pytest.raises(ClientError, match="NoSuchBucket"):
        once_visible(Late(missing()).text, "NoSuchBucket")


def test_another_error_is_not_waited_out() -> None:
    denied = Late(missing("AccessDenied"))
    with pytest.raises(ClientError, match="AccessDenied"):
        once_visible(denied.text, "NoSuchBucket")
    assert denied.asked == 1


@pytest.mark.parametrize(
    "wait",
    [
        lambda: await_known("what it watches", Late()),
        lambda: once_visible(Late(missing()).text, "NoSuchBucket"),
    ],
    ids=["known", "visible"],
)
def test_who_does_not_want_to_wait_any_more_ends_it(wait: Callable[[], str]) -> None:
    impatient = Observer(patience=1)
    with pytest.raises(Stopped):
        impatient.during(wait)
    assert len(impatient.told) == 1
