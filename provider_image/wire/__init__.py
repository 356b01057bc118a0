"""The contract between requestor and provider: orders go in, tensor bundles come out.

`FORMAT.md` beside this file is normative. In code, read `specs.py` (what shall be trained),
`orders.py` (the four orders), `results.py` (what comes back), `tensors.py` (the file format) and
`model_layout.py` (the names of the tensors), in this order. This package needs NumPy, msgspec
and safetensors alone; the requestor imports nothing else of the provider image.
"""

from provider_image.wire.errors import WireError
from provider_image.wire.model_layout import (
    MOMENTS_PREFIX,
    NORMALIZER_PREFIX,
    UPDATED_PREFIXES,
    result_specs,
)
from provider_image.wire.orders import (
    FORMAT_VERSION,
    MAX_FILE_BYTES,
    MAX_ORDER_BYTES,
    MAX_SEED,
    EvaluateOrder,
    ExportOrder,
    FileRef,
    InitialiseOrder,
    Order,
    TrainOrder,
    decode_order,
    encode_order,
    order_digest,
)
from provider_image.wire.results import (
    ClientStateMetadata,
    EvaluateResult,
    ModelMetadata,
    TrainResult,
    decode_metadata,
)
from provider_image.wire.specs import (
    Algorithm,
    EnvironmentSpec,
    JsonObject,
    LearnerSpec,
    NormalizeSpec,
    Schedule,
    ScheduledName,
    StateRules,
    WrapperSpec,
)
from provider_image.wire.tensors import (
    MAX_METADATA_BYTES,
    Bundle,
    Tensors,
    TensorSpec,
    atomic_writer,
    bundle_bytes,
    check_tensors,
    read_bundle,
    read_file,
    sha256_file,
    specs_of,
    write_bundle,
)

__all__ = [
    "FORMAT_VERSION",
    "MAX_FILE_BYTES",
    "MAX_METADATA_BYTES",
    "MAX_ORDER_BYTES",
    "MAX_SEED",
    "MOMENTS_PREFIX",
    "NORMALIZER_PREFIX",
    "UPDATED_PREFIXES",
    "Algorithm",
    "Bundle",
    "ClientStateMetadata",
    "EnvironmentSpec",
    "EvaluateOrder",
    "EvaluateResult",
    "ExportOrder",
    "FileRef",
    "InitialiseOrder",
    "JsonObject",
    "LearnerSpec",
    "ModelMetadata",
    "NormalizeSpec",
    "Order",
    "Schedule",
    "ScheduledName",
    "StateRules",
    "TensorSpec",
    "Tensors",
    "TrainOrder",
    "TrainResult",
    "WireError",
    "WrapperSpec",
    "atomic_writer",
    "bundle_bytes",
    "check_tensors",
    "decode_metadata",
    "decode_order",
    "encode_order",
    "order_digest",
    "read_bundle",
    "read_file",
    "result_specs",
    "sha256_file",
    "specs_of",
    "write_bundle",
]
