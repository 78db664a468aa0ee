"""The two functions, out of one zip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from stockpipe.domain.names import ROLE_TAG
from stockpipe.errors import ProvisionError
from stockpipe.infra.bundle import Bundle
from stockpipe.infra.resource import Live, Resource, absent_is_none, together
from stockpipe.infra.waiting import await_gone, await_state

RUNTIME = "python3.13"
ARCHITECTURE = "arm64"
MEMORY_MB = 256
TIMEOUT_S = 60

_GONE = "ResourceNotFoundException"


@dataclass
class Function(Resource):
    """A function out of the one zip; ``reserved_concurrency``: None reserves nothing."""

    kind = "function"
    replace_on: ClassVar = {
        # Lambda may decrypt the environment by a grant to the role's unique id, not to its name:
        # https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars-encryption.html
        "role_as_made": "its role was made anew, and it can no longer read its environment",
    }

    handler: str = ""
    role: str = ""
    bundle: Bundle = field(default_factory=lambda: Bundle(b""))
    environment: dict[str, str] = field(default_factory=dict)
    description: str = "Made by stockpipe"
    reserved_concurrency: int | None = None

    def desired(self) -> dict[str, Any]:
        return {
            "code": self.bundle.code_sha256,
            "handler": self.handler,
            "role": self.names.role_arn(self.role),
            "role_as_made": True,
            "runtime": RUNTIME,
            "architecture": ARCHITECTURE,
            "memory_mb": MEMORY_MB,
            "timeout_s": TIMEOUT_S,
            "environment": self.environment,
            "description": self.description,
            "reserved_concurrency": self.reserved_concurrency,
            "tags": self.stable_tags,
        }

    def read(self) -> Live | None:
        answer, role_id = together(
            lambda: absent_is_none(
                lambda: self.aws.client("lambda").get_function(FunctionName=self.name), _GONE
            ),
            self._role_id,
        )
        if answer is None:
            return None
        configuration, tags = answer["Configuration"], answer.get("Tags", {})
        settings = {
            "code": configuration["CodeSha256"],
            "handler": configuration["Handler"],
            "role": configuration["Role"],
            "role_as_made": tags.get(ROLE_TAG, role_id) == role_id,
            "runtime": configuration["Runtime"],
            "architecture": configuration.get("Architectures", ["x86_64"])[0],
            "memory_mb": configuration["MemorySize"],
            "timeout_s": configuration["Timeout"],
            "environment": configuration.get("Environment", {}).get("Variables", {}),
            "description": configuration.get("Description", ""),
            "reserved_concurrency": answer.get("Concurrency", {}).get(
                "ReservedConcurrentExecutions"
            ),
        }
        state = configuration.get("State", "Active")
        return self.standing(settings, tags, configuration["FunctionArn"], state)

    def create(self) -> None:
        self.aws.client("lambda").create_function(
            FunctionName=self.name,
            Code={"ZipFile": self.bundle.data},
            Architectures=[ARCHITECTURE],
            Tags={**self.tags, ROLE_TAG: self._role_id() or ""},
            **self._configuration(),
        )
        self._await_settled()
        if self.reserved_concurrency is not None:
            self._reserve()

    def update(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        client, elsewhere = self.aws.client("lambda"), {"tags", "reserved_concurrency"}
        of_code = {"code", "architecture"}
        if "tags" in changes:
            client.tag_resource(Resource=self.names.function_arn(self.name), Tags=dict(self.tags))
        if set(changes) - elsewhere - of_code:
            client.update_function_configuration(FunctionName=self.name, **self._configuration())
            self._await_settled()
        if set(changes) & of_code:
            client.update_function_code(
                FunctionName=self.name,
                ZipFile=self.bundle.data,
                Architectures=[ARCHITECTURE],
            )
            self._await_settled()
        if "reserved_concurrency" in changes:
            self._reserve()

    def delete(self) -> None:
        client = self.aws.client("lambda")
        absent_is_none(lambda: client.delete_function(FunctionName=self.name), _GONE)

        def status() -> str | None:
            found = absent_is_none(
                lambda: client.get_function_configuration(FunctionName=self.name), _GONE
            )
            return found and str(found.get("State", "Active"))

        await_gone(self.id, status)

    def _role_id(self) -> str | None:
        """The role's unique id: another role of the same name has another."""
        found = absent_is_none(
            lambda: self.aws.client("iam").get_role(RoleName=self.role), "NoSuchEntity"
        )
        return found and str(found["Role"]["RoleId"])

    def _reserve(self) -> None:
        client = self.aws.client("lambda")
        if self.reserved_concurrency is None:
            client.delete_function_concurrency(FunctionName=self.name)
        else:
            client.put_function_concurrency(
                FunctionName=self.name, ReservedConcurrentExecutions=self.reserved_concurrency
            )

    def _configuration(self) -> dict[str, Any]:
        return {
            "Role": self.names.role_arn(self.role),
            "Handler": self.handler,
            "Runtime": RUNTIME,
            "MemorySize": MEMORY_MB,
            "Timeout": TIMEOUT_S,
            "Environment": {"Variables": self.environment},
            "Description": self.description,
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
