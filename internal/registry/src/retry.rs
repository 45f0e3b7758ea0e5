//! Trying again, with manners and with an end.

use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::error::Transience;

/// How often, and for how long, a failing request is tried again.
///
/// Only what can pass is tried again: connections that cannot be made or break off, silence, 408, 429 and 5xx.
/// Between two tries lies a random time between nothing and twice the longest time before it ("full jitter"), so that
/// many devices do not come back in step; or the time that the server asked for.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Tries of one item without any progress, the first included.
    pub tries: u32,
    /// The longest time before the second try. It doubles with each further one.
    pub base: Duration,
    /// What it doubles up to.
    pub cap: Duration,
    /// How long an item is tried again after its last progress. A server that asks for more is not waited for.
    pub deadline: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            tries: 6,
            base: Duration::from_millis(500),
            cap: Duration::from_mins(1),
            deadline: Duration::from_mins(10),
        }
    }
}

type Pause = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How waiting is done. Tests give one that only notes the time.
#[derive(Clone)]
pub struct Sleep(Arc<dyn Fn(Duration) -> Pause + Send + Sync>);

impl Sleep {
    /// Waits by calling `sleep`.
    pub fn new<F, P>(sleep: F) -> Self
    where
        F: Fn(Duration) -> P + Send + Sync + 'static,
        P: Future<Output = ()> + Send + 'static,
    {
        Self(Arc::new(move |duration| Box::pin(sleep(duration))))
    }

    pub(crate) async fn pause(&self, duration: Duration) {
        (self.0)(duration).await;
    }
}

impl Default for Sleep {
    fn default() -> Self {
        Self::new(tokio::time::sleep)
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sleep")
    }
}

/// The tries of one item.
#[derive(Debug)]
pub(crate) struct Retry {
    policy: RetryPolicy,
    failed: u32,
    clean: bool,
    since: Instant,
}

impl Retry {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        Self { policy, failed: 0, clean: false, since: Instant::now() }
    }

    /// There was progress: the count of failures starts anew. It ends all the same, because an item has an end.
    pub(crate) fn progressed(&mut self) {
        self.failed = 0;
        self.since = Instant::now();
    }

    /// How long to wait before the next try; `None` where there is none.
    pub(crate) fn after(&mut self, failure: Transience) -> Option<Duration> {
        match failure {
            Transience::Permanent => None,
            // Wrong content is fetched once more from the start, at once.
            Transience::Content => (!std::mem::replace(&mut self.clean, true)).then_some(Duration::ZERO),
            Transience::Transient(asked) => {
                self.failed += 1;
                if self.failed >= self.policy.tries {
                    return None;
                }
                let longest = self.policy.base.saturating_mul(1 << (self.failed - 1).min(16));
                let jitter = longest.min(self.policy.cap).mul_f64(random());
                let pause = match asked {
                    None => jitter,
                    // Never earlier than asked; the jitter keeps a fleet of devices from coming back together.
                    Some(asked) => asked.saturating_add(jitter.min(Duration::from_secs(1))),
                };
                (self.since.elapsed().saturating_add(pause) <= self.policy.deadline).then_some(pause)
            }
        }
    }
}

/// A number from 0 up to 1. Every `RandomState` has keys of its own; nothing here needs more than that.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

/// Reads `Retry-After` in both its forms (RFC 9110, 10.2.3). A date is compared with the server's own `Date`, because
/// a device without a clock of its own may think that it is 1970.
pub(crate) fn retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let then = http_date(value)?;
    let now = match date.and_then(http_date) {
        Some(now) => now,
        None => SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs(),
    };
    Some(Duration::from_secs(then.saturating_sub(now)))
}

/// Seconds since 1970 of an IMF-fixdate such as `Sun, 06 Nov 1994 08:49:37 GMT`, the one form that is generated.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut words = text.trim().split_once(", ")?.1.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let name = words.next().filter(|name| name.len() == 3)?;
    let month = MONTHS.find(name).filter(|at| at % 3 == 0)? as u64 / 3 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut time = words.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let valid = words.next() == Some("GMT")
        && (1..=31).contains(&day)
        && (1970..=9999).contains(&year)
        && hour < 24
        && minute < 60
        && second < 61;
    if !valid {
        return None;
    }
    // Days of the civil calendar, with years that begin in March so that the leap day comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            tries: 6,
            base: Duration::from_secs(1),
            cap: Duration::from_secs(5),
            deadline: Duration::from_mins(10),
        }
    }

    #[test]
    fn tries_come_to_an_end_and_pauses_stay_below_their_limits() {
        let mut retry = Retry::new(policy());
        for limit in [1, 2, 4, 5, 5] {
            let pause = retry.after(Transience::Transient(None)).unwrap();
            assert!(pause <= Duration::from_secs(limit), "{pause:?} > {limit} s");
        }
        assert_eq!(retry.after(Transience::Transient(None)), None);
        retry.progressed();
        assert!(retry.after(Transience::Transient(None)).is_some());
    }

    #[test]
    fn what_the_server_asks_for_is_kept_unless_it_is_too_long() {
        let mut retry = Retry::new(policy());
        let pause = retry.after(Transience::Transient(Some(Duration::from_secs(30)))).unwrap();
        assert!(pause >= Duration::from_secs(30) && pause <= Duration::from_secs(31), "{pause:?}");
        assert_eq!(retry.after(Transience::Transient(Some(Duration::from_hours(6)))), None);
        assert_eq!(retry.after(Transience::Transient(Some(Duration::MAX))), None);
    }

    #[test]
    fn wrong_content_gets_one_more_chance_and_a_refusal_none() {
        let mut retry = Retry::new(policy());
        assert_eq!(retry.after(Transience::Permanent), None);
        assert_eq!(retry.after(Transience::Content), Some(Duration::ZERO));
        retry.progressed();
        assert_eq!(retry.after(Transience::Content), None, "progress does not make wrong content right");
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        for (value, want) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sat, 05 Nov 1994 08:50:37 GMT", Some(0)),
            ("Mon, 07 Nov 1994 08:49:37 GMT", Some(86_400)),
            ("soon", None),
            ("-5", None),
            ("", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 06 Foo 1994 08:49:37 GMT", None),
            ("Sun, 06 anF 1994 08:49:37 GMT", None),
        ] {
            assert_eq!(retry_after(value, date), want.map(Duration::from_secs), "{value}");
        }
        assert_eq!(retry_after("99999999999999999999999", None), Some(Duration::from_secs(u64::MAX)));
    }

    #[test]
    fn dates_are_counted_as_the_calendar_does() {
        for (text, want) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Tue, 29 Feb 2000 12:00:00 GMT", 951_825_600),
            ("Sat, 21 Nov 2026 12:00:00 GMT", 1_795_262_400),
        ] {
            assert_eq!(http_date(text), Some(want), "{text}");
        }
    }
}
