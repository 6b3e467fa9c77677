//! Helpers for the tests: the program as a child process, and a client that speaks plain HTTP.
//!
//! The environment variable MODELMOCK_PROGRAM names another program to test, such as one for Windows, and
//! MODELMOCK_RUNNER the command that runs it, such as wine.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// A scrape, as a client sends it.
pub const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// How long a test waits before it fails. On a busy machine, a program in wine or qemu needs many seconds.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// The command that runs the program with these arguments, after a shell has run `setup`.
pub fn command(setup: &str, arguments: &[&str]) -> Command {
    let runner = env::var("MODELMOCK_RUNNER").unwrap_or_default();
    let program = env::var("MODELMOCK_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_modelmock").to_owned());
    let mut words: Vec<&str> = runner.split_whitespace().chain([program.as_str()]).collect();
    let script = format!("{setup}; exec \"$0\" \"$@\"");
    if !setup.is_empty() {
        words.splice(0..0, ["sh", "-c", &script]);
    }
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    reset_signals(&mut command);
    command
}

/// A shell ignores SIGINT in commands that it starts with `&`, and nohup ignores SIGHUP. A child inherits that.
#[cfg(unix)]
fn reset_signals(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    unsafe extern "C" {
        fn signal(number: i32, handler: usize) -> usize;
    }
    let reset = || {
        for number in [1, 2, 15] {
            // SAFETY: signal() may be called between fork and exec, and 0 is SIG_DFL.
            unsafe { signal(number, 0) };
        }
        Ok(())
    };
    // SAFETY: the function only calls signal().
    unsafe { command.pre_exec(reset) };
}

#[cfg(not(unix))]
fn reset_signals(_: &mut Command) {}

/// Starts a command, and returns it with its output and the first line of that.
fn spawn_once(command: &mut Command) -> (Child, BufReader<ChildStdout>, String) {
    let mut child = command.spawn().expect("the exporter starts");
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    stdout.read_line(&mut first).expect("a first line");
    (child, stdout, first)
}

/// A running exporter; it is killed when dropped.
pub struct Exporter {
    child: Child,
    pub address: SocketAddr,
    /// Standard output after the first line.
    pub stdout: BufReader<ChildStdout>,
    stderr: Arc<Mutex<String>>,
}

impl Exporter {
    /// Starts it on a free port of the loopback address.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_after("", arguments)
    }

    /// Starts it after a shell has run `setup`, such as `ulimit -n 24`.
    pub fn start_after(setup: &str, arguments: &[&str]) -> Self {
        Self::spawn(command(setup, &[&["--listen", "127.0.0.1:0"], arguments].concat()))
    }

    /// Starts a command and waits for the line that names the address.
    pub fn spawn(mut command: Command) -> Self {
        let (mut child, mut stdout, mut first) = spawn_once(&mut command);
        // Wine itself crashed at two of some 520 starts.
        if first.is_empty() && env::var_os("MODELMOCK_RUNNER").is_some() {
            (child, stdout, first) = spawn_once(&mut command);
        }
        let address = first.split("http://").nth(1).and_then(|rest| rest.split('/').next());
        let address = address.and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("the first line names no address: {first:?}"));
        let stderr = Arc::new(Mutex::new(String::new()));
        if let Some(errors) = child.stderr.take() {
            let seen = Arc::clone(&stderr);
            thread::spawn(move || {
                for line in BufReader::new(errors).lines().map_while(Result::ok) {
                    seen.lock().unwrap().push_str(&(line + "\n"));
                }
            });
        }
        Exporter { child, address, stdout, stderr }
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.address).expect("the exporter accepts a connection")
    }

    /// A client with a kept-alive connection, after its first scrape.
    pub fn scraper(&self) -> Scraper {
        let mut scraper = Scraper { address: self.address, connection: self.connect(), reconnected: 0 };
        scraper.scrape();
        scraper
    }

    /// Scrapes once over a new connection.
    pub fn scrape(&self) -> Page {
        self.connect().get("/metrics").page()
    }

    /// What the exporter has printed on standard error.
    pub fn errors(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    pub fn signal(&self, name: &str) {
        signal(name, self.child.id());
    }

    /// Sends a signal to the only child of the process that was started.
    pub fn signal_child(&self, name: &str) {
        let children = self.procfs(&format!("task/{}/children", self.child.id()));
        signal(name, children.trim().parse().expect("one child"));
    }

    /// Waits until the process ends; fails if it doesn't.
    pub fn wait(&mut self) -> ExitStatus {
        wait_until(TIMEOUT, "the end", || self.child.try_wait().unwrap())
    }

    /// User and system CPU time; the kernel counts it in hundredths of a second.
    pub fn cpu(&self) -> [Duration; 2] {
        let stat = self.procfs("stat");
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        [11, 12].map(|index| Duration::from_millis(fields[index].parse::<u64>().unwrap() * 10))
    }

    /// A value of /proc/PID/status: VmRSS is the memory in RAM, VmHWM its peak, both in KiB.
    pub fn status(&self, field: &str) -> u64 {
        let status = self.procfs("status");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap()
    }

    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("the exporter runs").count()
    }

    fn procfs(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("the exporter runs")
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(name: &str, process: u32) {
    // Every shell has kill as a builtin; some systems lack the program of that name.
    let script = format!("kill -s {name} {process}");
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
}

/// A client that keeps its connection, as Prometheus does. If that has ended, it connects again.
pub struct Scraper {
    address: SocketAddr,
    connection: Connection,
    pub reconnected: usize,
}

impl Scraper {
    pub fn scrape(&mut self) -> Page {
        let sent = self.connection.send(REQUEST);
        let response = sent.and_then(|()| self.connection.response(true)).unwrap_or_else(|_| {
            self.reconnected += 1;
            self.connection = Connection::open(self.address).unwrap();
            self.connection.get("/metrics")
        });
        response.page()
    }
}

/// A client's connection.
pub struct Connection(BufReader<TcpStream>);

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Connection(BufReader::new(stream)))
    }

    pub fn get(&mut self, path: &str) -> Response {
        self.request("GET", path)
    }

    pub fn request(&mut self, method: &str, path: &str) -> Response {
        let sent = self.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        let response = sent.and_then(|()| self.response(method != "HEAD"));
        response.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    pub fn response(&mut self, has_body: bool) -> io::Result<Response> {
        let mut line = || {
            let mut line = String::new();
            match self.0.read_line(&mut line)? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                _ => Ok::<_, io::Error>(line.trim_end().to_owned()),
            }
        };
        let status_line = line()?;
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status in {status_line:?}"));
        let mut headers = BTreeMap::new();
        while let Some((name, value)) = line()?.split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = if has_body { headers["content-length"].parse().unwrap() } else { 0 };
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(Response { status, headers, body: String::from_utf8(body).unwrap() })
    }
}

impl Response {
    pub fn page(self) -> Page {
        assert_eq!(self.status, 200, "{self:?}");
        let samples = self.body.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line:?}"));
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("no value: {line:?}")))
        };
        Page(samples.map(sample).collect())
    }
}

/// The samples of a page by name and labels, as the page writes them.
pub struct Page(pub BTreeMap<String, f64>);

impl Page {
    pub fn value(&self, name: &str) -> f64 {
        *self.0.get(name).unwrap_or_else(|| panic!("the page lacks {name}"))
    }
}

/// Repeats `attempt` until it returns something; fails after `limit`.
pub fn wait_until<T>(limit: Duration, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        thread::sleep(Duration::from_millis(5));
    }
}
