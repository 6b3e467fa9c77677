//! The process metrics that every Prometheus client library has, from Linux' procfs: `proc(5)`.
//!
//! What they mean: <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>.

use std::fs::{self, File};
use std::io::{self, Seek};
use std::time::{Duration, Instant};

/// How long the metrics are good for: to read them takes longer than all the rest of a page, and nobody
/// needs them more often than this.
const METRICS_LAST: Duration = Duration::from_millis(100);

/// In what stat counts CPU time: hundredths of a second, whatever the kernel's own clock has (time(7)).
const TICKS_PER_SECOND: f64 = 100.0;

/// errno(3): the process has as many files open as it may.
const EMFILE: i32 = 24;

/// A metric's name, its type, its help and its value.
pub type Metric = (&'static str, &'static str, &'static str, String);

/// Where the metrics are read. Its files stay open, so that there are metrics where no more can be
/// opened, too: that is when somebody looks for them.
pub struct Process {
    stat: File,
    status: File,
    limits: String,
    read_at: Instant,
    metrics: Vec<Metric>,
}

impl Process {
    /// `None` where there is no procfs, as outside Linux.
    pub fn open() -> Option<Self> {
        Some(Process {
            stat: File::open("/proc/self/stat").ok()?,
            status: File::open("/proc/self/status").ok()?,
            limits: fs::read_to_string("/proc/self/limits").ok()?,
            read_at: Instant::now(),
            metrics: Vec::new(),
        })
    }

    /// The metrics, read lately; nothing where procfs says less than Linux' own.
    pub fn metrics(&mut self) -> &[Metric] {
        if self.metrics.is_empty() || self.read_at.elapsed() > METRICS_LAST {
            self.read_at = Instant::now();
            self.metrics = self.read().unwrap_or_default();
        }
        &self.metrics
    }

    /// The metrics as of now; of limits, the soft ones as of the start, 2^64 where there is none.
    #[rustfmt::skip]
    fn read(&self) -> Option<Vec<Metric>> {
        let (stat, status) = (content(&self.stat)?, content(&self.status)?);
        // The second field is the program's name, in brackets, and may hold blanks and brackets.
        let (_, after_name) = stat.rsplit_once(") ")?;
        let ticks = |field: usize| after_name.split(' ').nth(field - 3)?.parse::<f64>().ok();
        let max_fds = after(&self.limits, "Max open files")?;
        let open_fds = match fs::read_dir("/proc/self/fd") {
            // One of them is the directory's own.
            Ok(open) => open.count() as f64 - 1.0,
            Err(error) if error.raw_os_error() == Some(EMFILE) => max_fds,
            Err(_) => return None,
        };
        let metrics = [
            ("process_cpu_seconds_total", "counter", "CPU time spent so far, user and system, in seconds.", (ticks(14)? + ticks(15)?) / TICKS_PER_SECOND),
            ("process_resident_memory_bytes", "gauge", "Memory that is held in RAM, in bytes.", after(&status, "VmRSS:")? * 1024.0),
            ("process_virtual_memory_bytes", "gauge", "Address space that is reserved, in bytes.", after(&status, "VmSize:")? * 1024.0),
            ("process_virtual_memory_max_bytes", "gauge", "How much address space may be reserved, in bytes.", after(&self.limits, "Max address space")?),
            ("process_open_fds", "gauge", "Open file descriptors.", open_fds),
            ("process_max_fds", "gauge", "How many file descriptors may be open.", max_fds),
            ("process_threads", "gauge", "Threads of the process.", after(&status, "Threads:")?),
        ];
        Some(metrics.map(|(name, kind, help, value)| (name, kind, help, value.to_string())).into())
    }
}

/// What the file says now.
fn content(mut file: &File) -> Option<String> {
    file.rewind().ok()?;
    io::read_to_string(file).ok()
}

/// The number after `name` at the start of a line.
fn after(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    match rest.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX as f64),
        number => number.parse().ok(),
    }
}
