//! Whether a PUT is one that Azure would take: by Microsoft's own schema where it is at hand, and by what Microsoft documents
//! and no schema says.

use std::env;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use serde_json::{Value, json};

/// Names a folder with Microsoft's published JSON Schemas (repository Azure/azure-resource-manager-schemas).
pub const FOLDER: &str = "EBB_AZURE_SCHEMA";

/// Ports that ACI keeps for itself ("Frequently asked questions about Azure Container Instances").
const RESERVED: [(u64, u64); 9] = [
    (22, 22),
    (1025, 1027),
    (3389, 3399),
    (9999, 9999),
    (19000, 19000),
    (19080, 19080),
    (19100, 19100),
    (20000, 30000),
    (49152, 65534),
];

/// What only answers have; whoever sends a load balancer back sends these too, and they are ignored.
const READ_ONLY: [&str; 8] = [
    "etag",
    "provisioningState",
    "resourceGuid",
    "inboundNatPools",
    "loadBalancingRules",
    "inboundNatRules",
    "outboundRules",
    "backendIPConfigurations",
];

static NETWORK: LazyLock<Option<Checker>> = LazyLock::new(|| {
    let file = Path::new(&env::var_os(FOLDER)?).join("network-2024-07-01.json");
    let text = fs::read_to_string(file).ok()?;
    let schema = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{FOLDER}: {error}"));
    let own = "https://schema.management.azure.com/schemas/2024-07-01/Microsoft.Network.json";
    Some(compiled(own, schema, "loadBalancers").unwrap_or_else(|error| panic!("{FOLDER}: {error}")))
});

/// Whether Microsoft's schema of load balancers is at hand.
#[must_use]
pub fn knows_load_balancers() -> bool {
    NETWORK.is_some()
}

/// What is wrong with a load balancer, if anything.
pub(super) fn check_load_balancer(name: &str, body: &Value) -> Result<(), String> {
    let Some(checker) = &*NETWORK else { return Ok(()) };
    let mut resource = body.clone();
    strip(&mut resource, 0);
    resource["name"] = json!(name);
    resource["type"] = json!("Microsoft.Network/loadBalancers");
    resource["apiVersion"] = json!("2024-07-01");
    checker.schemas.validate(&resource, checker.index).map_err(|error| format!("{error:#}"))
}

fn strip(value: &mut Value, depth: usize) {
    match value {
        Value::Object(map) => {
            // Of the load balancer itself these are what it is made of; deeper they are references back.
            map.retain(|name, _| {
                let is_part = depth <= 1 && name.ends_with('s');
                !READ_ONLY.contains(&name.as_str()) || is_part
            });
            map.values_mut().for_each(|value| strip(value, depth + 1));
        }
        Value::Array(all) => all.iter_mut().for_each(|value| strip(value, depth + 1)),
        _ => {}
    }
}

struct Checker {
    schemas: boon::Schemas,
    index: boon::SchemaIndex,
}

static CHECKER: LazyLock<Option<Checker>> = LazyLock::new(|| {
    let folder = env::var_os(FOLDER)?;
    let checker = checker(Path::new(&folder));
    Some(checker.unwrap_or_else(|error| panic!("{FOLDER} names no folder with Microsoft's schemas: {error}")))
});

/// Whether Microsoft's schema is at hand.
#[must_use]
pub fn is_there() -> bool {
    CHECKER.is_some()
}

fn checker(folder: &Path) -> Result<Checker, String> {
    let read = |name: &str| -> Result<Value, String> {
        let text = fs::read_to_string(folder.join(name)).map_err(|error| format!("{name}: {error}"))?;
        serde_json::from_str(&text).map_err(|error| format!("{name}: {error}"))
    };
    let own = "https://schema.management.azure.com/schemas/2025-09-01/Microsoft.ContainerInstance.json";
    compiled(own, read("containerInstance-2025-09-01.json")?, "containerGroups")
}

