"""The front door: what CloudFront is in AWS. One address for the console, the API and the WebSocket."""
