//! Serialised forms that use the words of the document.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Schedule;

/// A duration.
pub(crate) mod duration {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&crate::duration::format(*value))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        crate::duration::parse(&text)
            .ok_or_else(|| serde::de::Error::custom("expected a duration such as 10m"))
    }
}

/// `none`, or a duration.
pub(crate) mod none_duration {
    use super::{Deserialize, Deserializer, Duration, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    enum Word {
        None,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Form {
        Word(Word),
        Duration(#[serde(with = "super::duration")] Duration),
    }

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.map_or(Form::Word(Word::None), Form::Duration).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(match Form::deserialize(deserializer)? {
            Form::Word(Word::None) => None,
            Form::Duration(duration) => Some(duration),
        })
    }
}

/// `always`, or a schedule.
pub(crate) mod always_schedule {
    use super::{Deserialize, Deserializer, Schedule, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    enum Word {
        Always,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Form {
        Word(Word),
        Schedule(Schedule),
    }

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<Schedule>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.clone().map_or(Form::Word(Word::Always), Form::Schedule).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Schedule>, D::Error> {
        Ok(match Form::deserialize(deserializer)? {
            Form::Word(Word::Always) => None,
            Form::Schedule(schedule) => Some(schedule),
        })
    }
}
