//! A request's head, as HTTP/1.1 has it (RFC 9112). What is no such head is refused.

use std::io::{BufRead, Read};

/// The longest head that is read, in bytes.
const LONGEST_HEAD: u64 = 16 << 10;

pub struct Request {
    pub method: String,
    /// The path and the query, as in `/metrics?name=x`.
    pub target: String,
    /// Whether the connection ends with its answer: the client says so, or announces a body, which
    /// nobody reads.
    pub is_last: bool,
}

/// The status code of a request that is not understood, and a line of text that says why.
pub struct Refusal(pub u16, pub &'static str);

const TOO_SLOW: Refusal = Refusal(408, "The request was not there whole within 5 s.\n");
const TOO_LONG: Refusal = Refusal(431, "The head has more than 16384 bytes.\n");
const CUT: Refusal = Refusal(400, "The request ends within its head.\n");
const NO_TEXT: Refusal = Refusal(400, "This is not text: plain HTTP is spoken here.\n");
const BAD_LINE: Refusal = Refusal(400, "The first line is not 'METHOD TARGET HTTP/1.1'.\n");
const BAD_VERSION: Refusal = Refusal(505, "Only HTTP/1.0 and HTTP/1.1 are spoken here.\n");
const BAD_HEADER: Refusal = Refusal(400, "A header line is not 'Name: value'.\n");

/// Reads the next request's head into `head`, and nothing behind it.
pub fn read(inbox: &mut impl BufRead, head: &mut Vec<u8>) -> Result<Request, Refusal> {
    head.clear();
    // So TLS begins, which has no line to wait for.
    if matches!(inbox.fill_buf(), Ok([0x16, ..])) {
        return Err(NO_TEXT);
    }
    let mut inbox = inbox.by_ref().take(LONGEST_HEAD);
    loop {
        let begin = head.len();
        inbox.read_until(b'\n', head).map_err(|_| TOO_SLOW)?;
        match &head[begin..] {
            // A line may end in LF alone (2.2).
            b"\r\n" | b"\n" => return understand(&String::from_utf8_lossy(head)),
            [.., b'\n'] => {}
            _ if inbox.limit() == 0 => return Err(TOO_LONG),
            _ => return Err(CUT),
        }
    }
}

fn understand(head: &str) -> Result<Request, Refusal> {
    let mut lines = head.lines().take_while(|line| !line.is_empty());
    let is_text = |line: &str| !line.contains(|c: char| c.is_ascii_control() && c != '\t');
    if !lines.clone().all(is_text) {
        return Err(NO_TEXT);
    }
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, version] = words[..] else {
        return Err(BAD_LINE);
    };
    let mut is_last = match version.strip_prefix("HTTP/").map(str::as_bytes) {
        Some(b"1.0") => true,
        // A later HTTP/1.x is taken for 1.1 (2.3).
        Some([b'1', b'.', b'1'..=b'9']) => false,
        Some([b'0'..=b'9', b'.', b'0'..=b'9']) => return Err(BAD_VERSION),
        _ => return Err(BAD_LINE),
    };
    if !is_token(method) || target.is_empty() {
        return Err(BAD_LINE);
    }
    for line in lines {
        // A blank before the name or the colon would hide a header from others (5.1, 5.2).
        let header = line.split_once(':').filter(|(name, _)| is_token(name));
        let (name, value) = header.ok_or(BAD_HEADER)?;
        let is = |text: &str, known| text.trim().eq_ignore_ascii_case(known);
        is_last |= is(name, "Connection") && value.split(',').any(|option| is(option, "close"))
            || is(name, "Content-Length") && value.trim() != "0"
            || is(name, "Transfer-Encoding");
    }
    // A target may be absolute (3.2.2): what names the server goes.
    let target = match target.split_once("://") {
        Some((scheme, rest)) if ["http", "https"].contains(&&*scheme.to_ascii_lowercase()) => {
            rest.find(['/', '?']).map_or("/", |path| &rest[path..])
        }
        _ => target,
    };
    Ok(Request {
        method: method.to_owned(),
        target: target.to_owned(),
        is_last,
    })
}

/// Whether a word is one as names and methods are (RFC 9110, 5.6.2).
fn is_token(word: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !word.is_empty() && word.bytes().all(is_allowed)
}
