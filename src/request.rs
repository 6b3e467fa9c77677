//! A request as a client sends it: its head, read strictly by RFC 9112.
//!
//! What is no such head is refused with the code that fits. Only three things are lenient, as the RFC
//! allows: lines may end in LF alone (2.2), a later HTTP/1.x is taken for 1.1 (2.3), and a target may
//! be absolute (3.2.2) or have letters percent-encoded (RFC 3986, 6.2.2.2).

use std::str;

use tiny_http::{HTTPVersion, Method};

/// The longest head that is read, in bytes.
pub const LONGEST_HEAD: usize = 16 << 10;

pub struct Request {
    pub method: Method,
    /// The path and the query, as in `/metrics?name=x`; `*` or an authority where the method has that.
    pub target: String,
    /// 1.0 or 1.1.
    pub version: HTTPVersion,
    /// Whether the client wants to send another request on this connection.
    pub is_kept_alive: bool,
    /// How many bytes the head has.
    pub head: usize,
    /// How many bytes of body follow it; `None` where that is not said, or where the client sends
    /// them only if it is told to go on.
    pub body: Option<usize>,
}

/// The status code of a request that is not understood, and a line of text that says why.
pub struct Refusal(pub u16, pub &'static str);

const TOO_LONG: Refusal = Refusal(431, "The head has more than 16384 bytes.\n");
const TOO_LONG_A_TARGET: Refusal = Refusal(414, "The first line has more than 16384 bytes.\n");
const NOT_TEXT: Refusal = Refusal(
    400,
    "The head is not text: this is plain HTTP, without TLS.\n",
);
const BAD_LINE: Refusal = Refusal(400, "The first line is not 'METHOD TARGET HTTP/1.1'.\n");
const BAD_TARGET: Refusal = Refusal(
    400,
    "The target is neither a path nor an http:// address.\n",
);
const BAD_VERSION: Refusal = Refusal(505, "Only HTTP/1.0 and HTTP/1.1 are spoken here.\n");
const BAD_HEADER: Refusal = Refusal(400, "A header line is not 'Name: value'.\n");
const BAD_HOST: Refusal = Refusal(400, "There must be one Host header.\n");
const BAD_LENGTH: Refusal = Refusal(400, "It is not clear how long the body is.\n");
const BAD_CODING: Refusal = Refusal(501, "Only the transfer coding 'chunked' is known here.\n");

/// Reads the request that these bytes begin with; `None` where its head is not there whole yet. Empty
/// lines before a request are the caller's to leave out.
pub fn read(bytes: &[u8]) -> Result<Option<Request>, Refusal> {
    let mut lines = Vec::with_capacity(8);
    let mut head = 0;
    let mut is_whole = false;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        head += line.len();
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text
            .iter()
            .any(|byte| byte.is_ascii_control() && *byte != b'\t')
        {
            return Err(NOT_TEXT);
        }
        is_whole = text.is_empty() && line.ends_with(b"\n");
        if is_whole {
            break;
        }
        lines.push(text);
    }
    if head > LONGEST_HEAD {
        let first_is_longer = lines[0].len() >= LONGEST_HEAD;
        return Err(if first_is_longer {
            TOO_LONG_A_TARGET
        } else {
            TOO_LONG
        });
    }
    match lines.split_first() {
        Some((first, headers)) if is_whole => understand(first, headers, head).map(Some),
        _ => Ok(None),
    }
}

fn understand(first: &[u8], headers: &[&[u8]], head: usize) -> Result<Request, Refusal> {
    let mut words = first.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(BAD_LINE);
    };
    let version = match version.strip_prefix(b"HTTP/") {
        Some(b"1.0") => HTTPVersion(1, 0),
        Some([b'1', b'.', b'0'..=b'9']) => HTTPVersion(1, 1),
        Some([b'0'..=b'9', b'.', b'0'..=b'9']) => return Err(BAD_VERSION),
        _ => return Err(BAD_LINE),
    };
    let method = token(method).ok_or(BAD_LINE)?;
    let method: Method = method.parse().map_err(|()| BAD_LINE)?;
    let target = str::from_utf8(target).map_err(|_| BAD_TARGET)?;
    let target = local(&method, target).ok_or(BAD_TARGET)?;

    let mut hosts = 0;
    let (mut closes, mut keeps_alive) = (false, false);
    let (mut length, mut is_chunked, mut waits) = (None, false, false);
    for header in headers {
        // A line that begins with a blank, which went on the line before once, is refused (5.2).
        let colon = header.iter().position(|byte| *byte == b':');
        let (name, value) = header.split_at(colon.ok_or(BAD_HEADER)?);
        let name = token(name).ok_or(BAD_HEADER)?;
        let value = value[1..].trim_ascii();
        let is = |known| name.eq_ignore_ascii_case(known);
        if is("Host") {
            hosts += 1;
        } else if is("Connection") {
            for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                closes |= option.eq_ignore_ascii_case(b"close");
                keeps_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if is("Content-Length") {
            let said = number(value).ok_or(BAD_LENGTH)?;
            if length.replace(said).is_some_and(|before| before != said) {
                return Err(BAD_LENGTH);
            }
        } else if is("Transfer-Encoding") {
            is_chunked = value.eq_ignore_ascii_case(b"chunked");
            if !is_chunked {
                return Err(BAD_CODING);
            }
        } else if is("Expect") {
            waits = value.eq_ignore_ascii_case(b"100-continue") && version == (1, 1);
        }
    }
    // Where both are said, one of them was smuggled in (6.3).
    if is_chunked && length.is_some() {
        return Err(BAD_LENGTH);
    }
    if hosts > 1 || (hosts == 0 && version == (1, 1)) {
        return Err(BAD_HOST);
    }
    Ok(Request {
        is_kept_alive: !closes && (keeps_alive || version == (1, 1)),
        method,
        target,
        version,
        head,
        body: match is_chunked || waits {
            true => None,
            false => Some(length.unwrap_or(0)),
        },
    })
}

/// A word as names and methods are (RFC 9110, 5.6.2).
fn token(word: &[u8]) -> Option<&str> {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let is_token = !word.is_empty() && word.iter().all(is_allowed);
    str::from_utf8(word).ok().filter(|_| is_token)
}

/// A whole number; the largest where there is no room for it.
fn number(digits: &[u8]) -> Option<usize> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let digits = str::from_utf8(digits).ok().filter(|_| is_number)?;
    Some(digits.parse().unwrap_or(usize::MAX))
}

/// What a target names on this server; `None` where it has no form that its method may have (3.2).
fn local(method: &Method, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return Some(decoded(target));
    }
    if let Some((scheme, rest)) = target.split_once("://") {
        let is_http = ["http", "https"]
            .iter()
            .any(|http| scheme.eq_ignore_ascii_case(http));
        let path = rest.find(['/', '?']).map_or("", |end| &rest[end..]);
        // Without a path it is the root's.
        let path = if path.starts_with('/') { path } else { "/" };
        return is_http.then(|| decoded(path));
    }
    let is_fine = match method {
        Method::Options => target == "*",
        Method::Connect => !target.is_empty(),
        _ => false,
    };
    is_fine.then(|| target.to_owned())
}

/// The target with each character decoded that means the same either way: letters, digits and `-._~`.
fn decoded(target: &str) -> String {
    let mut parts = target.split('%');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte.map(char::from) {
            Some(c) if c.is_ascii_alphanumeric() || "-._~".contains(c) => {
                decoded.push(c);
                decoded.push_str(&part[2..]);
            }
            _ => {
                decoded.push('%');
                decoded.push_str(part);
            }
        }
    }
    decoded
}
