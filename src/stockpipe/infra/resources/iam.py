"""The two roles, each with its one inline policy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stockpipe.infra.policies import trust_policy
from stockpipe.infra.resource import (
    Live,
    Resource,
    absent_is_none,
    document,
    tag_list,
    tag_map,
)

POLICY_NAME = "stockpipe"


@dataclass
class Role(Resource):
    """A role that Lambda assumes. ``policy`` is its whole permission."""

    kind = "role"

    policy: dict[str, Any] = field(default_factory=dict)
    boundary: str | None = None

    def desired(self) -> dict[str, Any]:
        return {
            "trust": trust_policy(),
            "policy": self.policy,
            "boundary": self.boundary,
            "tags": self.stable_tags,
        }

    def read(self) -> Live | None:
        iam = self.aws.client("iam")
        answer = absent_is_none(lambda: iam.get_role(RoleName=self.name), "NoSuchEntity")
        if answer is None:
            return None
        role = answer["Role"]
        policy = absent_is_none(
            lambda: iam.get_role_policy(RoleName=self.name, PolicyName=POLICY_NAME),
            "NoSuchEntity",
        )
        tags = tag_map(role.get("Tags"))
        settings = {
            "trust": document(role["AssumeRolePolicyDocument"]),
            "policy": policy and document(policy["PolicyDocument"]),
            "boundary": role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn"),
        }
        return self.standing(settings, tags, role["Arn"])

    def create(self) -> None:
        iam = self.aws.client("iam")
        iam.create_role(
            RoleName=self.name,
            AssumeRolePolicyDocument=json.dumps(trust_policy()),
            Description="Made by stockpipe",
            Tags=tag_list(self.tags),
            **({"PermissionsBoundary": self.boundary} if self.boundary else {}),
        )
        self._put_policy()

    def update(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        iam = self.aws.client("iam")
        if "tags" in changes:
            iam.tag_role(RoleName=self.name, Tags=tag_list(self.tags))
        if "trust" in changes:
            iam.update_assume_role_policy(
                RoleName=self.name, PolicyDocument=json.dumps(trust_policy())
            )
        if "boundary" in changes:
            if self.boundary:
                iam.put_role_permissions_boundary(
                    RoleName=self.name, PermissionsBoundary=self.boundary
                )
            else:
                iam.delete_role_permissions_boundary(RoleName=self.name)
        if "policy" in changes:
            self._put_policy()

    def delete(self) -> None:
        iam = self.aws.client("iam")
        if absent_is_none(lambda: iam.get_role(RoleName=self.name), "NoSuchEntity") is None:
            return
        for page in iam.get_paginator("list_role_policies").paginate(RoleName=self.name):
            for name in page["PolicyNames"]:
                iam.delete_role_policy(RoleName=self.name, PolicyName=name)
        for page in iam.get_paginator("list_attached_role_policies").paginate(RoleName=self.name):
            for attached in page["AttachedPolicies"]:
                iam.detach_role_policy(RoleName=self.name, PolicyArn=attached["PolicyArn"])
        absent_is_none(lambda: iam.delete_role(RoleName=self.name), "NoSuchEntity")

    def _put_policy(self) -> None:
        self.aws.client("iam").put_role_policy(
            RoleName=self.name,
            PolicyName=POLICY_NAME,
            PolicyDocument=json.dumps(self.policy),
        )
