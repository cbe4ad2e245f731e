"""Tasks that ask a language model: once, or in a loop in which it calls functions of the program."""

from stabilize_celery.compat.llm.client import ChatMessage, ChatResponse, LLMClient, LLMError
from stabilize_celery.compat.llm.tasks import AgentLoopTask, LLMTask
from stabilize_celery.compat.llm.tools import ToolRegistry, ToolSpec, tool

__all__ = [
    "AgentLoopTask",
    "ChatMessage",
    "ChatResponse",
    "LLMClient",
    "LLMError",
    "LLMTask",
    "ToolRegistry",
    "ToolSpec",
    "tool",
]
