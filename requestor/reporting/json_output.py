"""What `--json` prints: one object, with exact amounts as decimal strings."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

from requestor.reporting.audit_view import voices_json
from requestor.reporting.closing_account import ProviderAccount, Summary
from requestor.reporting.quote_view import outcome_record

JSON_FORMAT = 1


def summary_record(summary: Summary) -> dict[str, Any]:
    """Return the closing account as plain data; numbers that are not known are None."""
    files = summary.files
    return {
        "format": JSON_FORMAT,
        "run_id": summary.run_id,
        "name": summary.name,
        "outcome": summary.outcome,
        "message": summary.message,
        "rounds_done": summary.rounds_done,
        "rounds_planned": summary.rounds_planned,
        "sessions": summary.sessions,
        "is_untrained": summary.is_untrained,
        "mean_return": _number(summary.mean_return),
        "std_return": _number(summary.std_return),
        "episodes": summary.episodes,
        "is_final_evaluation": summary.is_final,
        "best_return": _number(summary.best_return),
        "best_round": summary.best_round,
        "target_return": _number(summary.target_return),
        "total_steps": summary.total_steps,
        "wall_seconds": round(summary.wall_seconds, 3),
        "steps_per_second": _number(summary.steps_per_second),
        "cost_glm": _amount(summary.cost_glm),
        "is_cost_open": summary.is_cost_open,
        "budget_glm": _amount(summary.budget_glm),
        "glm_per_million_steps": _amount(summary.glm_per_million_steps),
        "glm_per_return_point": _amount(summary.glm_per_return_point),
        "untrained_return": _number(summary.untrained_return),
        "quote": None if summary.quote is None else outcome_record(summary.quote),
        "owed_glm": _amount(summary.owed_glm),
        "audits": None if summary.work is None else voices_json(summary.work),
        "providers": [_provider_record(account) for account in summary.providers],
        "model": _path(files.model),
        "best_model": _path(files.best_model),
        "normalizer": _path(files.normalizer),
        "best_normalizer": _path(files.best_normalizer),
    }


def summary_json(summary: Summary) -> str:
    """Return the closing account as one line of JSON."""
    return json.dumps(summary_record(summary), allow_nan=False)


def _provider_record(account: ProviderAccount) -> dict[str, Any]:
    return {
        "name": account.name,
        "provider_id": account.provider_id,
        "orders": account.orders,
        "wasted_copies": account.wasted_copies,
        "failures": account.failures,
        "rejections": account.rejections,
        "steps": account.steps,
        "late_steps": account.late_steps,
        "steps_per_second": _number(account.steps_per_second),
        "paid_glm": _amount(account.paid_glm),
        "audits_of_others": account.audits,
        "audit_glm": _amount(account.audit_glm),
        "glm_per_million_steps": _amount(account.glm_per_million_steps),
    }


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _amount(value: Decimal | None) -> str | None:
    return None if value is None else f"{value:f}"


def _path(path: Path) -> str | None:
    return str(path) if path.exists() else None
