"""What a Celery canvas consists of: the parts that count, as Celery counts them."""

from collections.abc import Iterator, Mapping
from typing import Any

import celery
from celery.canvas import Signature, chunks, group
from celery.canvas import _chain as Chain  # noqa: N812 -- the class; `chain` is a function
from celery.utils.functional import maybe_list

__all__ = ["chain_steps", "group_members", "group_of_chunks", "listed", "told_by_message"]


def chain_steps(app: celery.Celery, chain: Chain) -> Iterator[tuple[Signature, str]]:
    """Yield the steps that count, with their places: a group of one member is that member, one of none is left out."""
    for number, given in enumerate(chain.tasks):
        step, place = app.signature(given), f"[{number}]"
        while isinstance(step, group) and len(members := group_members(app, step)) == 1:
            step, place = members[0], f"{place}[0]"
        if not (isinstance(step, group | Chain) and not list(step.tasks)):
            yield step, place


def group_members(app: celery.Celery, sig: group) -> list[Signature]:
    """Return a group's members, those of groups in it among them, in order."""
    members: list[Signature] = []
    for given in sig.tasks:
        one = app.signature(given)
        if isinstance(one, group):
            members += group_members(app, one)
        elif not (isinstance(one, Chain) and not one.tasks):
            members.append(one)
    return members


def group_of_chunks(app: celery.Celery, sig: Signature) -> group:
    """Return the group that `task.chunks(…)` stands for."""
    return chunks(*(sig.kwargs[key] for key in ("task", "it", "n")), app=app).group()


def told_by_message(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a signature's options say to the task itself: the fields of its request that are set."""
    stamps = {name: options[name] for name in options.get("stamped_headers") or () if name in options}
    told = {
        **(options.get("headers") or {}),
        "shadow": options.get("shadow"),
        "delivery_info": {"priority": options["priority"]} if options.get("priority") is not None else None,
        "stamps": stamps or None,
        "stamped_headers": list(stamps) or None,
    }
    return {name: value for name, value in told.items() if value is not None}


def listed(option: Any) -> list[Any]:
    """Return an option that may be None, one value or several as a list."""
    return list(maybe_list(option) or [])
