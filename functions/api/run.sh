#!/bin/sh
# Serves the model gateway: under the AWS Lambda Web Adapter, and at home as the part `gateway`. One worker, because a
# Lambda instance has one CPU; SIGTERM ends it after the answers under way.
PYTHONPATH="${PYTHONPATH:+$PYTHONPATH:}/opt/python" exec python3.13 -m uvicorn functions.api.inference:app \
    --host 127.0.0.1 --port "$AWS_LWA_PORT" \
    --loop uvloop --http httptools --ws none --lifespan auto --workers 1 \
    --timeout-keep-alive 75 --timeout-graceful-shutdown 5 \
    --no-proxy-headers --no-server-header --no-access-log --log-level warning
