"""The workflows of `dbos_workflows`."""

from pathlib import Path

from dbos import DBOS

from benchmarks.stamps import begun, ended

__all__ = ["DBOS", "chain", "fan", "launch", "signalled", "stamped_chain", "stamped_fan"]


def launch(file: Path, threads: int) -> None:
    """Start DBOS on a new SQLite file."""
    DBOS(
        config={
            "name": "bench",
            "system_database_url": f"sqlite:///{file}",
            "max_executor_threads": threads,
            "log_level": "ERROR",
        }
    )
    DBOS.launch()


@DBOS.step()
def noop() -> None:
    """Do nothing."""


@DBOS.step()
def stamped(name: str) -> None:
    """Write down begin and end."""
    begun(name)
    ended(name)


@DBOS.workflow()
def chain(length: int) -> None:
    """Run steps one after another."""
    for _ in range(length):
        noop()


@DBOS.workflow()
def fan(width: int) -> None:
    """Start children, wait for all, run one step."""
    for handle in [DBOS.start_workflow(chain, 1) for _ in range(width)]:
        handle.get_result()
    noop()


@DBOS.workflow()
def stamped_chain(length: int) -> None:
    """Run steps that write down when they ran."""
    for at in range(length):
        stamped(f"s{at}")


@DBOS.workflow()
def _stamped_child(name: str) -> None:
    stamped(name)


@DBOS.workflow()
def stamped_fan(width: int) -> None:
    """Start children that write down when they ran, wait for all, run one step."""
    for handle in [DBOS.start_workflow(_stamped_child, f"m{at}") for at in range(width)]:
        handle.get_result()
    stamped("last")


@DBOS.workflow()
def signalled() -> None:
    """Wait for a message, then run one step."""
    stamped("ready")
    DBOS.recv("signal")
    stamped("woken")
