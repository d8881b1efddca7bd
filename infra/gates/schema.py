"""Microsoft's resource types, from the three places where they can be had without Azure.

1. `azmcp bicepschema`, which Microsoft publishes on npm: the newest stable version of most types.
2. `schemas/*.json` beside this file, written by hand from the template reference, for the types that 1 does not have.
3. Optionally a folder with Microsoft's published JSON Schemas, named by EBB_AZURE_SCHEMA: it may hold newer versions.
"""

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from .model import Context

HERE = Path(__file__).parent / "schemas"

# Microsoft's schemas say int for these, the service takes fractions.
FRACTIONS = {("ContainerResources", "cpu"), ("ResourceRequests", "cpu"), ("ResourceRequests", "memoryInGB")}


@dataclass
class Property:
    type: str
    required: bool = False
    read_only: bool = False
    modifiers: dict[str, str] = field(default_factory=dict)


@dataclass
class Object:
    properties: dict[str, Property]
    # Type of the values of further properties, if there may be any.
    further: str | None = None


@dataclass
class Resource:
    type: str
    version: str
    body: Object
    objects: dict[str, Object]


class Unknown(Exception):
    """Nobody here knows the type."""


class Schemas:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._cache: dict[str, Resource] = {}
        self._own = {
            name.lower(): (path, name)
            for path in sorted(HERE.glob("*.json"))
            for name in json.loads(path.read_text(encoding="utf-8"))
            if not name.startswith("$")
        }

    def prefetch(self, type_names: set[str]) -> None:
        """azmcp takes a second for a type, mostly to start; types do not wait for each other."""

        def fetch(type_name: str) -> None:
            try:
                self.resource(type_name)
            except Unknown:
                pass

        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            list(pool.map(fetch, sorted(type_names)))

    def resource(self, type_name: str) -> Resource:
        key = type_name.lower()
        if key not in self._cache:
            self._cache[key] = self._own_resource(key) or self._published(type_name)
        return self._cache[key]

    def _own_resource(self, key: str) -> Resource | None:
        if key not in self._own:
            return None
        path, name = self._own[key]
        data = json.loads(path.read_text(encoding="utf-8"))
        shared = data.get("$objects", {})
        objects = {one: _written(properties) for one, properties in shared.items()}
        entry = data[name]
        return Resource(name, entry["version"], _written(entry["body"]), objects)

    def _published(self, type_name: str) -> Resource:
        store = self._context.tools / "schemas" / f"{type_name.replace('/', '_')}.json"
        if not store.is_file():
            program = self._context.tools / "node/node_modules/@azure/mcp-linux-x64/dist/azmcp"
            done = self._context.run(
                str(program),
                "bicepschema",
                "get",
                "--resource-type",
                type_name,
                AZURE_MCP_COLLECT_TELEMETRY="false",
                DOTNET_SYSTEM_GLOBALIZATION_INVARIANT="1",
            )
            if done.returncode != 0:
                raise Unknown(f"azmcp bicepschema does not know {type_name}")
            store.parent.mkdir(parents=True, exist_ok=True)
            store.write_text(done.stdout, encoding="utf-8")
        entries = json.loads(store.read_text(encoding="utf-8"))["results"]["BicepSchemaResult"]
        head = next(entry for entry in entries if entry["$type"] == "Resource")
        name, version = head["name"].split("@")
        objects = {
            entry["name"]: _object(entry["name"], entry)
            for entry in entries
            if entry["$type"] in ("Object", "DiscriminatedObject")
        }
        return Resource(name, version, _object(name, head["bodyType"]), objects)


def _object(owner: str, entry: dict) -> Object:
    if entry.get("$type") == "DiscriminatedObject":
        # Its variants are not told apart here: further properties are let through.
        found = _object(owner, {"properties": entry.get("baseProperties", [])})
        return Object(found.properties, "any")
    properties = {}
    for one in entry.get("properties", []):
        flags = one.get("flags") or ""
        modifiers = dict(re.findall(r"(minLength|maxLength|minValue|maxValue): (-?\d+)", one.get("modifiers") or ""))
        kind = "number" if (owner, one["name"]) in FRACTIONS else str(one["type"])
        properties[one["name"]] = Property(kind, "Required" in flags, "ReadOnly" in flags, modifiers)
    further = entry.get("additionalPropertiesType")
    return Object(properties, str(further) if further else None)


def _written(properties: dict[str, str]) -> Object:
    """An object of our own files: name to type, `!` behind the name for required, `*` for any further name."""
    further = properties.get("*")
    return Object(
        {
            name.rstrip("!"): Property(kind, name.endswith("!"))
            for name, kind in properties.items()
            if name != "*"
        },
        further,
    )


class JsonSchemas:
    """Newer published versions, as far as the folder is there. Only names are checked against them."""

    def __init__(self) -> None:
        folder = os.environ.get("EBB_AZURE_SCHEMA")
        # Given by hand or found by infra/check; a folder that is not there is a mistake in the former.
        self.folder = Path(folder) if folder else None
        self.absent = self.folder is not None and not any(self.folder.glob("*.json"))
        self._resources: dict[str, tuple[str, dict, dict]] = {}
        for path in sorted(self.folder.glob("*.json")) if self.folder and self.folder.is_dir() else []:
            data = json.loads(path.read_text(encoding="utf-8"))
            for definition in data.get("resourceDefinitions", {}).values():
                types = definition.get("properties", {}).get("type", {}).get("enum", [])
                versions = definition.get("properties", {}).get("apiVersion", {}).get("enum", [])
                for one in types:
                    self._resources[one.lower()] = ((versions or ["?"])[0], definition, data.get("definitions", {}))

    def find(self, type_name: str) -> tuple[str, dict, dict] | None:
        return self._resources.get(type_name.lower())

    @staticmethod
    def step(schema: dict, definitions: dict, name: str) -> dict | None:
        """The schema of a property; an empty one where nothing can be said, None where there is no such property."""
        for one in JsonSchemas.variants(schema, definitions):
            found = one.get("properties")
            if found is None:
                return {}
            if name in found:
                return found[name]
            if one.get("additionalProperties"):
                return {}
        return None

    @staticmethod
    def variants(schema: dict, definitions: dict) -> list[dict]:
        if "$ref" in schema:
            name = schema["$ref"].rsplit("/", 1)[-1]
            return JsonSchemas.variants(definitions[name], definitions) if name in definitions else [{}]
        if "oneOf" in schema:
            # One variant is the object, the other an ARM expression, which the Bicep compiler makes.
            inner = [one for option in schema["oneOf"] for one in JsonSchemas.variants(option, definitions)]
            return [one for one in inner if one.get("type") in ("object", "array")] or [{}]
        if schema.get("type") == "array":
            return JsonSchemas.variants(schema.get("items", {}), definitions)
        return [schema]
