from . import advantages as advantages
from . import aggregation as aggregation
from . import codecs as codecs
from . import elementary as elementary
from . import levels as levels
from . import limits as limits
from . import philox as philox
from . import ppo as ppo
