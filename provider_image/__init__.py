"""What runs on a stranger's machine: one order in, one result out.

Read `wire/__init__.py` next (the contract with the requestor), then `round_runner.py` (how one
order is executed), `learners/base.py`, `environments/__init__.py` and last `worker_cli.py`, the
program that a provider starts. This file imports nothing, so that `derl-worker` starts light.
"""
