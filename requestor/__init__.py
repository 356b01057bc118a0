"""The side that decides and pays: plans rounds, rents providers, merges and judges what comes back.

Imports nothing, so that ``requestor.mock_golem`` starts light. Read ``configs/cartpole.yaml``
first, then :mod:`provider_image.wire` and :mod:`requestor.federation`.
"""
