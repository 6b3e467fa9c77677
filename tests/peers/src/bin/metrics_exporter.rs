//! The gauge on metrics-exporter-prometheus: metrics_exporter ADDRESS.

use std::net::SocketAddr;
use std::{env, thread, time::Duration};

fn main() {
    let address = env::args().nth(1).expect("an address");
    let address: SocketAddr = address.parse().expect("an IP address and a port");
    metrics_exporter_prometheus::PrometheusBuilder::new()
        .with_http_listener(address)
        .install()
        .expect("a server");
    metrics::describe_gauge!("model_result", "The latest result of the model");
    loop {
        metrics::gauge!("model_result").set(fastrand::f64());
        thread::sleep(Duration::from_secs(5));
    }
}
