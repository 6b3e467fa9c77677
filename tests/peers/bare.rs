//! The least that an exporter on the standard library can cost: bare FILE ADDRESS sends the bytes of the file for each
//! request. All it knows of HTTP is that an empty line ends a request.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::{env, fs, thread};

fn main() {
    let mut arguments = env::args().skip(1);
    let response: &[u8] = fs::read(arguments.next().expect("a file")).expect("a readable file").leak();
    let address = arguments.next().expect("an address");
    for stream in TcpListener::bind(address).expect("a listener").incoming() {
        let mut stream = stream.expect("a connection");
        let _ = stream.set_nodelay(true);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(number @ 1..) = stream.read(&mut bytes) {
                if bytes[..number].ends_with(b"\r\n\r\n") && stream.write_all(response).is_err() {
                    return;
                }
            }
        });
    }
}
