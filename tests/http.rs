//! HTTP over a connection: its responses, and when it ends. `src/http/request.rs` tests the parser.

mod common;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::{Connection, Exporter, REQUEST, Response, TIMEOUT, wait_until};

/// The first response to these bytes, sent over a new connection, and that connection.
fn ask(exporter: &Exporter, bytes: &[u8]) -> (Response, Connection) {
    let mut connection = exporter.connect();
    connection.send(bytes).unwrap();
    let response = connection.response(true);
    let text = String::from_utf8_lossy(bytes);
    (response.unwrap_or_else(|error| panic!("{text:?}: {error}")), connection)
}

/// Fails unless the connection ends without a further response. Returns how long that takes.
fn assert_closed(mut connection: Connection, what: &str) -> Duration {
    let start = Instant::now();
    let error = connection.response(true).expect_err(what);
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{what}: {error}");
    start.elapsed()
}

#[test]
fn a_mistake_gets_a_line_of_text_and_ends_the_connection() {
    let exporter = Exporter::start(&["--interval", "86400"]);
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(20_000));
    let mut times = Vec::new();
    for (bytes, status) in [
        ("GET /metrics\r\n\r\n", 400),
        ("GET /metrics HTTP/1.1\r\nno colon\r\n\r\n", 400),
        // The client of another protocol may wait for an answer to its first line.
        ("SSH-2.0-x\r\n", 400),
        ("GET /metrics\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nContent-Length: 0\u{a0}\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 400),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}", 400),
        ("GET /nothing HTTP/1.1\r\nConnection: close\r\n\r\n", 404),
        ("PUT / HTTP/1.0\r\n\r\n", 405),
        ("GET / HTTP/1.1\r\nHost: half a requ", 408),
        (&long, 431),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ] {
        let (response, connection) = ask(&exporter, bytes.as_bytes());
        assert_eq!(response.status, status, "{bytes:?}: {response:?}");
        assert!(response.body.ends_with(".\n") && response.body.lines().count() == 1, "{response:?}");
        assert!(response.headers["content-type"].starts_with("text/plain"));
        assert_eq!(response.headers["connection"], "close", "{bytes:?}");
        times.push(assert_closed(connection, bytes));
    }
    // The client sees the end at once, not after the time in which the exporter reads on.
    assert!(times.iter().min() < Some(&Duration::from_millis(500)), "{times:?}");
    let counts = |codes: &[u16]| -> Vec<f64> {
        let page = exporter.scrape();
        codes.iter().map(|code| page.value(&format!("modelmock_http_requests_total{{code=\"{code}\"}}"))).collect()
    };
    assert_eq!(counts(&[200, 400, 404, 405, 408, 431, 505]), [0.0, 11.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    // A client that doesn't read all its responses resets the connection. The error can't be sent, and isn't counted.
    ask(&exporter, &[&REQUEST.repeat(5), &b"GET /"[..]].concat());
    thread::sleep(Duration::from_millis(200));
    assert_eq!(counts(&[400, 408]), [11.0, 1.0]);
    assert_eq!(exporter.errors(), "");
}

#[test]
fn a_request_may_come_in_pieces() {
    let exporter = Exporter::start(&["--interval", "86400"]);
    let mut connection = exporter.connect();
    for _ in 0..2 {
        for byte in REQUEST {
            connection.send(&[*byte]).unwrap();
        }
        connection.response(true).unwrap().page();
    }
    // Two requests and a half, then the rest.
    let requests = REQUEST.repeat(3);
    let (sent, rest) = requests.split_at(REQUEST.len() * 5 / 2);
    connection.send(sent).unwrap();
    connection.response(true).unwrap().page();
    connection.response(true).unwrap().page();
    thread::sleep(Duration::from_millis(100));
    connection.send(rest).unwrap();
    connection.response(true).unwrap().page();
}

#[test]
fn a_connection_stays_open_if_both_sides_keep_it() {
    let exporter = Exporter::start(&["--interval", "86400"]);
    for (option, close) in [("", false), ("Connection: close\r\n", true)] {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{option}\r\n");
        let (response, mut connection) = ask(&exporter, request.as_bytes());
        assert_eq!(response.status, 200, "{request:?}");
        assert_eq!(response.headers.get("connection").is_some_and(|value| value == "close"), close, "{request:?}");
        if close {
            assert_closed(connection, &request);
        } else {
            connection.get("/").page();
        }
    }
}

#[test]
fn one_empty_line_may_follow_a_request_but_not_endless_ones() {
    let exporter = Exporter::start(&["--interval", "86400"]);
    let mut connection = exporter.connect();
    for _ in 0..3 {
        connection.send(&[REQUEST, b"\r\n"].concat()).unwrap();
        connection.response(true).unwrap().page();
    }
    // The connection is idle, not in the middle of a request.
    thread::sleep(Duration::from_millis(5500));
    connection.send(&REQUEST[..20]).unwrap();
    thread::sleep(Duration::from_millis(100));
    connection.send(&REQUEST[20..]).unwrap();
    connection.response(true).unwrap().page();
    // The limit of a request's time and length holds for the empty lines before it.
    let mut endless = exporter.connect();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(5500) {
        let _ = endless.send(b"\r\n");
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(endless.response(true).unwrap().status, 408);
    assert_closed(endless, "endless empty lines");
    let mut flood = exporter.connect();
    let _ = flood.send(&b"\r\n".repeat(10_000));
    assert_eq!(flood.response(true).unwrap().status, 431);
}

#[test]
fn a_body_ends_the_connection_after_the_response() {
    let exporter = Exporter::start(&["--interval", "86400"]);
    let (response, mut connection) = ask(&exporter, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(response.status, 405);
    connection.get("/metrics").page();
    // A request that is smuggled in as a body gets no response.
    let body = String::from_utf8_lossy(REQUEST).into_owned();
    for header in [&format!("Content-Length: {}\r\n", body.len()), "Transfer-Encoding: gzip, chunked\r\n"] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{header}\r\n{body}");
        let (response, connection) = ask(&exporter, request.as_bytes());
        assert_eq!((response.status, response.headers["connection"].as_str()), (405, "close"), "{header}");
        assert_closed(connection, header);
    }
    // A client that sends its whole body before it reads gets the response.
    for header in ["Content-Length: 900000\r\n", "Content-Length: 99999999999999999999999\r\n"] {
        // The exporter reads on for only 1 s. A busy machine may need longer for the body, so try again.
        wait_until(TIMEOUT, header, || {
            let mut connection = exporter.connect();
            let start = Instant::now();
            let sent = send_body(&mut connection, header);
            if start.elapsed() > Duration::from_millis(800) {
                return None;
            }
            sent.unwrap_or_else(|error| panic!("{header}: {error}"));
            assert_eq!(connection.response(true).unwrap().status, 405, "{header}");
            assert_closed(connection, header);
            Some(())
        });
    }
}

/// Sends a request with a body in pieces, and reads nothing in between.
fn send_body(connection: &mut Connection, header: &str) -> io::Result<()> {
    connection.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{header}\r\n").as_bytes())?;
    let piece = "x".repeat(300_000);
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(50));
        connection.send(piece.as_bytes())?;
    }
    Ok(())
}

#[test]
fn a_response_to_head_never_has_a_body() {
    let exporter = Exporter::start(&["--interval", "86400"]);
    for (rest, status) in [
        ("/metrics HTTP/1.0\r\n\r\n", "200"),
        ("/nothing HTTP/1.0\r\n\r\n", "404"),
        ("/metrics HTTP/3.0\r\n\r\n", "505"),
        ("/metrics HTTP/1.1 \r\n\r\n", "400"),
        (&format!("/{}", "x".repeat(16_384)), "431"),
    ] {
        let mut stream = TcpStream::connect(exporter.address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        write!(stream, "HEAD {rest}").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{response}");
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "", "{head}");
        assert!(head.contains("Content-Length: ") && !head.contains("Content-Length: 0"), "{head}");
    }
}
