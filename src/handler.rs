//! The handler: chooses the response to a request.

use std::io::Cursor;

use tiny_http::{Header, Response};

use crate::exposition::Exposition;
use crate::page::CONTENT_TYPE;
use crate::request::{Request, RequestError};

/// Returns the response to a request, or to bytes that aren't one.
pub fn respond(exposition: &Exposition, request: &Result<Request, RequestError>) -> Response<Cursor<Vec<u8>>> {
    let request = match request {
        Ok(request) => request,
        Err(error) => return text(error.status, &error.message),
    };
    match (request.path.as_str(), request.method.as_str()) {
        ("/" | "/metrics", "GET" | "HEAD") => {
            Response::from_data(exposition.render()).with_header(header("Content-Type", CONTENT_TYPE))
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

/// A header of a response. Panics if its name or value isn't ASCII.
pub fn header(name: &str, value: &str) -> Header {
    Header::from_bytes(name, value).expect("both are ASCII")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tiny_http::HTTPVersion;

    use super::*;

    #[test]
    fn other_paths_and_methods_get_an_error_with_a_reason() {
        let exposition = Exposition::new(Arc::default(), Duration::ZERO);
        let ask = |method: &str, path: &str| {
            let request = Ok(Request { method: method.to_owned(), path: path.to_owned(), close: false });
            let response = respond(&exposition, &request);
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
}
