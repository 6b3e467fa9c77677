"""The mock on prometheus_client: mock.py ADDRESS:PORT."""

import random
import sys
import time

from prometheus_client import Gauge, start_http_server

result = Gauge("model_result", "The latest result of the model")
address, port = sys.argv[1].split(":")
start_http_server(int(port), addr=address)
while True:
    result.set(random.random())
    time.sleep(5)
