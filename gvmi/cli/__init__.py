"""The `derl-image` program: arguments, messages, exit codes."""
