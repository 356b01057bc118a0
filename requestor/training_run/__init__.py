"""One run from config to report: the loop, its events, its checkpoints, its folder.

Read next: `run_loop.py`.
"""
