"""Settings: which source wins, and every bad value is one error with origin, key and rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stockpipe.config import config_files, load
from stockpipe.domain.rules import DEFAULT_RULES
from stockpipe.errors import ConfigError
from stockpipe.settings import Settings


class Place:
    """A project directory and a home, with a file of settings in each where one was written."""

    def __init__(self, directory: Path) -> None:
        self.project, self.home = directory / "project", directory / "home"
        self.project.mkdir()
        self.home.mkdir()

    @property
    def project_file(self) -> Path:
        return self.project / "stockpipe.toml"

    @property
    def user_file(self) -> Path:
        return config_files({"HOME": str(self.home)}, self.project)[0]

    def write_user_file(self, text: str) -> None:
        self.user_file.parent.mkdir(parents=True)
        self.user_file.write_text(text, encoding="utf-8")

    def load(
        self, flags: dict[str, Any] | None = None, **environment: str
    ) -> tuple[Settings, dict[str, str]]:
        found = load(flags, {"HOME": str(self.home), **environment}, self.project)
        return found.settings, found.origins

    def refused(self, flags: dict[str, Any] | None = None, **environment: str) -> ConfigError:
        with pytest.raises(ConfigError) as error:
            self.load(flags, **environment)
        return error.value


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_stronger_source_wins_and_is_named(place: Place) -> None:
    settings, origins = place.load()
    assert (settings.region, origins["region"]) == ("us-east-2", "default")
    place.write_user_file('region = "eu-west-1"')
    settings, origins = place.load()
    assert (settings.region, origins["region"]) == ("eu-west-1", str(place.user_file))
    place.project_file.write_text('region = "eu-west-2"', encoding="utf-8")
    settings, origins = place.load()
    assert (settings.region, origins["region"]) == ("eu-west-2", str(place.project_file))
    settings, origins = place.load(STOCKPIPE_REGION="eu-west-3")
    assert (settings.region, origins["region"]) == ("eu-west-3", "STOCKPIPE_REGION")
    settings, origins = place.load({"region": "eu-north-1"}, STOCKPIPE_REGION="eu-west-3")
    assert (settings.region, origins["region"]) == ("eu-north-1", "flag")


def test_a_flag_that_was_not_given_and_an_empty_variable_set_nothing(place: Place) -> None:
    settings, origins = place.load({"region": None}, STOCKPIPE_REGION="")
    assert (settings.region, origins["region"]) == ("us-east-2", "default")


@pytest.mark.parametrize(
    ("environment", "region", "origin"),
    [
        ({"STOCKPIPE_TARGET": "aws"}, "ap-south-1", "AWS profile"),
        ({"STOCKPIPE_TARGET": "aws", "AWS_PROFILE": "work"}, "sa-east-1", "AWS profile"),
        ({"STOCKPIPE_TARGET": "aws", "AWS_REGION": "eu-west-3"}, "eu-west-3", "AWS profile"),
        ({"STOCKPIPE_TARGET": "aws", "STOCKPIPE_REGION": "eu-west-1"}, "eu-west-1", None),
        ({"STOCKPIPE_TARGET": "local"}, "us-east-2", "default"),
    ],
)
def test_the_region_of_the_aws_profile_counts_on_target_aws_alone(
    place: Place, environment: dict[str, str], region: str, origin: str | None
) -> None:
    (place.home / ".aws").mkdir()
    (place.home / ".aws" / "config").write_text(
        "[default]\nregion = ap-south-1\n[profile work]\nregion = sa-east-1\n", encoding="utf-8"
    )
    settings, origins = place.load(None, **environment)
    assert settings.region == region
    assert origins["region"] == (origin or "STOCKPIPE_REGION")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('stack = "dev "', ["stack", "has a space at its start or end: 'dev '"]),
        (
            'region = "us-east-2\u200b"',
            ["region", r"has an invisible character: 'us-east-2\u200b'"],
        ),
        ('region = "mars"', ["region", "must be a region like us-east-2, got 'mars'"]),
        ('interval = "0s"', ["interval", "must be longer than 0"]),
        ("interval = 0", ["interval", "greater than or equal to 0.5, got 0"]),
        ("interval = inf", ["interval", "less than or equal to 31622400"]),
        ("interval = true", ["interval", "must be a time like 30s", "got True"]),
        ("notify_max_age = nan", ["notify_max_age", "greater than or equal to 1"]),
        ("notify_max_age = 0", ["notify_max_age", "greater than or equal to 1"]),
        ("notify_max_age = -5", ["notify_max_age", "greater than or equal to 1"]),
        ('notify_max_age = "400ms"', ["notify_max_age", "greater than or equal to 1"]),
        ("notify_max_age = true", ["notify_max_age", "must be a time like 30s", "got True"]),
        ("symbols = [7203]", ["symbols", "got 7203"]),
        ('interval = "soon"', ["interval", "must be a time like 30s", "got 'soon'"]),
        ('regoin = "us-east-2"', ["regoin", "unknown setting"]),
        ('symbols = ["A APL"]', ["symbols"]),
        ("symbols = []", ["symbols", "must be a list of symbols"]),
        ('emails = ["me"]', ["emails", "must be an e-mail address, got 'me'"]),
        ('sms = ["5550100"]', ["sms", "country's code"]),
        ('tags = { "aws:x" = "1" }', ["tags", "reserved keys"]),
        ("log_retention_days = 8", ["log_retention_days", "must be one of 1, 3, 5"]),
        ('sweep = "90s"', ["sweep", "must be whole minutes like 5m, or off"]),
        ('sweep_look_back = "30s"', ["sweep_look_back", "greater than or equal to 60"]),
        ('sweep_look_back = "2d"', ["sweep_look_back", "less than or equal to 86400"]),
        ('[[rules]]\nkind = "crosover"', ["rules", "crosover"]),
    ],
)
def test_a_bad_value_is_one_error_that_names_file_key_and_rule(
    place: Place, line: str, words: list[str]
) -> None:
    place.project_file.write_text(line, encoding="utf-8")
    error = place.refused()
    assert str(error).startswith(f"{place.project_file}: {words[0]}")
    for word in words[1:]:
        assert word in str(error)
    assert "\n" not in str(error)


def test_an_unknown_key_is_answered_with_the_one_that_was_meant(place: Place) -> None:
    place.project_file.write_text('regoin = "us-east-2"', encoding="utf-8")
    assert place.refused().hint == "Did you mean region?"


def test_variables_and_flags_are_named_as_they_are_written(place: Place) -> None:
    assert str(place.refused(STOCKPIPE_REGION="mars")).startswith("STOCKPIPE_REGION: must be a")
    assert str(place.refused({"symbols": ["A APL"]})).startswith("--symbol: ")
    assert "can only be set in a file" in str(place.refused(STOCKPIPE_RULES="crossover-5-20"))


@pytest.mark.parametrize(("content", "rule"), [(b"target =", "is not TOML"), (b"\xff", "UTF-8")])
def test_a_file_that_cannot_be_read_is_named(place: Place, content: bytes, rule: str) -> None:
    place.project_file.write_bytes(content)
    assert str(place.refused()).startswith(f"{place.project_file}: ")
    assert rule in str(place.refused())


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("shards = 2", "only a provisioned stream has them"),
        ('sweep = "off"\nsweep_look_back = "15m"', "without a sweep nothing looks back"),
        ('ttl_days = 1\nsweep_look_back = "13h"', "at most half of ttl_days"),
        (
            'sweep_look_back = "15m"\nsymbols = ['
            + ",".join(f'"ABCDEFGHIJKLMNOP{n}"' for n in range(1000, 1400))
            + "]",
            "400 symbols do not fit into the 8192 characters",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(place: Place, text: str, rule: str) -> None:
    place.project_file.write_text(text, encoding="utf-8")
    error = place.refused()
    assert rule in str(error)
    assert str(place.project_file) in str(error)
    assert error.hint


@pytest.mark.parametrize(
    "text", ['ttl_days = 1\nsweep_look_back = "12h"', 'stream_mode = "provisioned"\nshards = 2']
)
def test_settings_that_do_go_together_are_not(place: Place, text: str) -> None:
    place.project_file.write_text(text, encoding="utf-8")
    place.load()


def test_nothing_set_is_the_default_of_the_contract(place: Place) -> None:
    settings, origins = place.load()
    assert (settings.target, settings.stack, settings.symbols) == ("local", "default", ("AAPL",))
    assert settings.rules == DEFAULT_RULES
    assert set(origins.values()) == {"default"}
