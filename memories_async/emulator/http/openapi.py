"""The OpenAPI document of the emulator, made from the operations table and the parameters."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import cast

from memories_async import operations
from memories_async._version import __version__
from memories_async.emulator.handlers.validation import FIELDS, Field, FieldType
from memories_async.emulator.http.routes import SIGNED_PATH
from memories_async.operations import OPERATIONS, Answer, Body, Operation, Service

PATH = "/openapi.json"

_SEVERAL_FILES = frozenset({operations.CAPTION_IMAGE_FILE, operations.ADD_IMAGES})
_VIDEO_FILES = frozenset(
    {operations.CAPTION_VIDEO_FILE, operations.SUBMIT_VIDEO_FILE, operations.ADD_VIDEO_FILE}
)
_ANY_FILES = frozenset({operations.UPLOAD_ASSET, operations.SEND_SIGNED})

_MEDIA_TYPES = {
    Body.JSON: "application/json",
    Body.JSON_ARRAY: "application/json",
    Body.FORM: "application/x-www-form-urlencoded",
    Body.REQ_AND_FILES: "multipart/form-data",
    Body.FIELDS_AND_FILES: "multipart/form-data",
}

_CODES = {
    Service.CAPTION: {"type": "integer", "enum": [0, -1]},
    Service.VISUAL_SEARCH: {"type": "string"},
    Service.VISUAL_INTELLIGENCE: {"type": "integer"},
}


@functools.cache
def document() -> dict[str, object]:
    """Return the document; see https://spec.openapis.org/oas/v3.1.0."""
    paths: dict[str, dict[str, dict[str, object]]] = {}
    for row in OPERATIONS:
        path = SIGNED_PATH if row.service is Service.STORAGE else row.path
        there = paths.setdefault(path, {}).get(row.method.lower())
        if there is None:
            paths[path][row.method.lower()] = _operation(row, path)
        else:  # another way in, told by the content type
            _content(there).update(_content(_operation(row, path)))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "memories.ai, as the emulator serves it",
            "version": __version__,
            "description": "Three services at one address. A refusal is HTTP 200 with another "
            "code on the first two, and an HTTP status on the third.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "The bare key, without Bearer.",
                }
            }
        },
    }


def _operation(row: Operation[object], path: str) -> dict[str, object]:
    fields = {field.name: field for field in FIELDS[row.name]}
    in_path = re.findall(r"\{(\w+)\}", path)
    in_query = [name for name in fields if name not in in_path and _is_in_query(row, name)]
    described: dict[str, object] = {
        "operationId": row.name,
        "summary": row.call,
        "parameters": [
            *(_parameter(fields[name], "path") for name in in_path),
            *(_parameter(fields[name], "query") for name in in_query),
        ],
        "responses": _responses(row),
        "security": [] if row.service is Service.STORAGE else [{"key": []}],
    }
    if row.body is not Body.QUERY:
        in_body = [fields[name] for name in fields if name not in {*in_path, *in_query}]
        content = {_MEDIA_TYPES[row.body]: _body(row, in_body)}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _is_in_query(row: Operation[object], name: str) -> bool:
    return (
        row.body is Body.QUERY
        or (row.body is Body.JSON_ARRAY and name != row.array_field)
        or row.service is Service.STORAGE
    )


def _content(operation: dict[str, object]) -> dict[str, object]:
    body = cast("dict[str, object]", operation["requestBody"])
    return cast("dict[str, object]", body["content"])


def _parameter(field: Field, where: str) -> dict[str, object]:
    required = field.missing is not None
    return {"name": field.name, "in": where, "required": required, "schema": _schema(field)}


def _body(row: Operation[object], fields: Sequence[Field]) -> dict[str, object]:
    if row.body is Body.JSON_ARRAY:
        [field] = fields
        return {"schema": _schema(field)}
    schema = _object(fields)
    if not row.file_part:
        return {"schema": schema}
    file: dict[str, object] = {"type": "string", "format": "binary"}
    if row in _SEVERAL_FILES:
        file = {"type": "array", "items": file, "minItems": 1}
    encoding = {row.file_part: {"contentType": _file_types(row)}}
    if row.body is Body.REQ_AND_FILES:
        schema = {"type": "object", "properties": {"req": schema}, "required": ["req"]}
        encoding["req"] = {"contentType": "application/json"}
    return {
        "schema": {
            "type": "object",
            "properties": {**cast("dict[str, object]", schema["properties"]), row.file_part: file},
            "required": [*cast("list[str]", schema["required"]), row.file_part],
        },
        "encoding": encoding,
    }


def _file_types(row: Operation[object]) -> str:
    if row in _ANY_FILES:
        return "video/*, audio/*, image/*"
    return "video/*" if row in _VIDEO_FILES else "image/*"


def _object(fields: Sequence[Field]) -> dict[str, object]:
    return {
        "type": "object",
        "properties": {field.name: _schema(field) for field in fields},
        "required": [field.name for field in fields if field.missing is not None],
    }


def _schema(field: Field) -> dict[str, object]:
    """Return a field's JSON schema."""
    text = field.kind is FieldType.TEXT
    texts = field.kind is FieldType.TEXTS
    limits = {
        "minLength": 1 if text and field.missing is not None else None,
        "maxLength": field.most if text else None,
        "maxItems": field.most if texts else None,
        "minItems": 1 if texts and field.missing is not None else None,
        "items": {"type": "string"} if texts else None,
        "minimum": field.least,
        "maximum": None if text or texts else field.most,
        "enum": list(field.choices) or None,
        "default": field.default,
    }
    kind = {} if field.kind is FieldType.ANY else {"type": field.kind.value}
    return {
        **kind,
        **{name: limit for name, limit in limits.items() if limit is not None},
        **field.schema,
    }


def _responses(row: Operation[object]) -> dict[str, object]:
    if row.service is Service.STORAGE:
        return {
            "204": {"description": "The bytes have come."},
            "default": {"description": "Refused.", "content": {"application/xml": {}}},
        }
    envelope: dict[str, object] = {
        "schema": {
            "type": "object",
            "properties": {"code": _CODES[row.service], "msg": {"type": "string"}, "data": {}},
            "required": ["code", "msg", "data"],
        }
    }
    success: dict[str, object] = {"application/json": envelope}
    if row.answer is Answer.FILE:
        success["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
    responses: dict[str, object] = {
        "200": {"description": "Success; or a refusal, where the code says so.", "content": success}
    }
    if row.service is Service.VISUAL_INTELLIGENCE:
        responses["400"] = {"description": "Refused.", "content": {"application/json": envelope}}
    return {
        **responses,
        "default": {
            "description": "The gateway's answer, or a refusal with its HTTP status.",
            "content": {"application/json": {"schema": {"type": "object"}}},
        },
    }
