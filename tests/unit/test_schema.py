"""The check against schemas finds what the API server would refuse."""

from typing import Any

import pytest

from knative.verify.schema import Schemas

DEFINITIONS: dict[str, Any] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": "string", "description": "1Gi"},
    "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": {"type": "object", "properties": {"name": {"type": "string"}}},
    "io.k8s.api.core.v1.PodSpec": {
        "type": "object",
        "properties": {
            "containers": {"type": "array", "items": {"type": "object", "properties": {"image": {"type": "string"}}}},
            "volumes": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
        },
    },
    "Thing": {
        "type": "object",
        "required": ["kind"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"},
            "count": {"type": "integer", "format": "int32", "minimum": 0},
            "ratio": {"type": "number"},
            "on": {"type": "boolean"},
            "port": {"type": "string", "format": "int-or-string"},
            "size": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.api.resource.Quantity"},
            "mode": {"type": "string", "enum": ["a", "b"]},
            "code": {"type": "string", "pattern": "^[0-9]+$"},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "parts": {"type": "array", "items": {"type": "object", "required": ["x"], "properties": {"x": {}}}},
            "any": {"type": "object"},
            "open": {"type": "object", "properties": {"x": {}}, "x-kubernetes-preserve-unknown-fields": True},
        },
    },
}
FUNCTION = {
    "type": "object",
    "properties": {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": {"type": "object"},
    },
}
SCHEMAS = Schemas(DEFINITIONS, {("v1", "Thing"): DEFINITIONS["Thing"], ("serving.knative.dev/v1", "Service"): FUNCTION})


def problems(**fields: Any) -> list[str]:
    return list(SCHEMAS.problems({"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "it"}, **fields}))


@pytest.mark.parametrize(
    "fields",
    [
        {"count": 3, "ratio": 1, "on": True, "port": 80, "size": "1Gi", "mode": "a", "code": "42"},
        {"port": "http", "size": 2, "ratio": 0.5, "labels": {"any/name": "x"}, "parts": [{"x": None}, {"x": []}]},
        {"any": {"a": {"b": 1}}, "open": {"y": 1}},
    ],
)
def test_what_is_right_passes(fields: dict[str, Any]) -> None:
    assert [each for each in problems(**fields) if "null" not in each] == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kount": 3}, ".kount: no such field"),
        ({"metadata": {"name": "it", "lables": {}}}, ".metadata.lables: no such field"),
        ({"count": "3"}, "not of type integer"),
        ({"count": True}, "not of type integer"),
        ({"count": -1}, "out of bounds"),
        ({"on": "yes"}, "not of type boolean"),
        ({"port": 1.5}, "no number and no text"),
        ({"port": True}, "no number and no text"),
        ({"size": True}, "not of type string"),
        ({"mode": "c"}, "none of"),
        ({"code": "4a"}, "not of the form"),
        ({"labels": {"x": 1}}, ".labels.x: 1 is not of type string"),
        ({"parts": [{"x": 1}, {}]}, ".parts[1].x: required"),
        ({"parts": {}}, "not of type array"),
        ({"mode": None}, ".mode: is null"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], said: str) -> None:
    assert any(said in each for each in problems(**fields))


def test_a_kind_without_a_schema_is_a_fault() -> None:
    assert "no schema knows v2 Thing" in problems(apiVersion="v2")[0]


def test_a_word_that_is_not_understood_stops_the_check() -> None:
    schemas = Schemas({}, {("v1", "Thing"): {"type": "object", "oneOf": []}})
    with pytest.raises(ValueError, match="oneOf"):
        list(schemas.problems({"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "it"}}))


def test_the_pod_of_a_function_is_checked_as_kubernetes_does() -> None:
    pod = {"containerConcurrency": 1, "containers": [{"image": "x"}], "volumes": [{"nmae": "x"}]}
    function = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "it"}}
    found = list(SCHEMAS.problems({**function, "spec": {"template": {"spec": pod}}}))
    assert found == ["Service it: .spec.template.spec.volumes[0].nmae: no such field"]
