"""A Golem daemon for one laptop: yagna's REST, with simulated providers behind it.

It serves unmodified yapapi (or any Golem SDK): market, activity, payment and net APIs, `/me` and
`/version/get`, on 127.0.0.1 only, and brings a `gftp` program that yapapi starts. Providers come
from a fleet file; their commands run as real processes, their prices, paces and faults are
configured, and what they bill is real usage times price, in exact decimals. Virtual networks carry
real packets between activities, and TCP connections of the requestor into them.

It is a program of its own: it imports nothing else of this project and knows nothing of what is
computed. Left out: the raw-packet websocket of the net API, usage counters other than time, the
market's provider side, signatures, and payments on a chain (an accepted bill counts as settled
after five seconds).

Read next: `fleet.py` (what can be configured), `provider.py` (what a provider does), `books.py`
(what is remembered), then one of the REST files: `market.py`, `activity.py`, `payment.py`,
`net.py`.
"""
