//! The process metrics, from Linux's procfs (proc(5)). All Prometheus client libraries have the same ones:
//! <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::time::{Duration, Instant};

use crate::page::Page;

/// How long the metrics stay valid. Otherwise, a scrape next to a flood of requests waits until each has read procfs.
const CACHE_TTL: Duration = Duration::from_millis(100);

/// Reads the metrics. Its files stay open, because metrics are needed most when the process can't open more files.
#[derive(Debug)]
pub struct Process {
    stat: File,
    status: File,
    limits: String,
    read_at: Instant,
    metrics: String,
}

impl Process {
    /// Opens the files; `None` on systems other than Linux, or without procfs.
    pub fn open() -> Option<Self> {
        // Wine shows procfs to Windows programs, too, but it describes another process.
        cfg!(target_os = "linux").then_some(())?;
        Some(Process {
            stat: File::open("/proc/self/stat").ok()?,
            status: File::open("/proc/self/status").ok()?,
            limits: fs::read_to_string("/proc/self/limits").ok()?,
            read_at: Instant::now(),
            metrics: String::new(),
        })
    }

    /// The metrics as a part of the page, at most [`CACHE_TTL`] old; empty if procfs lacks a field.
    pub fn metrics(&mut self) -> &str {
        if self.metrics.is_empty() || self.read_at.elapsed() > CACHE_TTL {
            self.read_at = Instant::now();
            self.metrics = self.read().unwrap_or_default();
        }
        &self.metrics
    }

    /// Reads the metrics. The limits are the soft limits at the start.
    fn read(&mut self) -> Option<String> {
        let (stat, status) = (reread(&mut self.stat)?, reread(&mut self.status)?);
        // The second field is the program's name in parentheses. It may contain spaces and parentheses.
        let (_, after_name) = stat.rsplit_once(") ")?;
        // Fields have the numbers of proc(5).
        let ticks = |number: usize| after_name.split(' ').nth(number - 3)?.parse::<f64>().ok();
        let max_fds = field(&self.limits, "Max open files")?;
        let open_fds = match fs::read_dir("/proc/self/fd") {
            // One of the entries is the directory that is being read.
            Ok(entries) => entries.count() as f64 - 1.0,
            // EMFILE: the process has opened as many files as it may.
            Err(error) if error.raw_os_error() == Some(24) => max_fds,
            Err(_) => return None,
        };
        let max_space = field(&self.limits, "Max address space")?;
        // The kernel shows hundredths of a second, independent of its own clock (time(7)).
        let cpu_seconds = (ticks(14)? + ticks(15)?) / 100.0;
        let [resident, reserved] = [field(&status, "VmRSS:")? * 1024.0, field(&status, "VmSize:")? * 1024.0];
        let mut page = Page::default();
        page.metric("process_cpu_seconds_total", "counter", "User and system CPU time used, in seconds.", cpu_seconds);
        page.metric("process_resident_memory_bytes", "gauge", "Memory in RAM, in bytes.", resident);
        page.metric("process_virtual_memory_bytes", "gauge", "Reserved address space, in bytes.", reserved);
        page.metric("process_virtual_memory_max_bytes", "gauge", "Limit of address space; 2^64: unlimited.", max_space);
        page.metric("process_open_fds", "gauge", "Open file descriptors.", open_fds);
        page.metric("process_max_fds", "gauge", "Limit of open file descriptors.", max_fds);
        page.metric("process_threads", "gauge", "Threads of the process.", field(&status, "Threads:")?);
        Some(page.0)
    }
}

/// Reads a file of procfs again from its start.
fn reread(file: &mut File) -> Option<String> {
    // The kernel renders the file for each read, so one read into a large buffer saves time.
    let mut text = vec![0; 1 << 16];
    file.rewind().ok()?;
    let length = file.read(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text[..length]).into_owned())
}

/// The number after `name` at the start of a line; 2^64 if it is unlimited.
fn field(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    match rest.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX as f64),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_from_the_start_of_a_line() {
        let limits = "Limit  Soft Limit\nMax open files  1024  4096  files\nMax address space  unlimited  unlimited\n";
        assert_eq!(field(limits, "Max open files"), Some(1024.0));
        assert_eq!(field(limits, "Max address space"), Some(18_446_744_073_709_552_000.0));
        assert_eq!(field(limits, "open files"), None);
        assert_eq!(field(limits, "Limit"), None);
    }

    #[test]
    #[cfg_attr(not(target_os = "linux"), ignore = "the process metrics need Linux")]
    fn the_units_are_seconds_and_bytes() {
        let file = |name: &str, text: &str| {
            let path = std::env::temp_dir().join(format!("modelmock-{}-{name}", std::process::id()));
            fs::write(&path, text).unwrap();
            let file = File::open(&path).unwrap();
            fs::remove_file(path).unwrap();
            file
        };
        let mut process = Process {
            stat: file("stat", "7 (a) b) c) R 4 5 6 7 8 9 10 11 12 13 1400 1501 16 17\n"),
            status: file("status", "Name:\ta\nVmSize:\t  3000 kB\nVmRSS:\t  2000 kB\nThreads:\t5\n"),
            limits: "Max open files  64  64  files\nMax address space  unlimited  unlimited  bytes\n".to_owned(),
            read_at: Instant::now(),
            metrics: String::new(),
        };
        let lines = process.metrics().lines().filter(|line| !line.starts_with('#') && !line.contains("open_fds"));
        let samples = [
            "process_cpu_seconds_total 29.01",
            "process_resident_memory_bytes 2048000",
            "process_virtual_memory_bytes 3072000",
            "process_virtual_memory_max_bytes 18446744073709552000",
            "process_max_fds 64",
            "process_threads 5",
        ];
        assert_eq!(lines.collect::<Vec<_>>(), samples);
    }

    #[test]
    fn only_linux_has_them() {
        assert_eq!(Process::open().is_some(), cfg!(target_os = "linux"));
    }
}
