"""Identifiers in the shapes real yagna gives them."""

import hashlib
import re
import secrets
import uuid

_SUBSCRIPTION = re.compile(r"[0-9a-f]{32}-[0-9a-f]{64}")


def new_subscription_id() -> str:
    """Return the id of a demand or an offer: 32 hex digits, a dash, 64 hex digits."""
    return f"{secrets.token_hex(16)}-{secrets.token_hex(32)}"


def is_subscription_id(text: str) -> bool:
    """Tell whether the text has the shape of a demand's id."""
    return _SUBSCRIPTION.fullmatch(text) is not None


def new_proposal_id() -> str:
    """Return the id of a proposal as the requestor sees it."""
    return f"R-{secrets.token_hex(32)}"


def new_agreement_id() -> str:
    """Return the id of an agreement: 64 hex digits."""
    return secrets.token_hex(32)


def new_activity_id() -> str:
    """Return the id of an activity, a batch or a network: 32 hex digits."""
    return secrets.token_hex(16)


def new_document_id() -> str:
    """Return the id of an allocation, an invoice or a debit note: a UUID."""
    return str(uuid.uuid4())


def node_id(seed: int, name: str) -> str:
    """Return the address of a node; the same seed and name give the same address."""
    digest = hashlib.sha256(f"mock-golem node {seed} {name}".encode()).hexdigest()
    return f"0x{digest[:40]}"
