"""What a person wants run, as frozen models with units in their names.

`load_config` reads a file; `RunConfig` is what it becomes; `environment_spec`, `learner_spec`,
`state_rules` and `compression_spec` turn it into what orders carry. Read `model.py` next.
"""

from requestor.config.aggregation import AggregationConfig, ServerOptimizerConfig
from requestor.config.algorithms import ALGORITHMS, METHODS, SB3_ALGORITHMS
from requestor.config.loading import default_fleet, load_config, parse_config, resolved_yaml
from requestor.config.merging import merger, voice_plan
from requestor.config.model import RunConfig
from requestor.config.orders import (
    compression_spec,
    environment_spec,
    learner_spec,
    state_rules,
)
from requestor.config.sections import (
    CompressionConfig,
    EnvConfig,
    EvaluationConfig,
    FederationConfig,
    GateConfig,
    GolemConfig,
    GpuConfig,
    ManifestConfig,
    NormalizeConfig,
    PriceCeilings,
    WrapperConfig,
)
from requestor.config.templates import commented_template

__all__ = [
    "ALGORITHMS",
    "METHODS",
    "SB3_ALGORITHMS",
    "AggregationConfig",
    "CompressionConfig",
    "EnvConfig",
    "EvaluationConfig",
    "FederationConfig",
    "GateConfig",
    "GolemConfig",
    "GpuConfig",
    "ManifestConfig",
    "NormalizeConfig",
    "PriceCeilings",
    "RunConfig",
    "ServerOptimizerConfig",
    "WrapperConfig",
    "commented_template",
    "compression_spec",
    "default_fleet",
    "environment_spec",
    "learner_spec",
    "load_config",
    "merger",
    "parse_config",
    "resolved_yaml",
    "state_rules",
    "voice_plan",
]
