"""Limits of an account that a plan must not run into."""

from __future__ import annotations

from collections.abc import Sequence

from stockpipe.aws import Aws
from stockpipe.errors import ProvisionError
from stockpipe.infra.resource import Resource
from stockpipe.infra.resources.lambda_ import Function

UNRESERVED_MINIMUM = 100
"""Lambda keeps so many executions for the functions that reserve none.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
"""


def check_concurrency(aws: Aws, resources: Sequence[Resource]) -> None:
    """Raises :class:`ProvisionError` where our reservations would leave the account too little."""
    functions = [one for one in resources if isinstance(one, Function)]
    wanted = sum(one.reserved_concurrency or 0 for one in functions)
    if not wanted:
        return
    account = aws.client("lambda").get_account_settings()["AccountLimit"]
    reserved = 0
    for function in functions:
        live = function.read()
        reserved += (live and live.settings["reserved_concurrency"]) or 0
    left = account["UnreservedConcurrentExecutions"] + reserved - wanted
    if left < UNRESERVED_MINIMUM:
        raise ProvisionError(
            f"reserved_concurrency would leave {left} of the account's "
            f"{account['ConcurrentExecutions']} concurrent executions unreserved; Lambda keeps "
            f"{UNRESERVED_MINIMUM}. Nothing was changed.",
            hint="Lower or remove reserved_concurrency, or raise the account's quota.",
        )
