"""The models as tools of the Model Context Protocol, for assistants: `POST /mcp`.

Streamable HTTP without sessions (https://modelcontextprotocol.io/specification/2025-06-18/basic/transports): one
request, one response in json. What the protocol has beyond tools is not offered.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from ui.inference import InferenceResult, Upload
from ui.server.job_queue import JobQueue
from ui.server.limits import MB
from visionkit.errors import DataError, UsageError, VisionKitError

VERSIONS = ("2025-06-18", "2025-03-26", "2024-11-05")
"""Of the protocol, the newest first."""

TOOLS: list[dict[str, Any]] = [
    {
        "name": "models",
        "title": "List vision models",
        "description": "Models that can be asked: name, task, terms, and the fault of one that cannot be used.",
        "inputSchema": {"type": "object", "properties": {}, "additionalProperties": False},
        "annotations": {"readOnlyHint": True},
    },
    {
        "name": "predict",
        "title": "Ask a vision model about an image",
        "description": (
            "The response of one model on one image, in pixels of that image: classes, boxes, masks, keypoints, depth, "
            "labels of pixels, a larger image or faces, by the model's task."
        ),
        "inputSchema": {
            "type": "object",
            "properties": {
                "model": {"type": "string", "description": "a name that `models` gives"},
                "image": {"type": "string", "description": "the image's file (jpeg, png, webp, ...) in base64"},
                "options": {
                    "type": "object",
                    "description": "options of the model's call, such as score_threshold or noise_level",
                },
                "drawn": {"type": "boolean", "description": "also give the image with the response drawn on it"},
            },
            "required": ["model", "image"],
            "additionalProperties": False,
        },
        "annotations": {"readOnlyHint": True},
    },
]


class UploadedImage(NamedTuple):
    """What stands in a message in place of an image's text.

    Attributes:
        is_good: The text was base64, and the image is in the file.
    """

    is_good: bool


def read_message(body: Path, image: Path) -> Any:
    """Reads a message, and puts the image in it into a file, so that nothing large stays in memory.

    Args:
        body: What was sent.
        image: The file that is written.

    Returns:
        The message with a `UploadedImage` in place of the text; None where it is not json.
    """
    try:
        message = json.loads(body.read_bytes())
    except (ValueError, RecursionError):
        return None
    given = message.get("params") if isinstance(message, dict) else None
    arguments = given.get("arguments") if isinstance(given, dict) else None
    if isinstance(arguments, dict) and isinstance(arguments.get("image"), str):
        try:
            image.write_bytes(base64.b64decode(arguments["image"].rpartition("base64,")[2], validate=True))
            arguments["image"] = UploadedImage(True)
        except (binascii.Error, ValueError):
            arguments["image"] = UploadedImage(False)
    return message


class Tools:
    """Handles the protocol's messages.

    Args:
        job_queue: Where images are processed.
        models: Gives the list of models.
        drawn: Gives the drawing as jpeg.
    """

    def __init__(
        self, job_queue: JobQueue, models: Callable[[], list[dict[str, Any]]], drawn: Callable[[InferenceResult], bytes]
    ) -> None:
        self._job_queue, self._models, self._drawn = job_queue, models, drawn

    @property
    def largest(self) -> int:
        """Bytes that a message may have: an image in base64 and some words."""
        return self._job_queue.limits.image_mb * MB * 4 // 3 + MB

    def respond(self, message: Any, image: Path) -> dict[str, Any] | None:
        """The response to one message, None to a notification.

        Args:
            message: What `read_message` gave.
            image: The file that it wrote.
        """
        if message is None:
            return _fault(None, -32700, "not json")
        is_message = isinstance(message, dict) and message.get("jsonrpc") == "2.0"
        if not is_message or not isinstance(message.get("method"), str):
            return _fault(None, -32600, "not a JSON-RPC 2.0 request; batches are not taken")
        number, method = message.get("id"), message["method"]
        given = message.get("params") or {}
        if "id" not in message:
            return None
        if not isinstance(given, dict):
            return _fault(number, -32602, "params is an object")
        if method == "initialize":
            asked = given.get("protocolVersion")
            report = {
                "protocolVersion": asked if asked in VERSIONS else VERSIONS[0],
                "capabilities": {"tools": {"listChanged": False}},
                "serverInfo": {"name": "visionkit", "version": version("visionkit")},
            }
            return _result(number, report)
        if method == "ping":
            return _result(number, {})
        if method == "tools/list":
            return _result(number, {"tools": TOOLS})
        if method == "tools/call":
            return self._call(number, given, image)
        return _fault(number, -32601, f"no method {method[:80]!r}")

    def _call(self, number: Any, given: dict[str, Any], file: Path) -> dict[str, Any]:
        name, arguments = given.get("name"), given.get("arguments") or {}
        if name not in {tool["name"] for tool in TOOLS} or not isinstance(arguments, dict):
            return _fault(number, -32602, "no such tool; tools/list names them")
        try:
            content = self._predict(arguments, file) if name == "predict" else [_text(self._models())]
        except VisionKitError as error:  # as the protocol needs it: the assistant reads it and may do better
            return _result(number, {"content": [{"type": "text", "text": str(error)}], "isError": True})
        return _result(number, {"content": content, "isError": False})

    def _predict(self, arguments: dict[str, Any], file: Path) -> list[dict[str, Any]]:
        model, image = arguments.get("model"), arguments.get("image")
        if not isinstance(model, str) or not isinstance(image, (str, UploadedImage)):
            raise UsageError("predict: give model and image, both as text")
        if not isinstance(image, UploadedImage) or not image.is_good:
            raise DataError("image: not base64")
        options = arguments.get("options") or {}
        if not isinstance(options, dict):
            raise UsageError('predict: options are an object, such as {"noise_level": 25}')
        upload = Upload(str(file), "image")
        result = self._job_queue.ask(model, upload, channel="mcp", options=options, strict=True)
        content = [_text(result.prediction.to_json())]
        if arguments.get("drawn"):
            drawn = base64.b64encode(self._drawn(result)).decode("ascii")
            content.append({"type": "image", "data": drawn, "mimeType": "image/jpeg"})
        return content


def _text(value: Any) -> dict[str, Any]:
    return {"type": "text", "text": json.dumps(value, ensure_ascii=False)}


def _result(number: Any, result: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "result": result}


def _fault(number: Any, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": message}}
