"""``stockpipe cost`` needs settings alone: no credentials, no cloud, no network library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = "import sys; sys.argv[0] = 'stockpipe'; from stockpipe.cli.main import main; main()"


def cost(home: Path, *arguments: str, code: str = RUN) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=home,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "STOCKPIPE_HOME": str(home)},
    )


def test_one_document_with_the_promised_keys_and_nothing_started(tmp_path: Path) -> None:
    done = cost(tmp_path, "cost", "--json", "--symbols", "3", "--interval", "1m")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert {"region", "prices_from", "currency", "assumptions", "lines", "total", "savings"} <= set(
        document
    )
    assert (document["assumptions"]["symbols"], document["assumptions"]["interval_s"]) == (3, 60)
    assert {"service", "what", "quantity", "unit", "unit_price", "amount"} <= set(
        document["lines"][0]
    )
    assert {"setting", "value", "saves"} <= set(document["savings"][0])
    assert not list(tmp_path.iterdir())


def test_the_lines_by_service_and_the_total_go_to_stdout(tmp_path: Path) -> None:
    done = cost(tmp_path, "cost", "--hours", "market", "--target", "aws")
    assert done.returncode == 0
    rows = [line.split() for line in done.stdout.splitlines() if line]
    (total,) = [row[-1] for row in rows if row[0] == "total"]
    assert {"Kinesis", "Lambda", "DynamoDB", "S3", "Athena", "SNS", "CloudWatch"} <= {
        row[0] for row in rows
    }
    assert f"${total} a month" in done.stdout
    assert "aws, stack default, us-east-2" in done.stderr
    assert "during market hours" in done.stderr


def test_a_region_whose_prices_are_unknown_is_said(tmp_path: Path) -> None:
    done = cost(tmp_path, "cost", "--region", "eu-south-2")
    assert "The prices of eu-south-2 are not known here" in done.stderr
    assert "list prices of us-east-2" in done.stdout


def test_no_library_of_a_cloud_is_loaded(tmp_path: Path) -> None:
    listing = f"{RUN.replace('main()', '')}\ntry: main()\nexcept SystemExit: print(*sys.modules)"
    done = cost(tmp_path, "cost", "--json", code=listing)
    loaded = {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert "stockpipe" in loaded
    assert not loaded & {"boto3", "botocore", "yfinance", "pandas", "ministack"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--symbols", "0"], "--symbols must be 1 or more, got 0"),
        (["--symbols", "-2"], "--symbols must be 1 or more, got -2"),
        (["--symbols", "many"], "--symbols"),
        (["--interval", "0s"], "longer than 0"),
        (["--interval", "0.1s"], "0.5"),
        (["--hours", "night"], "always or market"),
    ],
)
def test_a_wrong_use_is_one_clear_error(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = cost(tmp_path, "cost", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
