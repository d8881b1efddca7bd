"""Gate `properties`: every property of every resource against Microsoft's types: name, case, required, read-only, kind of value,
listed values, lengths and ranges."""

import re

from . import tree
from .links import kind_of
from .model import Context, Outcome
from .schema import JsonSchemas, Object, Property, Resource, Schemas, Unknown
from .tree import Declaration, File, Node, text

# Bicep's own keys of a resource body.
OWN = {"parent", "scope", "dependsOn"}
KINDS = {"string", "int", "bool", "number", "any", "object", "array"}


def properties(context: Context) -> Outcome:
    outcome = Outcome(unit="resources")
    schemas, newer = Schemas(context), JsonSchemas()
    files = [file for _, file in tree.readable(context, outcome)]
    types = {one.type for file in files for one in file.of("resource")}
    schemas.prefetch({one.partition("@")[0] for one in types})
    for file in files:
        for one in file.of("resource"):
            _resource(context, file, one, schemas, newer, outcome)
        _members(context, file, schemas, outcome)
    for one in sorted(types):
        if not re.fullmatch(r"[A-Za-z.]+(/[A-Za-z]+)+@\d{4}-\d\d-\d\d(-preview)?", one):
            outcome.find("infra", f"{one} is no resource type with a version")
    if newer.absent:
        outcome.find("EBB_AZURE_SCHEMA", f"there are no schemas in {newer.folder}")
    if newer.folder is None:
        outcome.notices.append("EBB_AZURE_SCHEMA names no folder with Microsoft's JSON Schemas; newer versions are not checked")
    return outcome


def _resource(
    context: Context, file: File, one: Declaration, schemas: Schemas, newer: JsonSchemas, outcome: Outcome
) -> None:
    at = f"{context.name(file.path)}:{one.line}"
    type_name, _, version = one.type.partition("@")
    try:
        schema = schemas.resource(type_name)
    except Unknown as error:
        outcome.find(at, str(error))
        return
    outcome.checked += 1
    if (schema.type, schema.version) != (type_name, version):
        outcome.find(at, f"{one.type} is not what can be checked here: {schema.type}@{schema.version}")
    body = tree.body(one.value)
    checker = Checker(context.name(file.path), file, schema, outcome)
    checker.object(body, schema.body, one.name, OWN)
    found = newer.find(type_name)
    if found:
        outcome.notices.append(f"{one.type} ({one.name}) is also checked against version {found[0]}")
        _names_in(context.name(file.path), body, found[1], found[2], f"{one.name} in {found[0]}", outcome, OWN)


