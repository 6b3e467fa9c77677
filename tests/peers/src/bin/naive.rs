//! The shortest exporter on tiny_http's own server: naive ADDRESS.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, thread, time::Duration};

use tiny_http::{Response, Server};

fn main() {
    let address = env::args().nth(1).expect("an address");
    let result = Arc::new(AtomicU64::new(0));
    let latest = Arc::clone(&result);
    thread::spawn(move || {
        loop {
            result.store(fastrand::f64().to_bits(), Ordering::Relaxed);
            thread::sleep(Duration::from_secs(5));
        }
    });
    for request in Server::http(address).expect("a server").incoming_requests() {
        let result = f64::from_bits(latest.load(Ordering::Relaxed));
        let page = format!(
            "# HELP model_result The latest result of the model\n# TYPE model_result gauge\nmodel_result {result}\n"
        );
        let _ = request.respond(Response::from_string(page));
    }
}
