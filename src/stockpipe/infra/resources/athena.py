"""The workgroup: where results go, how much one query may scan; and its named queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from stockpipe.aws import Aws
from stockpipe.errors import ProvisionError
from stockpipe.functions.faults import error_code
from stockpipe.infra.resource import Live, Resource, tag_list, tag_map, together

MARK = "(stockpipe)"
"""At the end of a named query's description: it is ours. Named queries take no tags."""

_PAGE = 50
"""As many named queries as one BatchGetNamedQuery takes."""


@dataclass
class Workgroup(Resource):
    """A workgroup whose settings no client can override."""

    kind = "workgroup"

    output: str = ""
    cutoff_bytes: int = 1 << 30

    def desired(self) -> dict[str, Any]:
        return {
            "output": self.output,
            "encryption": "SSE_S3",
            "bucket_owner": self.names.account,
            "cutoff_bytes": self.cutoff_bytes,
            "enforced": True,
            "metrics": True,
            "state": "ENABLED",
            "tags": self.stable_tags,
        }

    def read(self) -> Live | None:
        athena = self.aws.client("athena")
        answer = _missing_is_none(lambda: athena.get_work_group(WorkGroup=self.name))
        if answer is None:
            return None
        group = answer["WorkGroup"]
        configuration = group.get("Configuration", {})
        results = configuration.get("ResultConfiguration", {})
        arn = self.names.workgroup_arn
        tags = tag_map(athena.list_tags_for_resource(ResourceARN=arn)["Tags"])
        settings = {
            "output": results.get("OutputLocation"),
            "encryption": results.get("EncryptionConfiguration", {}).get("EncryptionOption"),
            "bucket_owner": results.get("ExpectedBucketOwner"),
            "cutoff_bytes": configuration.get("BytesScannedCutoffPerQuery"),
            "enforced": configuration.get("EnforceWorkGroupConfiguration"),
            "metrics": configuration.get("PublishCloudWatchMetricsEnabled"),
            "state": group.get("State", "ENABLED"),
        }
        return self.standing(settings, tags, arn)

    def create(self) -> None:
        self.aws.client("athena").create_work_group(
            Name=self.name,
            Description="Made by stockpipe",
            Configuration={**self._configuration(), "ResultConfiguration": self._results()},
            Tags=tag_list(self.tags),
        )

    def update(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        athena = self.aws.client("athena")
        if "tags" in changes:
            athena.tag_resource(ResourceARN=self.names.workgroup_arn, Tags=tag_list(self.tags))
        if set(changes) - {"tags"}:
            updates = {**self._configuration(), "ResultConfigurationUpdates": self._results()}
            athena.update_work_group(
                WorkGroup=self.name, ConfigurationUpdates=updates, State="ENABLED"
            )

    def delete(self) -> None:
        """Delete it with its history, without which Athena deletes no workgroup.

        That takes every named query along, so this raises :class:`ProvisionError` where one of
        them is not ours.
        """
        if why := self.guests():
            raise ProvisionError(
                f"workgroup {self.name} is kept: {why}.",
                hint="Delete them, or save them in another workgroup, and run it again.",
            )
        athena = self.aws.client("athena")
        _missing_is_none(
            lambda: athena.delete_work_group(WorkGroup=self.name, RecursiveDeleteOption=True)
        )

    def guests(self) -> str | None:
        names = [one["Name"] for one in _named_queries(self.aws, self.name) if not _is_ours(one)]
        return f"it holds named queries that are not ours: {', '.join(names)}" if names else None

    def _configuration(self) -> dict[str, Any]:
        return {
            "EnforceWorkGroupConfiguration": True,
            "PublishCloudWatchMetricsEnabled": True,
            "BytesScannedCutoffPerQuery": self.cutoff_bytes,
        }

    def _results(self) -> dict[str, Any]:
        return {
            "OutputLocation": self.output,
            "EncryptionConfiguration": {"EncryptionOption": "SSE_S3"},
            "ExpectedBucketOwner": self.names.account,
        }


@dataclass
class NamedQueries(Resource):
    """The named queries of a workgroup: ``queries`` maps each name to (description, SQL).

    Ours by the workgroup and the mark; others in the same workgroup are let alone. Athena takes
    any number of the same name, so one that was changed is made anew and the old one deleted: a
    kill in between leaves two, never none, and two are one too many to the next run.
    """

    kind = "named-queries"

    workgroup: str = ""
    database: str = ""
    queries: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def desired(self) -> dict[str, Any]:
        return {
            "queries": {name: sql for name, (_, sql) in self.queries.items()},
            "descriptions": {name: _marked(text) for name, (text, _) in self.queries.items()},
            "databases": [self.database],
            "surplus": [],
        }

    def read(self) -> Live | None:
        found = self._ours()
        if not found:
            return None
        kept, surplus = self._sorted(found)
        shown = {one["Name"]: one for one in reversed(found)} | kept
        settings = {
            "queries": {name: one["QueryString"] for name, one in shown.items()},
            "descriptions": {name: one["Description"] for name, one in shown.items()},
            "databases": sorted({one["Database"] for one in shown.values()}),
            # What is shown as changed is not shown as surplus too.
            "surplus": sorted(one["Name"] for one in surplus if one not in shown.values()),
        }
        return Live(settings, ours=True, arn=self.names.workgroup_arn)

    def create(self) -> None:
        self._converge()

    def update(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        self._converge()

    def delete(self) -> None:
        self._remove(self._ours())

    def _converge(self) -> None:
        """Make what is missing, then remove what is wrong or double.

        Two provisions at once may both make a query; afterwards both see both, and keep the same
        one. No ClientRequestToken prevents it: one made of the content would make Athena answer
        with a query that was deleted since. (botocore sends one per call, for its retries.)
        """
        found = self._ours()
        kept, surplus = self._sorted(found)
        missing = self.queries.keys() - kept.keys()
        if missing:
            together(*(partial(self._make, name) for name in sorted(missing)))
            _, surplus = self._sorted(self._ours())
        self._remove(surplus)

    def _sorted(
        self, found: list[dict[str, Any]]
    ) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
        """By name the one to keep, and all others; ``found`` is in the order of the ids."""
        kept: dict[str, dict[str, Any]] = {}
        surplus = []
        for one in found:
            wanted = self.queries.get(one["Name"])
            right = wanted is not None and (
                (one["Description"], one["QueryString"], one["Database"])
                == (_marked(wanted[0]), wanted[1], self.database)
            )
            if right and one["Name"] not in kept:
                kept[one["Name"]] = one
            else:
                surplus.append(one)
        return kept, surplus

    def _ours(self) -> list[dict[str, Any]]:
        return [one for one in _named_queries(self.aws, self.workgroup) if _is_ours(one)]

    def _make(self, name: str) -> None:
        description, sql = self.queries[name]
        self.aws.client("athena").create_named_query(
            Name=name,
            Description=_marked(description),
            Database=self.database,
            QueryString=sql,
            WorkGroup=self.workgroup,
        )

    def _remove(self, found: list[dict[str, Any]]) -> None:
        athena = self.aws.client("athena")

        def remove(query_id: str) -> None:
            _missing_is_none(lambda: athena.delete_named_query(NamedQueryId=query_id))

        if found:
            together(*(partial(remove, one["NamedQueryId"]) for one in found))


def _marked(description: str) -> str:
    return f"{description} {MARK}"


def _is_ours(query: Mapping[str, Any]) -> bool:
    return str(query.get("Description", "")).endswith(MARK)


def _named_queries(aws: Aws, workgroup: str) -> list[dict[str, Any]]:
    """All named queries of a workgroup, in the order of their ids; none where it is missing."""
    athena = aws.client("athena")
    pages = athena.get_paginator("list_named_queries").paginate(WorkGroup=workgroup)
    ids = _missing_is_none(lambda: [one for page in pages for one in page["NamedQueryIds"]]) or []
    found = []
    for start in range(0, len(ids), _PAGE):
        answer = athena.batch_get_named_query(NamedQueryIds=ids[start : start + _PAGE])
        found += answer["NamedQueries"]
    return sorted(found, key=lambda one: str(one["NamedQueryId"]))


def _missing_is_none(call: Callable[[], Any]) -> Any:
    """The call's answer, or None where Athena says that there is no such thing.

    It has one code for whatever is wrong with a request; a workgroup that does not exist is
    "WorkGroup is not found."
    """
    try:
        return call()
    except ClientError as error:
        if error_code(error) == "InvalidRequestException" and "not found" in str(error):
            return None
        raise
