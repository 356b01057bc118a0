"""What a federated round is, as pure functions over plain data: no clock, file or network.

Read next: `rounds.py`.
"""
