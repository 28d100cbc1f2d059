"""When do the tokens of one request come? One streamed request to a server that speaks the OpenAI protocol."""

from __future__ import annotations

import http.client
import ipaddress
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

from hwprof.errors import InputError, WorkError

Endpoint = Literal["chat", "completions"]

PATHS: dict[Endpoint, str] = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server is.

    Attributes:
        https: whether it speaks https.
        host, port: of it.
        before: path before ``/v1``.
    """

    https: bool
    host: str
    port: int
    before: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """One answer.

    Attributes:
        sent_s, first_s, last_s: on one clock: request sent, first and last token here.
        tokens: of the answer, as the server counts them, else pieces that came.
        prompt_tokens: as the server counts them; 0 where it does not say.
    """

    sent_s: float
    first_s: float
    last_s: float
    tokens: int
    prompt_tokens: int

    @property
    def ttft_s(self) -> float:
        """Time to the first token."""
        return self.first_s - self.sent_s

    @property
    def tpot_s(self) -> float | None:
        """Time of each further token; None where there is none."""
        return (self.last_s - self.first_s) / (self.tokens - 1) if self.tokens > 1 else None


def address_of(url: str, *, remote: bool) -> Address:
    """The address of a URL; only of this machine unless ``remote``.

    Raises:
        InputError: it is no http address, or of another machine.
    """
    parts = urlsplit(url if "//" in url else f"//{url}", scheme="http")
    if parts.scheme not in PORTS or not parts.hostname:
        raise InputError(f"{url!r} is no address of a server", expectation="for example http://127.0.0.1:8000")
    if not remote and not _loopback(parts.hostname):
        raise InputError(
            f"{parts.hostname} is another machine",
            expectation="only servers of this machine are asked unless told otherwise",
            remedy="give --remote to send requests there",
        )
    return Address(
        https=parts.scheme == "https",
        host=parts.hostname,
        port=_port(parts, url),
        before=parts.path.rstrip("/").removesuffix("/v1"),
    )


def _port(parts: SplitResult, url: str) -> int:
    try:
        return parts.port or PORTS[parts.scheme]
    except ValueError as error:
        raise InputError(f"{url!r} has no port that can be", expectation="a number up to 65535") from error


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def first_model(address: Address, *, timeout_s: float) -> str:
    """The first model that a server lists.

    Raises:
        WorkError: it can't be reached, or lists none.
    """
    connection = _connected(address, timeout_s)
    try:
        connection.request("GET", f"{address.before}/v1/models")
        names = [one["id"] for one in json.loads(connection.getresponse().read())["data"]]
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise _unreachable(address, error) from error
    finally:
        connection.close()
    if not names:
        raise WorkError(
            f"the server at {address.host}:{address.port} lists no model", remedy="name one: --served-model"
        )
    return str(names[0])


def streamed(
    address: Address,
    endpoint: Endpoint,
    model: str,
    prompt: str,
    new_tokens: int,
    *,
    timeout_s: float,
    whole: bool = True,
) -> Streamed:
    """One request, its tokens timed as they come.

    Args:
        address: of the server.
        endpoint: which of its two is asked.
        model: as the server calls it.
        prompt: what.
        new_tokens: tokens of the answer at most.
        timeout_s: seconds without anything from the server.
        whole: ask for all of them (``ignore_eos``, which vLLM, SGLang and TensorRT-LLM know).

    Raises:
        WorkError: the server can't be reached, refuses, or sends no token.
    """
    asked: dict[str, Any] = {
        "model": model,
        "max_tokens": new_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.0,
    }
    asked |= {"messages": [{"role": "user", "content": prompt}]} if endpoint == "chat" else {"prompt": prompt}
    return _asked(address, endpoint, asked | ({"ignore_eos": True} if whole else {}), timeout_s)


class RefusedError(WorkError):
    """A server that answers with an error."""


def _asked(address: Address, endpoint: Endpoint, asked: dict[str, Any], timeout_s: float) -> Streamed:
    connection = _connected(address, timeout_s)
    try:
        sent_s = time.perf_counter()
        connection.request("POST", address.before + PATHS[endpoint], json.dumps(asked), _HEADERS)
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            text = answer.read(500).decode(errors="replace")
            raise RefusedError(f"the server answers {answer.status}: {text}", expectation="a stream of tokens")
        return _timed(answer, sent_s)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _unreachable(address, error) from error
    finally:
        connection.close()


_HEADERS = {"Content-Type": "application/json", "Accept": "text/event-stream"}


def _connected(address: Address, timeout_s: float) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if address.https else http.client.HTTPConnection
    return kind(address.host, address.port, timeout=timeout_s)


def _unreachable(address: Address, error: Exception) -> WorkError:
    return WorkError(
        f"the server at {address.host}:{address.port} gives no answer: {error or type(error).__name__}",
        expectation="a server that speaks the OpenAI protocol",
        remedy="start it, or give its address",
    )


def _timed(answer: http.client.HTTPResponse, sent_s: float) -> Streamed:
    first_s = last_s = 0.0
    pieces, usage = 0, {}
    for event in _events(answer):
        if isinstance(event.get("usage"), dict):
            usage = event["usage"]
        if any(_text_of(choice) for choice in event.get("choices") or ()):
            last_s = time.perf_counter()
            first_s = first_s or last_s
            pieces += 1
    if not pieces:
        raise WorkError("the server sent no token", expectation="an answer with text, as a stream")
    return Streamed(
        sent_s=sent_s,
        first_s=first_s,
        last_s=last_s,
        tokens=int(usage.get("completion_tokens") or pieces),
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
    )


def _events(answer: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """The JSON of each line ``data: ...`` until ``data: [DONE]``."""
    for line in answer:
        text = line.decode("utf-8").strip()
        if not text.startswith("data:"):
            continue
        body = text.removeprefix("data:").strip()
        if body == "[DONE]":
            return
        event = json.loads(body)
        if isinstance(event, dict):
            yield event


def _text_of(choice: dict[str, Any]) -> str:
    """What a piece adds: text, thoughts among it."""
    delta = choice.get("delta") or {}
    return str(choice.get("text") or delta.get("content") or delta.get("reasoning_content") or "")
