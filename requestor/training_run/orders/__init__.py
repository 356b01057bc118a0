"""The orders of one round and what came in for them: files out, files in, checked and kept."""
