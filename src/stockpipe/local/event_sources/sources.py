"""The two kinds of stream behind a mapping: which shards there are, and how to open one."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from stockpipe.aws import Endpoint
from stockpipe.domain.clock import Clock
from stockpipe.local.event_sources.dynamodb import DynamoDBReader
from stockpipe.local.event_sources.kinesis import KinesisReader
from stockpipe.local.event_sources.mappings import EventMapping, Start
from stockpipe.local.event_sources.readers import Shard, ShardReader, SourceGone, error_code

ClientFor = Callable[[str, str], Any]
"""(service, region) -> boto3 client."""

DAY_S = 24 * 3600.0
LONGEST_INVOCATION_S = 900


class StreamSource(ABC):
    """The stream of one mapping. ``batch_info`` names it in a failure record."""

    batch_info: ClassVar[str]
    service: ClassVar[str]

    def __init__(self, connect: ClientFor, mapping: EventMapping, clock: Clock) -> None:
        self._client = connect(self.service, mapping.region)
        self._mapping, self._clock = mapping, clock
        self.retention_s = DAY_S
        """How long records live: the end of retries for a mapping without an age limit."""

    def shards(self) -> list[Shard]:
        """All shards, open or closed, that still exist. Raises :class:`SourceGone`."""
        try:
            return self._shards()
        except ClientError as error:
            if error_code(error) == "ResourceNotFoundException":
                raise SourceGone(f"{self._mapping.source}: {error}") from error
            raise

    @abstractmethod
    def _shards(self) -> list[Shard]: ...

    @abstractmethod
    def open(
        self, shard: str, after: str | None, since: float, *, first: bool, role: Callable[[], str]
    ) -> ShardReader:
        """A reader after a checkpoint, or at the mapping's starting position.

        ``since`` (epoch seconds) is when the mapping was first met, ``first`` whether that is now.
        """

    @staticmethod
    @abstractmethod
    def moment(arrived: float) -> str:
        """A record's arrival as a failure record writes it."""


class KinesisSource(StreamSource):
    batch_info = "KinesisBatchInfo"
    service = "kinesis"

    def _shards(self) -> list[Shard]:
        arn = self._mapping.source
        summary = self._client.describe_stream_summary(StreamARN=arn)["StreamDescriptionSummary"]
        self.retention_s = summary["RetentionPeriodHours"] * 3600.0
        shards: list[Shard] = []
        page: dict[str, Any] = {"StreamARN": arn}
        while page:
            answer = self._client.list_shards(**page)
            for raw in answer["Shards"]:
                parents = (raw.get("ParentShardId"), raw.get("AdjacentParentShardId"))
                shards.append(Shard(raw["ShardId"], tuple(filter(None, parents))))
            token = answer.get("NextToken")
            page = page | {"NextToken": token} if token else {}
        return shards

    def open(
        self, shard: str, after: str | None, since: float, *, first: bool, role: Callable[[], str]
    ) -> ShardReader:
        start = self._mapping.start
        if start.position == "LATEST":
            # The moment instead of "now", so that a restart or a new shard skips nothing. Arrival
            # times are rounded to milliseconds.
            start = Start("AT_TIMESTAMP", int(since * 1000) / 1000)
        return KinesisReader(
            self._client, self._mapping, shard, start, after, self._clock, role=role
        )

    @staticmethod
    def moment(arrived: float) -> str:
        return iso_ms(arrived)


class DynamoDBSource(StreamSource):
    batch_info = "DDBStreamBatchInfo"
    service = "dynamodbstreams"

    def _shards(self) -> list[Shard]:
        shards: list[Shard] = []
        page: dict[str, Any] = {"StreamArn": self._mapping.source}
        while page:
            description = self._client.describe_stream(**page)["StreamDescription"]
            for raw in description["Shards"]:
                parent = raw.get("ParentShardId")
                shards.append(Shard(raw["ShardId"], (parent,) if parent else ()))
            last = description.get("LastEvaluatedShardId")
            page = page | {"ExclusiveStartShardId": last} if last else {}
        return shards

    def open(
        self, shard: str, after: str | None, since: float, *, first: bool, role: Callable[[], str]
    ) -> ShardReader:
        start = self._mapping.start
        if start.position == "LATEST":
            start = Start("LATEST" if first else "TRIM_HORIZON", since)
        return DynamoDBReader(self._client, self._mapping, shard, start, after, self._clock)

    @staticmethod
    def moment(arrived: float) -> str:
        return datetime.fromtimestamp(arrived, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def open_source(connect: ClientFor, mapping: EventMapping, clock: Clock) -> StreamSource:
    kind = KinesisSource if mapping.kind == "kinesis" else DynamoDBSource
    return kind(connect, mapping, clock)


def iso_ms(moment: float) -> str:
    """Epoch seconds as ISO 8601 in UTC with milliseconds."""
    text = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def connector(endpoint: Endpoint) -> ClientFor:
    """Clients for the embedded cloud, each made once; safe to call from several threads.

    An invocation is never sent twice by the client, and may last as long as a function may.
    """
    import boto3
    from botocore.config import Config

    session = boto3.Session(
        aws_access_key_id=endpoint.access_key_id,
        aws_secret_access_key=endpoint.secret_access_key,
    )
    clients: dict[tuple[str, str], Any] = {}
    lock = threading.Lock()

    def connect(service: str, region: str) -> Any:
        with lock:  # a boto3 session is not safe to make clients from in parallel
            if (service, region) not in clients:
                invokes = service == "lambda"
                clients[service, region] = session.client(  # type: ignore[call-overload]
                    service,
                    region_name=region,
                    endpoint_url=endpoint.url,
                    config=Config(
                        connect_timeout=5,
                        read_timeout=LONGEST_INVOCATION_S + 20 if invokes else 60,
                        retries={"mode": "standard", "total_max_attempts": 1 if invokes else 3},
                        max_pool_connections=64,
                        user_agent_extra="stockpipe-event-sources",
                        s3={"addressing_style": "path"},
                        # A proxy of the environment is for the world outside.
                        proxies={},
                    ),
                )
            return clients[service, region]

    return connect
