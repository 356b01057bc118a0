"""What a run owes, pays and may still spend: bills, ledger, statement. Pure but for the file."""
