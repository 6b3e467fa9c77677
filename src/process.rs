//! The process metrics that every Prometheus client library has, from Linux' procfs.
//!
//! What they mean: <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>.
//! What the files hold: `proc(5)` and `getauxval(3)`.

/// The process at one moment.
pub struct Sample {
    /// CPU time spent so far, user and system, in seconds.
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    /// How much address space it may reserve: the soft limit, `u64::MAX` where there is none.
    pub max_virtual_bytes: u64,
    pub open_fds: u64,
    /// How many files it may open: the soft limit, `u64::MAX` where there is none.
    pub max_fds: u64,
    /// When it started, in seconds of Unix time.
    pub start_time_seconds: f64,
}

#[cfg(target_os = "linux")]
pub use procfs::Process;

#[cfg(not(target_os = "linux"))]
pub use elsewhere::Process;

#[cfg(target_os = "linux")]
mod procfs {
    use super::Sample;
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;
    use std::str::FromStr;

    const AT_PAGESZ: usize = 6;
    const AT_CLKTCK: usize = 17;
    const EMFILE: i32 = 24;

    /// Where samples are taken. Its file stays open, so that there is a sample even when no file can
    /// be opened.
    pub struct Process {
        stat: File,
        max_virtual_bytes: u64,
        max_fds: u64,
        page_bytes: u64,
        ticks_per_second: f64,
        boot_time_seconds: f64,
    }

    impl Process {
        /// `None` where there is no procfs, or one that says less than Linux' own.
        pub fn open() -> Option<Self> {
            let auxiliary = fs::read("/proc/self/auxv").ok()?;
            let limits = fs::read_to_string("/proc/self/limits").ok()?;
            Some(Process {
                stat: File::open("/proc/self/stat").ok()?,
                max_virtual_bytes: limit(&limits, "Max address space")?,
                max_fds: limit(&limits, "Max open files")?,
                page_bytes: auxiliary_value(&auxiliary, AT_PAGESZ)? as u64,
                ticks_per_second: auxiliary_value(&auxiliary, AT_CLKTCK)? as f64,
                boot_time_seconds: after(&fs::read_to_string("/proc/stat").ok()?, "btime")?,
            })
        }

        pub fn sample(&self) -> Option<Sample> {
            let mut buffer = [0; 1024];
            let length = self.stat.read_at(&mut buffer, 0).ok()?;
            let stat = std::str::from_utf8(&buffer[..length]).ok()?;
            // The second field is the program's name, in brackets, and may hold blanks and brackets.
            let (_, after_name) = stat.rsplit_once(") ")?;
            let fields: Vec<&str> = after_name.split(' ').collect();
            let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
            let seconds = |ticks: u64| ticks as f64 / self.ticks_per_second;
            let (cpu, start) = (field(14)? + field(15)?, field(22)?);
            let (virtual_bytes, resident_pages) = (field(23)?, field(24)?);

            let open_fds = match fs::read_dir("/proc/self/fd") {
                // One of them is the directory's own.
                Ok(open) => open.count() as u64 - 1,
                Err(error) if error.raw_os_error() == Some(EMFILE) => self.max_fds,
                Err(_) => return None,
            };
            Some(Sample {
                cpu_seconds: seconds(cpu),
                resident_bytes: resident_pages * self.page_bytes,
                virtual_bytes,
                max_virtual_bytes: self.max_virtual_bytes,
                open_fds,
                max_fds: self.max_fds,
                start_time_seconds: self.boot_time_seconds + seconds(start),
            })
        }
    }

    /// The value of a kind in the auxiliary vector, which is pairs of words.
    fn auxiliary_value(vector: &[u8], kind: usize) -> Option<usize> {
        let mut words = vector.chunks_exact(size_of::<usize>()).map(|word| {
            word.try_into()
                .map(usize::from_ne_bytes)
                .unwrap_or_default()
        });
        while let (Some(key), Some(value)) = (words.next(), words.next()) {
            if key == kind {
                return Some(value);
            }
        }
        None
    }

    fn limit(limits: &str, name: &str) -> Option<u64> {
        match after::<String>(limits, name)?.as_str() {
            "unlimited" => Some(u64::MAX),
            limit => limit.parse().ok(),
        }
    }

    /// The first word after `name` at the start of a line.
    fn after<T: FromStr>(text: &str, name: &str) -> Option<T> {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_whitespace().next()?.parse().ok()
    }
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use super::Sample;

    /// There is no procfs here, so there is no sample either.
    pub enum Process {}

    impl Process {
        pub fn open() -> Option<Self> {
            None
        }

        pub fn sample(&self) -> Option<Sample> {
            None
        }
    }
}
