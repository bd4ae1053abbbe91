"""Use cases of an org's settings of the gateway: caching, what is recorded, and what is struck out before."""

from shared.audit import service as audit
from shared.inference import config_store as store
from shared.inference.config import Settings
from shared.kernel import ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx


def get_settings(tx: Tx) -> Settings:
    return store.settings(tx)


def set_settings(tx: Tx, caller: Caller, settings: Settings) -> Settings:
    """Replace the org's settings."""
    before = store.settings(tx)
    store.set_settings(tx, settings)
    audit.record(
        tx,
        caller,
        action="inference.update_settings",
        resource_type="org",
        resource_id=ids.show("org", caller.org_id),
        old=store.to_json(before),
        new=store.to_json(settings),
    )
    return settings
