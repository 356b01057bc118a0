"""`python -m requestor.mock_golem`: the `mock-golem` program."""

from requestor.mock_golem.cli import main

main()
