//! What an engine's daemons cost, as the kernel counts it.

use std::fs;
use std::ops::Sub;
use std::time::Duration;

use anyhow::{Context, Result};

/// Processor time and bytes written of some processes and the children that they have waited for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spent {
    pub(super) cpu: Duration,
    /// Bytes that were given to the storage layer, those of files that were removed before they reached a disk included.
    pub(super) written: u64,
}

impl Spent {
    /// What these processes have spent since they began.
    pub(super) fn by(pids: &[u32]) -> Result<Self> {
        let mut spent = Self::default();
        for pid in pids {
            let read = |name: &str| {
                let path = format!("/proc/{pid}/{name}");
                fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
            };
            spent.cpu += processor_time(&read("stat")?).context("/proc/PID/stat has another form")?;
            spent.written += field(&read("io")?, "write_bytes").context("/proc/PID/io has another form")?;
        }
        Ok(spent)
    }
}

impl Sub for Spent {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(before.cpu),
            written: self.written.saturating_sub(before.written),
        }
    }
}

/// Fields 14 to 17 of proc_pid_stat(5): user and system time of the process and of its children, in ticks.
fn processor_time(stat: &str) -> Option<Duration> {
    // The second field is the program's name, which may have anything in it.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: Option<Vec<u64>> =
        fields.split_whitespace().skip(11).take(4).map(|field| field.parse().ok()).collect();
    let ticks = ticks.filter(|ticks| ticks.len() == 4)?;
    Some(Duration::from_secs_f64(
        ticks.iter().sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64,
    ))
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 100 200 300 400 20 0 9";
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(processor_time(stat), Some(Duration::from_secs_f64(1000.0 / ticks)));
        assert_eq!(processor_time("7 (a) S 1"), None);
        assert_eq!(field("rchar: 1\nwrite_bytes: 4096\n", "write_bytes"), Some(4096));
        assert_eq!(field("rchar: 1\n", "write_bytes"), None);
        let ourselves = Spent::by(&[std::process::id()]).unwrap();
        assert_eq!((ourselves - ourselves).cpu, Duration::ZERO);
    }
}
