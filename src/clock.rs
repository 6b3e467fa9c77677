//! Unix time, and its text in UTC.

use std::time::{Duration, SystemTime};

/// The time since 1970, which is Unix time; zero if the clock is set to a time before.
pub fn unix_time() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Unix time in UTC in the format of RFC 3339, to the millisecond.
pub fn rfc3339(unix_time: Duration) -> String {
    let seconds = unix_time.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", unix_time.subsec_millis())
}

/// Year, month and day of the month of a day that is counted from 1970-01-01.
fn date(mut day: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    loop {
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let february = 28 + u64::from(is_leap);
        for (month, length) in (1..).zip([31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) {
            if day < length {
                return (year, month, day + 1);
            }
            day -= length;
        }
        year += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (millis, date) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_735_689_599_001, "2024-12-31T23:59:59.001Z"),
            (1_772_323_199_000, "2026-02-28T23:59:59.000Z"),
            (1_772_323_200_000, "2026-03-01T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (1_779_062_706_050, "2026-05-18T00:05:06.050Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_millis(millis)), date);
        }
    }

    #[test]
    fn unix_time_is_the_time_since_1970() {
        let seconds = unix_time().as_secs();
        assert!((1_700_000_000..10_000_000_000).contains(&seconds), "{seconds}");
    }
}
