//! The gauge on the crate prometheus_exporter: prometheus_exporter ADDRESS.

use std::net::SocketAddr;
use std::{env, thread, time::Duration};

use prometheus_exporter::prometheus::register_gauge;

fn main() {
    let address = env::args().nth(1).expect("an address");
    let address: SocketAddr = address.parse().expect("an IP address and a port");
    let result =
        register_gauge!("model_result", "The latest result of the model").expect("a gauge");
    let _exporter = prometheus_exporter::start(address).expect("a server");
    loop {
        result.set(fastrand::f64());
        thread::sleep(Duration::from_secs(5));
    }
}
