"""A client for servers that speak OpenAI's chat API or Ollama's, with nothing but the standard library."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from stabilize_celery.errors import StabilizeError

__all__ = ["ChatMessage", "ChatResponse", "LLMClient", "LLMError"]

_PLACES = {
    "openai": ("OPENAI_BASE_URL", "https://api.openai.com/v1", "/chat/completions"),
    "ollama": ("OLLAMA_HOST", "http://localhost:11434", "/api/chat"),
}
"""By API: the variable that names its server, the server without it, and the path."""
_SHOWN = 2000
"""How much of a refusal's body an error quotes (characters)."""


class LLMError(StabilizeError):
    """A model could not be asked, or its server refused."""


@dataclass
class ChatMessage:
    """One message of a conversation. `role`: `system`, `user`, `assistant` or `tool`."""

    role: str
    content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    name: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as a server takes it: without what it has not."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass
class ChatResponse:
    """What a model answered. `raw`: the server's whole answer."""

    content: str
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)

    @property
    def has_tool_calls(self) -> bool:
        """Whether the model wants functions to be called before it goes on."""
        return bool(self.tool_calls)


class LLMClient:
    """Asks one model.

    Args:
        model: Its name.
        base_url: Its server; default: `OPENAI_BASE_URL` or `OLLAMA_HOST`, else OpenAI's or the local one.
        api_key: Default: `OLLAMA_API_KEY` or `OPENAI_API_KEY`.
        api: `openai`, which many servers speak, or `ollama`.
        timeout: How long an answer may take (s).
        default_options: What every request says besides.

    Raises:
        ValueError: there is no such `api`.

    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key: str | None = None,
        api: str = "openai",
        timeout: float = 120.0,
        default_options: Mapping[str, Any] | None = None,
    ) -> None:
        if api not in _PLACES:
            raise ValueError(f"api must be one of {', '.join(_PLACES)}; not {api!r}")
        variable, default, self._path = _PLACES[api]
        self.model, self.api, self.timeout = model, api, timeout
        self.default_options = dict(default_options or {})
        self.api_key = api_key or os.getenv("OLLAMA_API_KEY") or os.getenv("OPENAI_API_KEY")
        self.base_url = (base_url or os.getenv(variable) or default).rstrip("/")

    def chat(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[Mapping[str, Any]] | None = None,
        temperature: float | None = None,
        **options: Any,
    ) -> ChatResponse:
        """Return the model's answer to a conversation.

        Args:
            messages: The conversation so far.
            tools: Schemas of the functions that it may call.
            temperature: How freely it may answer.
            options: What this request says besides.

        Raises:
            LLMError: there was no answer, or a refusal.

        """
        warmth = {} if temperature is None else {"temperature": temperature}
        request: dict[str, Any] = {"model": self.model, "messages": [one.to_dict() for one in messages]}
        if tools:
            request["tools"] = list(tools)
        if self.api == "ollama":
            own = {**self.default_options, **warmth}
            answer = self._post({**request, "stream": False, **({"options": own} if own else {}), **options})
            return _response(answer.get("message") or {}, answer)
        answer = self._post({**request, **self.default_options, **warmth, **options})
        choices = answer.get("choices") or [{}]
        return _response(choices[0].get("message") or {}, answer)

    def _post(self, body: Mapping[str, Any]) -> dict[str, Any]:
        url = f"{self.base_url}{self._path}"
        if not url.startswith(("http://", "https://")):
            raise LLMError(f"{url}: a model's server has an http:// or https:// address")
        headers = {"Content-Type": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 -- looked at above
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:  # noqa: S310 -- looked at above
                found = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            said = error.read().decode("utf-8", errors="replace")[:_SHOWN]
            raise LLMError(f"{url} answered {error.code}: {said}") from error
        except (OSError, ValueError) as error:
            raise LLMError(f"{url} gave no answer: {error}") from error
        if not isinstance(found, dict):
            raise LLMError(f"{url} answered with something that is not a JSON object")
        return found


def _response(message: Mapping[str, Any], raw: dict[str, Any]) -> ChatResponse:
    return ChatResponse(message.get("content") or "", list(message.get("tool_calls") or ()), raw)
