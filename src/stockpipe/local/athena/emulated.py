"""The fix of the emulated Athena: real answers, real byte counts, and no way to the host.

As it is, ministack 1.5.33 hands the text of a statement to DuckDB: Athena's functions fail, what
only DuckDB knows works, any file of the host can be read, JSON tables ignore their columns, the
bytes scanned are invented, and a stopped query succeeds nevertheless. :func:`install` replaces the
functions behind StartQueryExecution, GetQueryExecution, GetQueryResults and StopQueryExecution;
table DDL stays ministack's. How a statement is run is in the modules ``athena_*``.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from stockpipe.errors import LocalCloudError
from stockpipe.local.athena.data import JsonTable, ObjectStore
from stockpipe.local.athena.engine import RESULT_LIMIT, Answer, Cancelled, Run
from stockpipe.local.athena.judge import Refused, judge
from stockpipe.local.athena.translate import CATALOG, Statement, TableName
from stockpipe.local.athena.work import Workers
from stockpipe.local.emulator.parts import replace

Response = tuple[int, dict[str, str], bytes]

RESULTS_KEPT = 20
"""Executions whose rows stay in memory, fewer when they are large; Athena keeps them 45 days."""

_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
_OPEN = frozenset({"QUEUED", "RUNNING"})
# What is used and not replaced; a release without it is not the one that we know.
_USED = {
    "athena": ("_executions", "_workgroups"),
    "glue": ("_databases", "_tables"),
    "s3": ("DATA_DIR", "_buckets", "_object_disk_path", "_plain_path_key", "_put_object"),
}

_log = logging.getLogger("stockpipe.local.athena.emulated")


class _CutOff(Exception):
    """The statement would scan more than the workgroup allows."""


def install() -> None:
    """Replace ministack's functions; raises :class:`LocalCloudError` naming one that is gone."""
    from ministack.core import responses
    from ministack.services import athena, glue, s3

    for module in (athena, glue, s3):
        for name in _USED[module.__name__.rpartition(".")[2]]:
            if not hasattr(module, name):
                raise LocalCloudError(
                    f"This ministack has no {module.__name__}.{name}.",
                    hint="pip install 'stockpipe[local]'",
                )
    fixed = FixedAthena(athena, glue, s3, responses)
    fixed.start_stock = replace(athena, "_start_query_execution", fixed.start)
    fixed.execute_stock = replace(athena, "_execute_query", fixed.execute)
    fixed.get_stock = replace(athena, "_get_query_execution", fixed.get)
    fixed.results_stock = replace(athena, "_get_query_results", fixed.results)
    fixed.stop_stock = replace(athena, "_stop_query_execution", fixed.stop)


