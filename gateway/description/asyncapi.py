"""AsyncAPI 3.0 of the doors over NATS: requests for intents, their answers, and the tenant's feed.

The subjects are those that a tenant sees in its own account; what the server makes of them inside stays inside."""

from __future__ import annotations

from typing import Any, Final

from zentra.gateway.description import shapes
from zentra.gateway.description.openapi import REFERENCES, components_of, shared
from zentra.gateway.doors.intents import BATCH_MAX
from zentra.gateway.doors.nats import NATS_CODES, VERB
from zentra.gateway.http.versions import CURRENT
from zentra.runtime.codes import CODES
from zentra.runtime.intents.command import KEY_PATTERN, intent_schema
from zentra.runtime.intents.vocabulary import Topic
from zentra.runtime.ledger.money import currencies

__all__ = ["asyncapi"]

_KEY: Final = f"^{KEY_PATTERN.pattern.removesuffix(chr(92) + 'Z')}$"
_ABOUT: Final = """\
Every tenant has a NATS account of its own. A request on `zentra.intents.create` is answered after the commit; whoever
hears nothing asks again with the same idempotency key. A publish without a reply subject is taken too, at most once,
and its outcome is seen on the feed. Headers that begin with `Nats-` are dropped."""


def asyncapi() -> dict[str, Any]:
    """Return the document."""
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Zentra over NATS", "version": CURRENT.name, "description": _ABOUT},
        "defaultContentType": "application/json",
        "servers": {
            "nats": {
                "host": "{host}", "protocol": "nats", "variables": {"host": {"default": "127.0.0.1:4222"}},
                "security": [{"$ref": "#/components/securitySchemes/account"}],
            }
        },
        "channels": _channels(),
        "operations": _operations(),
        "components": {
            "messages": _messages(),
            "schemas": {
                **components_of([shapes.BulkAnswer, shapes.ProblemDocument, shapes.RecordShown]),
                "IntentRequest": shared(intent_schema()),
                "Currency": {"title": "Currency", "description": "ISO 4217", "enum": currencies()},
                "IntentHeaders": _headers(),
            },
            "securitySchemes": {
                "account": {"type": "userPassword", "description": "the tenant's user: `zentra tenants nats`"},
            },
        },
    }  # fmt: skip


def _channels() -> dict[str, Any]:
    return {
        "create": {
            "address": f"zentra.intents.{VERB}",
            "description": "requests for intents",
            "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in ("intent", "intents")},
        },
        "reply": {
            "address": None,
            "description": "the reply subject of the request, below `_INBOX`",
            "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in ("answer", "answers", "problem")},
        },
        "feed": {
            "address": "zentra.feed.{topic}.{intent}",
            "description": "every committed event of the tenant; each is on the feed at least once",
            "parameters": {
                "topic": {"description": "the event", "enum": [str(topic) for topic in Topic]},
                "intent": {"description": "the uuid of the intent"},
            },
            "messages": {"record": {"$ref": "#/components/messages/record"}},
        },
    }


def _operations() -> dict[str, Any]:
    return {
        "createIntents": {
            "action": "receive",
            "summary": f"Take one intent, or an array of up to {BATCH_MAX:,}, each with a key in its body.",
            "channel": {"$ref": "#/channels/create"},
            "messages": [{"$ref": f"#/channels/create/messages/{name}"} for name in ("intent", "intents")],
            "reply": {
                "address": {"location": "$message.header#/reply", "description": "the reply subject of the request"},
                "channel": {"$ref": "#/channels/reply"},
                "messages": [
                    {"$ref": f"#/channels/reply/messages/{name}"} for name in ("answer", "answers", "problem")
                ],
            },
        },
        "tellEvents": {
            "action": "send",
            "summary": "Tell the tenant of its own events.",
            "channel": {"$ref": "#/channels/feed"},
            "messages": [{"$ref": "#/channels/feed/messages/record"}],
        },
    }


def _messages() -> dict[str, Any]:
    schemas = {name: {"$ref": REFERENCES.format(name=name)} for name in
               ("IntentRequest", "IntentHeaders", "BulkAnswer", "ProblemDocument", "RecordShown")}  # fmt: skip
    codes = sorted(NATS_CODES)
    problem = {"allOf": [schemas["ProblemDocument"], {"properties": {"code": {"enum": codes}}}]}
    answers = {"type": "array", "items": {"anyOf": [schemas["BulkAnswer"], problem]}}
    several = {"type": "array", "maxItems": BATCH_MAX, "items": schemas["IntentRequest"]}
    said = "; ".join(f"`{code}`: {CODES[code].title}" for code in codes)
    return {
        "intent": {"summary": "one intent", "headers": schemas["IntentHeaders"], "payload": schemas["IntentRequest"]},
        "intents": {"summary": "many intents", "payload": several},
        "answer": {"summary": "the answer to one intent", "payload": schemas["BulkAnswer"]},
        "answers": {"summary": "an answer or a problem per intent, in order", "payload": answers},
        "problem": {"summary": "the request is refused", "description": said, "payload": problem},
        "record": {"summary": "one committed event, as it is sealed", "payload": schemas["RecordShown"]},
    }


def _headers() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "idempotency-key": {
                "type": "string", "pattern": _KEY,
                "description": "for one intent; also as x-idempotency-key, or as idempotency_key in the body",
            },
            "traceparent": {"type": "string", "description": "W3C Trace Context"},
            "zentra-version": {"type": "string", "description": "the version of the API that the tenant speaks"},
        },
    }  # fmt: skip
