"""Secret audits of a run, as they are carried out: `auditor.py` first."""
