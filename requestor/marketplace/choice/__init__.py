"""Whom to rent: worth of offers, records of providers, lists and ceilings."""
