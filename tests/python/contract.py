"""The customer's contract as data (docs/contract/asyncapi.yaml), and whether a message is what it says.

    contract.validate("offpeak.job.accepted.v1", {"job": "...", "items": 5})   # a decoded body, of JSON or MessagePack
    contract.validate_reply(properties, body)                                  # what pika delivers, decoded by its content type

Both raise AssertionError with every difference. A body with a field that the contract does not have is a difference, too: customers
ignore such fields, but a grid that sends one has outrun its document.
"""

import base64
import functools
import json

import jsonschema
import yaml

from rabbitmq import ROOT

FILE = ROOT / "docs/contract/asyncapi.yaml"


@functools.cache
def document():
    """The document, as YAML reads it."""
    return yaml.load(FILE.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def messages():
    """The messages by their type."""
    return document()["components"]["messages"]


def requests():
    """The types that customers send."""
    return list(document()["channels"]["submit"]["messages"])


def answers():
    """The types that the grid sends to customers."""
    return list(document()["channels"]["results"]["messages"])


def answers_of(kind):
    """The types that answer a request of that type: its own answers, then the one that refuses it."""
    [operation] = [o for o in document()["operations"].values() if any(m["$ref"].endswith(f"/{kind}") for m in o["messages"])]
    return [message["$ref"].rsplit("/", 1)[-1] for message in operation["reply"]["messages"]]


def closed(schema):
    """The schema, taking no fields but its own."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {key: part if key in ("default", "examples", "const", "enum") else closed(part) for key, part in schema.items()}
    if isinstance(parts.get("properties"), dict):
        parts.setdefault("additionalProperties", False)
    return parts


@functools.cache
def validator(kind, strict=True):
    """Of a type's bodies; a strict one takes no fields but the document's."""
    if kind not in messages():
        raise AssertionError(f"{kind} is not in the contract")
    schemas = document()["components"]["schemas"]
    of_root = {"allOf": [messages()[kind]["payload"]], "components": {"schemas": closed(schemas) if strict else schemas}}
    return jsonschema.Draft7Validator(of_root, format_checker=jsonschema.FormatChecker(["uuid"]))


def as_json(value):
    """A body as JSON would have it: the contract's schemas show bytes as Base64."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    return value


def differences(kind, body, strict=True):
    """Where a decoded body is not what the contract says, one text each."""
    errors = sorted(validator(kind, strict).iter_errors(as_json(body)), key=lambda error: error.json_path)
    return [f"{error.json_path}: {error.message}" for error in errors]


def validate(kind, body, strict=True):
    """Raises AssertionError if a decoded body of that type is not what the contract says."""
    if found := differences(kind, body, strict):
        raise AssertionError(f"{kind} is not as the contract says:\n  " + "\n  ".join(found) + f"\n{json.dumps(as_json(body))[:2000]}")


def decode(content_type, body):
    """The bytes of a body as a value."""
    if content_type in ("application/json", "application/problem+json"):
        return json.loads(body)
    import msgpack  # only those who ask for MessagePack need it

    return msgpack.unpackb(body)


def validate_reply(properties, body):
    """Raises AssertionError if what pika delivered is no answer of the contract; gives back its body as a value."""
    there = {
        "type": properties.type,
        "message_id": properties.message_id,
        "correlation_id": properties.correlation_id,
        "content_type": properties.content_type,
        "delivery_mode": properties.delivery_mode,
        "traceparent": (properties.headers or {}).get("traceparent"),
    }
    schema = document()["components"]["messageTraits"]["answer"]["headers"]
    errors = jsonschema.Draft7Validator(schema).iter_errors({name: value for name, value in there.items() if value is not None})
    if found := [f"{error.json_path}: {error.message}" for error in errors]:
        raise AssertionError(f"{properties.type} has not the properties of the contract:\n  " + "\n  ".join(found))
    if properties.type not in answers():
        raise AssertionError(f"{properties.type} is no answer of the contract")
    wanted = messages()[properties.type]["contentType"]
    if properties.content_type not in (wanted, "application/msgpack"):
        raise AssertionError(f"{properties.type} is {properties.content_type}, and not {wanted} or application/msgpack")
    value = decode(properties.content_type, body)
    validate(properties.type, value)
    return value
