"""Rules of what pods are told: variables that exist, secrets from Secrets, references that lead somewhere."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from knative.verify.objects import Object, Workload, of_kind, plain_env, workloads
from stems.config import Settings, table
from stems.errors import ConfigError

_OURS = {name for name, _ in table()}
# What other programs know. REDIS_PASSWORD is ours alone: others are made of it.
_OTHERS = {
    "minio": re.compile(r"HOME|MINIO_(ROOT_(USER|PASSWORD)|BROWSER|UPDATE)|MINIO_NOTIFY_REDIS_[A-Z]+(_[A-Z]+)*"),
    "redis": re.compile(r"REDIS_[A-Z]+_PASSWORD|REDISCLI_AUTH"),
    "separate": re.compile(r"REDIS_PASSWORD|OMP_NUM_THREADS"),
}
_OTHER = re.compile(r"REDIS_PASSWORD")
_SECRET = re.compile(r"PASSWORD|SECRET|TOKEN(?!S_FILE)|_AUTH\b|CREDENTIAL")
_REFERENCE = re.compile(r"\$\((\w+)\)")
_PASSWORD_IN_URL = re.compile(r"://[^/\s]*:(?!\$\()[^/@\s]+@")


def known(objects: Sequence[Object]) -> Iterator[str]:
    """Demand that the program knows each variable, and what its parts are made of."""
    data = _data(objects)
    for each, container in _containers(objects):
        names = {env["name"] for env in container.get("env", ())}
        for source in container.get("envFrom", ()):
            _, _, there = _target(source, data, "configMapRef", "secretRef")
            names |= set(there or ())
        others = _OTHERS.get(container["name"], _OTHER)
        for name in sorted(names - _OURS):
            if not others.fullmatch(name):
                yield f"{each}: {container['name']} knows no setting {name}"
        seen: set[str] = set()
        for env in container.get("env", ()):
            for used in set(_REFERENCE.findall(str(env.get("value", "")))) - seen:
                yield f"{each}: {env['name']} is made of {used}, which does not stand before it"
            seen.add(env["name"])


def valid(objects: Sequence[Object]) -> Iterator[str]:
    """Demand values that our programs take: they read them here as they would there."""
    data = _data(objects)
    for each, container in _containers(objects):
        if "stems-" not in container.get("image", ""):
            continue
        environ: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            if "configMapRef" in source:
                environ |= _target(source, data, "configMapRef")[2] or {}
        environ |= plain_env(container)
        try:
            Settings.from_env({name: _REFERENCE.sub("x", value) for name, value in environ.items()})
        except ConfigError as error:
            yield f"{each}: {error}"


def secrets(objects: Sequence[Object]) -> Iterator[str]:
    """Forbid secrets in plain sight: in the manifest of a pod, in a ConfigMap."""
    for each, container in _containers(objects):
        for name, value in plain_env(container).items():
            if _SECRET.search(name) and not _REFERENCE.fullmatch(value) or _PASSWORD_IN_URL.search(value):
                yield f"{each}: {name} stands in the manifest; take it from a Secret"
        for word in (*container.get("command", ()), *container.get("args", ())):
            if _PASSWORD_IN_URL.search(str(word)):
                yield f"{each}: a password stands in the command"
    for config in of_kind(objects, "ConfigMap"):
        for name, value in config.get("data", {}).items():
            if _SECRET.search(name) or _PASSWORD_IN_URL.search(value):
                yield f"ConfigMap {config['metadata']['name']}: {name} belongs into a Secret"


def references(objects: Sequence[Object]) -> Iterator[str]:
    """Demand that each Secret and ConfigMap that is named is there, with the key."""
    data = _data(objects)
    for each, container in _containers(objects):
        sources = [env["valueFrom"] for env in container.get("env", ()) if "valueFrom" in env]
        for source in (*sources, *container.get("envFrom", ())):
            kind, ref, there = _target(source, data, "secretKeyRef", "configMapKeyRef", "secretRef", "configMapRef")
            if there is None:
                yield f"{each}: there is no {kind} {ref.get('name')}"
            elif "key" in ref and ref["key"] not in there:
                yield f"{each}: the {kind} {ref['name']} has no {ref['key']}"
        for volume in each.pod.get("volumes", ()):
            for field, kind, name in (("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName")):
                if field in volume:
                    there = data.get((kind, volume[field][name]))
                    wanted = {item["key"] for item in volume[field].get("items", ())}
                    if there is None or wanted - there.keys():
                        yield f"{each}: the volume {volume['name']} wants what no {kind} holds: {volume[field][name]}"


def _containers(objects: Sequence[Object]) -> Iterator[tuple[Workload, Mapping[str, Any]]]:
    return ((each, container) for each in workloads(objects) for container in each.containers)


def _data(objects: Sequence[Object]) -> dict[tuple[str, str], dict[str, str]]:
    """Return what each Secret and ConfigMap holds, by kind and name."""
    kinds = ("Secret", "ConfigMap")
    found = [each for each in objects if each["kind"] in kinds and each["apiVersion"] == "v1"]
    return {(each["kind"], each["metadata"]["name"]): dict(each.get("data", {})) for each in found}


def _target(
    source: Mapping[str, Any], data: Mapping[tuple[str, str], dict[str, str]], *fields: str
) -> tuple[str, Mapping[str, str], dict[str, str] | None]:
    """Return the kind that a reference names, the reference, and what is there, if it is."""
    for field in fields:
        if field in source:
            kind, ref = ("Secret" if field.startswith("secret") else "ConfigMap"), source[field]
            return kind, ref, data.get((kind, ref["name"]))
    return "Secret or ConfigMap", {}, {}


RULES = (known, valid, secrets, references)
