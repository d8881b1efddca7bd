use jiff::Timestamp;
use proptest::prelude::*;

use super::*;

fn schedule(days: &str, hours: &str, timezone: &str) -> Schedule {
    Schedule::new(days.parse().unwrap(), hours.parse().unwrap(), timezone).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// All changes from `from` up to `until`, as local text of the schedule's time zone.
fn changes(schedule: &Schedule, from: &str, until: &str) -> Vec<String> {
    let (mut now, until) = (at(from), at(until));
    let mut found = Vec::new();
    while let Some((when, open)) = schedule.next_change(now)
        && when < until
    {
        let local = when.to_zoned(schedule.timezone.clone()).strftime("%a %d %H:%M %z").to_string();
        found.push(format!("{local} {}", if open { "opens" } else { "closes" }));
        now = when;
    }
    found
}

#[test]
fn office_hours_open_and_close_on_the_clock_of_their_zone() {
    let office = schedule("Mon-Fri", "06:00-22:00", "America/New_York");
    assert_eq!(
        changes(&office, "2026-11-20T00:00:00Z", "2026-11-24T00:00:00Z"),
        [
            "Thu 19 22:00 -0500 closes",
            "Fri 20 06:00 -0500 opens",
            "Fri 20 22:00 -0500 closes",
            "Mon 23 06:00 -0500 opens"
        ]
    );
    assert!(office.is_open(at("2026-11-20T06:00:00-05:00")), "the start belongs to the window");
    assert!(!office.is_open(at("2026-11-20T22:00:00-05:00")), "the end does not");
}

#[test]
fn a_window_over_midnight_belongs_to_the_day_it_starts() {
    let night = schedule("Fri", "22:00-06:00", "Europe/Berlin");
    assert!(night.is_open(at("2026-11-21T03:00:00+01:00")), "Saturday morning");
    assert!(!night.is_open(at("2026-11-20T03:00:00+01:00")), "Friday morning");
    assert_eq!(
        changes(&night, "2026-11-20T00:00:00Z", "2026-11-28T00:00:00Z"),
        ["Fri 20 22:00 +0100 opens", "Sat 21 06:00 +0100 closes", "Fri 27 22:00 +0100 opens"]
    );
}

#[test]
fn a_start_that_the_clocks_skip_opens_at_the_jump() {
    let early = schedule("Sun", "02:30-05:00", "Europe/Berlin");
    assert_eq!(
        changes(&early, "2026-03-28T12:00:00Z", "2026-03-30T00:00:00Z"),
        ["Sun 29 03:00 +0200 opens", "Sun 29 05:00 +0200 closes"]
    );
}

#[test]
fn an_end_that_the_clocks_skip_closes_at_the_jump() {
    let late = schedule("Sat", "22:00-02:30", "Europe/Berlin");
    assert_eq!(
        changes(&late, "2026-03-28T12:00:00Z", "2026-03-30T00:00:00Z"),
        ["Sat 28 22:00 +0100 opens", "Sun 29 03:00 +0200 closes"]
    );
}

#[test]
fn a_window_that_lies_inside_the_skipped_hour_does_not_happen_that_day() {
    let short = schedule("Sun", "02:10-02:50", "Europe/Berlin");
    assert_eq!(
        changes(&short, "2026-03-28T12:00:00Z", "2026-04-06T00:00:00Z"),
        ["Sun 05 02:10 +0200 opens", "Sun 05 02:50 +0200 closes"]
    );
}

#[test]
fn a_window_is_not_split_by_the_repeated_hour() {
    // Clocks go from 03:00 back to 02:00: 02:30 comes twice.
    let ending = schedule("Sun", "01:00-02:30", "Europe/Berlin");
    assert_eq!(
        changes(&ending, "2026-10-24T12:00:00Z", "2026-10-26T00:00:00Z"),
        ["Sun 25 01:00 +0200 opens", "Sun 25 02:30 +0100 closes"]
    );
    let starting = schedule("Sun", "02:30-04:00", "Europe/Berlin");
    assert_eq!(
        changes(&starting, "2026-10-24T12:00:00Z", "2026-10-26T00:00:00Z"),
        ["Sun 25 02:30 +0200 opens", "Sun 25 04:00 +0100 closes"]
    );
}

#[test]
fn whole_days_next_to_each_other_are_one_window() {
    let weekend = schedule("Sat,Sun", "00:00-24:00", "America/New_York");
    assert_eq!(
        changes(&weekend, "2026-11-18T00:00:00Z", "2026-11-24T00:00:00Z"),
        ["Sat 21 00:00 -0500 opens", "Mon 23 00:00 -0500 closes"]
    );
}

#[test]
fn whole_days_every_day_never_change() {
    // Havana's clocks change at midnight, in both directions.
    for zone in ["UTC", "Europe/Berlin", "America/Havana"] {
        let always = schedule("daily", "00:00-24:00", zone);
        for day in ["2026-03-07T12:00:00Z", "2026-07-01T00:00:00Z", "2026-10-31T12:00:00Z"] {
            assert!(always.is_open(at(day)));
            assert_eq!(always.next_change(at(day)), None, "{zone} {day}");
        }
    }
}

#[test]
fn a_day_that_a_country_skipped_has_no_window() {
    // Samoa crossed the date line: 30 December 2011, a Friday, did not happen.
    let fridays = schedule("Fri", "00:00-24:00", "Pacific/Apia");
    assert_eq!(
        changes(&fridays, "2011-12-25T00:00:00Z", "2012-01-07T12:00:00Z"),
        ["Fri 06 00:00 +1400 opens", "Sat 07 00:00 +1400 closes"]
    );
}

#[test]
fn the_ends_of_the_calendar_are_not_crossed() {
    let office = schedule("daily", "06:00-22:00", "Pacific/Kiritimati");
    for end in [Timestamp::MIN, Timestamp::MAX] {
        let _ = office.is_open(end);
        let _ = office.next_change(end);
    }
}

#[test]
fn a_time_zone_must_be_written_as_the_database_writes_it() {
    for (name, similar) in [
        ("America/NewYork", Some("America/New_York")),
        ("europe/berlin", Some("Europe/Berlin")),
        ("Mars/Olympus", None),
    ] {
        match Schedule::new(Days::DAILY, Hours::WHOLE_DAY, name).unwrap_err() {
            ScheduleError::Timezone { similar: found, .. } => assert_eq!(found.as_deref(), similar, "{name}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_schedule_survives_the_trip_through_json() {
    let office = schedule("Mon-Fri", "06:00-22:00", "America/New_York");
    let json = serde_json::to_string(&office).unwrap();
    assert_eq!(json, r#"{"days":"Mon-Fri","hours":"06:00-22:00","timezone":"America/New_York"}"#);
    assert_eq!(serde_json::from_str::<Schedule>(&json).unwrap(), office);
}

fn any_schedule() -> impl Strategy<Value = Schedule> {
    static ZONES: &[&str] = &[
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "America/Havana",
        "Australia/Lord_Howe",
        "Pacific/Apia",
    ];
    static NAMES: &[&str] = &["daily", "Mon-Fri", "Sat,Sun", "Sun", "Wed", "Fri-Mon"];
    (prop::sample::select(NAMES), 0..1440_u16, 1..=1440_u16, prop::sample::select(ZONES))
        .prop_filter("start and end must differ", |(_, start, end, _)| start != end)
        .prop_map(|(days, start, end, zone)| {
            let hours = format!("{:02}:{:02}-{:02}:{:02}", start / 60, start % 60, end / 60, end % 60);
            schedule(days, &hours, zone)
        })
}

proptest! {
    #[test]
    fn the_next_change_is_the_first_moment_with_another_answer(
        schedule in any_schedule(),
        second in 1_300_000_000_i64..1_900_000_000,
        samples in prop::collection::vec(0.0..1.0_f64, 20),
    ) {
        let now = Timestamp::from_second(second).unwrap();
        let open = schedule.is_open(now);
        let week = 9 * 86_400_i64;
        let (until, expected) = match schedule.next_change(now) {
            Some((when, answer)) => {
                prop_assert!(when > now);
                prop_assert_eq!(answer, !open);
                prop_assert_eq!(schedule.is_open(when), !open);
                (when.as_second(), open)
            }
            None => (second + week, open),
        };
        for sample in samples {
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a random point of the span")]
            let inside = second + ((until - second - 1) as f64 * sample) as i64;
            prop_assert_eq!(schedule.is_open(Timestamp::from_second(inside).unwrap()), expected);
        }
    }

    /// Away from changes of the clocks a window is simply what the local clock shows.
    #[test]
    fn on_days_without_a_change_of_the_clocks_the_wall_clock_decides(
        schedule in any_schedule(),
        second in 1_300_000_000_i64..1_900_000_000,
    ) {
        let now = Timestamp::from_second(second).unwrap();
        let zone = &schedule.timezone;
        let near = |days: i64| zone.to_offset(Timestamp::from_second(second + days * 86_400).unwrap());
        prop_assume!([-3, -2, -1, 1, 2].into_iter().all(|days| near(days) == near(0)));
        let local = zone.to_datetime(now);
        let (start, end) = schedule.hours.on(local.date()).unwrap();
        let yesterday = local.date().yesterday().unwrap();
        let (_, late) = schedule.hours.on(yesterday).unwrap();
        let expected = (schedule.days.contains(local.weekday()) && start <= local && local < end)
            || (schedule.days.contains(yesterday.weekday()) && late.date() == local.date() && local < late);
        prop_assert_eq!(schedule.is_open(now), expected);
    }
}
