//! Parses the head of a request: its request line and headers, as HTTP/1.1 defines them. Numbers in parentheses are
//! sections of RFC 9112.

use std::io::{BufRead, Read, Take};
use std::net::Ipv6Addr;
use std::time::Duration;

/// How long a client may take to send a request, and to read its response.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum length of a head, with the empty lines before it.
const MAX_HEAD_BYTES: u64 = 16 << 10;
const NOT_TEXT: &str = "This is TLS or binary: use http://.";
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
    let mut request = loop {
        match read_line(&mut reader, head)? {
            // Empty lines may precede a request (2.2).
            b"\r\n" | b"\n" => head.clear(),
            // Answer a wrong first line at once: the client of another protocol may wait for a reply to it.
            line => break parse_request_line(&text_of(line)?)?,
        }
    };
    let headers_start = head.len();
    while !matches!(read_line(&mut reader, head)?, b"\r\n" | b"\n") {}
    request.close |= parse_headers(text_of(&head[headers_start..])?.lines())?;
    Ok(request)
}

/// Reads a line with its end, which may be LF alone (2.2), and appends it to `head`.
fn read_line<'a>(reader: &mut Take<impl BufRead>, head: &'a mut Vec<u8>) -> Result<&'a [u8], RequestError> {
    let start = head.len();
    let read = reader.read_until(b'\n', head);
    read.map_err(|_| error(408, format!("The request wasn't complete after {} s.", REQUEST_TIMEOUT.as_secs())))?;
    match &head[start..] {
        line @ [.., b'\n'] => Ok(line),
        _ if reader.limit() == 0 => Err(error(431, format!("The head exceeds {MAX_HEAD_BYTES} bytes."))),
        _ => Err(error(400, "The request ends within its head.")),
    }
}

/// The text of a line, or of lines. Bytes that aren't UTF-8 are replaced.
fn text_of(bytes: &[u8]) -> Result<String, RequestError> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let is_binary = |line: &str| line.contains(|c: char| c.is_ascii_control() && c != '\t');
    if text.lines().any(is_binary) { Err(error(400, NOT_TEXT)) } else { Ok(text) }
}

fn parse_request_line(line: &str) -> Result<Request, RequestError> {
    let words: Vec<&str> = line.trim_end_matches(['\r', '\n']).split(' ').collect();
    let (method, target, version) = match words[..] {
        [method, target, version] if is_token(method) && !target.is_empty() => (method, target, version),
        _ => return Err(error(400, BAD_REQUEST_LINE)),
    };
    let close = match version.strip_prefix("HTTP/").map(str::as_bytes) {
        Some(b"1.0") => true,
        // The server treats a later HTTP/1.x as HTTP/1.1 (2.3).
        Some([b'1', b'.', b'1'..=b'9']) => false,
        Some([b'0'..=b'9', b'.', b'0'..=b'9']) => return Err(error(505, BAD_VERSION)),
        _ => return Err(error(400, BAD_REQUEST_LINE)),
    };
    let target = target.split('?').next().unwrap_or_default();
    // In an absolute target, the server's name is dropped (3.2.2).
    let path = match target.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") => {
            rest.find('/').map_or("/", |path| &rest[path..])
        }
        _ => target,
    };
    Ok(Request { method: method.to_owned(), path: path.to_owned(), close })
}

/// Whether the connection ends after the response, because a header asks for it or announces a body.
/// A body whose length isn't clear could hide a request from a proxy, so it is an error (6.3).
fn parse_headers<'a>(lines: impl Iterator<Item = &'a str>) -> Result<bool, RequestError> {
    let mut close = false;
    let mut has_host = false;
    let mut length: Option<&str> = None;
    let mut codings = Vec::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        // A space before the name or the colon could hide a header from a proxy (5.1, 5.2).
        let header = line.split_once(':').filter(|(name, _)| is_token(name));
        let (name, value) = header.ok_or_else(|| error(400, "A header line isn't 'Name: value'."))?;
        let elements = || value.split(',').map(trim);
        match name.to_ascii_lowercase().as_str() {
            "connection" => close |= elements().any(|option| option.eq_ignore_ascii_case("close")),
            "host" => {
                if has_host || !is_host(trim(value)) {
                    return Err(error(400, "The request has a second Host header or an invalid one."));
                }
                has_host = true;
            }
            "content-length" => {
                for element in elements() {
                    let is_number = !element.is_empty() && element.bytes().all(|byte| byte.is_ascii_digit());
                    // A length may have more digits than any type of number.
                    let number = element.trim_start_matches('0');
                    if !is_number || length.is_some_and(|length| length != number) {
                        return Err(error(400, "Content-Length isn't one whole number."));
                    }
                    length = Some(number);
                }
            }
            "transfer-encoding" => codings.push(value),
            _ => {}
        }
    }
    if !codings.is_empty() {
        let codings = codings.join(",");
        // Empty elements of a list don't count (RFC 9110, 5.6.1).
        let codings: Vec<&str> = codings.split(',').map(trim).filter(|coding| !coding.is_empty()).collect();
        let first_chunked = codings.iter().position(|coding| coding.eq_ignore_ascii_case("chunked"));
        if first_chunked.is_none_or(|index| index + 1 < codings.len()) {
            return Err(error(400, "Transfer-Encoding doesn't end with its only 'chunked'."));
        }
    }
    let has_body = !codings.is_empty() || length.is_some_and(|length| !length.is_empty());
    Ok(close || has_body)
}

