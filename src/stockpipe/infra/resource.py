"""What a resource is: something that can read itself live, and say what it should be.

Everything else (comparing, ordering, running in parallel, resuming) is generic and lives in
``plan`` and ``apply``. There is no state file: the truth is what ``read`` returns.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from stockpipe.aws import Aws
from stockpipe.domain.names import ADOPTED_TAG, VERSION_TAG, Names
from stockpipe.functions.faults import error_code


@dataclass(frozen=True, slots=True)
class Live:
    """A resource as it stands: comparable settings, and whether its tags say that it is ours."""

    settings: Mapping[str, Any]
    ours: bool
    arn: str
    state: str = "active"
    """``active``, or the service's own word while it is on its way there."""
    adopted: bool = False
    """Whether it was there before us: its data survive teardown unless they are named."""
    out_of_reach: str | None = None
    """Why it can never become ours: a bucket's name may be another account's."""


@dataclass
class Resource(ABC):
    """One resource. ``needs`` holds the ids of those that must exist before it.

    One that is not ``wanted`` is switched off in the settings: provisioning deletes it too.
    """

    kind: ClassVar[str]
    holds_data: ClassVar[bool] = False
    precious: ClassVar[bool] = False
    """Whether somebody would miss what it was before we adopted it."""
    upserts: ClassVar[bool] = False
    """Whether its create call also overwrites, silently, what is there."""
    replace_on: ClassVar[Mapping[str, str]] = {}
    """Settings that cannot be changed in place, and why."""

    aws: Aws
    name: str
    needs: tuple[str, ...] = field(default=(), kw_only=True)
    tags: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    wanted: bool = field(default=True, kw_only=True)

    @property
    def id(self) -> str:
        return f"{self.kind}/{self.name}"

    @property
    def names(self) -> Names:
        return self.aws.names

    @property
    def stable_tags(self) -> dict[str, str]:
        """The tags that are compared: an upgrade alone must not touch every resource."""
        return {key: value for key, value in self.tags.items() if key != VERSION_TAG}

    @abstractmethod
    def desired(self) -> dict[str, Any]:
        """The settings as they should be, in the shape that ``read`` returns them."""

    @abstractmethod
    def read(self) -> Live | None:
        """The live resource, or None where there is none."""

    @abstractmethod
    def create(self) -> None:
        """Create it, tags in the create call itself, and wait until it can be used."""

    @abstractmethod
    def update(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        """Change just these settings, given as (old, new)."""

    @abstractmethod
    def delete(self) -> None:
        """Delete it and wait until it is gone; what is gone already is no error."""

    def standing(
        self, settings: Mapping[str, Any], tags: Mapping[str, str], arn: str, state: str = "active"
    ) -> Live:
        """A live resource whose identity stands in ``tags``, which are compared too."""
        return Live(
            settings={**settings, "tags": matching(tags, self.stable_tags)},
            ours=self.is_ours(tags),
            arn=arn,
            state=state.lower(),
            adopted=ADOPTED_TAG in tags,
        )

    def protection(self, live: Live) -> str | None:
        """Why nobody may delete it as it stands, or None."""
        return None

    def warning(self, changes: Mapping[str, tuple[Any, Any]]) -> str:
        """What else these changes do, where a person should know."""
        return ""

    def against_adoption(self) -> str | None:
        """Why it must not be taken over although it could be, or None."""
        return None

    def guests(self) -> str | None:
        """What in it is not ours, and would be deleted along with it, or None."""
        return None

    def is_ours(self, tags: Mapping[str, str]) -> bool:
        """Both identity tags must match; ``stockpipe:version`` and others are informative."""
        return all(tags.get(key) == value for key, value in self.names.tags.items())


def absent_is_none(call: Callable[[], Any], *codes: str) -> Any:
    """The call's answer, or None where the service says that there is no such thing."""
    try:
        return call()
    except ClientError as error:
        if error_code(error) in codes:
            return None
        raise


def comparable_policy(policy: str | Mapping[str, Any]) -> dict[str, Any]:
    """A policy document, text or structure, such that two that say the same are equal.

    Services give lists back in another order, and a list of one as its only element:
    https://github.com/hashicorp/terraform/issues/2432. The order of statements means nothing
    either, so they are sorted; one that is there twice stays twice.
    """
    document = json.loads(policy) if isinstance(policy, str) else policy
    statements = [_comparable_statement(one) for one in _several(document.get("Statement", []))]
    return {**document, "Statement": sorted(statements, key=partial(json.dumps, sort_keys=True))}


def _comparable_statement(statement: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(statement)
    for part in found.keys() & {"Action", "NotAction", "Resource", "NotResource"}:
        found[part] = _texts(found[part])
    for part in found.keys() & {"Principal", "NotPrincipal"}:
        named = {"AWS": "*"} if found[part] == "*" else found[part]
        found[part] = {kind: _texts(value) for kind, value in named.items()}
    if "Condition" in found:
        found["Condition"] = {
            operator: {key: _texts(value) for key, value in keys.items()}
            for operator, keys in found["Condition"].items()
        }
    return found


def _texts(value: Any) -> str | list[str]:
    """One text, or several of them sorted: ``false`` in a condition is the same as "false"."""
    texts = sorted(one if isinstance(one, str) else json.dumps(one) for one in _several(value))
    return texts[0] if len(texts) == 1 else texts


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def tag_map(tags: list[dict[str, str]] | None) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags or []}


def matching(live: Mapping[str, str], desired: Mapping[str, str]) -> dict[str, str]:
    """The live values of the desired tags: tags that others add are none of our business."""
    return {key: live[key] for key in desired if key in live}


def together(*calls: Callable[[], Any]) -> list[Any]:
    """The answers of calls made at the same time, in their order; the first error is raised.

    For plain calls: who watches a step is not known in these threads, so none of them may wait.
    """
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]
