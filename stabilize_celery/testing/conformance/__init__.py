"""Run scenario files of the workflow control-flow patterns against the engine, simulated or on real workers."""

__all__: list[str] = []