/// Removes the space around a value: only spaces and tabs count (RFC 9110, 5.6.3).
fn trim(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}

/// Whether a value is a host with an optional port (RFC 9110, 7.2; RFC 3986, 3.2.2). It may be empty.
fn is_host(value: &str) -> bool {
    let (host, port) = match value.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (value, ""),
    };
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    if let Some(address) = host.strip_prefix('[') {
        return address.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    let mut parts = host.split('%');
    let is_name =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte));
    // Two hexadecimal digits follow each percent sign.
    parts.next().is_some_and(is_name)
        && parts.all(|part| part.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2 && is_name(part))
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
            ("GET /metrics\r\n", 400),
            ("SSH-2.0-x\r\n", 400),
            ("GET /metrics HTTP/1.1\0\r\n", 400),
            ("PRI * HTTP/2.0\r\n", 505),
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
            ("1.1", "Content-Length: 00\r\ncontent-length:0 \t,0\r\n", false),
            ("1.1", "Content-Length: 44\r\ncontent-length: 044\r\n", true),
            ("1.1", "Content-Length: 99999999999999999999999\r\n", true),
            ("1.1", "Connection:\u{a0}close\r\n", false),
            ("1.1", "Transfer-Encoding: gzip, chunked\r\n", true),
            ("1.1", "Transfer-Encoding: gzip\r\ntransfer-encoding:CHUNKED ,\r\n", true),
            ("1.1", "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", true),
            ("1.1", "hOST:a\r\nX: \u{fc}\u{e9}\t!\r\n!#$%&'*+-.^_`|~09azAZ:\r\n", false),
        ] {
            let request = read_text(&format!("POST / HTTP/{version}\r\n{header}\r\n")).unwrap();
            assert_eq!(request.close, close, "HTTP/{version} {header:?}");
        }
    }

    #[test]
    fn a_body_without_a_clear_length_is_refused() {
        for header in [
            "Content-Length:",
            "Content-Length: abc",
            "Content-Length: -1",
            "Content-Length: +0",
            "Content-Length: 0x0",
            "Content-Length: 0 0",
            "Content-Length: 0,",
            "Content-Length: 0\u{a0}",
            "Content-Length:\u{a0}0",
            "Content-Length: \u{b2}",
            "Content-Length: 0\r\ncontent-length: 44",
            "Content-Length: 5, 6",
            "Content-Length: x\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding:",
            "Transfer-Encoding: gzip",
            "Transfer-Encoding: identity",
            "Transfer-Encoding: chunked, gzip",
            "Transfer-Encoding: chunked, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip",
            "Transfer-Encoding: \u{a0}chunked",
            "Transfer-Encoding: xchunked",
        ] {
            let error = read_text(&format!("POST / HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n")).expect_err(header);
            assert_eq!(error.status, 400, "{header}");
        }
    }

    #[test]
    fn a_request_has_at_most_one_host_and_that_is_valid() {
        let host = |lines: &str| read_text(&format!("GET / HTTP/1.1\r\n{lines}\r\n"));
        for valid in [
            "",
            "a",
            "localhost:5000",
            "127.0.0.1:5000",
            "[::1]",
            "[::1]:5000",
            "a:",
            " \ta.b-c_d\t ",
            "a%2db",
            "host.docker.internal:5000",
        ] {
            host(&format!("Host:{valid}\r\n")).unwrap_or_else(|error| panic!("{valid:?}: {error:?}"));
        }
        for invalid in [
            "a b", "a,b c", "a/b", "http://a", "u@a", "a:b", "a:1:2", "::1", "[::1", "[a]", "[::1]x", "a%2", "a%zz",
            "\u{a0}a", "\u{e9}", "a\"", "<a>", "a?", "a#",
        ] {
            assert_eq!(host(&format!("Host: {invalid}\r\n")).expect_err(invalid).status, 400);
        }
        assert_eq!(host("Host: a\r\nhost: a\r\n").unwrap_err().status, 400);
        host("").unwrap();
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
        let readme = include_str!("../README.md");
        let (seconds, bytes) = (REQUEST_TIMEOUT.as_secs(), MAX_HEAD_BYTES);
        let limits = format!("408 (not complete after {seconds} s), 431 (a head of more than {bytes} bytes)");
        assert!(readme.contains(&limits), "{limits}");
        assert!(readme.contains(&format!("Sending a request may take {seconds} s")));
    }
}
