"""What options of several commands can be chosen from."""

from enum import StrEnum


class Kind(StrEnum):
    golden = "golden"
    death = "death"
    move = "move"
    spike = "spike"
    price = "price"


class Status(StrEnum):
    pending = "pending"
    sent = "sent"
    muted = "muted"
    superseded = "superseded"
