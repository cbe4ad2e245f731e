"""Definitions to check, and what is said about them."""

from typing import Any

from stabilize_celery.models.validation import find_definition_problems

TASKS = [{"implementing_class": "work"}]
START: dict[str, Any] = {"ref_id": "start"}


def told(*stages: Any, **settings: object) -> list[str]:
    """Return what is said about a definition of these stages."""
    return [str(problem) for problem in find_definition_problems({"stages": list(stages), **settings})]


def after(ref_id: str, *requisites: str, **fields: object) -> dict[str, Any]:
    return {"ref_id": ref_id, "requisite_stage_ref_ids": list(requisites), **fields}


def part(ref_id: str, parent: str, owner: str, **fields: object) -> dict[str, Any]:
    """A BEFORE or AFTER stage of a parent."""
    return {"ref_id": ref_id, "parent_stage_id": parent, "synthetic_stage_owner": f"STAGE_{owner}", **fields}
