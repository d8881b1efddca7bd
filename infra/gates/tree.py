"""Bicep files as the gates see them: declarations and expressions, read with tree-sitter."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import tree_sitter
import tree_sitter_bicep

from .model import Context, Outcome

Node = tree_sitter.Node

_PARSER = tree_sitter.Parser(tree_sitter.Language(tree_sitter_bicep.language()))


@dataclass
class Declaration:
    """A param, var, resource, module or output."""

    kind: str
    name: str
    node: Node
    decorators: dict[str, list[Node]] = field(default_factory=dict)
    # Type of a param or output (`string`), or the string after the name of a resource or module.
    type: str = ""
    # Value of a var or output, default of a param, body of a resource or module.
    value: Node | None = None
    existing: bool = False

    @property
    def line(self) -> int:
        return self.node.start_point.row + 1

    def number(self, decorator: str) -> int | None:
        arguments = self.decorators.get(decorator)
        return int(text(arguments[0])) if arguments else None


@dataclass
class File:
    path: Path
    root: Node
    scope: str
    declarations: dict[str, Declaration]
    # Outputs have names of their own.
    outputs: dict[str, Declaration]

    def of(self, kind: str) -> list[Declaration]:
        return [one for one in self.declarations.values() if one.kind == kind]


class Malformed(Exception):
    """The file does not parse; the message says where."""


def text(node: Node) -> str:
    return node.text.decode()


def walk(node: Node):
    yield node
    for child in node.children:
        yield from walk(child)


def named(node: Node, kind: str) -> Node | None:
    return next((child for child in node.children if child.type == kind), None)


def literal(node: Node) -> str | None:
    """The value of a string without interpolation."""
    if node.type != "string" or named(node, "interpolation"):
        return None
    return "".join(text(child) for child in node.children if child.type in ("string_content", "escape_sequence"))


def properties(node: Node) -> dict[str, tuple[Node, Node]]:
    """Key to (property, value) of an object. Keys that are computed get their source text."""
    found = {}
    for child in node.children:
        if child.type != "object_property":
            continue
        key = child.children[0]
        name = literal(key) if key.type == "string" else text(key)
        found[name if name is not None else text(key)] = (child, child.children[-1])
    return found


def get(node: Node | None, *path: str) -> Node | None:
    """The value at a path of property names, as far as it is written down."""
    for name in path:
        if node is None or node.type != "object":
            return None
        node = properties(node).get(name, (None, None))[1]
    return node


def body(node: Node) -> Node:
    """The object of a resource or module behind `if` and `for`."""
    while node.type in ("if_statement", "for_statement", "parenthesized_expression"):
        inner = node.child_by_field_name("body") or next(
            child for child in reversed(node.children) if child.type in ("object", "if_statement", "for_statement")
        )
        node = inner
    return node


def call(node: Node) -> tuple[str, list[Node]] | None:
    """Name and arguments of a function call."""
    if node.type != "call_expression":
        return None
    function = node.child_by_field_name("function")
    arguments = node.child_by_field_name("arguments")
    if function is None or arguments is None:
        return None
    return text(function), [child for child in arguments.children if child.is_named]


@lru_cache(maxsize=None)
def read(path: Path) -> File:
    root = _PARSER.parse(path.read_bytes()).root_node
    if root.has_error:
        place = next((n for n in walk(root) if n.type == "ERROR" or n.is_missing), root)
        row, column = place.start_point
        raise Malformed(f"line {row + 1}, column {column + 1}: not Bicep as tree-sitter knows it")
    declarations: dict[str, Declaration] = {}
    outputs: dict[str, Declaration] = {}
    scope = "resourceGroup"
    decorators: dict[str, list[Node]] = {}
    for node in root.children:
        if node.type == "decorators":
            for decorator in node.children:
                made = call(next(c for c in decorator.children if c.type == "call_expression"))
                if made:
                    decorators[made[0]] = made[1]
            continue
        if node.type == "target_scope_assignment":
            scope = literal(node.children[-1]) or scope
        elif node.type.endswith("_declaration") and node.type != "metadata_declaration":
            one = _declaration(node, decorators)
            target = outputs if one.kind == "output" else declarations
            if one.name in target:
                raise Malformed(f"line {one.line}: {one.name} is declared twice")
            target[one.name] = one
        decorators = {}
    return File(path, root, scope, declarations, outputs)


def _declaration(node: Node, decorators: dict[str, list[Node]]) -> Declaration:
    kind = {"parameter": "param", "variable": "var"}.get(word := node.type.removesuffix("_declaration"), word)
    name = text(next(c for c in node.children if c.type == "identifier"))
    one = Declaration(kind, name, node, decorators)
    seen_equals = False
    for child in node.children:
        if child.type == "=":
            seen_equals = True
        elif child.type == "existing":
            one.existing = True
        elif not seen_equals and child.type == "type":
            one.type = text(child)
        elif not seen_equals and child.type == "string":
            one.type = literal(child) or ""
        elif seen_equals and child.is_named:
            one.value = child
    return one


def readable(context: Context, outcome: Outcome) -> Iterator[tuple[Path, File]]:
    """Every template with what it says; one that cannot be read is found, and left out."""
    for path in context.bicep():
        try:
            file = read(path)
        except Malformed as error:
            outcome.find(context.name(path), str(error))
            continue
        yield path, file
