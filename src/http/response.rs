//! The response to a request: its choice, and its bytes.

use std::io::{self, Cursor};
use std::time::Duration;

use tiny_http::{HTTPVersion, Header, Response};

use super::request::{Request, RequestError};
use crate::metrics::Metrics;
use crate::text_format::CONTENT_TYPE;

/// Returns the response to a request, or to bytes that aren't one.
pub fn respond(metrics: &Metrics, request: &Result<Request, RequestError>) -> Response<Cursor<Vec<u8>>> {
    let request = match request {
        Ok(request) => request,
        Err(error) => return text(error.status, &error.message),
    };
    match (request.path.as_str(), request.method.as_str()) {
        ("/" | "/metrics", "GET" | "HEAD") => {
            Response::from_data(metrics.render()).with_header(header("Content-Type", CONTENT_TYPE))
        }
        ("/" | "/metrics", _) => {
            text(405, "This path accepts only GET and HEAD.").with_header(header("Allow", "GET, HEAD"))
        }
        _ => text(404, "This path doesn't exist: the metrics are at /metrics."),
    }
}

fn text(status: u16, line: &str) -> Response<Cursor<Vec<u8>>> {
    Response::from_string(format!("{line}\n")).with_status_code(status)
}

/// Encodes a response in one piece, so that the client wakes up once for it.
pub fn encode(
    response: Response<Cursor<Vec<u8>>>,
    is_head: bool,
    close: bool,
    unix_time: Duration,
) -> io::Result<Vec<u8>> {
    // From 32 KiB on, tiny_http would send chunks, which HTTP/1.0 lacks.
    let mut response = response.with_chunked_threshold(usize::MAX);
    // tiny_http panics at a clock that an HTTP date can't express (before 1970, after 9999), unless there is a date.
    if !(1..253_402_300_800).contains(&unix_time.as_secs()) {
        response.add_header(header("Date", "Thu, 01 Jan 1970 00:00:00 GMT"));
    }
    let mut bytes = Vec::new();
    response.raw_print(&mut bytes, HTTPVersion(1, 1), &[], is_head, None)?;
    if close {
        // tiny_http ignores this header in a response, so it's put after the first line.
        let second_line = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        bytes.splice(second_line..second_line, *b"Connection: close\r\n");
    }
    Ok(bytes)
}

/// A header of a response. Panics if its name or value isn't ASCII.
fn header(name: &str, value: &str) -> Header {
    Header::from_bytes(name, value).expect("both are ASCII")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock;

    #[test]
    fn other_paths_and_methods_get_an_error_with_a_reason() {
        let metrics = Metrics::new(Arc::default(), Duration::ZERO).unwrap();
        let ask = |method: &str, path: &str| {
            let request = Ok(Request { method: method.to_owned(), path: path.to_owned(), close: false });
            let response = respond(&metrics, &request);
            let (status, mut bytes) = (response.status_code().0, Vec::new());
            response.raw_print(&mut bytes, HTTPVersion(1, 1), &[], false, None).unwrap();
            let text = String::from_utf8(bytes).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert_eq!(body.lines().count(), 1, "{text}");
            (status, head.contains("\r\nAllow: GET, HEAD"), body.contains("/metrics"))
        };
        for path in ["/metric", "/metrics/", "/metrics2", "/favicon.ico", "//", "../x/y", "/%6detrics", "metrics", "*"]
        {
            for method in ["GET", "HEAD", "POST"] {
                assert_eq!(ask(method, path), (404, false, true), "{method} {path}");
            }
        }
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW", "get"] {
            for path in ["/", "/metrics"] {
                assert_eq!(ask(method, path), (405, true, false), "{method} {path}");
            }
        }
    }

    fn encode_text(text: &str, is_head: bool, close: bool, unix_time: Duration) -> String {
        String::from_utf8(encode(Response::from_string(text), is_head, close, unix_time).unwrap()).unwrap()
    }

    #[test]
    fn a_large_page_has_a_length_and_comes_in_one_piece() {
        let text = "x".repeat(100_000);
        for (is_head, body) in [(false, text.as_str()), (true, "")] {
            let response = encode_text(&text, is_head, false, clock::unix_time());
            assert!(response.contains("\r\nContent-Length: 100000\r\n"), "{}", &response[..200]);
            assert!(!response.contains("Transfer-Encoding"));
            assert_eq!(response.split_once("\r\n\r\n").unwrap().1, body);
        }
    }

    #[test]
    fn a_response_that_ends_the_connection_says_so() {
        let now = clock::unix_time();
        assert!(encode_text("x", false, true, now).starts_with("HTTP/1.1 200 OK\r\nConnection: close\r\n"));
        assert!(!encode_text("x", false, false, now).contains("Connection:"));
    }

    #[test]
    fn a_clock_without_an_http_date_is_survived() {
        // A clock before 1970 is shown as 0.
        for (seconds, is_wrong) in [(0, true), (1, false), (253_402_300_799, false), (253_402_300_800, true)] {
            let response = encode_text("x", false, false, Duration::from_secs(seconds));
            let epoch = response.contains("\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n");
            assert_eq!(epoch, is_wrong, "{response}");
        }
    }
}
