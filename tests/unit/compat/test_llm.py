"""A program that asks a language model keeps its tasks, its tools and its client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from stabilize_celery.compat import StageExecution, TaskExecution, TaskRegistry, Workflow, WorkflowStatus
from stabilize_celery.compat.llm import (
    AgentLoopTask,
    ChatMessage,
    ChatResponse,
    LLMClient,
    LLMError,
    LLMTask,
    ToolRegistry,
    tool,
)
from stabilize_celery.testing import run_workflow


class Scripted:
    """Answers in turn, and remembers what it was asked."""

    def __init__(self, *answers: ChatResponse) -> None:
        self.answers = list(answers)
        self.asked: list[list[dict[str, Any]]] = []

    def chat(self, messages: list[ChatMessage], tools: Any = None, temperature: Any = None) -> ChatResponse:
        self.asked.append([one.to_dict() for one in messages])
        return self.answers.pop(0)


def call(name: str, arguments: Any) -> dict[str, Any]:
    return {"id": "c1", "function": {"name": name, "arguments": arguments}}


@tool
def add(a: int, b: int, note: str = "") -> int:
    """Add two numbers."""
    return a + b


def stage(**context: Any) -> StageExecution:
    return StageExecution(ref_id="s", context=context, tasks=[TaskExecution.create("ask", "ask")])


def test_a_workflow_asks_a_model() -> None:
    """The answer is an output, which the stages behind it see."""
    client = Scripted(ChatResponse("blue", raw={"id": 1}))
    workflow = Workflow.create("app", "w", [stage(prompt="which colour?", system="be short", output_key="colour")])

    ended = run_workflow(workflow, {"ask": LLMTask(client)})

    assert ended.stages[0].outputs == {"colour": "blue", "llm_raw": {"id": 1}}
    assert client.asked == [
        [{"role": "system", "content": "be short"}, {"role": "user", "content": "which colour?"}],
    ]


def test_an_agent_calls_tools_until_it_answers() -> None:
    """What a tool returned is told to the model, and stands in the outputs."""
    client = Scripted(ChatResponse("", [call("add", '{"a": 1, "b": 2}')]), ChatResponse("it is 3"))

    result = AgentLoopTask(client, ToolRegistry().add(add)).execute(stage(messages=[{"role": "user", "content": "?"}]))

    assert result.status is WorkflowStatus.SUCCEEDED
    assert result.outputs == {
        "answer": "it is 3",
        "tool_invocations": [{"tool": "add", "result": "3"}],
        "iterations": 2,
    }
    assert client.asked[1][-1] == {"role": "tool", "content": "3", "tool_call_id": "c1", "name": "add"}


def test_a_tool_that_fails_is_told_to_the_model() -> None:
    """So it may go another way; without an answer in the end the pipeline goes on."""
    client = Scripted(*[ChatResponse("", [call("nothing", {})])] * 2)

    result = AgentLoopTask(client, ToolRegistry().add(add)).execute(stage(prompt="?", max_iterations=2))

    assert result.status is WorkflowStatus.FAILED_CONTINUE
    assert "there is no tool 'nothing'; there are: add" in result.outputs["tool_invocations"][0]["result"]
    assert result.outputs["iterations"] == 2


@pytest.mark.parametrize("kind", [LLMTask, AgentLoopTask])
def test_what_is_missing_is_a_terminal_result(kind: type[LLMTask]) -> None:
    """It says what."""
    for context, missing in (({"prompt": "?"}, "`model`"), ({"model": "m"}, "`prompt`")):
        result = kind().execute(stage(**context))

        assert result.status is WorkflowStatus.TERMINAL
        assert missing in result.context["error"]


def test_a_tool_has_the_schema_of_its_signature() -> None:
    """Parameters with a default may be left out; names and descriptions can be given."""

    @tool(name="find", description="Find things.")
    def look_for(words: list[str]) -> None:
        """Something else."""

    [first, second] = ToolRegistry().add(add).add(look_for).schemas()

    assert first["function"] == {
        "name": "add",
        "description": "Add two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}, "note": {"type": "string"}},
            "required": ["a", "b"],
        },
    }
    assert (second["function"]["name"], second["function"]["description"]) == ("find", "Find things.")
    assert second["function"]["parameters"]["properties"] == {"words": {"type": "array"}}


def test_tasks_are_known_by_their_aliases() -> None:
    """As `register_class` has it."""
    registry = TaskRegistry()
    registry.register_class(LLMTask)

    assert isinstance(registry.get("chat"), LLMTask)


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    """Remembers requests, answers with `server.answer`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.asked = (self.path, dict(self.headers), json.loads(body))  # type: ignore[attr-defined]
            status, answer = self.server.answer  # type: ignore[attr-defined]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join(30)


@pytest.mark.parametrize(
    ("api", "path", "answer", "settings"),
    [
        ("openai", "/chat/completions", {"choices": [{"message": {"content": "hi"}}]}, {"top_p": 1, "temperature": 0}),
        (
            "ollama",
            "/api/chat",
            {"message": {"content": "hi"}},
            {"stream": False, "options": {"top_p": 1, "temperature": 0}},
        ),
    ],
)
def test_a_client_speaks_both_dialects(
    server: Any, api: str, path: str, answer: dict[str, Any], settings: dict[str, Any]
) -> None:
    """Settings go where each of them has them; the key goes into a header."""
    server.answer = 200, json.dumps(answer)
    url = f"http://127.0.0.1:{server.server_port}/"
    client = LLMClient("m", url, "secret", api, default_options={"top_p": 1})

    response = client.chat([ChatMessage("user", "hello")], [{"type": "function"}], temperature=0)

    assert (response.content, response.has_tool_calls, response.raw) == ("hi", False, answer)
    asked_path, headers, body = server.asked
    assert (asked_path, headers["Authorization"]) == (path, "Bearer secret")
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "tools": [{"type": "function"}],
        **settings,
    }


@pytest.mark.parametrize(
    ("status", "answer", "said"), [(429, "slow down", "429: slow down"), (200, "[]", "not a JSON obj")]
)
def test_a_refusal_says_what_the_server_said(server: Any, status: int, answer: str, said: str) -> None:
    """The task ends TERMINAL with it."""
    server.answer = status, answer
    client = LLMClient("m", f"http://127.0.0.1:{server.server_port}")

    with pytest.raises(LLMError, match=said):
        client.chat([ChatMessage("user", "hello")])
    assert said in LLMTask(client).execute(stage(prompt="hello")).context["error"]


def test_a_client_needs_an_address_that_it_can_ask() -> None:
    """A file is none, and neither is an unknown dialect."""
    with pytest.raises(LLMError, match="has an http:// or https:// address"):
        LLMClient("m", "file:///etc").chat([])
    with pytest.raises(ValueError, match="api must be one of openai, ollama; not 'other'"):
        LLMClient("m", api="other")
