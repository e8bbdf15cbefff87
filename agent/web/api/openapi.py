"""The OpenAPI 3.1 document, made from the endpoints and their request models."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from agent.web.api.endpoints import Endpoint
from agent.web.api.models import BundleAsked, Download, Request

_JSON = "application/json"
_REFERENCES = "#/components/schemas/{model}"
_ERROR = {
    "description": "Refused: what happened and what to do next",
    "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_JOB = {"description": "The job", "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Job"}}}}


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Any] = {"Problem": _PROBLEM, "Job": _JOB_SCHEMA}
    for each in endpoints:
        operation: dict[str, Any] = {"summary": each.summary, "operationId": _name(each)}
        if each.see is not None:
            operation["parameters"] = _parameters(each.request)
            operation["responses"] = {"200": {"description": "As the command's --json"}, "default": _ERROR}
        else:
            schemas[each.request.__name__] = _schema(each.request)
            reference = {"$ref": _REFERENCES.format(model=each.request.__name__)}
            operation["requestBody"] = {"required": True, "content": {_JSON: {"schema": reference}}}
            operation["responses"] = {"202": _JOB, "default": _ERROR}
        paths.setdefault(each.path, {})[each.method.lower()] = operation
    file = {
        "description": "The bundle as an attachment, sealed with age unless plain",
        "content": {"application/octet-stream": {}},
    }
    paths["/api/backup"] = {
        "get": {
            "summary": "Make a backup and download it",
            "operationId": "downloadBackup",
            "parameters": _parameters(Download),
            "responses": {"200": file, "default": _ERROR},
        }
    }
    stored = _by_id("Download a bundle of the archive", "downloadBundle", {"200": file})
    stored["get"]["parameters"] += _parameters(BundleAsked)
    paths["/api/bundles/{id}"] = stored
    paths["/api/jobs"] = {
        "get": {
            "summary": "All jobs",
            "operationId": "jobs",
            "responses": {"200": {"description": "Jobs, newest first"}},
        }
    }
    paths["/api/jobs/{id}"] = {
        **_by_id("How a job stands", "job", {"200": _JOB}),
        "delete": _by_id("Cancel a job", "cancelJob", {"200": _JOB})["get"],
    }
    events = {"description": "Events progress, then done, failed or cancelled", "content": {"text/event-stream": {}}}
    paths["/api/jobs/{id}/events"] = _by_id("Watch a job (server-sent events)", "watchJob", {"200": events})
    return {
        "openapi": "3.1.0",
        "info": {"title": "Backroom, the local agent", "version": version("backroom")},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _by_id(summary: str, name: str, responses: dict[str, Any]) -> dict[str, Any]:
    parameter = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        "get": {
            "summary": summary,
            "operationId": name,
            "parameters": [parameter],
            "responses": {**responses, "default": _ERROR},
        }
    }


def _parameters(model: type[Request]) -> list[dict[str, Any]]:
    schema = _schema(model)
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "description": field.pop("description", ""),
            "schema": field,
        }
        for name, field in schema.get("properties", {}).items()
    ]


def _schema(model: type[Request]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template=_REFERENCES)
    schema.pop("title", None)
    return schema


def _name(endpoint: Endpoint) -> str:
    function = endpoint.see or endpoint.do
    first, *rest = str(getattr(function, "__name__", endpoint.path)).split("_")
    return first + "".join(part.capitalize() for part in rest)


_PROBLEM = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "hint"],
            "properties": {name: {"type": "string"} for name in ("code", "message", "hint")},
        }
    },
}
_JOB_SCHEMA = {
    "type": "object",
    "required": ["id", "verb", "state"],
    "properties": {
        "id": {"type": "string"},
        "verb": {"type": "string"},
        "state": {"enum": ["running", "done", "failed", "cancelled"]},
        "started_at": {"type": "string", "format": "date-time"},
        "ended_at": {"type": ["string", "null"], "format": "date-time"},
        "progress": {
            "type": "object",
            "properties": {
                "stage": {"type": "string"},
                "done": {"type": "integer"},
                "total": {"type": "integer"},
                "what": {"type": "string"},
                "unit": {"type": "string"},
                "bytes": {"type": "integer"},
                "rate": {"type": ["number", "null"]},
                "seconds_left": {"type": ["number", "null"]},
            },
        },
        "result": {},
        "error": {"type": ["object", "null"]},
    },
}
