//! The handler: which response each path and method gets.

use std::io::{Cursor, Read};

use tiny_http::{Header, Response};

use crate::exposition::Exposition;
use crate::page::CONTENT_TYPE;
use crate::request::{Request, RequestError};

/// Returns the response to a request, or to bytes that aren't one.
pub fn respond(exposition: &Exposition, request: &Result<Request, RequestError>) -> Response<impl Read> {
    let request = match request {
        Ok(request) => request,
        Err(error) => return text(error.status, &error.message),
    };
    let path = request.target.split('?').next();
    match (path, request.method.as_str()) {
        (Some("" | "/" | "/metrics"), "GET" | "HEAD") => {
            Response::from_data(exposition.render()).with_header(header("Content-Type", CONTENT_TYPE))
        }
        (Some("" | "/" | "/metrics"), _) => {
            text(405, "This path accepts only GET and HEAD.").with_header(header("Allow", "GET, HEAD"))
        }
        _ => text(404, "This path doesn't exist: the metrics are at /metrics."),
    }
}

fn text(status: u16, line: &str) -> Response<Cursor<Vec<u8>>> {
    Response::from_string(format!("{line}\n")).with_status_code(status)
}

fn header(name: &str, value: &str) -> Header {
    Header::from_bytes(name, value).expect("both are ASCII")
}