class Checker:
    def __init__(self, where: str, file: File, schema: Resource, outcome: Outcome) -> None:
        self.where, self.file, self.schema, self.outcome = where, file, schema, outcome

    def find(self, node: Node, what: str) -> None:
        self.outcome.find(f"{self.where}:{node.start_point.row + 1}", what)

    def object(self, node: Node, schema: Object, path: str, own: set[str] = frozenset()) -> None:
        written = tree.properties(node)
        for name, (place, value) in written.items():
            if name in own:
                continue
            wanted = schema.properties.get(name)
            if wanted is None:
                if schema.further is None:
                    hint = next((known for known in schema.properties if known.lower() == name.lower()), None)
                    self.find(place, f"{path} has no property {name}" + (f", but {hint}" if hint else ""))
                else:
                    self.value(value, Property(schema.further), f"{path}.{name}")
            elif wanted.read_only:
                self.find(place, f"{path}.{name} is read-only")
            else:
                self.value(value, wanted, f"{path}.{name}")
        for name, wanted in schema.properties.items():
            given = name in written or (own and name == "name" and "name" in written)
            if wanted.required and not wanted.read_only and not given:
                self.find(node, f"{path}.{name} is missing")

    def value(self, node: Node, wanted: Property, path: str) -> None:
        match node.type:
            case "parenthesized_expression":
                self.value(node.children[1], wanted, path)
            case "ternary_expression":
                for branch in ("consequence", "alternative"):
                    self.value(node.child_by_field_name(branch), wanted, path)
            case "null":
                if wanted.required:
                    self.find(node, f"{path} is required and cannot be null")
            case "for_statement":
                self.item(node.child_by_field_name("body"), node, wanted, path)
            case "array":
                for item in node.children:
                    if item.is_named and item.type != "comment":
                        self.item(item, node, wanted, path)
                if not wanted.type.endswith("[]") and wanted.type not in ("any", "array"):
                    self.find(node, f"{path} is {wanted.type}, not an array")
            case "identifier":
                one = self.file.declarations.get(text(node))
                if one is not None and one.kind == "var":
                    self.value(one.value, wanted, path)
                elif one is not None and one.kind == "param":
                    self.kind(node, one.type, wanted, path)
            case "call_expression":
                self.call(node, wanted, path)
            case "object":
                self.nested(node, wanted, path)
            case _:
                self.scalar(node, wanted, path)

    def item(self, item: Node, array: Node, wanted: Property, path: str) -> None:
        if wanted.type.endswith("[]"):
            self.value(item, Property(wanted.type[:-2].removeprefix("(").removesuffix(")")), f"{path}[]")
        elif wanted.type not in ("any", "array"):
            self.find(array, f"{path} is {wanted.type}, not an array")

    def call(self, node: Node, wanted: Property, path: str) -> None:
        name, arguments = tree.call(node)
        if name == "concat":
            for argument in arguments:
                self.value(argument, wanted, path)
        elif name == "json" and (number := tree.literal(arguments[0])) is not None:
            if wanted.type not in ("number", "int", "any") or not re.fullmatch(r"\d+(\.\d+)?", number):
                self.find(node, f"{path} is {wanted.type}, not the number {number}")
        elif kind := kind_of(node, self.file):
            self.kind(node, kind, wanted, path)

    def nested(self, node: Node, wanted: Property, path: str) -> None:
        schema = self.schema.objects.get(wanted.type)
        if schema is not None:
            self.object(node, schema, path)
        elif wanted.type not in ("any", "object"):
            self.find(node, f"{path} is {wanted.type}, not an object")

    def scalar(self, node: Node, wanted: Property, path: str) -> None:
        value = tree.literal(node)
        if value is not None:
            self.string(node, value, wanted, path)
        elif node.type == "number":
            self.kind(node, "int", wanted, path)
            self.bounds(node, int(text(node)), wanted, path, "Value", "")
        elif kind := kind_of(node, self.file):
            self.kind(node, kind, wanted, path)

    def string(self, node: Node, value: str, wanted: Property, path: str) -> None:
        listed = [one for one in wanted.type.split(" | ") if one not in KINDS and one not in self.schema.objects]
        # Microsoft leaves most lists open with `| string`; a value outside the list is a misspelling far more often than news.
        if listed and value not in listed and not wanted.type.endswith("[]"):
            self.find(node, f"{path} is '{value}', not one of {', '.join(listed)}")
        elif not listed:
            self.kind(node, "string", wanted, path)
        self.bounds(node, len(value), wanted, path, "Length", " characters")

    def bounds(self, node: Node, number: int, wanted: Property, path: str, what: str, unit: str) -> None:
        least, most = wanted.modifiers.get(f"min{what}"), wanted.modifiers.get(f"max{what}")
        if (least and number < int(least)) or (most and number > int(most)):
            self.find(node, f"{path} has {number}{unit}; the range is {least or 0} to {most or 'any'}")

    def kind(self, node: Node, kind: str, wanted: Property, path: str) -> None:
        if wanted.type in ("any", "array", "object"):
            return
        if kind == "array":
            fits = wanted.type.endswith("[]")
        elif kind == "object":
            fits = wanted.type in self.schema.objects
        elif kind == "string":
            options = wanted.type.split(" | ")
            fits = any(one not in ("int", "bool", "number") for one in options) and not (
                wanted.type.endswith("[]") or wanted.type in self.schema.objects
            )
        else:
            fits = kind in wanted.type.split(" | ") or (kind == "int" and wanted.type == "number")
        if not fits:
            self.find(node, f"{path} is {wanted.type}, not {kind}")


def _members(context: Context, file: File, schemas: Schemas, outcome: Outcome) -> None:
    """`registry.properties.loginServer` reads a property that exists."""
    for node in tree.walk(file.root):
        if node.type != "member_expression":
            continue
        path = re.sub(r"[!?]", "", text(node)).split(".")
        one = file.declarations.get(path[0])
        if one is None or one.kind != "resource" or not all(re.fullmatch(r"\w+", part) for part in path):
            continue
        try:
            schema = schemas.resource(one.type.partition("@")[0])
        except Unknown:
            continue
        inner: Object | None = schema.body
        for name in path[1:]:
            if inner is None or inner.further is not None:
                break
            found = inner.properties.get(name)
            if found is None:
                outcome.find(f"{context.name(file.path)}:{node.start_point.row + 1}", f"{text(node)}: there is no {name}")
                break
            inner = schema.objects.get(found.type)


def _names_in(
    where: str, node: Node, schema: dict, definitions: dict, path: str, outcome: Outcome, own: set[str] = frozenset()
) -> None:
    for name, (place, value) in tree.properties(node).items():
        if name in own:
            continue
        found = JsonSchemas.step(schema, definitions, name)
        if found is None:
            outcome.find(f"{where}:{place.start_point.row + 1}", f"{path} has no property {name}")
            continue
        for inner in _objects(value):
            _names_in(where, inner, found, definitions, f"{path}.{name}", outcome)


def _objects(node: Node):
    """Objects that a value consists of, behind arrays and branches."""
    if node.type == "object":
        yield node
    elif node.type in ("array", "ternary_expression", "parenthesized_expression"):
        for child in node.children:
            yield from _objects(child)
    elif node.type == "for_statement":
        yield from _objects(node.child_by_field_name("body"))
