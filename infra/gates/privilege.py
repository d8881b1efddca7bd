"""Gate `privilege`: who may do what, and where. A role, a scope or an action that is not in the tables below is a finding, so that
widening one means changing this file as well. Gate `tags`: everything that can carry the mandatory tags does."""

import re

from . import tree
from .model import Context, Outcome
from .schema import Schemas, Unknown
from .tree import Declaration, File, text

# Built-in roles that may be assigned, and the types of resource they may be assigned on.
BUILT_IN = {
    "7f951dda-4ed3-4680-a7ca-43fe172d538d": ("AcrPull", {"Microsoft.ContainerRegistry/registries"}),
    "f1a07417-d97a-45cb-824c-7a7470783830": (
        "Managed Identity Operator",
        {"Microsoft.ManagedIdentity/userAssignedIdentities"},
    ),
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe": (
        "Storage Blob Data Contributor",
        {"Microsoft.Storage/storageAccounts/blobServices/containers"},
    ),
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": ("Storage Table Data Contributor", {"Microsoft.Storage/storageAccounts"}),
}

# Roles of our own by file: what they may allow, and on what they may be assigned. None is the scope of the file itself.
CUSTOM: dict[str, tuple[set[str], set[str | None]]] = {
    "gateway-access.bicep": (
        {
            "Microsoft.ContainerInstance/containerGroups/read",
            "Microsoft.ContainerInstance/containerGroups/write",
            "Microsoft.ContainerInstance/containerGroups/delete",
            "Microsoft.ContainerInstance/containerGroups/stop/action",
            "Microsoft.ContainerInstance/containerGroups/containers/logs/read",
            "Microsoft.Authorization/permissions/read",
        },
        {None},
    ),
    "subscription-access.bicep": (
        {
            "Microsoft.ContainerInstance/locations/usages/read",
            "Microsoft.ContainerInstance/locations/operations/read",
            "Microsoft.ContainerInstance/locations/operationResults/read",
            "Microsoft.Resources/subscriptions/providers/read",
        },
        {None},
    ),
    "vault.bicep": (
        {
            "Microsoft.KeyVault/vaults/secrets/readMetadata/action",
            "Microsoft.KeyVault/vaults/secrets/getSecret/action",
            "Microsoft.KeyVault/vaults/secrets/setSecret/action",
            "Microsoft.KeyVault/vaults/secrets/recover/action",
        },
        {"Microsoft.KeyVault/vaults"},
    ),
    "network.bicep": (
        {
            "Microsoft.Network/virtualNetworks/subnets/read",
            "Microsoft.Network/virtualNetworks/subnets/join/action",
            "Microsoft.Network/virtualNetworks/joinLoadBalancer/action",
            "Microsoft.Network/loadBalancers/read",
            "Microsoft.Network/loadBalancers/write",
            "Microsoft.Network/publicIPAddresses/read",
            "Microsoft.Network/publicIPAddresses/join/action",
            "Microsoft.Authorization/permissions/read",
        },
        {"Microsoft.Network/virtualNetworks", "Microsoft.Network/loadBalancers", "Microsoft.Network/publicIPAddresses"},
    ),
}
ASSIGNMENT = "Microsoft.Authorization/roleAssignments@"
DEFINITION = "Microsoft.Authorization/roleDefinitions@"
MANDATORY = ("Project", "Environment", "Owner", "CostCenter")


def privilege(context: Context) -> Outcome:
    outcome = Outcome(unit="roles and assignments")
    for path, file in tree.readable(context, outcome):
        for one in file.of("resource"):
            at = f"{context.name(path)}:{one.line}"
            if one.type.startswith(DEFINITION):
                outcome.checked += 1
                _definition(at, file, one, outcome)
            elif one.type.startswith(ASSIGNMENT):
                outcome.checked += 1
                _assignment(at, file, one, outcome)
    return outcome


