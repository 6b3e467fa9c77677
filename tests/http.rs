//! HTTP as clients speak it: what they may write differently, and what each mistake is told.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use common::{Answer, Connection, Exporter, WHOLE_REQUEST};

/// The first answer to these bytes, sent over a connection of their own, and that connection.
fn ask(exporter: &Exporter, bytes: &[u8]) -> (Answer, Connection) {
    let mut connection = exporter.connect();
    connection.send(bytes).unwrap();
    let answer = connection.answer(true);
    let text = String::from_utf8_lossy(bytes);
    let answer = answer.unwrap_or_else(|error| panic!("{text:?}: {error}"));
    (answer, connection)
}

/// Fails unless the connection ends without a further answer.
fn assert_closed(mut connection: Connection, what: &str) {
    let error = connection.answer(true).expect_err(what);
    let kind = error.kind();
    assert_eq!(kind, std::io::ErrorKind::UnexpectedEof, "{what}: {error}");
}

#[test]
fn mistakes_are_told_in_a_line_and_end_the_connection() {
    let exporter = Exporter::start(&["--interval", "86400"]);
    let mistakes = [
        ("GET /metrics\r\n\r\n", 400),
        ("GET  /metrics HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /metrics HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
        ("GET /me trics HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("G(T /metrics HTTP/1.1\r\nHost: a\r\n\r\n", 400),
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
        ("GET /metrics HTTP/0.9\r\n\r\n", 505),
        ("GET /metrics HTTP/9.9\r\n\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ];
    for (bytes, status) in mistakes {
        let (answer, connection) = ask(&exporter, bytes.as_bytes());
        assert_eq!(answer.status, status, "{bytes:?}: {answer:?}");
        assert_eq!(answer.body.lines().count(), 1, "{bytes:?}: {answer:?}");
        assert!(answer.body.ends_with(".\n"), "{bytes:?}: {answer:?}");
        assert!(answer.headers["content-type"].starts_with("text/plain"));
        assert_eq!(answer.headers["connection"], "close", "{bytes:?}");
        assert_closed(connection, bytes);
    }
    assert_eq!(exporter.complaints(), "");
}

#[test]
fn a_head_may_have_16384_bytes() {
    let exporter = Exporter::start(&["--interval", "86400"]);
    let head = |length: usize| {
        let head = "GET /metrics HTTP/1.1\r\nHost: a\r\nA: \r\n\r\n";
        head.replace("A: ", &format!("A: {}", "x".repeat(length - head.len())))
    };
    let (answer, mut connection) = ask(&exporter, head(16_384).as_bytes());
    assert_eq!(answer.status, 200);
    connection.get("/metrics").page();
    assert_eq!(ask(&exporter, head(16_385).as_bytes()).0.status, 431);
    let target = |length| format!("GET /{} HTTP/1.1\r\n", "x".repeat(length));
    assert_eq!(ask(&exporter, target(20_000).as_bytes()).0.status, 431);
}

#[test]
fn what_means_the_same_is_answered_the_same() {
    let exporter = Exporter::start(&["--interval", "86400"]);
    for request in [
        "GET /metrics HTTP/1.1\nHost: a\n\n",
        "\r\n\n\r\nGET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nhOST:a\r\nX: \u{fc}\u{e9}\t!\r\n\r\n",
        "GET /metrics HTTP/1.7\r\nHost: a\r\n\r\n",
        "GET http://localhost/metrics HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET HTTP://localhost:5000/metrics?name[]=x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET https://localhost HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://localhost?x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /metrics?x=ftp://y HTTP/1.1\r\nHost: a\r\n\r\n",
        // As somebody types it.
        "GET /metrics HTTP/1.1\r\n\r\n",
    ] {
        let (answer, mut connection) = ask(&exporter, request.as_bytes());
        assert_eq!(answer.status, 200, "{request:?}: {answer:?}");
        connection.get("/metrics").page();
    }
    for request in [
        "GET /%6detrics HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET metrics HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET ftp://a/metrics HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /m\u{e9}trics HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://localhost/x/metrics HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT localhost:5000 HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let (answer, mut connection) = ask(&exporter, request.as_bytes());
        assert_eq!(answer.status, 404, "{request:?}: {answer:?}");
        connection.get("/metrics").page();
    }
}

#[test]
fn a_request_may_come_in_pieces() {
    let exporter = Exporter::start(&["--interval", "86400"]);
    let mut connection = exporter.connect();
    for _ in 0..2 {
        for byte in WHOLE_REQUEST {
            connection.send(&[*byte]).unwrap();
        }
        connection.answer(true).unwrap().page();
    }
    // Two requests and a half, then the rest.
    let requests = WHOLE_REQUEST.repeat(3);
    let (sent, rest) = requests.split_at(WHOLE_REQUEST.len() * 5 / 2);
    connection.send(sent).unwrap();
    connection.answer(true).unwrap().page();
    connection.answer(true).unwrap().page();
    thread::sleep(Duration::from_millis(100));
    connection.send(rest).unwrap();
    connection.answer(true).unwrap().page();
}

#[test]
fn a_connection_is_kept_where_both_sides_keep_it() {
    let exporter = Exporter::start(&["--interval", "86400"]);
    for (version, option, told) in [
        ("1.1", "", ""),
        ("1.1", "Connection: close\r\n", "close"),
        ("1.1", "Connection: TE\r\nconnection: x , CLOSE\r\n", "close"),
        ("1.1", "Connection: keep-alive\r\n", ""),
        ("1.0", "", "close"),
        ("1.0", "Connection: Keep-Alive\r\n", "close"),
        ("1.0", "Connection: keep-alive, close\r\n", "close"),
    ] {
        let request = format!("GET / HTTP/{version}\r\nHost: a\r\n{option}\r\n");
        let (answer, mut connection) = ask(&exporter, request.as_bytes());
        assert_eq!(answer.status, 200, "{request:?}");
        let said = answer.headers.get("connection").map_or("", String::as_str);
        assert_eq!(said, told, "{request:?}");
        match told {
            "close" => assert_closed(connection, &request),
            _ => drop(connection.get("/").page()),
        }
    }
}

#[test]
fn a_body_ends_the_connection_after_the_answer() {
    let exporter = Exporter::start(&["--interval", "86400"]);
    let (answer, mut connection) = ask(&exporter, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(answer.status, 405);
    connection.get("/metrics").page();
    // What is smuggled in as a body is no request.
    let body = String::from_utf8_lossy(WHOLE_REQUEST).into_owned();
    for header in [
        &format!("Content-Length: {}\r\n", body.len()),
        "Content-Length: 0\r\nContent-Length: 44\r\n",
        "Content-Length: -1\r\n",
        "Content-Length:\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{header}\r\n{body}");
        let (answer, connection) = ask(&exporter, request.as_bytes());
        assert_eq!(answer.status, 405, "{header}");
        assert_eq!(answer.headers["connection"], "close", "{header}");
        assert_closed(connection, header);
    }
    // A client that sends its body before it reads is not cut off, though nobody wants the body.
    let piece = "x".repeat(300_000);
    for header in [
        "Content-Length: 900000\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 900000\r\nExpect: 100-continue\r\n",
    ] {
        let mut connection = exporter.connect();
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{header}\r\n");
        connection.send(head.as_bytes()).unwrap();
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(50));
            let sent = connection.send(piece.as_bytes());
            sent.unwrap_or_else(|error| panic!("{header}: {error}"));
        }
        let answer = connection.answer(true).unwrap();
        assert_eq!(answer.status, 405, "{header}");
        assert_closed(connection, header);
    }
}

#[test]
fn no_answer_to_a_head_has_a_body() {
    let exporter = Exporter::start(&["--interval", "86400"]);
    for (rest, status) in [
        ("/metrics HTTP/1.0\r\n\r\n", "200"),
        ("/nothing HTTP/1.0\r\n\r\n", "404"),
        ("/metrics HTTP/3.0\r\n\r\n", "505"),
        ("/metrics HTTP/1.1 \r\n\r\n", "400"),
        ("/metrics HTTP/1.1\r\nno colon\r\n\r\n", "400"),
        (&format!("/{}", "x".repeat(16_384)), "431"),
    ] {
        let mut stream = TcpStream::connect(exporter.address).unwrap();
        stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
        write!(stream, "HEAD {rest}").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "", "{head}");
        assert!(!head.contains("Content-Length: 0"), "{head}");
    }
}

#[test]
fn half_a_connection_is_enough_for_an_answer() {
    let exporter = Exporter::start(&["--interval", "86400"]);
    let mut stream = TcpStream::connect(exporter.address).unwrap();
    stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
    stream.write_all(&WHOLE_REQUEST.repeat(2)).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 2);
}
