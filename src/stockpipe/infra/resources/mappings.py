"""The mappings by which Lambda reads the streams and invokes the functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, NamedTuple

from stockpipe.errors import ProvisionError
from stockpipe.infra.resource import Live, Resource, absent_is_none, together
from stockpipe.infra.waiting import await_gone, await_state

_GONE = "ResourceNotFoundException"


@dataclass
class EventSourceMapping(Resource):
    """An event source mapping: known by its function and source, its own name is a UUID.

    A function has one of ours and no second: that would process every record twice.
    """

    kind = "mapping"
    replace_on: ClassVar = {
        "source": "a mapping keeps its source for life",
        "starting_position": "where a mapping begins is said once",
    }

    function: str = ""
    source: Callable[[], str | None] = field(default=lambda: None)
    batch_size: int = 500
    record_age_s: int = 20 * 3600
    failures: str = ""
    _source: str | None = field(default=None, init=False, repr=False)
    """Of the last reading, so that comparing asks nobody."""

    def desired(self) -> dict[str, Any]:
        return {
            "batch_size": self.batch_size,
            "window_s": 0,
            "tumbling_s": 0,
            "parallelization": 1,
            "bisect": True,
            "retries": -1,
            "record_age_s": self.record_age_s,
            "responses": ["ReportBatchItemFailures"],
            "on_failure": self.failures,
            "filters": [],
            "metrics": ["EventCount"],
            "starting_position": "TRIM_HORIZON",
            "source": self._source,
            "enabled": True,
            "mappings": 1,
            "tags": self.stable_tags,
        }

    def read(self) -> Live | None:
        ours, foreign, _, self._source = self._find()
        if not ours and not foreign:
            return None
        found, tags = (ours or foreign)[0]
        state = str(found["State"])
        settings = {
            "batch_size": found["BatchSize"],
            "window_s": found.get("MaximumBatchingWindowInSeconds", 0),
            "tumbling_s": found.get("TumblingWindowInSeconds", 0),
            "parallelization": found.get("ParallelizationFactor", 1),
            "bisect": found.get("BisectBatchOnFunctionError", False),
            "retries": found.get("MaximumRetryAttempts", -1),
            "record_age_s": found.get("MaximumRecordAgeInSeconds", -1),
            "responses": found.get("FunctionResponseTypes", []),
            "on_failure": found.get("DestinationConfig", {})
            .get("OnFailure", {})
            .get("Destination"),
            "filters": found.get("FilterCriteria", {}).get("Filters", []),
            "metrics": found.get("MetricsConfig", {}).get("Metrics", []),
            "starting_position": found.get("StartingPosition", "TRIM_HORIZON"),
            "source": found["EventSourceArn"],
            "enabled": state in ("Enabled", "Enabling", "Creating", "Updating"),
            "mappings": max(1, len(ours)),
        }
        return self.standing(settings, tags, self._arn(found), state)

    def uuid(self) -> str | None:
        """The live mapping's id, by which CloudWatch knows its metrics."""
        ours = self._find().ours
        return str(ours[0][0]["UUID"]) if ours else None

    def create(self) -> None:
        source = self.source()
        if source is None:
            raise ProvisionError(
                f"mapping {self.name}: its source is not there.",
                hint="Run the same command again.",
            )
        made = self.aws.client("lambda").create_event_source_mapping(
            EventSourceArn=source,
            StartingPosition="TRIM_HORIZON",
            Tags=dict(self.tags),
            **self._configuration(),
        )
        self._await_enabled(made["UUID"])

    def update(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        client, (ours, foreign, *_) = self.aws.client("lambda"), self._find()
        if not ours and not foreign:
            self.create()
            return
        found, _ = (ours or foreign)[0]
        if "tags" in changes:
            client.tag_resource(Resource=self._arn(found), Tags=dict(self.tags))
        if set(changes) - {"tags", "mappings"}:
            client.update_event_source_mapping(
                UUID=found["UUID"],
                TumblingWindowInSeconds=0,
                FilterCriteria={},
                **self._configuration(),
            )
            self._await_enabled(found["UUID"])
        self._delete([twin["UUID"] for twin, _ in ours[1:]])

    def delete(self) -> None:
        found = self._find()
        self._delete([one["UUID"] for one, _ in found.ours], going=found.going)

    def _configuration(self) -> dict[str, Any]:
        return {
            "FunctionName": self.function,
            "Enabled": True,
            "BatchSize": self.batch_size,
            "MaximumBatchingWindowInSeconds": 0,
            "ParallelizationFactor": 1,
            "BisectBatchOnFunctionError": True,
            "MaximumRetryAttempts": -1,
            "MaximumRecordAgeInSeconds": self.record_age_s,
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
            "DestinationConfig": {"OnFailure": {"Destination": self.failures}},
            "MetricsConfig": {"Metrics": ["EventCount"]},
        }

    def _delete(self, uuids: list[str], *, going: Sequence[str] = ()) -> None:
        """Delete these, then wait until they and those that are ``going`` are gone."""
        client = self.aws.client("lambda")
        for uuid in uuids:
            absent_is_none(partial(client.delete_event_source_mapping, UUID=uuid), _GONE)
        for uuid in (*uuids, *going):
            await_gone(self.id, partial(self._state, uuid))

    def _find(self) -> _Found:
        source, listed = together(self.source, self._all)
        standing = [one for one in listed if one["State"] != "Deleting"]
        tags = together(*(partial(self._tags, one) for one in standing)) if standing else []
        tagged = list(zip(standing, tags, strict=True))
        # One from a source that is no longer ours only counts while there is no other.
        tagged.sort(key=lambda pair: (pair[0]["EventSourceArn"] != source, pair[0]["UUID"]))
        return _Found(
            ours=[pair for pair in tagged if self.is_ours(pair[1])],
            foreign=[
                pair
                for pair in tagged
                if not self.is_ours(pair[1]) and pair[0]["EventSourceArn"] == source
            ],
            going=[str(one["UUID"]) for one in listed if one["State"] == "Deleting"],
            source=source,
        )

    def _all(self) -> list[dict[str, Any]]:
        """Every mapping of the function, whatever its source."""
        pages = (
            self.aws.client("lambda")
            .get_paginator("list_event_source_mappings")
            .paginate(FunctionName=self.function)
        )
        found = absent_is_none(
            lambda: [dict(one) for page in pages for one in page["EventSourceMappings"]], _GONE
        )
        return found or []

    def _arn(self, found: Mapping[str, Any]) -> str:
        return found.get("EventSourceMappingArn") or self.names.mapping_arn(found["UUID"])

    def _tags(self, found: Mapping[str, Any]) -> dict[str, str]:
        answer = absent_is_none(
            lambda: self.aws.client("lambda").list_tags(Resource=self._arn(found)), _GONE
        )
        return dict(answer.get("Tags", {})) if answer else {}

    def _state(self, uuid: str) -> str | None:
        answer = absent_is_none(
            lambda: self.aws.client("lambda").get_event_source_mapping(UUID=uuid), _GONE
        )
        return answer and str(answer["State"])

    def _await_enabled(self, uuid: str) -> None:
        await_state(self.id, partial(self._state, uuid), "Enabled")


class _Found(NamedTuple):
    """Mappings of a function with their tags: ours, the one from our source first, strangers from
    our source; the ids of those that are being deleted; and our source, None where it is absent.
    """

    ours: list[tuple[dict[str, Any], dict[str, str]]]
    foreign: list[tuple[dict[str, Any], dict[str, str]]]
    going: list[str]
    source: str | None
