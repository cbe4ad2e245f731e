"""Tasks that ask a model. Register them with a client: `registry.register("llm", LLMTask(LLMClient("a-model")))`."""

import json
from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from stabilize_celery.compat.llm.client import ChatMessage, ChatResponse, LLMClient
from stabilize_celery.compat.llm.tools import ToolRegistry
from stabilize_celery.models.result import TaskResult
from stabilize_celery.models.stage import StageExecution
from stabilize_celery.tasks.task import Task

__all__ = ["AgentLoopTask", "LLMTask"]

_MOST_ITERATIONS = 8


class LLMTask(Task):
    """Asks a model once.

    Context: `prompt` and `system`, or the whole conversation as `messages`; `temperature`, `output_key`
    (`completion`); without a client of its own also `model`, `base_url`, `api_key`, `api`.

    Outputs: the answer under `output_key`, and `llm_raw`, the server's whole answer. A model that can't be asked is
    TERMINAL.
    """

    def __init__(self, client: LLMClient | None = None) -> None:
        self._client = client

    @property
    @override
    def aliases(self) -> list[str]:
        return ["llm", "chat"]

    def build_client(self, stage: StageExecution) -> LLMClient:
        """Return who is asked; a subclass may make another one. Raises ValueError: the context names no model."""
        if self._client is not None:
            return self._client
        context = stage.context
        if not context.get("model"):
            raise ValueError("give the task a client, or the stage's context a `model`")
        return LLMClient(
            context["model"], context.get("base_url"), context.get("api_key"), context.get("api") or "openai"
        )

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        try:
            answer = self._ask(self.build_client(stage), stage, self._messages(stage), None)
        except Exception as error:  # noqa: BLE001 -- a client of the program may raise anything
            return TaskResult.terminal(f"LLM call failed: {error}")
        key = stage.context.get("output_key") or "completion"
        return TaskResult.success(outputs={key: answer.content, "llm_raw": answer.raw})

    def _ask(
        self,
        client: LLMClient,
        stage: StageExecution,
        messages: list[ChatMessage],
        tools: list[dict[str, Any]] | None,
    ) -> ChatResponse:
        return client.chat(messages, tools=tools, temperature=stage.context.get("temperature"))

    def _messages(self, stage: StageExecution) -> list[ChatMessage]:
        context = stage.context
        if given := context.get("messages"):
            return [ChatMessage(**one) if isinstance(one, Mapping) else one for one in given]
        if not context.get("prompt"):
            raise ValueError("the stage's context needs a `prompt`, or `messages`")
        texts = (("system", context.get("system")), ("user", context["prompt"]))
        return [ChatMessage(role, text) for role, text in texts if text]


class AgentLoopTask(LLMTask):
    """Asks a model, calls the functions that it asks for, and asks again, until it answers.

    All of it is one task: tried again, it begins anew, and functions that have an effect are called again.

    Context: as `LLMTask`, with `max_iterations` (8), how often it is asked, and `output_key` (`answer`).

    Outputs: the answer under `output_key`, `tool_invocations` (each with `tool` and `result`) and `iterations`. Without
    an answer after so many it is FAILED_CONTINUE. A function that fails is told to the model.
    """

    def __init__(self, client: LLMClient | None = None, tools: ToolRegistry | None = None) -> None:
        super().__init__(client)
        self._tools = tools

    @property
    @override
    def aliases(self) -> list[str]:
        return ["agent", "react_agent", "agent_loop"]

    def build_tools(self, stage: StageExecution) -> ToolRegistry:  # noqa: ARG002 -- a subclass may choose by it
        """Return the functions that the model may call; a subclass may choose them by the stage."""
        return self._tools or ToolRegistry()

    @override
    def execute(self, stage: StageExecution) -> TaskResult:
        try:
            return self._loop(stage)
        except Exception as error:  # noqa: BLE001 -- a client of the program may raise anything
            return TaskResult.terminal(f"Agent loop failed: {error}")

    def _loop(self, stage: StageExecution) -> TaskResult:
        client, tools, messages = self.build_client(stage), self.build_tools(stage), self._messages(stage)
        key = stage.context.get("output_key") or "answer"
        most = int(stage.context.get("max_iterations", _MOST_ITERATIONS))
        called: list[dict[str, Any]] = []
        for iteration in range(1, most + 1):
            answer = self._ask(client, stage, messages, tools.schemas() or None)
            if not answer.has_tool_calls:
                outputs = {key: answer.content, "tool_invocations": called, "iterations": iteration}
                return TaskResult.success(outputs=outputs)
            messages.append(ChatMessage("assistant", answer.content, answer.tool_calls))
            for call in answer.tool_calls:
                told = _called(tools, call)
                called.append({"tool": told.name, "result": told.content})
                messages.append(told)
        outputs = {key: "", "tool_invocations": called, "iterations": most}
        return TaskResult.failed_continue(f"the model gave no answer within {most} iterations", outputs=outputs)


def _called(tools: ToolRegistry, call: Mapping[str, Any]) -> ChatMessage:
    """Return what a function answered, as a model is told it."""
    name = call.get("function", call).get("name", "")
    try:
        found = tools.dispatch(call)
        text = found if isinstance(found, str) else json.dumps(found, default=str)
    except Exception as error:  # noqa: BLE001 -- the model is told, and may try something else
        text = f"ERROR: {error}"
    return ChatMessage("tool", text, tool_call_id=call.get("id", ""), name=name)
