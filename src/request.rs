//! Parses the head of a request: its request line and headers, as HTTP/1.1 defines them. Numbers in parentheses are
//! sections of RFC 9112.

use std::io::{BufRead, Read};
use std::time::Duration;

/// How long a request may take from its first byte to its last.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum length of a head, with the empty lines before it.
const MAX_HEAD_BYTES: u64 = 16 << 10;
const NOT_TEXT: &str = "This isn't text: the server speaks plain HTTP.";
const BAD_VERSION: &str = "The server speaks only HTTP/1.0 and HTTP/1.1.";
const BAD_REQUEST_LINE: &str = "The first line isn't 'METHOD TARGET HTTP/1.1'.";

#[derive(Debug)]
pub struct Request {
    pub method: String,
    /// The path without the query, such as `/metrics`, or another form of target, such as `*`.
    pub path: String,
    /// Whether the connection ends after the response: if the client asks for it, or announces a body, which the
    /// server doesn't read.
    pub close: bool,
}

/// Why the server refuses a request: the status code, and a sentence for the client.
#[derive(Debug)]
pub struct RequestError {
    pub status: u16,
    pub message: String,
}

fn error(status: u16, message: impl Into<String>) -> RequestError {
    RequestError { status, message: message.into() }
}

/// Reads the next request's head, and no byte after it. `head` keeps the bytes.
pub fn read(reader: &mut impl BufRead, head: &mut Vec<u8>) -> Result<Request, RequestError> {
    head.clear();
    // 0x16 starts a TLS record; no newline will follow.
    if matches!(reader.fill_buf(), Ok([0x16, ..])) {
        return Err(error(400, NOT_TEXT));
    }
    let mut reader = reader.by_ref().take(MAX_HEAD_BYTES);
    loop {
        let start = head.len();
        let read = reader.read_until(b'\n', head);
        read.map_err(|_| error(408, format!("The request wasn't complete after {} s.", REQUEST_TIMEOUT.as_secs())))?;
        match &head[start..] {
            // A line may end in LF alone, and empty lines may precede a request (2.2).
            b"\r\n" | b"\n" if start == 0 => head.clear(),
            b"\r\n" | b"\n" => return parse_head(&String::from_utf8_lossy(head)),
            [.., b'\n'] => {}
            _ if reader.limit() == 0 => return Err(error(431, format!("The head exceeds {MAX_HEAD_BYTES} bytes."))),
            _ => return Err(error(400, "The request ends within its head.")),
        }
    }
}

fn parse_head(head: &str) -> Result<Request, RequestError> {
    let mut lines = head.lines().take_while(|line| !line.is_empty());
    if lines.clone().any(|line| line.contains(|c: char| c.is_ascii_control() && c != '\t')) {
        return Err(error(400, NOT_TEXT));
    }
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let (method, target, version) = match words[..] {
        [method, target, version] if is_token(method) && !target.is_empty() => (method, target, version),
        _ => return Err(error(400, BAD_REQUEST_LINE)),
    };
    let mut close = match version.strip_prefix("HTTP/").map(str::as_bytes) {
        Some(b"1.0") => true,
        // The server treats a later HTTP/1.x as HTTP/1.1 (2.3).
        Some([b'1', b'.', b'1'..=b'9']) => false,
        Some([b'0'..=b'9', b'.', b'0'..=b'9']) => return Err(error(505, BAD_VERSION)),
        _ => return Err(error(400, BAD_REQUEST_LINE)),
    };
    for line in lines {
        // A space before the name or the colon could hide a header from a proxy (5.1, 5.2).
        let header = line.split_once(':').filter(|(name, _)| is_token(name));
        let (name, value) = header.ok_or_else(|| error(400, "A header line isn't 'Name: value'."))?;
        let is = |text: &str, known| text.trim().eq_ignore_ascii_case(known);
        close |= is(name, "Connection") && value.split(',').any(|option| is(option, "close"))
            || is(name, "Content-Length") && value.trim() != "0"
            || is(name, "Transfer-Encoding");
    }
    let target = target.split('?').next().unwrap_or_default();
    // In an absolute target, the server's name is dropped (3.2.2).
    let path = match target.split_once("://") {
        Some((scheme, rest)) if ["http", "https"].contains(&&*scheme.to_ascii_lowercase()) => {
            rest.find('/').map_or("/", |path| &rest[path..])
        }
        _ => target,
    };
    Ok(Request { method: method.to_owned(), path: path.to_owned(), close })
}

