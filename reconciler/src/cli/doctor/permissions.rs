//! What the caller may do ("List the permissions that the caller has"): lists of allowed and excepted actions with wildcards.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub(super) struct Permissions {
    #[serde(default)]
    value: Vec<Permission>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Permission {
    #[serde(default)]
    actions: Vec<String>,
    #[serde(default)]
    not_actions: Vec<String>,
}

impl Permissions {
    /// Whether an action is allowed. An exception takes from its own list alone.
    pub(super) fn allow(&self, action: &str) -> bool {
        self.value.iter().any(|one| {
            let named = |list: &[String]| list.iter().any(|pattern| matches(pattern, action));
            named(&one.actions) && !named(&one.not_actions)
        })
    }

    /// Those of `actions` that are not allowed.
    pub(super) fn missing<'a>(&self, actions: &[&'a str]) -> Vec<&'a str> {
        actions.iter().copied().filter(|action| !self.allow(action)).collect()
    }
}

/// A star stands for anything, slashes included; case does not matter ("Azure role definitions").
fn matches(pattern: &str, action: &str) -> bool {
    let (pattern, action) = (pattern.to_ascii_lowercase(), action.to_ascii_lowercase());
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| action.strip_prefix(first)) else { return false };
    let mut open = false;
    let parts: Vec<_> = parts.collect();
    for (index, part) in parts.iter().enumerate() {
        open = part.is_empty();
        if index + 1 == parts.len() {
            return open || rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    open || rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, action, expected) in [
            ("*", "A/b/read", true),
            ("A/*", "a/B/c/read", true),
            ("A/*/read", "A/b/c/read", true),
            ("A/*/read", "A/b/c/write", false),
            ("A/b/read", "A/b/read", true),
            ("A/b/read", "A/b/read/more", false),
            ("A/*/c/*/read", "A/b/c/d/read", true),
            ("A/*/c/*/read", "A/b/x/d/read", false),
        ] {
            assert_eq!(matches(pattern, action), expected, "{pattern} {action}");
        }
    }

    #[test]
    fn an_exception_takes_from_its_own_list_alone() {
        let permissions: Permissions = serde_json::from_str(
            r#"{"value":[{"actions":["A/*"],"notActions":["A/delete"]},{"actions":["B/read"],"notActions":["*"]}]}"#,
        )
        .unwrap();
        assert_eq!(permissions.missing(&["A/write", "A/delete", "B/read"]), ["A/delete", "B/read"]);
    }
}
