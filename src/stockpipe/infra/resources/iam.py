"""The two roles, each with its one inline policy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from stockpipe.infra.policies import trust_policy
from stockpipe.infra.resource import (
    Live,
    Resource,
    absent_is_none,
    comparable_policy,
    tag_list,
    tag_map,
    together,
)
from stockpipe.infra.waiting import once_visible

POLICY_NAME = "stockpipe"
_GONE = "NoSuchEntity"


@dataclass
class Role(Resource):
    """A role that Lambda assumes. ``policy`` is its whole permission: no other stays."""

    kind = "role"

    policy: dict[str, Any] = field(default_factory=dict)
    boundary: str | None = None

    def desired(self) -> dict[str, Any]:
        return {
            "trust": comparable_policy(trust_policy()),
            "policy": comparable_policy(self.policy),
            "inline_policies": [POLICY_NAME],
            "attached_policies": [],
            "boundary": self.boundary,
            "tags": self.stable_tags,
        }

    def read(self) -> Live | None:
        iam = self.aws.client("iam")
        answer, policy, inline, attached = together(
            lambda: absent_is_none(lambda: iam.get_role(RoleName=self.name), _GONE),
            lambda: absent_is_none(
                lambda: iam.get_role_policy(RoleName=self.name, PolicyName=POLICY_NAME), _GONE
            ),
            self._inline,
            self._attached,
        )
        if answer is None:
            return None
        role = answer["Role"]
        settings = {
            "trust": comparable_policy(role["AssumeRolePolicyDocument"]),
            "policy": policy and comparable_policy(policy["PolicyDocument"]),
            "inline_policies": inline,
            "attached_policies": attached,
            "boundary": role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn"),
        }
        return self.standing(settings, tag_map(role.get("Tags")), role["Arn"])

    def create(self) -> None:
        self.aws.client("iam").create_role(
            RoleName=self.name,
            AssumeRolePolicyDocument=json.dumps(trust_policy()),
            Description="Made by stockpipe",
            Tags=tag_list(self.tags),
            **({"PermissionsBoundary": self.boundary} if self.boundary else {}),
        )
        once_visible(self._put_policy, _GONE)

    def update(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        iam = self.aws.client("iam")
        if "tags" in changes:
            iam.tag_role(RoleName=self.name, Tags=tag_list(self.tags))
        if "boundary" in changes:  # before the rest, which may be granted only within it
            if self.boundary:
                iam.put_role_permissions_boundary(
                    RoleName=self.name, PermissionsBoundary=self.boundary
                )
            else:
                absent_is_none(
                    lambda: iam.delete_role_permissions_boundary(RoleName=self.name), _GONE
                )
        if "trust" in changes:
            iam.update_assume_role_policy(
                RoleName=self.name, PolicyDocument=json.dumps(trust_policy())
            )
        if {"policy", "inline_policies"} & set(changes):
            self._put_policy()
        self._strip(keep=POLICY_NAME, changes=changes)

    def delete(self) -> None:
        self._strip()
        iam = self.aws.client("iam")
        absent_is_none(lambda: iam.delete_role(RoleName=self.name), _GONE)

    def _strip(self, *, keep: str | None = None, changes: Mapping[str, Any] | None = None) -> None:
        """Take all policies but ``keep`` away; with ``changes`` only of the kinds named there."""
        iam = self.aws.client("iam")
        if changes is None or "inline_policies" in changes:
            for name in self._inline():
                if name != keep:
                    absent_is_none(
                        partial(iam.delete_role_policy, RoleName=self.name, PolicyName=name), _GONE
                    )
        if changes is None or "attached_policies" in changes:
            for arn in self._attached():
                absent_is_none(
                    partial(iam.detach_role_policy, RoleName=self.name, PolicyArn=arn), _GONE
                )

    def _inline(self) -> list[str]:
        pages = self.aws.client("iam").get_paginator("list_role_policies")
        found = absent_is_none(
            lambda: [
                str(name)
                for page in pages.paginate(RoleName=self.name)
                for name in page["PolicyNames"]
            ],
            _GONE,
        )
        return sorted(found or [])

    def _attached(self) -> list[str]:
        pages = self.aws.client("iam").get_paginator("list_attached_role_policies")
        found = absent_is_none(
            lambda: [
                str(one["PolicyArn"])
                for page in pages.paginate(RoleName=self.name)
                for one in page["AttachedPolicies"]
            ],
            _GONE,
        )
        return sorted(found or [])

    def _put_policy(self) -> None:
        self.aws.client("iam").put_role_policy(
            RoleName=self.name,
            PolicyName=POLICY_NAME,
            PolicyDocument=json.dumps(self.policy),
        )
