"""The two functions and the mappings that feed them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from stockpipe.errors import ProvisionError
from stockpipe.infra.bundle import Bundle
from stockpipe.infra.resource import Live, Resource, absent_is_none
from stockpipe.infra.waiting import await_gone, await_state

RUNTIME = "python3.13"
ARCHITECTURE = "arm64"
MEMORY_MB = 256
TIMEOUT_S = 60


@dataclass
class Function(Resource):
    """A function out of the one zip."""

    kind = "function"

    handler: str = ""
    role: str = ""
    bundle: Bundle = field(default_factory=lambda: Bundle(b""))
    environment: dict[str, str] = field(default_factory=dict)

    def desired(self) -> dict[str, Any]:
        return {
            "code": self.bundle.code_sha256,
            "handler": self.handler,
            "role": self.names.role_arn(self.role),
            "runtime": RUNTIME,
            "architecture": ARCHITECTURE,
            "memory_mb": MEMORY_MB,
            "timeout_s": TIMEOUT_S,
            "environment": self.environment,
            "tags": self.stable_tags,
        }

    def read(self) -> Live | None:
        answer = absent_is_none(
            lambda: self.aws.client("lambda").get_function(FunctionName=self.name),
            "ResourceNotFoundException",
        )
        if answer is None:
            return None
        configuration, tags = answer["Configuration"], answer.get("Tags", {})
        settings = {
            "code": configuration["CodeSha256"],
            "handler": configuration["Handler"],
            "role": configuration["Role"],
            "runtime": configuration["Runtime"],
            "architecture": configuration.get("Architectures", ["x86_64"])[0],
            "memory_mb": configuration["MemorySize"],
            "timeout_s": configuration["Timeout"],
            "environment": configuration.get("Environment", {}).get("Variables", {}),
        }
        state = configuration.get("State", "Active")
        return self.standing(settings, tags, configuration["FunctionArn"], state)

    def create(self) -> None:
        self.aws.client("lambda").create_function(
            FunctionName=self.name,
            Code={"ZipFile": self.bundle.data},
            Architectures=[ARCHITECTURE],
            Description="Made by stockpipe",
            Tags=dict(self.tags),
            **self._configuration(),
        )
        self._await_settled()

    def update(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        client = self.aws.client("lambda")
        if "tags" in changes:
            client.tag_resource(Resource=self.names.function_arn(self.name), Tags=dict(self.tags))
        if set(changes) - {"tags", "code", "architecture"}:
            client.update_function_configuration(FunctionName=self.name, **self._configuration())
            self._await_settled()
        if {"code", "architecture"} & set(changes):
            client.update_function_code(
                FunctionName=self.name,
                ZipFile=self.bundle.data,
                Architectures=[ARCHITECTURE],
            )
            self._await_settled()

    def delete(self) -> None:
        client = self.aws.client("lambda")
        absent_is_none(
            lambda: client.delete_function(FunctionName=self.name), "ResourceNotFoundException"
        )

    def _configuration(self) -> dict[str, Any]:
        return {
            "Role": self.names.role_arn(self.role),
            "Handler": self.handler,
            "Runtime": RUNTIME,
            "MemorySize": MEMORY_MB,
            "Timeout": TIMEOUT_S,
            "Environment": {"Variables": self.environment},
        }

    def _await_settled(self) -> None:
        def state() -> str:
            found = self.aws.client("lambda").get_function_configuration(FunctionName=self.name)
            if found.get("State") == "Failed" or found.get("LastUpdateStatus") == "Failed":
                raise ProvisionError(
                    f"function {self.name}: Lambda failed it: "
                    f"{found.get('StateReason') or found.get('LastUpdateStatusReason')}"
                )
            pending = found.get("State", "Active") == "Pending"
            updating = found.get("LastUpdateStatus", "Successful") == "InProgress"
            return "pending" if pending or updating else "settled"

        await_state(self.id, state, "settled")


@dataclass
class EventSourceMapping(Resource):
    """An event source mapping: known by its function and source, its own name is a UUID."""

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

    def desired(self) -> dict[str, Any]:
        return {
            "batch_size": self.batch_size,
            "window_s": 0,
            "parallelization": 1,
            "bisect": True,
            "retries": -1,
            "record_age_s": self.record_age_s,
            "responses": ["ReportBatchItemFailures"],
            "on_failure": self.failures,
            "starting_position": "TRIM_HORIZON",
            "source": self.source(),
            "enabled": True,
            "tags": self.stable_tags,
        }

    def read(self) -> Live | None:
        found = self._find()
        if found is None:
            return None
        arn, tags = self._arn(found), self._tags(found)
        state = str(found["State"])
        settings = {
            "batch_size": found["BatchSize"],
            "window_s": found.get("MaximumBatchingWindowInSeconds", 0),
            "parallelization": found.get("ParallelizationFactor", 1),
            "bisect": found.get("BisectBatchOnFunctionError", False),
            "retries": found.get("MaximumRetryAttempts", -1),
            "record_age_s": found.get("MaximumRecordAgeInSeconds", -1),
            "responses": found.get("FunctionResponseTypes", []),
            "on_failure": found.get("DestinationConfig", {})
            .get("OnFailure", {})
            .get("Destination"),
            "starting_position": found.get("StartingPosition", "TRIM_HORIZON"),
            "source": found["EventSourceArn"],
            "enabled": state in ("Enabled", "Enabling", "Creating", "Updating"),
        }
        return self.standing(settings, tags, arn, state)

    def create(self) -> None:
        source = self.source()
        if source is None:
            raise ProvisionError(
                f"mapping {self.name}: its source is not there.",
                hint="Run the same command again.",
            )
        self.aws.client("lambda").create_event_source_mapping(
            EventSourceArn=source,
            StartingPosition="TRIM_HORIZON",
            Tags=dict(self.tags),
            **self._configuration(),
        )
        self._await_enabled()

    def update(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        client, found = self.aws.client("lambda"), self._find()
        if found is None:
            self.create()
            return
        if "tags" in changes:
            client.tag_resource(Resource=self._arn(found), Tags=dict(self.tags))
        if set(changes) - {"tags"}:
            client.update_event_source_mapping(UUID=found["UUID"], **self._configuration())
            self._await_enabled()

    def delete(self) -> None:
        client = self.aws.client("lambda")
        for found in self._all():
            uuid = found["UUID"]
            if found["State"] != "Deleting":
                if not self.is_ours(self._tags(found)):
                    continue
                absent_is_none(
                    partial(client.delete_event_source_mapping, UUID=uuid),
                    "ResourceNotFoundException",
                )
            await_gone(self.id, partial(self._state, uuid))

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
        }

    def _all(self) -> list[dict[str, Any]]:
        """Every mapping of the function, whatever its source."""
        pages = (
            self.aws.client("lambda")
            .get_paginator("list_event_source_mappings")
            .paginate(FunctionName=self.function)
        )
        found = absent_is_none(
            lambda: [dict(one) for page in pages for one in page["EventSourceMappings"]],
            "ResourceNotFoundException",
        )
        return found or []

    def _find(self) -> dict[str, Any] | None:
        """The mapping from our source, or else one from a source that is no longer ours."""
        source = self.source()
        found = [one for one in self._all() if one["State"] != "Deleting"]
        found.sort(key=lambda one: one["EventSourceArn"] != source)
        return found[0] if found else None

    def _arn(self, found: Mapping[str, Any]) -> str:
        return found.get("EventSourceMappingArn") or self.names.mapping_arn(found["UUID"])

    def _tags(self, found: Mapping[str, Any]) -> dict[str, str]:
        answer = self.aws.client("lambda").list_tags(Resource=self._arn(found))
        return dict(answer.get("Tags", {}))

    def _state(self, uuid: str) -> str | None:
        answer = absent_is_none(
            lambda: self.aws.client("lambda").get_event_source_mapping(UUID=uuid),
            "ResourceNotFoundException",
        )
        return answer and str(answer["State"])

    def _await_enabled(self) -> None:
        def state() -> str | None:
            found = self._find()
            return str(found["State"]) if found else None

        await_state(self.id, state, "Enabled")
