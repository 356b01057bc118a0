"""The settings of a small run, for tests that change what they are about."""

from decimal import Decimal

from provider_image.wire import EnvironmentSpec, LearnerSpec, StateRules
from requestor.federation.gate import OpenGate
from requestor.federation.merging.merger import Merger
from requestor.federation.rounds import FederationSettings
from requestor.marketplace.money.spending import Prices
from requestor.marketplace.ports import Terms
from requestor.training_run.dispatching.dispatcher import DispatchOptions
from requestor.training_run.settings import EvaluationSettings, RunSettings

SMALL_RUN = RunSettings(
    name="ppo-E",
    federation=FederationSettings(6, 10, 2, 64, 2),
    environment=EnvironmentSpec("E"),
    learner=LearnerSpec("ppo"),
    rules=StateRules(),
    merger=Merger(),
    evaluation=EvaluationSettings(1, 1, 1, None, True, OpenGate()),
    dispatch=DispatchOptions(3, True, 600.0, 60.0),
    order_timeout_seconds=60.0,
    terms=Terms(
        run_id="run-1",
        providers=1,
        budget_glm=Decimal(1),
        ceilings=Prices(),
        memory_gib=1.0,
        storage_gib=1.0,
        threads=1,
        image="i",
        image_url=None,
        subnet="public",
        payment_driver="erc20",
        payment_network="hoodi",
        expiration_seconds=3600.0,
        deploy_timeout_seconds=60.0,
        invoice_timeout_seconds=30.0,
    ),
)
"""Ten rounds of two clients, judged on one episode."""
