//! The process metrics, from Linux's procfs (proc(5)), with the names that client libraries use:
//! <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::errno::{is_file_limit, is_shortage};
use crate::text_format::TextFormat;

/// How long a reading is reused. Without it, a scrape waits while each of many requests reads procfs.
const CACHE_TTL: Duration = Duration::from_millis(100);

/// Reads the metrics. Its files stay open, because metrics are needed most when the process can't open more files.
#[derive(Debug)]
pub struct ProcessMetrics {
    folder: PathBuf,
    stat: File,
    status: File,
    limits: String,
    read_at: Instant,
    metrics: String,
}

impl ProcessMetrics {
    /// Opens the files; `None` on systems other than Linux, or if one of the files is missing or can't be read. Fails
    /// if the process may not have enough files.
    pub fn open() -> io::Result<Option<Self>> {
        // Wine shows procfs to Windows programs, too, but it describes another process.
        if !cfg!(target_os = "linux") {
            return Ok(None);
        }
        Self::open_in(Path::new("/proc/self"))
    }

    fn open_in(folder: &Path) -> io::Result<Option<Self>> {
        let open = || -> io::Result<Self> {
            Ok(ProcessMetrics {
                folder: folder.to_owned(),
                stat: File::open(folder.join("stat"))?,
                status: File::open(folder.join("status"))?,
                limits: fs::read_to_string(folder.join("limits"))?,
                read_at: Instant::now(),
                metrics: String::new(),
            })
        };
        match open() {
            Err(error) if is_shortage(&error) => Err(error),
            // A sandbox such as gVisor may lack some of the files. The page then lacks these metrics.
            result => Ok(result.ok()),
        }
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
        let open_fds = match fs::read_dir(self.folder.join("fd")) {
            // One of the entries is the directory that is being read.
            Ok(entries) => Some(entries.count() as f64 - 1.0),
            Err(error) if is_file_limit(&error) => Some(max_fds),
            Err(_) => None,
        };
        let max_space = field(&self.limits, "Max address space")?;
        // procfs counts in USER_HZ, which is 100 (time(7)).
        let cpu_seconds = (ticks(14)? + ticks(15)?) / 100.0;
        let [resident, reserved] = [field(&status, "VmRSS:")? * 1024.0, field(&status, "VmSize:")? * 1024.0];
        let mut page = TextFormat::default();
        page.metric("process_cpu_seconds_total", "counter", "User and system CPU time used, in seconds.", cpu_seconds);
        page.metric("process_resident_memory_bytes", "gauge", "Memory in RAM, in bytes.", resident);
        page.metric("process_virtual_memory_bytes", "gauge", "Reserved address space, in bytes.", reserved);
        page.metric("process_virtual_memory_max_bytes", "gauge", "Limit of address space; 2^64: unlimited.", max_space);
        if let Some(open_fds) = open_fds {
            page.metric("process_open_fds", "gauge", "Open file descriptors.", open_fds);
        }
        page.metric("process_max_fds", "gauge", "Limit of open file descriptors.", max_fds);
        page.metric("process_threads", "gauge", "Threads of the process.", field(&status, "Threads:")?);
        Some(page.into_string())
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
    fn a_missing_file_leaves_out_only_the_metrics_that_need_it() {
        let folder = std::env::temp_dir().join(format!("modelmock-{}-procfs", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let page = || {
            let process = ProcessMetrics::open_in(&folder).unwrap();
            process.map(|mut process| process.metrics().to_owned())
        };
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        write("stat", "7 (a) b) c) R 4 5 6 7 8 9 10 11 12 13 1400 1501 16 17\n");
        write("status", "Name:\ta\nVmSize:\t  3000 kB\nVmRSS:\t  2000 kB\nThreads:\t5\n");
        let without_limits = page();
        write("limits", "Max open files  64  64  files\nMax address space  unlimited  unlimited  bytes\n");
        let without_fd = page().unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(without_limits, None);
        let lines = without_fd.lines().filter(|line| !line.starts_with('#'));
        // The units are seconds and bytes.
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
        assert_eq!(ProcessMetrics::open().unwrap().is_some(), cfg!(target_os = "linux"));
    }
}
