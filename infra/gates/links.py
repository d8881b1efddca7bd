"""Gate `links`: what the compiler's binder would say first. Every name is declared and used, every module gets exactly the
parameters it has, every output exists, nothing depends on itself, and names are known before the deployment starts."""

from pathlib import Path

from . import tree
from .model import Context, Outcome
from .tree import Declaration, File, Node, text

# Functions that the templates may use, with the least and the most arguments. A misspelt one is not among them.
FUNCTIONS = {
    "concat": (1, 99),
    "contains": (2, 2),
    "empty": (1, 1),
    "environment": (0, 0),
    "guid": (1, 15),
    "json": (1, 1),
    "resourceGroup": (0, 0),
    "resourceId": (2, 9),
    "string": (1, 1),
    "subscription": (0, 0),
    "subscriptionResourceId": (2, 9),
    "take": (2, 2),
    "tenant": (0, 0),
    "uniqueString": (1, 15),
    "utcNow": (0, 1),
}
DECORATORS = {"allowed", "batchSize", "description", "maxLength", "maxValue", "metadata", "minLength", "minValue", "secure"}


def links(context: Context) -> Outcome:
    outcome = Outcome(unit="declarations")
    for path, file in tree.readable(context, outcome):
        outcome.checked += len(file.declarations) + len(file.outputs)
        _names(context, file, outcome)
        _described(context, file, outcome)
        _modules(context, file, outcome)
        _cycles(context, file, outcome)
        _early(context, file, outcome)
    return outcome


def references(node: Node, local: frozenset[str] = frozenset()):
    """Identifiers that an expression reads, without loop variables, property names and functions."""
    if node.type == "identifier":
        if text(node) not in local:
            yield node
        return
    if node.type == "object_property":
        key, value = node.children[0], node.children[-1]
        if key.type == "string":
            yield from references(key, local)
        yield from references(value, local)
        return
    if node.type == "call_expression":
        arguments = node.child_by_field_name("arguments")
        function = node.child_by_field_name("function")
        if function is not None and function.type != "identifier":
            yield from references(function, local)
        if arguments is not None:
            for child in arguments.children:
                yield from references(child, local)
        return
    if node.type == "for_statement":
        made = frozenset(loop_variables(node))
        for child in node.children:
            if child.type == "for_loop_parameters" or child == node.child_by_field_name("initializer"):
                continue
            yield from references(child, local | made)
        return
    for child in node.children:
        yield from references(child, local)


def loop_variables(node: Node) -> list[str]:
    initializer = node.child_by_field_name("initializer")
    if initializer is not None:
        return [text(initializer)]
    parameters = tree.named(node, "for_loop_parameters")
    return [text(child) for child in parameters.children if child.is_named] if parameters else []


def _names(context: Context, file: File, outcome: Outcome) -> None:
    where = context.name(file.path)
    used: set[str] = set()
    for one in [*file.declarations.values(), *file.outputs.values()]:
        if one.value is None:
            continue
        for node in references(one.value):
            name = text(node)
            used.add(name)
            if name not in file.declarations:
                outcome.find(f"{where}:{node.start_point.row + 1}", f"{name} is not declared")
        for node in tree.walk(one.value):
            _function(where, node, outcome)
    for one in file.declarations.values():
        for decorator in one.decorators:
            if decorator not in DECORATORS:
                outcome.find(f"{where}:{one.line}", f"@{decorator} is no decorator")
        if one.kind in ("param", "var") and one.name not in used:
            outcome.find(f"{where}:{one.line}", f"{one.kind} {one.name} is never used")
        if one.existing and one.name not in used:
            outcome.find(f"{where}:{one.line}", f"existing resource {one.name} is never used")


def _function(where: str, node: Node, outcome: Outcome) -> None:
    made = tree.call(node)
    if made is None:
        return
    name, arguments = made
    at = f"{where}:{node.start_point.row + 1}"
    if name not in FUNCTIONS:
        outcome.find(at, f"{name}() is no function that the templates use; add it to links.py if it exists")
    elif not FUNCTIONS[name][0] <= len(arguments) <= FUNCTIONS[name][1]:
        outcome.find(at, f"{name}() takes {FUNCTIONS[name][0]} to {FUNCTIONS[name][1]} arguments, not {len(arguments)}")


def _described(context: Context, file: File, outcome: Outcome) -> None:
    for one in [*file.of("param"), *file.outputs.values()]:
        if "description" not in one.decorators:
            outcome.find(f"{context.name(file.path)}:{one.line}", f"{one.kind} {one.name} has no @description")


def module_file(file: File, module: Declaration) -> Path:
    return (file.path.parent / module.type).resolve()


def _modules(context: Context, file: File, outcome: Outcome) -> None:
    where = context.name(file.path)
    for module in file.of("module"):
        at = f"{where}:{module.line}"
        path = module_file(file, module)
        if not path.is_file():
            outcome.find(at, f"module {module.name}: there is no file {module.type}")
            continue
        try:
            inner = tree.read(path)
        except tree.Malformed:
            continue
        body = tree.body(module.value)
        _scope(at, file, module, inner, body, outcome)
        given = tree.get(body, "params")
        params = tree.properties(given) if given is not None else {}
        wanted = {one.name: one for one in inner.of("param")}
        for name, (node, value) in params.items():
            if name not in wanted:
                outcome.find(f"{where}:{node.start_point.row + 1}", f"{module.type} has no param {name}")
            elif (kind := kind_of(value, file)) and kind != wanted[name].type:
                outcome.find(
                    f"{where}:{node.start_point.row + 1}", f"param {name} of {module.type} is {wanted[name].type}, not {kind}"
                )
        for name, one in wanted.items():
            if one.value is None and name not in params:
                outcome.find(at, f"module {module.name}: param {name} of {module.type} is missing")
    _outputs(context, file, outcome)


