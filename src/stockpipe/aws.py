"""The client factory: the only place where a boto3 client is made, and where targets differ.

``local`` means the endpoint and the generated credentials of the embedded cloud; ``aws`` means
the ordinary credential chain. Everything after that is the same code.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from stockpipe.domain.names import Names
from stockpipe.errors import StockpipeError, UsageError

if TYPE_CHECKING:
    import boto3
    from botocore.client import BaseClient

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 60


class Endpoint(NamedTuple):
    """Where the embedded cloud listens, and the only credentials that it accepts."""

    url: str
    access_key_id: str
    secret_access_key: str


class Aws:
    """Clients for one target, region and stack; safe to share between threads."""

    def __init__(
        self,
        *,
        region: str,
        stack: str = "default",
        endpoint: Endpoint | None = None,
        profile: str | None = None,
        account: str | None = None,
    ) -> None:
        self.region, self.stack, self.endpoint = region, stack, endpoint
        self._profile, self._account = profile, account
        self._clients: dict[str, BaseClient] = {}
        self._lock = threading.Lock()

    def anew(self) -> Aws:
        """The same without its clients: new ones see credentials that were renewed on disk."""
        return Aws(
            region=self.region,
            stack=self.stack,
            endpoint=self.endpoint,
            profile=self._profile,
            account=self._account,
        )

    @property
    def target(self) -> str:
        return "local" if self.endpoint else "aws"

    @cached_property
    def _session(self) -> boto3.Session:
        import boto3
        import botocore.session
        from botocore.exceptions import ProfileNotFound

        if self.endpoint:
            # A profile of the environment is for the other target, and may not even exist.
            no_profile = botocore.session.Session(
                session_vars={"profile": (None, None, None, None)}
            )
            return boto3.Session(
                botocore_session=no_profile,
                aws_access_key_id=self.endpoint.access_key_id,
                aws_secret_access_key=self.endpoint.secret_access_key,
                region_name=self.region,
            )
        try:
            return boto3.Session(profile_name=self._profile, region_name=self.region)
        except ProfileNotFound as error:
            raise UsageError(
                f"{error}.", hint="See `aws configure list-profiles`, or drop --profile."
            ) from None

    def client(self, service: str) -> Any:
        """A boto3 client for a service, made once. Retries: botocore's standard mode."""
        from botocore.config import Config

        with self._lock:  # a boto3 session is not safe to make clients from in parallel
            if service not in self._clients:
                options: dict[str, Any] = {}
                if self.endpoint:
                    options["endpoint_url"] = self.endpoint.url
                self._clients[service] = self._session.client(  # type: ignore[call-overload]
                    service,
                    config=Config(
                        connect_timeout=CONNECT_TIMEOUT_S,
                        read_timeout=READ_TIMEOUT_S,
                        retries={"mode": "standard", "max_attempts": 5},
                        max_pool_connections=32,
                        user_agent_extra="stockpipe",
                        s3={"addressing_style": "path"} if self.endpoint else None,
                        # A proxy of the environment is for the world outside.
                        proxies={} if self.endpoint else None,
                    ),
                    **options,
                )
            return self._clients[service]

    @cached_property
    def account_id(self) -> str:
        """The account of the credentials; raises :class:`StockpipeError` without any."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            found: str = self.client("sts").get_caller_identity()["Account"]
        except (BotoCoreError, ClientError) as error:
            raise StockpipeError(
                f"AWS does not accept the credentials: {error}",
                hint="Run `aws configure` or `aws sso login`, or leave out --target aws: "
                "the embedded cloud needs no account.",
            ) from error
        if self._account and found != self._account:
            raise StockpipeError(
                f"These credentials belong to account {found}; "
                f"the settings allow only {self._account}.",
                hint="Choose another --profile, or change `account` in the settings.",
            )
        return found

    @property
    def names(self) -> Names:
        return Names(self.stack, self.region, self.account_id)


Connect = Callable[[], Aws]
