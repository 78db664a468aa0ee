"""What everything is called, derived from stack, region and account alone.

A stack other than ``default`` appends ``-NAME`` (``_NAME`` where only that is legal) to every
name; names of account-wide things also end in the region, so that stacks and regions live side
by side.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

STACK_RULE = "a-z first, then up to 9 of a-z 0-9 -"
_STACK = re.compile(r"[a-z][a-z0-9-]{0,9}", re.ASCII)

STACK_TAG = "stockpipe:stack"
REGION_TAG = "stockpipe:region"
VERSION_TAG = "stockpipe:version"
ROLE_TAG = "stockpipe:role-id"
"""On a function: the unique id of the role that it was made under."""
ADOPTED_TAG = "stockpipe:adopted"
"""On what was there before us and was taken over with ``--adopt``."""

RAW_PREFIX = "raw-data/"
QUARANTINE_PREFIX = "quarantine/"
FAILURES_PREFIX = "aws/lambda/"
"""Where Lambda itself puts the payload of a batch that exhausted its mapping."""


def valid_stack(name: str) -> bool:
    return bool(_STACK.fullmatch(name)) and not name.endswith("-")


@dataclass(frozen=True, slots=True)
class Names:
    """Every name and ARN of one stack in one region of one account."""

    stack: str
    region: str
    account: str

    def _dashed(self, base: str) -> str:
        return base if self.stack == "default" else f"{base}-{self.stack}"

    def _underscored(self, base: str) -> str:
        return base if self.stack == "default" else f"{base}_{self.stack.replace('-', '_')}"

    def _arn(self, service: str, resource: str, *, region: str | None = None) -> str:
        partition = "aws-cn" if self.region.startswith("cn-") else "aws"
        partition = "aws-us-gov" if self.region.startswith("us-gov-") else partition
        place = self.region if region is None else region
        return f"arn:{partition}:{service}:{place}:{self.account}:{resource}"

    @property
    def tags(self) -> dict[str, str]:
        """The identity of what is ours: both must match."""
        return {STACK_TAG: self.stack, REGION_TAG: self.region}

    @property
    def stream(self) -> str:
        return self._dashed("stock-market-stream")

    @property
    def table(self) -> str:
        return self._dashed("stock-market-data")

    @property
    def alerts_table(self) -> str:
        return self._dashed("stock-market-alerts")

    @property
    def process_function(self) -> str:
        return self._dashed("ProcessStockData")

    @property
    def trend_function(self) -> str:
        return self._dashed("StockTrendAnalysis")

    @property
    def process_role(self) -> str:
        return self._dashed("Lambda_Kinesis_DynamoDB_Role") + f"-{self.region}"

    @property
    def trend_role(self) -> str:
        return self._dashed("StockTrendLambdaRole") + f"-{self.region}"

    @property
    def data_bucket(self) -> str:
        return self._dashed(f"stock-market-data-bucket-{self.account}-{self.region}")

    @property
    def results_bucket(self) -> str:
        return self._dashed(f"athena-query-results-{self.account}-{self.region}")

    @property
    def topic(self) -> str:
        return self._dashed("Stock_Trend_Alerts")

    @property
    def operations_topic(self) -> str:
        return self._dashed("Stock_Trend_Operations")

    @property
    def sweep_rule(self) -> str:
        return self._dashed("StockTrendSweep")

    @property
    def dashboard(self) -> str:
        """Dashboards are account-wide: the same in every region's console."""
        return self._dashed("stockpipe") + f"-{self.region}"

    def alarm(self, what: str) -> str:
        return self._dashed("stockpipe") + f"-{what}"

    @property
    def database(self) -> str:
        return self._underscored("stock_data_db")

    @property
    def glue_table(self) -> str:
        return self._underscored("stock_data_table")

    @property
    def workgroup(self) -> str:
        return self._dashed("stockpipe")

    @property
    def process_log_group(self) -> str:
        return f"/aws/lambda/{self.process_function}"

    @property
    def trend_log_group(self) -> str:
        return f"/aws/lambda/{self.trend_function}"

    @property
    def stream_arn(self) -> str:
        return self._arn("kinesis", f"stream/{self.stream}")

    @property
    def table_arn(self) -> str:
        return self._arn("dynamodb", f"table/{self.table}")

    @property
    def alerts_table_arn(self) -> str:
        return self._arn("dynamodb", f"table/{self.alerts_table}")

    @property
    def topic_arn(self) -> str:
        return self._arn("sns", self.topic)

    @property
    def operations_topic_arn(self) -> str:
        return self._arn("sns", self.operations_topic)

    @property
    def sweep_rule_arn(self) -> str:
        return self._arn("events", f"rule/{self.sweep_rule}")

    def alarm_arn(self, alarm: str) -> str:
        return self._arn("cloudwatch", f"alarm:{alarm}")

    @property
    def dashboard_arn(self) -> str:
        return self._arn("cloudwatch", f"dashboard/{self.dashboard}", region="")

    def function_arn(self, function: str) -> str:
        return self._arn("lambda", f"function:{function}")

    def mapping_arn(self, uuid: str) -> str:
        return self._arn("lambda", f"event-source-mapping:{uuid}")

    def role_arn(self, role: str) -> str:
        return self._arn("iam", f"role/{role}", region="")

    def bucket_arn(self, bucket: str) -> str:
        partition = self._arn("s3", "").split(":")[1]
        return f"arn:{partition}:s3:::{bucket}"

    def log_group_arn(self, group: str) -> str:
        return self._arn("logs", f"log-group:{group}")

    @property
    def workgroup_arn(self) -> str:
        return self._arn("athena", f"workgroup/{self.workgroup}")

    @property
    def database_arn(self) -> str:
        return self._arn("glue", f"database/{self.database}")

    @property
    def glue_table_arn(self) -> str:
        return self._arn("glue", f"table/{self.database}/{self.glue_table}")
