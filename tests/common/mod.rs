//! What the tests share: the built binary as a child process, and a client that speaks plain HTTP.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

pub const BINARY: &str = env!("CARGO_BIN_EXE_modelmock");

/// A scrape, as a client sends it.
pub const WHOLE_REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// How long a client waits for an answer before its test fails.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A running exporter; it is killed when dropped.
pub struct Exporter {
    child: Child,
    pub address: SocketAddr,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: Arc<Mutex<String>>,
}

impl Exporter {
    /// Starts it on a free port of the loopback address.
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command.args(["--listen", "127.0.0.1:0"]).args(arguments);
        Self::spawn(command)
    }

    /// Starts it with a limit on how many files it may open.
    pub fn with_files(limit: u32, arguments: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" --listen 127.0.0.1:0 \"$@\"")]);
        command.arg(BINARY).args(arguments);
        Self::spawn(command)
    }

    /// Starts it with another system below it: tests/common/system.c says what `variables` change there.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    pub fn on_another_system(variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        static LIBRARY: OnceLock<String> = OnceLock::new();
        let library = LIBRARY.get_or_init(|| {
            let library = format!("{}/system-{}.so", env!("CARGO_TARGET_TMPDIR"), std::process::id());
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/system.c");
            // The compiler that Rust links with, too.
            let mut cc = Command::new("cc");
            cc.args(["-shared", "-fPIC", "-Wall", "-Werror", "-o", &library, source]);
            assert!(cc.status().expect("cc runs").success());
            library
        });
        let mut command = Command::new(BINARY);
        command.args(["--listen", "127.0.0.1:0"]).args(arguments);
        command.env("LD_PRELOAD", library);
        command.envs(variables.iter().copied());
        Self::spawn(command)
    }

    pub fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the exporter starts");
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        stdout.read_line(&mut first).expect("a first line");
        let address = first
            .split("http://")
            .nth(1)
            .and_then(|rest| rest.split('/').next())
            .and_then(|address| address.parse().ok())
            .unwrap_or_else(|| panic!("the first line names no address: {first:?}"));

        let stderr = Arc::new(Mutex::new(String::new()));
        let said = Arc::clone(&stderr);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        thread::spawn(move || {
            while let Some(Ok(line)) = lines.next() {
                said.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        Exporter { child, address, stdout: Some(stdout), stderr }
    }

    /// What it prints after its first line.
    pub fn stdout(&mut self) -> &mut BufReader<ChildStdout> {
        self.stdout.as_mut().expect("standard output is still open")
    }

    /// Leaves its standard output a broken pipe.
    pub fn close_stdout(&mut self) {
        self.stdout = None;
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.address).expect("the exporter takes a connection")
    }

    /// A scraper that was answered once.
    pub fn scraper(&self) -> Scraper {
        let mut scraper = Scraper { address: self.address, connection: self.connect(), reconnected: 0 };
        scraper.scrape();
        scraper
    }

    /// One scrape over a connection of its own.
    pub fn scrape(&self) -> Page {
        self.connect().get("/metrics").page()
    }

    /// Everything that it said on standard error so far.
    pub fn complaints(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        // Every shell has kill built in; the program of that name is a package that not all have.
        let kill = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &pid]).status();
        assert!(kill.unwrap().success());
    }

    /// Waits for the end; fails where it does not come within `limit`.
    pub fn end_within(&mut self, limit: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < limit, "still running after {limit:?}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// CPU time spent so far; the kernel counts it in hundredths of a second.
    pub fn cpu(&self) -> Duration {
        let stat = self.procfs("stat");
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    /// Resident memory in KiB.
    pub fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most resident memory so far, in KiB.
    pub fn peak(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> u64 {
        let status = self.procfs("status");
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let line = line.unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// How many files it has open.
    pub fn open_files(&self) -> usize {
        let files = fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        files.expect("the exporter lives").count()
    }

    fn procfs(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("the exporter lives")
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that comes again and again and keeps its connection, as Prometheus does: where that has ended
/// before the answer began, it asks once more on a new one.
pub struct Scraper {
    address: SocketAddr,
    connection: Connection,
    /// How often it had to connect again.
    pub reconnected: usize,
}

impl Scraper {
    pub fn scrape(&mut self) -> Page {
        let mut scrape = || {
            self.connection.send(WHOLE_REQUEST)?;
            self.connection.answer(true)
        };
        let answer = scrape().unwrap_or_else(|_| {
            self.reconnected += 1;
            self.connection = Connection::open(self.address).unwrap();
            self.connection.get("/metrics")
        });
        answer.page()
    }
}

/// A client's connection, kept alive from request to request.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

/// An answer as it came over the wire.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream: BufReader::new(stream) })
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.request("GET", path)
    }

    pub fn request(&mut self, method: &str, path: &str) -> Answer {
        self.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
        self.answer(method != "HEAD").unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    pub fn answer(&mut self, with_body: bool) -> io::Result<Answer> {
        let mut line = || {
            let mut line = String::new();
            match self.stream.read_line(&mut line)? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                _ => Ok::<_, io::Error>(line.trim_end().to_owned()),
            }
        };
        let status_line = line()?;
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut headers = BTreeMap::new();
        loop {
            let header = line()?;
            let Some((name, value)) = header.split_once(':') else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = match with_body {
            true => headers.get("content-length").expect("a Content-Length").parse().unwrap(),
            false => 0,
        };
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        let status = status.unwrap_or_else(|| panic!("no status in {status_line:?}"));
        Ok(Answer { status, headers, body: String::from_utf8(body).unwrap() })
    }
}

impl Answer {
    pub fn page(self) -> Page {
        assert_eq!(self.status, 200, "{self:?}");
        Page::read(&self.body)
    }
}

/// The samples of a page by name and labels, as the page has them.
pub struct Page(pub BTreeMap<String, f64>);

impl Page {
    pub fn read(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line:?}"));
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("no value: {line:?}")))
        });
        Page(samples.collect())
    }

    pub fn value(&self, name: &str) -> f64 {
        *self.0.get(name).unwrap_or_else(|| panic!("no sample {name} on the page"))
    }
}

/// A clock that a test sets: `Exporter::on_another_system` takes its path as `CLOCK`.
pub struct Clock(PathBuf);

impl Clock {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("clock-{}-{number}", std::process::id());
        Clock(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    pub fn path(&self) -> &str {
        self.0.to_str().expect("its path is text")
    }

    /// Sets it to a Unix time, from which it goes on.
    pub fn set(&self, seconds: i64) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.advance(seconds - now.unwrap().as_secs() as i64);
    }

    /// Lets it be so many seconds ahead of the machine's.
    pub fn advance(&self, seconds: i64) {
        // Whoever reads it meanwhile finds it whole.
        let new = self.0.with_extension("new");
        fs::write(&new, seconds.to_string()).unwrap();
        fs::rename(new, &self.0).unwrap();
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Calls `attempt` until it gives something; fails where it does not within `limit`.
pub fn within<T>(limit: Duration, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        thread::sleep(Duration::from_millis(10));
    }
}