/// Whether a word is a token, such as a method or a header's name (RFC 9110, 5.6.2).
fn is_token(word: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !word.is_empty() && word.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn read_text(text: &str) -> Result<Request, RequestError> {
        read(&mut Cursor::new(text), &mut Vec::new())
    }

    #[test]
    fn mistakes_get_a_status_and_a_sentence() {
        let mistakes = [
            ("GET /metrics\r\n\r\n", 400),
            ("GET  /metrics HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /metrics HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
            ("GET /me trics HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("G(T /metrics HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (" /metrics HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /metrics HTTQ/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /metrics http/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /metrics HTTP/1.10\r\nHost: a\r\n\r\n", 400),
            ("GET /metrics HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400),
            ("GET /metrics HTTP/1.1\r\nHost : a\r\n\r\n", 400),
            ("GET /metrics HTTP/1.1\r\n: a\r\n\r\n", 400),
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
            ("GET /metrics HTTP/1.1\r\nHost: a\rb\r\n\r\n", 400),
            ("GET /metrics HTTP/1.1\r\nHost: a\0\r\n\r\n", 400),
            ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}", 400),
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n", 400),
            ("GET /metrics HTTP/1.1\r\nHost: a", 400),
            ("GET /metrics HTTP/0.9\r\n\r\n", 505),
            ("GET /metrics HTTP/9.9\r\n\r\n", 505),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ];
        for (text, status) in mistakes {
            let error = read_text(text).expect_err(text);
            assert_eq!(error.status, status, "{text:?}: {error:?}");
            assert!(error.message.ends_with('.') && error.message.lines().count() == 1, "{error:?}");
        }
    }

    #[test]
    fn a_head_may_have_16384_bytes_with_the_empty_lines_before_it() {
        let head = |length: usize, start: &str| {
            let head = format!("{start}GET / HTTP/1.1\r\nHost: a\r\nA: \r\n\r\n");
            head.replace("A: ", &format!("A: {}", "x".repeat(length - head.len())))
        };
        for start in ["", "\r\n\n\r\n"] {
            read_text(&head(16_384, start)).unwrap();
            assert_eq!(read_text(&head(16_385, start)).unwrap_err().status, 431);
        }
        for endless in ["\r\n", "\n", "A: b\r\n", "x"] {
            let text = format!("GET / HTTP/1.1\r\n{}", endless.repeat(20_000));
            let text = if endless.trim().is_empty() { &text[16..] } else { &text };
            let error = read_text(text).unwrap_err();
            assert_eq!((error.status, error.message.as_str()), (431, "The head exceeds 16384 bytes."), "{endless:?}");
        }
    }

    #[test]
    fn the_path_is_the_target_without_a_server_and_a_query() {
        for (target, path) in [
            ("/metrics", "/metrics"),
            ("/%6detrics", "/%6detrics"),
            ("http://localhost/metrics", "/metrics"),
            ("HTTP://localhost:5000/metrics?name[]=x", "/metrics"),
            ("https://localhost", "/"),
            ("http://localhost?x", "/"),
            ("/metrics?x=http://y/z", "/metrics"),
            ("ftp://a/metrics", "ftp://a/metrics"),
            ("*", "*"),
            ("localhost:5000", "localhost:5000"),
        ] {
            let request = read_text(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).unwrap();
            assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", path));
        }
    }

    #[test]
    fn the_client_decides_whether_the_connection_ends_unless_it_sends_a_body() {
        for (version, header, close) in [
            ("1.1", "", false),
            ("1.7", "", false),
            ("1.0", "", true),
            ("1.0", "Connection: keep-alive\r\n", true),
            ("1.1", "Connection: keep-alive\r\n", false),
            ("1.1", "Connection: close\r\n", true),
            ("1.1", "Connection: TE\r\nconnection: x , CLOSE\r\n", true),
            ("1.1", "X-Connection: close\r\n", false),
            ("1.1", "Content-Length: 0\r\n", false),
            ("1.1", "Content-Length: 1\r\n", true),
            ("1.1", "Content-Length: 0\r\ncontent-length: 44\r\n", true),
            ("1.1", "Content-Length: -1\r\n", true),
            ("1.1", "Content-Length:\r\n", true),
            ("1.1", "Transfer-Encoding: gzip, chunked\r\n", true),
            ("1.1", "hOST:a\r\nX: \u{fc}\u{e9}\t!\r\n!#$%&'*+-.^_`|~09azAZ:\r\n", false),
        ] {
            let request = read_text(&format!("POST / HTTP/{version}\r\n{header}\r\n")).unwrap();
            assert_eq!(request.close, close, "HTTP/{version} {header:?}");
        }
    }

    #[test]
    fn lines_may_end_in_lf_and_the_next_request_stays_in_the_reader() {
        // 0xfc isn't UTF-8. Old clients send it in headers.
        let mut reader = Cursor::new(b"\r\nGET /1 HTTP/1.1\nHost: a\n\nGET /2 HTTP/1.1\r\nX: \xfc\r\n\r\nrest");
        let mut head = Vec::new();
        for path in ["/1", "/2"] {
            assert_eq!(read(&mut reader, &mut head).unwrap().path, path);
            assert!(head.starts_with(b"GET "));
        }
        assert_eq!(reader.fill_buf().unwrap(), b"rest");
    }

    #[test]
    fn the_readme_names_the_limits() {
        let readme = include_str!("README.md");
        let (seconds, bytes) = (REQUEST_TIMEOUT.as_secs(), MAX_HEAD_BYTES);
        let limits = format!("408 (not complete after {seconds} s), 431 (a head of more than {bytes} bytes)");
        assert!(readme.contains(&limits), "{limits}");
        assert!(readme.contains(&format!("Sending a request may take {seconds} s")));
    }
}
