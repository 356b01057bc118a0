"""`derl-request`: arguments, messages, exit codes, and the one place where ports meet adapters.

Read next: `main.py`, then `execution.py`.
"""