def _definition(at: str, file: File, one: Declaration, outcome: Outcome) -> None:
    body = tree.body(one.value)
    allowed = CUSTOM.get(file.path.name, (set(), set()))[0]
    permissions = tree.get(body, "properties", "permissions")
    for permission in [child for child in permissions.children if child.type == "object"] if permissions else []:
        for kind in ("actions", "dataActions"):
            array = tree.get(permission, kind)
            if array is None or array.type != "array":
                outcome.find(at, f"{one.name}: {kind} is not written out as a list")
                continue
            for item in [child for child in array.children if child.is_named and child.type != "comment"]:
                action = tree.literal(item)
                if action not in allowed:
                    outcome.find(at, f"{one.name} allows {action or text(item)}, which the daemon has no use for")
    scopes = tree.get(body, "properties", "assignableScopes")
    names = [text(child) for child in scopes.children if child.is_named] if scopes else []
    own = {"resourceGroup": "resourceGroup().id", "subscription": "subscription().id"}.get(file.scope)
    resolved = [text(var.value) if (var := file.declarations.get(name)) and var.value else name for name in names]
    if resolved != [own]:
        outcome.find(at, f"{one.name} can be assigned in {', '.join(resolved) or 'no scope'}, not just in {own}")


def _assignment(at: str, file: File, one: Declaration, outcome: Outcome) -> None:
    body = tree.body(one.value)
    scope = tree.get(body, "scope")
    target: str | None = None
    if scope is not None:
        owner = file.declarations.get(text(scope))
        target = owner.type.partition("@")[0] if owner is not None else f"the unknown {text(scope)}"
    role = tree.get(body, "properties", "roleDefinitionId")
    source = file.declarations.get(text(role)) if role is not None and role.type == "identifier" else None
    made = tree.call(source.value if source is not None and source.value is not None else role) if role is not None else None
    last = made[1][-1] if made and made[1] else None
    found = re.fullmatch(r"(\w+)\.name", text(last)) if last is not None else None
    definition = file.declarations.get(found.group(1)) if found else None
    if definition is not None and definition.type.startswith(DEFINITION):
        scopes = CUSTOM.get(file.path.name, (set(), set()))[1]
        if target not in scopes:
            outcome.find(at, f"{one.name} assigns {definition.name} on {target or f'the whole {file.scope}'}")
    elif last is not None and (identifier := tree.literal(last)) in BUILT_IN:
        name, scopes = BUILT_IN[identifier]
        if target not in scopes:
            outcome.find(at, f"{one.name} assigns {name} on {target or f'the whole {file.scope}'}, not on {', '.join(scopes)}")
    else:
        outcome.find(at, f"{one.name} assigns a role that is not in the table: {text(role) if role is not None else 'none'}")
    kind, principal = tree.get(body, "properties", "principalType"), tree.get(body, "properties", "principalId")
    given = (text(principal) if principal is not None else "", text(kind) if kind is not None else "")
    person = given == ("operatorId", "operatorType")
    if person and definition is not None:
        outcome.find(at, f"{one.name} gives a person a role that is meant for the daemon")
    if not person and given[1] != "'ServicePrincipal'":
        outcome.find(at, f"{one.name} has no principalType ServicePrincipal; a new identity may not be found without it")


def tags(context: Context) -> Outcome:
    outcome = Outcome(unit="resources and modules")
    schemas = Schemas(context)
    for path, file in tree.readable(context, outcome):
        for one in file.of("resource"):
            try:
                schema = schemas.resource(one.type.partition("@")[0])
            except Unknown:
                continue
            if "tags" in schema.body.properties and not one.existing:
                outcome.checked += 1
                _tagged(context, file, one, tree.get(tree.body(one.value), "tags"), outcome)
        for one in file.of("module"):
            source = file.path.parent / one.type
            if source.is_file() and "tags" in tree.read(source.resolve()).declarations:
                outcome.checked += 1
                _tagged(context, file, one, tree.get(tree.body(one.value), "params", "tags"), outcome)
    main = context.root / "infra/main.bicep"
    made = tree.read(main).declarations.get("tags") if main.is_file() else None
    keys = list(tree.properties(made.value)) if made is not None and made.value is not None else []
    for name in MANDATORY:
        if name not in keys:
            outcome.find("infra/main.bicep", f"the tags have no {name}")
    return outcome


def _tagged(context: Context, file: File, one: Declaration, value: tree.Node | None, outcome: Outcome) -> None:
    if value is None or text(value) != "tags":
        outcome.find(f"{context.name(file.path)}:{one.line}", f"{one.name} does not carry the tags")
