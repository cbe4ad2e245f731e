"""What this process has read of definitions, which never change: stages of recent workflows need not be read again."""

from collections import OrderedDict
from collections.abc import Mapping

from stabilize_celery.engine import places
from stabilize_celery.engine.plan import decode_plan
from stabilize_celery.engine.steps import Fields, Query

__all__ = ["Definitions"]

MOST_STAGES = 4_096
"""How many stages are remembered; the ones not looked at for longest are forgotten."""

_STAGE = "s:"
_ZONE = ("in", "live")
_NOTHING: Mapping[str, bytes] = {}


class Definitions:
    """Stages by workflow id, digest of its definition, and ref. Another workflow may come to have the id."""

    def __init__(self) -> None:
        self._stages: OrderedDict[tuple[str, bytes, str], Mapping[str, bytes]] = OrderedDict()

    def answer(self, workflow_id: str, digest: bytes, query: Query) -> Mapping[str, bytes] | None:
        """Return what a query for a stage's plan and context, or for its zone, answers; None: it has to be read."""
        if not isinstance(query, Fields):
            return None
        if query.key == places.DEFINITION and query.fields[0].startswith(_STAGE):
            return self._stage(workflow_id, digest, query.fields[0][len(_STAGE) :])
        if query.fields == _ZONE and query.key.startswith(_COMPONENT):
            ref_id = query.key[len(_COMPONENT) :]
            stage = self._stage(workflow_id, digest, ref_id)
            if stage is not None and not decode_plan(stage[_STAGE + ref_id]).component:
                return _NOTHING  # nobody counts what comes to a stage that bears no component
        return None

    def learn(self, workflow_id: str, digest: bytes, query: Query, answer: object) -> None:
        """Remember a stage of the definition. Those that a builder planned may be planned anew: they are not kept."""
        if not (isinstance(query, Fields) and query.key == places.DEFINITION and isinstance(answer, dict)):
            return
        name = query.fields[0]
        if name.startswith(_STAGE) and name in answer and decode_plan(answer[name]).owner is None:
            self._stages[workflow_id, digest, name[len(_STAGE) :]] = answer
            while len(self._stages) > MOST_STAGES:
                self._stages.popitem(last=False)

    def _stage(self, workflow_id: str, digest: bytes, ref_id: str) -> Mapping[str, bytes] | None:
        key = (workflow_id, digest, ref_id)
        found = self._stages.get(key)
        if found is not None:
            self._stages.move_to_end(key)
        return found


_COMPONENT = places.component("")