class FixedAthena:
    """The replaced functions and what they share. The ``_stock`` ones are ministack's."""

    start_stock: Callable[[dict[str, Any]], Response]
    execute_stock: Callable[..., Awaitable[None]]
    get_stock: Callable[[dict[str, Any]], Response]
    results_stock: Callable[[dict[str, Any]], Response]
    stop_stock: Callable[[dict[str, Any]], Response]

    def __init__(
        self, athena: ModuleType, glue: ModuleType, s3: ModuleType, responses: ModuleType
    ) -> None:
        self._athena, self._glue, self._s3, self._responses = athena, glue, s3, responses
        self._store = ObjectStore(s3, responses.get_account_id)
        self._runs: dict[str, Run] = {}
        self._workers = Workers()
        self._kept: deque[tuple[dict[str, Any], int]] = deque()

    def start(self, data: dict[str, Any]) -> Response:
        """StartQueryExecution: only in a workgroup that exists, and by its configuration."""
        name = data.get("WorkGroup") or "primary"
        group = self._athena._workgroups.get(name)
        if group is None:
            return self._invalid(f"WorkGroup {name} is not found.")
        if group.get("State") == "DISABLED":
            return self._invalid(f"WorkGroup {name} is disabled.")
        configuration = group.get("Configuration") or {}
        if configuration.get("EnforceWorkGroupConfiguration", True) and (
            configuration.get("ResultConfiguration") or {}
        ).get("OutputLocation"):
            data = {key: value for key, value in data.items() if key != "ResultConfiguration"}
        response = self.start_stock(data)
        if response[0] == 200:
            self._runs[json.loads(response[2])["QueryExecutionId"]] = Run()
        return response

    async def execute(
        self, query_id: str, query: str, database: str, ddl: Any, catalog: str | None = None
    ) -> None:
        """What StartQueryExecution leaves running in the background."""
        execution, run = self._athena._executions.get(query_id), self._runs.get(query_id)
        try:
            if ddl is not None:
                await self.execute_stock(query_id, query, database, ddl, catalog)
            elif execution is not None and run is not None:
                async with self._workers.slots:
                    await self._execute(execution, run, query, database)
        finally:
            self._runs.pop(query_id, None)

    async def _execute(
        self, execution: dict[str, Any], run: Run, query: str, database: str
    ) -> None:
        if run.stopped:
            return
        begin = time.monotonic()
        execution["Status"]["State"] = "RUNNING"
        execution["StatementType"] = "DML"
        group = self._athena._workgroups.get(execution["WorkGroup"]) or {}
        cutoff = (group.get("Configuration") or {}).get("BytesScannedCutoffPerQuery")
        try:
            answer, scanned = await self._workers.do(
                run, lambda: self._answer(run, query, database, cutoff)
            )
            self._save(execution, answer)
        except Cancelled:
            # Stopped by the user: already settled, and this changes nothing.
            self._settle(execution, "FAILED", "Query timeout")
        except _CutOff:
            self._settle(execution, "CANCELLED", "Bytes scanned limit was exceeded")
        except Refused as refusal:
            self._settle(execution, "FAILED", str(refusal)[:2000])
        except Exception as error:  # noqa: BLE001 - in the background, nobody else would tell
            _log.exception("query %s", execution["QueryExecutionId"])
            self._settle(execution, "FAILED", f"GENERIC_INTERNAL_ERROR: {error!r}"[:2000])
        else:
            milliseconds = int((time.monotonic() - begin) * 1000)
            execution["Statistics"] |= {
                "DataScannedInBytes": scanned,
                "EngineExecutionTimeInMillis": milliseconds,
                "TotalExecutionTimeInMillis": milliseconds,
            }
            self._keep(execution, answer)
            self._settle(execution, "SUCCEEDED", "")

    def _answer(
        self, run: Run, query: str, database: str, cutoff: int | None
    ) -> tuple[Answer, int]:
        statement = Statement(judge(query), database)
        tables = {name: self._table(name) for name in statement.tables}
        translation = statement.translate({name: table.schema for name, table in tables.items()})
        inputs = {
            table: table.choose(self._store, translation.conditions.get(name, [None]))
            for name, table in tables.items()
        }
        if cutoff and sum(file.size for files in inputs.values() for file in files) > cutoff:
            raise _CutOff
        return run.execute(translation, inputs, self._store)

    def _table(self, name: TableName) -> JsonTable:
        if name.database not in self._glue._databases:
            raise Refused(f"SCHEMA_NOT_FOUND: Schema '{name.database}' does not exist")
        definition = self._glue._tables.get(f"{name.database}/{name.table}")
        if definition is None:
            raise Refused(
                f"TABLE_NOT_FOUND: Table '{CATALOG}.{name.database}.{name.table}' does not exist"
            )
        return JsonTable(name, definition)

    def stop(self, data: dict[str, Any]) -> Response:
        """StopQueryExecution: the state is final, and the work ends."""
        query_id = str(data.get("QueryExecutionId"))
        if query_id not in self._athena._executions:
            return self._invalid(f"QueryExecution {query_id} was not found")
        response = self.stop_stock(data)
        if run := self._runs.get(query_id):
            run.interrupt()
        return response

    def get(self, data: dict[str, Any]) -> Response:
        """GetQueryExecution: what a restart has cut short does not run for ever."""
        query_id = str(data.get("QueryExecutionId"))
        execution = self._athena._executions.get(query_id)
        if execution is not None and query_id not in self._runs:
            self._settle(execution, "FAILED", "The embedded cloud was restarted; run it again")
        return self.get_stock(data)

    def results(self, data: dict[str, Any]) -> Response:
        """GetQueryResults: decimals with their size; rows that are gone are not an empty result."""
        execution = self._athena._executions.get(data.get("QueryExecutionId"))
        succeeded = execution is not None and execution["Status"]["State"] == "SUCCEEDED"
        if succeeded and execution["_results"] is None:
            return self._invalid("The results have expired in the embedded cloud; run it again")
        status, headers, body = self.results_stock(data)
        if status != 200:
            return status, headers, body
        answer = json.loads(body)
        for column in answer["ResultSet"]["ResultSetMetadata"]["ColumnInfo"]:
            if size := _DECIMAL.fullmatch(column["Type"]):
                column |= {"Type": "decimal", "Precision": int(size[1]), "Scale": int(size[2])}
            elif column["Type"] == "varchar":
                column["Precision"] = 2**31 - 1
        response: Response = self._responses.json_response(answer)
        return response

    def _settle(self, execution: dict[str, Any], state: str, why: str) -> None:
        """Final states are final: a stopped query does not succeed afterwards."""
        status = execution["Status"]
        if status["State"] in _OPEN:
            status |= {
                "State": state,
                "StateChangeReason": why,
                "CompletionDateTime": int(time.time()),
            }

    def _keep(self, execution: dict[str, Any], answer: Answer) -> None:
        execution["_results"] = {"columns": answer.columns, "rows": answer.rows}
        execution["_column_types"] = answer.types
        self._kept.append((execution, answer.size))
        while len(self._kept) > 1 and (
            len(self._kept) > RESULTS_KEPT or sum(size for _, size in self._kept) > RESULT_LIMIT
        ):
            self._kept.popleft()[0]["_results"] = None

    def _save(self, execution: dict[str, Any], answer: Answer) -> None:
        """The result as CSV at its OutputLocation, quoted as Athena does; NULL is nothing."""
        lines: list[Sequence[str | None]] = [answer.columns, *answer.rows]
        text = "".join(",".join(map(_cell, line)) + "\n" for line in lines)
        target = urlsplit(execution["ResultConfiguration"]["OutputLocation"])
        body = text.encode()
        headers = {"content-type": "text/csv", "content-length": str(len(body))}
        status = self._s3._put_object(target.netloc, target.path.lstrip("/"), body, headers)[0]
        if status >= 300:
            raise Refused(f"The results could not be written to s3://{target.netloc}{target.path}")

    def _invalid(self, message: str) -> Response:
        response: Response = self._responses.error_response_json(
            "InvalidRequestException", message, 400
        )
        return response


def _cell(value: str | None) -> str:
    return "" if value is None else '"' + value.replace('"', '""') + '"'
