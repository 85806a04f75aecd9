"""Checks objects against the schemas of Kubernetes (its OpenAPI) and of others (their CRDs), unknown fields included.

Both are JSON Schema in a few words only. They are read here, rather than by a library for all of it, because the API
server reads them in its own way: a field that no schema names is refused, an int-or-string is a type, a quantity may be
a number. A word that is not understood stops the check; none is passed over.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped,unused-ignore]

from knative.verify.objects import KNATIVE_SERVICE, Object, called

Schema = Mapping[str, Any]

_KUBERNETES = "api/openapi-spec/swagger.json"
# Knative's, and the prometheus-operator's.
_CRDS = ("config/core/300-resources", "config/core/resources", "example/prometheus-operator-crd")
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_POD = "io.k8s.api.core.v1.PodSpec"
_REF = "#/definitions/"
_INT_OR_STRING = "x-kubernetes-int-or-string"
_OPEN = "x-kubernetes-preserve-unknown-fields"
_WORDS = {"$ref", "type", "format", "properties", "required", "items", "additionalProperties", "enum", "pattern"}
_WORDS |= {"minimum", "maximum", "minLength", "anyOf", _INT_OR_STRING, _OPEN}
# These say nothing about what is valid.
_SILENT = re.compile(r"description|default|title|example|x-kubernetes-(list|map|patch|group|unions).*")
_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}
# What Knative adds to the spec of a pod.
_KNATIVE_POD = {"containerConcurrency", "timeoutSeconds", "responseStartTimeoutSeconds", "idleTimeoutSeconds"}
# A Kubernetes validates these that no schema tells of, and demands them in a pod (Knative fills them in).
_FILLED_IN = "port: required"


class _Loader(yaml.CSafeLoader):  # type: ignore[misc,unused-ignore]
    """Reads `=`, which is an operator in those schemas, as the text that it is in YAML 1.2."""


_Loader.add_constructor("tag:yaml.org,2002:value", yaml.CSafeLoader.construct_yaml_str)


@dataclass(frozen=True, slots=True)
class Schemas:
    """The schemas of all kinds. `definitions`: what a $ref may name; `kinds`: by apiVersion and kind."""

    definitions: Mapping[str, Schema]
    kinds: Mapping[tuple[str, str], Schema]

    @classmethod
    def load(cls, kubernetes: Path, *others: Path) -> "Schemas":
        """Read the schemas from the folders of the modules."""
        definitions: dict[str, Schema] = json.loads((kubernetes / _KUBERNETES).read_text())["definitions"]
        kinds: dict[tuple[str, str], Schema] = {}
        for schema in definitions.values():
            for gvk in schema.get("x-kubernetes-group-version-kind", ()):
                kinds["/".join(filter(None, (gvk["group"], gvk["version"]))), gvk["kind"]] = schema
        for module in others:
            for path in sorted(path for folder in _CRDS for path in (module / folder).glob("*.yaml")):
                for crd in yaml.load_all(path.read_text(), _Loader):
                    if crd and crd["kind"] == "CustomResourceDefinition":
                        kinds.update(_of_crd(crd["spec"]))
        return cls(definitions, kinds)

    def problems(self, each: Object) -> Iterator[str]:
        """Yield what is wrong with an object."""
        schema = self.kinds.get((each.get("apiVersion", ""), each.get("kind", "")))
        if schema is None:
            yield f"{called(each)}: no schema knows {each.get('apiVersion')} {each.get('kind')}"
            return
        for problem in self._check(each, schema, ""):
            yield f"{called(each)}: {problem}"
        if each["apiVersion"] == KNATIVE_SERVICE:
            # The CRD leaves some of the pod open (volumes, say); Kubernetes does not.
            pod = {name: value for name, value in each["spec"]["template"]["spec"].items() if name not in _KNATIVE_POD}
            for problem in self._check(pod, self.definitions[_POD], ".spec.template.spec"):
                if not problem.endswith(_FILLED_IN):
                    yield f"{called(each)}: {problem}"

    def _check(self, value: Any, schema: Schema, path: str) -> Iterator[str]:
        if unknown := [word for word in schema if word not in _WORDS and not _SILENT.fullmatch(word)]:
            raise ValueError(f"the schema at {path or '.'} says {', '.join(unknown)}: teach this module the word")
        if "$ref" in schema:
            name = schema["$ref"].removeprefix(_REF)
            if name == _QUANTITY and isinstance(value, int | float) and not isinstance(value, bool):
                return
            yield from self._check(value, self.definitions[name], path)
            return
        if value is None:
            yield f"{path}: is null"
            return
        if schema.get("format") == "int-or-string" or schema.get(_INT_OR_STRING):
            if not isinstance(value, int | str) or isinstance(value, bool):
                yield f"{path}: is no number and no text"
                return
        elif problem := _type(value, schema):
            yield f"{path}: {problem}"
            return
        yield from _scalar(value, schema, path)
        if isinstance(value, dict):
            yield from self._fields(value, schema, path)
        elif isinstance(value, list) and "items" in schema:
            for number, item in enumerate(value):
                yield from self._check(item, schema["items"], f"{path}[{number}]")

    def _fields(self, value: Mapping[str, Any], schema: Schema, path: str) -> Iterator[str]:
        fields, rest = schema.get("properties", {}), schema.get("additionalProperties")
        for name in schema.get("required", ()):
            if name not in value:
                yield f"{path}.{name}: required"
        for name, part in value.items():
            if name in fields:
                yield from self._check(part, fields[name], f"{path}.{name}")
            elif isinstance(rest, Mapping):
                yield from self._check(part, rest, f"{path}.{name}")
            elif fields and not schema.get(_OPEN):
                yield f"{path}.{name}: no such field"


def _of_crd(spec: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], Schema]]:
    for version in spec["versions"]:
        schema = dict(version["schema"]["openAPIV3Schema"])
        schema["properties"] = {
            **schema["properties"],
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"$ref": _REF + _META},
        }
        yield (f"{spec['group']}/{version['name']}", spec["names"]["kind"]), schema


def _type(value: Any, schema: Schema) -> str:
    """Say what is wrong with the type of a value, if anything is."""
    name = schema.get("type")
    if name is None:
        return ""
    fits = isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool))
    return "" if fits else f"{value!r} is not of type {name}"


def _scalar(value: Any, schema: Schema, path: str) -> Iterator[str]:
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is none of {schema['enum']}"
    if isinstance(value, str) and len(value) < schema.get("minLength", 0):
        yield f"{path}: {value!r} is too short"
    if "pattern" in schema and isinstance(value, str) and not re.search(schema["pattern"], value):
        yield f"{path}: {value!r} is not of the form {schema['pattern']}"
    if isinstance(value, int | float) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{path}: {value} is out of bounds"
