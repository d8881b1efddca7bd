//! What happens when only the beginning of a document arrives.

use std::fs;

use ebb_desired_state::{Document, parse};

use crate::examples::files;

fn prefixes(text: &str) -> impl Iterator<Item = &str> {
    text.char_indices().map(|(end, _)| &text[..end])
}

#[test]
fn with_an_end_marker_no_cut_off_document_is_accepted() {
    for path in files() {
        let text = fs::read_to_string(&path).unwrap().replace("\n...\n", "\n").replace("endMarker: true", "");
        let text = text.replace("version: 1\n", "version: 1\nendMarker: true\n") + "...";
        assert!(parse(&text).is_ok(), "{path:?}");
        for prefix in prefixes(&text) {
            // Before the line with the promise is complete, the lists that must be there are not.
            assert!(parse(prefix).is_err(), "{path:?} cut off after {prefix:?}");
        }
    }
}

/// Without a marker some cuts cannot be seen. This is what they can do at most: later sessions vanish, and the last one left
/// may have lost settings.
#[test]
fn without_an_end_marker_a_cut_loses_only_what_stands_behind_it() {
    for path in files() {
        let text = fs::read_to_string(&path).unwrap();
        let text = text.replace("\n...\n", "\n").replace("endMarker: true", "");
        let whole = parse(&text).unwrap();
        for prefix in prefixes(&text) {
            let Ok(cut) = parse(prefix) else { continue };
            let Document { sessions, users, deployment, .. } = &cut;
            assert_eq!((deployment, users), (&whole.deployment, &whole.users), "{path:?}");
            assert!(!sessions.is_empty(), "{path:?}: all sessions gone after {prefix:?}");
            let untouched = sessions.len() - 1;
            assert_eq!(sessions[..untouched], whole.sessions[..untouched], "{path:?}");
        }
    }
}
