"""Why a workflow does not go on, or why it failed: for each stage, in words.

`facts` reads what there is to know, `unfinished` and `tasks` say what it means for a stage, `endings` what went wrong.
"""

from stabilize_celery.client.why.explain import explain
from stabilize_celery.client.why.reason import Reason

__all__ = ["Reason", "explain"]
