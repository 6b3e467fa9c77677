//! The process metrics that all Prometheus client libraries share, from Linux' procfs (proc(5)).
//!
//! Their names are standard: <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::time::{Duration, Instant};

/// How long the metrics stay valid. Reading them takes longer than rendering the rest of the page, and
/// a scraper doesn't need them more often.
const CACHE_TTL: Duration = Duration::from_millis(100);

/// The unit of CPU time in stat: hundredths of a second, independent of the kernel's own clock (time(7)).
const TICKS_PER_SECOND: f64 = 100.0;

/// errno(3): the process has opened as many files as it may.
const EMFILE: i32 = 24;

#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: &'static str,
    pub help: &'static str,
    pub value: f64,
}

/// Reads the metrics. Its files stay open, so that the metrics are available even when the process has
/// reached its limit of open files.
#[derive(Debug)]
pub struct Process {
    stat: File,
    status: File,
    limits: String,
    read_at: Instant,
    metrics: Vec<Metric>,
}

impl Process {
    /// Returns `None` on systems other than Linux.
    pub fn open() -> Option<Self> {
        // Wine shows procfs to Windows programs, too, but it describes another process.
        if !cfg!(target_os = "linux") {
            return None;
        }
        Some(Process {
            stat: File::open("/proc/self/stat").ok()?,
            status: File::open("/proc/self/status").ok()?,
            limits: fs::read_to_string("/proc/self/limits").ok()?,
            read_at: Instant::now(),
            metrics: Vec::new(),
        })
    }

    /// The metrics, at most [`CACHE_TTL`] old; none if procfs lacks a field.
    pub fn metrics(&mut self) -> &[Metric] {
        if self.metrics.is_empty() || self.read_at.elapsed() > CACHE_TTL {
            self.read_at = Instant::now();
            self.metrics = self.read().unwrap_or_default();
        }
        &self.metrics
    }

    /// Reads the metrics. The limits are the soft limits at the start; 2^64 means unlimited.
    #[rustfmt::skip]
    fn read(&self) -> Option<Vec<Metric>> {
        let (stat, status) = (reread(&self.stat)?, reread(&self.status)?);
        // The second field is the program's name in parentheses. It may contain spaces and parentheses.
        let (_, after_name) = stat.rsplit_once(") ")?;
        let ticks = |index: usize| after_name.split(' ').nth(index - 3)?.parse::<f64>().ok();
        let max_fds = field(&self.limits, "Max open files")?;
        let open_fds = match fs::read_dir("/proc/self/fd") {
            // One of the entries is the directory that is being read.
            Ok(entries) => entries.count() as f64 - 1.0,
            Err(error) if error.raw_os_error() == Some(EMFILE) => max_fds,
            Err(_) => return None,
        };
        let metric = |name, kind, help, value| Metric { name, kind, help, value };
        Some(vec![
            metric("process_cpu_seconds_total", "counter",
                "CPU time that the process has used, user and system time, in seconds.",
                (ticks(14)? + ticks(15)?) / TICKS_PER_SECOND),
            metric("process_resident_memory_bytes", "gauge",
                "Memory of the process that is in RAM, in bytes.", field(&status, "VmRSS:")? * 1024.0),
            metric("process_virtual_memory_bytes", "gauge",
                "Address space that the process has reserved, in bytes.", field(&status, "VmSize:")? * 1024.0),
            metric("process_virtual_memory_max_bytes", "gauge",
                "Address space that the process may reserve, in bytes; 2^64 means unlimited.",
                field(&self.limits, "Max address space")?),
            metric("process_open_fds", "gauge", "Open file descriptors.", open_fds),
            metric("process_max_fds", "gauge", "File descriptors that the process may open.", max_fds),
            metric("process_threads", "gauge", "Threads of the process.", field(&status, "Threads:")?),
        ])
    }
}

/// Reads a file of procfs again from its start.
fn reread(mut file: &File) -> Option<String> {
    // The kernel renders the file for each read, so a buffer that fits all of it saves time.
    let mut text = String::with_capacity(4096);
    file.rewind().ok()?;
    file.take(u64::MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The number after `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    match rest.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX as f64),
        number => number.parse().ok(),
    }
}
