"""What Athena knows of the archive: a database, and a table with partition projection.

With projection Athena derives the days from the query's conditions: no crawler, no MSCK, no
partition to register. https://docs.aws.amazon.com/athena/latest/ug/partition-projection.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stockpipe.domain.names import ADOPTED_TAG, REGION_TAG, STACK_TAG
from stockpipe.errors import ProvisionError
from stockpipe.infra.resource import Live, Resource, absent_is_none, matching

SERDE = "org.apache.hive.hcatalog.data.JsonSerDe"
INPUT_FORMAT = "org.apache.hadoop.mapred.TextInputFormat"
OUTPUT_FORMAT = "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat"
_GONE = "EntityNotFoundException"


@dataclass
class Database(Resource):
    """A Glue database. Its identity stands in its tags, and in its parameters for the reader."""

    kind = "database"

    def desired(self) -> dict[str, Any]:
        return {"tags": self.stable_tags}

    def read(self) -> Live | None:
        glue = self.aws.client("glue")
        if absent_is_none(lambda: glue.get_database(Name=self.name), _GONE) is None:
            return None
        arn = self.names.database_arn
        answer = absent_is_none(lambda: glue.get_tags(ResourceArn=arn), _GONE)
        if answer is None:  # deleted between the two calls
            return None
        return self.standing({}, answer["Tags"], arn)

    def create(self) -> None:
        self.aws.client("glue").create_database(
            DatabaseInput={"Name": self.name, "Description": "Made by stockpipe"},
            Tags=dict(self.tags),
        )

    def update(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        self.aws.client("glue").tag_resource(
            ResourceArn=self.names.database_arn, TagsToAdd=dict(self.tags)
        )

    def delete(self) -> None:
        """Delete it. Glue deletes all of its tables with it, so this raises
        :class:`ProvisionError` where one of them is not ours.
        """
        if why := self.guests():
            raise ProvisionError(
                f"database {self.name} is kept: {why}.",
                hint="Drop them, or make them anew in another database, and run it again.",
            )
        glue = self.aws.client("glue")
        absent_is_none(lambda: glue.delete_database(Name=self.name), _GONE)

    def guests(self) -> str | None:
        pages = self.aws.client("glue").get_paginator("get_tables").paginate(DatabaseName=self.name)
        tables = absent_is_none(lambda: [one for page in pages for one in page["TableList"]], _GONE)
        foreign = [
            one["Name"] for one in tables or [] if not self.is_ours(one.get("Parameters") or {})
        ]
        return f"it holds tables that are not ours: {', '.join(foreign)}" if foreign else None


@dataclass
class CatalogTable(Resource):
    """The table over ``location``; tables take no tags, so a parameter marks it as ours."""

    kind = "catalog-table"

    database: str = ""
    location: str = ""
    columns: tuple[tuple[str, str], ...] = ()

    def desired(self) -> dict[str, Any]:
        return {
            "location": self.location,
            "columns": [list(column) for column in self.columns],
            "partition_keys": [["day", "string"]],
            "serde": SERDE,
            "parameters": self._parameters(),
        }

    def _parameters(self) -> dict[str, str]:
        return {
            STACK_TAG: self.names.stack,
            REGION_TAG: self.names.region,
            **{key: value for key, value in self.tags.items() if key == ADOPTED_TAG},
            "EXTERNAL": "TRUE",
            "classification": "json",
            "projection.enabled": "true",
            "projection.day.type": "date",
            "projection.day.format": "yyyy-MM-dd",
            "projection.day.range": "1970-01-01,NOW+1DAYS",
            "projection.day.interval": "1",
            "projection.day.interval.unit": "DAYS",
            "storage.location.template": f"{self.location}day=${{day}}",
        }

    def read(self) -> Live | None:
        glue = self.aws.client("glue")
        answer = absent_is_none(
            lambda: glue.get_table(DatabaseName=self.database, Name=self.name), _GONE
        )
        if answer is None:
            return None
        table = answer["Table"]
        # What has our name may be anything, such as a view, which is stored nowhere.
        storage, parameters = table.get("StorageDescriptor", {}), table.get("Parameters", {})
        return Live(
            settings={
                "location": storage.get("Location"),
                "columns": _columns(storage.get("Columns", [])),
                "partition_keys": _columns(table.get("PartitionKeys", [])),
                "serde": storage.get("SerdeInfo", {}).get("SerializationLibrary"),
                "parameters": matching(parameters, self._parameters()),
            },
            ours=self.is_ours(parameters),
            arn=self.names.glue_table_arn,
            adopted=ADOPTED_TAG in parameters,
        )

    def create(self) -> None:
        self.aws.client("glue").create_table(DatabaseName=self.database, TableInput=self._input())

    def update(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        self.aws.client("glue").update_table(DatabaseName=self.database, TableInput=self._input())

    def delete(self) -> None:
        glue = self.aws.client("glue")
        absent_is_none(lambda: glue.delete_table(DatabaseName=self.database, Name=self.name), _GONE)

    def _input(self) -> dict[str, Any]:
        return {
            "Name": self.name,
            "Description": "Raw quotes, one JSON object per line; made by stockpipe",
            "TableType": "EXTERNAL_TABLE",
            "Parameters": self._parameters(),
            "PartitionKeys": [{"Name": "day", "Type": "string"}],
            "StorageDescriptor": {
                "Columns": [{"Name": name, "Type": kind} for name, kind in self.columns],
                "Location": self.location,
                "InputFormat": INPUT_FORMAT,
                "OutputFormat": OUTPUT_FORMAT,
                "SerdeInfo": {"SerializationLibrary": SERDE},
            },
        }


def _columns(found: list[dict[str, Any]]) -> list[list[str | None]]:
    return [[one["Name"], one.get("Type")] for one in found]
