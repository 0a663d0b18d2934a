//! The date that some templates write, as Python's `strftime` does.

use std::time::{SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Seconds since 1970: of `SOURCE_DATE_EPOCH`, so that a run can be repeated, or of the clock.
pub fn now() -> u64 {
    let fixed = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|s| s.trim().parse().ok());
    fixed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()))
}

/// A moment in words, in UTC. The error names the part that is not known.
pub fn format(seconds: u64, format: &str) -> Result<String, String> {
    let days = seconds / 86_400;
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let (year, month, day) = civil(days);
    let (weekday, month_name) = (DAYS[((days + 3) % 7) as usize], MONTHS[month as usize - 1]);
    let of_year = days - first_of_year(year) + 1;
    let half = if hour % 12 == 0 { 12 } else { hour % 12 };
    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut part = rest.next();
        // `%-d`: without zeros in front.
        let bare = part == Some('-');
        if bare {
            part = rest.next();
        }
        let number = |n: u64, width: usize| if bare { n.to_string() } else { format!("{n:0width$}") };
        out += &match part {
            Some('d') => number(day, 2),
            Some('m') => number(month, 2),
            Some('Y') => year.to_string(),
            Some('y') => number(year % 100, 2),
            Some('H') => number(hour, 2),
            Some('I') => number(half, 2),
            Some('M') => number(minute, 2),
            Some('S') => number(second, 2),
            Some('j') => number(of_year, 3),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('A') => weekday.to_owned(),
            Some('a') => weekday[..3].to_owned(),
            Some('B') => month_name.to_owned(),
            Some('b' | 'h') => month_name[..3].to_owned(),
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('Z') => "UTC".to_owned(),
            Some('z') => "+0000".to_owned(),
            Some('s') => seconds.to_string(),
            Some('%') => "%".to_owned(),
            other => return Err(format!("`strftime_now` knows no `%{}`", other.map_or(String::new(), String::from))),
        };
    }
    Ok(out)
}

/// Year, month and day of a day since 1970, in the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    // Years that begin in March, in eras of 400: the leap day is then the last of a year.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

/// The first of January, in days since 1970.
fn first_of_year(year: u64) -> u64 {
    let before = year - 1;
    365 * (year - 1970) + (before / 4 - before / 100 + before / 400) - (1969 / 4 - 1969 / 100 + 1969 / 400)
}

#[cfg(test)]
mod tests {
    use super::format;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let all = "%a %A %d %-d %b %B %m %y %Y %j %H:%M:%S %I %p %F %%";
        assert_eq!(format(0, all).unwrap(), "Thu Thursday 01 1 Jan January 01 70 1970 001 00:00:00 12 AM 1970-01-01 %");
        let leap = "Thu Thursday 29 29 Feb February 02 24 2024 060 13:46:40 01 PM 2024-02-29 %";
        assert_eq!(format(1_709_214_400, all).unwrap(), leap);
        assert_eq!(format(4_102_444_799, "%d %b %Y %T %j").unwrap(), "31 Dec 2099 23:59:59 365");
        assert_eq!(format(1_735_689_600, "%F %j %z").unwrap(), "2025-01-01 001 +0000");
        assert_eq!(format(0, "%Q").unwrap_err(), "`strftime_now` knows no `%Q`");
        assert!(format(0, "%").is_err() && format(u64::MAX / 2, "%Y").is_ok());
    }
}
