"""What people who run a fleet see of it: metrics, traces, structured logs. Each is off until a setting asks for it."""

__all__: list[str] = []
