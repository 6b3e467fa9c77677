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
    /// The path and the query, such as `/metrics?name=x`.
    pub target: String,
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
    let message = message.into();
    RequestError { status, message }
}

/// Reads the next request's head, and no byte behind it. `head` keeps the bytes.
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
    let [method, target, version] = words[..] else {
        return Err(error(400, BAD_REQUEST_LINE));
    };
    let mut close = match version.strip_prefix("HTTP/").map(str::as_bytes) {
        Some(b"1.0") => true,
        // The server treats a later HTTP/1.x as HTTP/1.1 (2.3).
        Some([b'1', b'.', b'1'..=b'9']) => false,
        Some([b'0'..=b'9', b'.', b'0'..=b'9']) => return Err(error(505, BAD_VERSION)),
        _ => return Err(error(400, BAD_REQUEST_LINE)),
    };
    if !is_token(method) || target.is_empty() {
        return Err(error(400, BAD_REQUEST_LINE));
    }
    for line in lines {
        // A space before the name or the colon could hide a header from a proxy (5.1, 5.2).
        let header = line.split_once(':').filter(|(name, _)| is_token(name));
        let (name, value) = header.ok_or_else(|| error(400, "A header line isn't 'Name: value'."))?;
        let is = |text: &str, known| text.trim().eq_ignore_ascii_case(known);
        close |= is(name, "Connection") && value.split(',').any(|option| is(option, "close"))
            || is(name, "Content-Length") && value.trim() != "0"
            || is(name, "Transfer-Encoding");
    }
    // In an absolute target, the server's name is dropped (3.2.2).
    let target = match target.split_once("://") {
        Some((scheme, rest)) if ["http", "https"].contains(&&*scheme.to_ascii_lowercase()) => {
            rest.find(['/', '?']).map_or("/", |path| &rest[path..])
        }
        _ => target,
    };
    Ok(Request { method: method.to_owned(), target: target.to_owned(), close })
}

/// Whether a word is a token, such as a method or a header's name (RFC 9110, 5.6.2).
fn is_token(word: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !word.is_empty() && word.bytes().all(is_allowed)
}
