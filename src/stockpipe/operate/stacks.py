"""Which stacks there are."""

from __future__ import annotations

from stockpipe.aws import Aws
from stockpipe.domain.names import STACK_TAG


def any_stack(aws: Aws) -> bool:
    """Whether any stack is left in any region of the account.

    Roles are account-wide and every stack has two, so one listing sees them all.
    """
    iam = aws.client("iam")
    for page in iam.get_paginator("list_roles").paginate():
        for role in page["Roles"]:
            tags = iam.list_role_tags(RoleName=role["RoleName"])["Tags"]
            if any(tag["Key"] == STACK_TAG for tag in tags):
                return True
    return False
