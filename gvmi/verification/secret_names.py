"""What looks like a secret: by a file's name, by a variable's name or value."""

from __future__ import annotations

import posixpath
import re

from gvmi.verification.squashfs import Entry

_FILES = re.compile(
    r"(?:\.env(?:\..+)?|\.envrc|\.netrc|_netrc|\.pypirc|\.npmrc|\.git-credentials|\.pgpass"
    r"|\.htpasswd|credentials|credentials\.json|service[-_]account.*\.json|id_(?:rsa|dsa|ecdsa"
    r"|ed25519)(?:_sk)?|ssh_host_.*_key|.+\.(?:p12|pfx|jks|keystore|kdbx|ppk|gpg-key)|.+\.key"
    r"|\.(?:bash|python|zsh|psql|sqlite)_history|shadow-|gshadow-|keystore\.json)",
    re.IGNORECASE,
)
_FOLDERS = frozenset({".ssh", ".aws", ".gnupg", ".docker", ".kube", ".git", ".azure", "yagna"})
_VARIABLE = re.compile(
    r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|PRIVATE_?KEY|API_?KEY"
    r"|APP_?KEY|ACCESS_?KEY|AUTH)(?:_|$)",
    re.IGNORECASE,
)
_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}"
    r"|\bAKIA[0-9A-Z]{16}\b|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bglpat-[A-Za-z0-9_-]{20,}"
    r"|\bsk-[A-Za-z0-9_-]{20,}|\bpypi-[A-Za-z0-9_-]{40,}|[a-z][a-z0-9+.-]*://[^/\s:@]+:[^/\s@]+@"
)
PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY")


def secret_reason(entry: Entry) -> str | None:
    """Say why a name in an image looks like a secret's; None if it does not."""
    name = posixpath.basename(entry.path)
    if entry.is_folder:
        return "is a folder of credentials or history" if name in _FOLDERS else None
    return "looks like a key or credentials" if _FILES.fullmatch(name) else None


def may_hold_key(entry: Entry) -> bool:
    """Tell whether a file has to be looked into: it may hold a certificate or a private key."""
    return entry.is_file and entry.path.lower().endswith((".pem", ".der", ".asc"))


def telling_variable(name: str, value: str) -> str | None:
    """Say why a variable or a label looks like a secret; the value itself is never told."""
    if not value:
        return None
    if _VARIABLE.search(name):
        return "looks like a secret by its name"
    return "holds what looks like a secret" if _VALUE.search(value) else None
