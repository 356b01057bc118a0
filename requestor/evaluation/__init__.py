"""Judging models on the requestor's own machine; nothing a provider claims enters here."""
