"""The Golem marketplace, through unmodified yapapi; the only folder that imports it.

The daemon behind it may be a real yagna or `mock-golem`: nothing here can tell.
Read next: `renting/rental.py`.
"""

import warnings

# yapapi imports pkg_resources; setuptools is pinned to where that still works
warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
