"""Which lease does which work item, and when: a pure state machine over an injected clock."""
