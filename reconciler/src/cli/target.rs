//! `USER@SESSION`.

use std::fmt;
use std::str::FromStr;

use ebb_desired_state::{SessionName, UserName};

/// A user of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) user: UserName,
    pub(super) session: SessionName,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (user, session) =
            text.split_once('@').ok_or("write USER@SESSION, for example alice@alice-home".to_owned())?;
        Ok(Self {
            user: user.parse().map_err(|error| format!("{error}"))?,
            session: session.parse().map_err(|error| format!("{error}"))?,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.user, self.session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_user_at_a_session() {
        let target: Target = "alice@alice-east".parse().unwrap();
        assert_eq!((target.user.as_str(), target.session.as_str()), ("alice", "alice-east"));
        for wrong in ["alice", "alice@", "@east", "alice@east@west", "Alice@east"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }
}
