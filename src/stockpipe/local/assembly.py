"""Everything that we put in the place of a part of ministack, in the order in which it goes in.

Order matters where two of them stand before the same part: the later one is asked first.
"""

from __future__ import annotations

from stockpipe.aws import Endpoint
from stockpipe.local.athena import emulated
from stockpipe.local.emulator import (
    access,
    alarms,
    index,
    judgement,
    ledger,
    monitoring,
    notifications,
    parts,
    provisioning,
    state,
    subscriptions,
)
from stockpipe.local.emulator.expiry import Expiry
from stockpipe.local.emulator.journal import Journal
from stockpipe.local.event_sources import hooks, report
from stockpipe.local.home import Credentials, Places
from stockpipe.local.metrics import feeds
from stockpipe.local.outbox import Outbox
from stockpipe.local.webhooks import Webhooks


def install(
    places: Places, credentials: Credentials, endpoint: Endpoint, journal: Journal
) -> tuple[Webhooks, Expiry]:
    """Replace it all in the ministack that is loaded.

    Out: the webhooks' sender, to be stopped, and what removes expired items, to be begun.

    Raises LocalCloudError where a name that we replace is not there.
    """
    access.install(credentials)
    sequences = state.install()
    index.install()
    parts.answer_lost_writes()
    parts.trust_loopback()
    parts.keep_log_groups_gone()
    parts.keep_shards()
    monitoring.install()
    provisioning.install()
    outbox, webhooks = Outbox(places.local), Webhooks()
    notifications.install(outbox, webhooks, endpoint.url)
    subscriptions.install(outbox, webhooks, endpoint.url)
    ledger.install(places.ledger)
    judgement.install()
    emulated.install()
    hooks.install()
    feeds.install()
    report.on_figures(feeds.of_mapping)
    alarms.install()
    journal.install(sequences)
    expiry = Expiry(journal, sequences["dynamodb"])
    expiry.install()
    return webhooks, expiry
