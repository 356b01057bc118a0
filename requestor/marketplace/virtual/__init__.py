"""A marketplace that is not there: providers by name, whose work is done on this machine.

No daemon, no money, no network. Studies run the real training loop on it, against liars that no
mock fleet could have: colluders that know every honest update of a round.
"""
