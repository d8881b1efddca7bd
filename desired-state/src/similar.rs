//! "Did you mean".

/// The candidate that is most likely meant by `typed`, if one is near enough.
pub(crate) fn closest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = typed.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            (strsim::normalized_damerau_levenshtein(&wanted, &candidate.to_lowercase()), candidate)
        })
        // Below six tenths suggestions are more often wrong than right.
        .filter(|(similarity, _)| *similarity >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_a_different_word_is_not() {
        let fields = ["idleTimeout", "idleSignal", "users", "routes"];
        assert_eq!(closest("idletimeout", fields), Some("idleTimeout"));
        assert_eq!(closest("idelTimeout", fields), Some("idleTimeout"));
        assert_eq!(closest("user", fields), Some("users"));
        assert_eq!(closest("colour", fields), None);
        assert_eq!(closest("", fields), None);
    }
}
