from . import aggregation as aggregation, elementary as elementary, levels as levels