fn compiled(own: &str, mut schema: Value, resource: &str) -> Result<Checker, String> {
    close(&mut schema);
    // What templates may have in place of a value is not for requests.
    let expression =
        json!({ "definitions": { "expression": { "type": "string", "pattern": "^\\[([^\\[].*)?\\]$" } } });
    let common = "https://schema.management.azure.com/schemas/common/definitions.json";
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler.set_default_draft(boon::Draft::V4);
    compiler.add_resource(own, schema).map_err(|error| error.to_string())?;
    compiler.add_resource(common, expression).map_err(|error| error.to_string())?;
    let index = compiler
        .compile(&format!("{own}#/resourceDefinitions/{resource}"), &mut schemas)
        .map_err(|error| error.to_string())?;
    Ok(Checker { schemas, index })
}

/// Forbids what is not listed, so that a misspelt property is found, and lets processors and memory be fractions, as the service
/// does and the schema does not.
fn close(schema: &mut Value) {
    let Value::Object(schema) = schema else { return };
    if schema
        .get("properties")
        .is_some_and(|properties| properties.as_object().is_some_and(|p| !p.is_empty()))
    {
        schema.entry("additionalProperties").or_insert(json!(false));
    }
    for (keyword, value) in schema.iter_mut() {
        match (keyword.as_str(), value) {
            // Names here are those of properties and definitions, whatever they look like.
            ("properties" | "definitions" | "resourceDefinitions", Value::Object(named)) => {
                for (name, schema) in named.iter_mut() {
                    if matches!(name.as_str(), "cpu" | "memoryInGB") {
                        *schema = json!({ "type": "number" });
                    }
                    close(schema);
                }
            }
            ("oneOf" | "anyOf" | "allOf", Value::Array(schemas)) => schemas.iter_mut().for_each(close),
            ("items" | "additionalProperties", schema) => close(schema),
            _ => {}
        }
    }
}

/// What is wrong with a PUT of this body, if anything.
pub(super) fn check(id: &str, body: &Value) -> Result<(), String> {
    let name = id.rsplit('/').next().unwrap_or_default();
    if let Some(checker) = &*CHECKER {
        let mut resource = body.clone();
        resource["name"] = json!(name);
        resource["type"] = json!("Microsoft.ContainerInstance/containerGroups");
        resource["apiVersion"] = json!("2025-09-01");
        checker.schemas.validate(&resource, checker.index).map_err(|error| format!("{error:#}"))?;
    }
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !(1..=63).contains(&name.len())
        || !name.chars().all(fits)
        || name.starts_with('-')
        || name.ends_with('-')
    {
        return Err(format!("'{name}' is no name of a container group"));
    }
    if body["location"].as_str().is_none_or(|location| location.is_empty() || location == "local") {
        return Err("the location property is required".to_owned());
    }
    let properties = &body["properties"];
    let containers = properties["containers"].as_array().filter(|containers| !containers.is_empty());
    let containers = containers.ok_or("a group has at least one container")?;
    let address = &properties["ipAddress"];
    let ports =
        address["ports"].as_array().filter(|ports| !ports.is_empty()).ok_or("MissingIpAddressPorts")?;
    if ports.len() > 5 {
        return Err("an address has at most 5 ports".to_owned());
    }
    for port in ports {
        let used = containers.iter().any(|one| {
            one["properties"]["ports"].as_array().is_some_and(|own| own.iter().any(|own| own == port))
        });
        if !used {
            return Err(format!("the port {port} in ipAddress is not used by any container"));
        }
        let number = port["port"].as_u64().unwrap_or(0);
        if RESERVED.iter().any(|(first, last)| (*first..=*last).contains(&number)) {
            return Err(format!("the port {number} is reserved"));
        }
    }
    let kind = address["type"].as_str();
    let wanted = if properties["subnetIds"].is_array() { "Private" } else { "Public" };
    if kind != Some(wanted) {
        return Err(format!("the ipAddress of such a group has the type {wanted}"));
    }
    let label = address["dnsNameLabel"].as_str();
    if label.is_some_and(|label| !(5..=63).contains(&label.len())) {
        return Err("a DNS name label has 5 to 63 characters".to_owned());
    }
    if label.is_some() && properties["subnetIds"].is_array() {
        return Err("a group in a virtual network has no DNS name label".to_owned());
    }
    Ok(())
}
