//! What no exporter on std can go below: bare FILE ADDRESS sends the file's bytes for each request,
//! and knows no more of HTTP than where a request ends.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::{env, fs, thread};

fn main() {
    let mut arguments = env::args().skip(1);
    let answer = fs::read(arguments.next().expect("a file")).expect("the file's bytes");
    let address = arguments.next().expect("an address");
    let answer: &[u8] = answer.leak();
    for stream in TcpListener::bind(address).expect("a listener").incoming() {
        let mut stream = stream.expect("a connection");
        let _ = stream.set_nodelay(true);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(number @ 1..) = stream.read(&mut bytes) {
                if bytes[..number].ends_with(b"\r\n\r\n") && stream.write_all(answer).is_err() {
                    return;
                }
            }
        });
    }
}