def _scope(at: str, file: File, module: Declaration, inner: File, body: Node, outcome: Outcome) -> None:
    scope = tree.get(body, "scope")
    target = file.declarations.get(text(scope)) if scope is not None else None
    if scope is None:
        found = file.scope
    elif target is not None and target.type.startswith("Microsoft.Resources/resourceGroups@"):
        found = "resourceGroup"
    else:
        outcome.find(at, f"module {module.name}: scope {text(scope)} is no resource group of this file")
        return
    if found != inner.scope:
        outcome.find(at, f"module {module.name} is deployed to a {found}, but {module.type} targets a {inner.scope}")


def _outputs(context: Context, file: File, outcome: Outcome) -> None:
    for node in tree.walk(file.root):
        if node.type != "member_expression":
            continue
        inner, name = node.child_by_field_name("object"), node.child_by_field_name("property")
        if inner is None or name is None or inner.type != "member_expression":
            continue
        owner, middle = inner.child_by_field_name("object"), inner.child_by_field_name("property")
        module = file.declarations.get(text(owner)) if owner is not None else None
        if module is None or module.kind != "module" or text(middle) != "outputs":
            continue
        path = module_file(file, module)
        if path.is_file() and text(name) not in tree.read(path).outputs:
            outcome.find(f"{context.name(file.path)}:{node.start_point.row + 1}", f"{module.type} has no output {text(name)}")


def kind_of(node: Node, file: File) -> str | None:
    """Type of an expression where it can be told without a compiler."""
    match node.type:
        case "string":
            return "string"
        case "number":
            return "int"
        case "boolean":
            return "bool"
        case "array":
            return "array"
        case "for_statement":
            return "array"
        case "object":
            return "object"
        case "unary_expression":
            return "bool" if text(node).startswith("!") else None
        case "parenthesized_expression":
            return kind_of(node.children[1], file)
        case "binary_expression":
            operator = text(node.children[1])
            return "bool" if operator in ("==", "!=", "&&", "||", "<", ">", "<=", ">=", "=~", "!~") else None
        case "ternary_expression":
            kinds = {
                kind_of(branch, file)
                for branch in (node.child_by_field_name("consequence"), node.child_by_field_name("alternative"))
                if branch is not None and branch.type != "null"
            }
            return kinds.pop() if len(kinds) == 1 else None
        case "identifier":
            one = file.declarations.get(text(node))
            if one is None or one.kind in ("resource", "module"):
                return None
            return one.type if one.kind == "param" else kind_of(one.value, file)
        case "member_expression":
            return _kind_of_output(node, file)
        case "call_expression":
            name = tree.call(node)[0]
            if name in ("guid", "resourceId", "string", "subscriptionResourceId", "take", "uniqueString", "utcNow"):
                return "string"
            return {"contains": "bool", "empty": "bool"}.get(name)
    return None


def _kind_of_output(node: Node, file: File) -> str | None:
    path = text(node).replace("!", "").split(".")
    module = file.declarations.get(path[0])
    if len(path) == 3 and path[1] == "outputs" and module is not None and module.kind == "module":
        source = module_file(file, module)
        output = tree.read(source).outputs.get(path[2]) if source.is_file() else None
        return output.type if output else None
    if len(path) == 2 and path[1] in ("id", "name") and module is not None and module.kind == "resource":
        return "string"
    return None


def _cycles(context: Context, file: File, outcome: Outcome) -> None:
    edges = {
        one.name: {text(node) for node in references(one.value)} & set(file.declarations)
        for one in file.declarations.values()
        if one.value is not None
    }
    state: dict[str, int] = {}

    def visit(name: str, path: list[str]) -> None:
        if state.get(name) == 2:
            return
        if state.get(name) == 1:
            cycle = [*path[path.index(name) :], name]
            outcome.find(context.name(file.path), f"these depend on each other: {' -> '.join(cycle)}")
            return
        state[name] = 1
        for next_one in sorted(edges.get(name, ())):
            visit(next_one, [*path, name])
        state[name] = 2

    for name in edges:
        visit(name, [])


def _early(context: Context, file: File, outcome: Outcome) -> None:
    """Names, scopes and conditions have to be known before anything is deployed (BCP120)."""
    for one in [*file.of("resource"), *file.of("module")]:
        early = [node for key in ("name", "scope", "parent") if (node := tree.get(tree.body(one.value), key)) is not None]
        if one.value.type == "if_statement":
            early.append(next(c for c in one.value.children if c.type == "parenthesized_expression"))
        for node in early:
            for part in tree.walk(node):
                late = part.type == "member_expression" and text(part.children[-1]) in ("outputs", "properties")
                if late and file.declarations.get(text(part.children[0])) is not None:
                    outcome.find(
                        f"{context.name(file.path)}:{part.start_point.row + 1}",
                        f"{one.name}: {text(part)} is not known before the deployment starts",
                    )
