"""The lab's mock on prometheus_client: mock.py PORT."""

import random
import sys
import time

from prometheus_client import Gauge, start_http_server

result = Gauge("model_result", "The latest result of the model")
start_http_server(int(sys.argv[1]), addr="127.0.0.1")
while True:
    result.set(random.random())
    time.sleep(5)
