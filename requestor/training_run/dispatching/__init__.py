"""Getting one round's items done: leases and their drivers, reviewers, this machine if need be."""
