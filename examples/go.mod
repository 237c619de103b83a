module github.com/chatstore/chatstore/examples

go 1.26.0

require (
	github.com/chatstore/chatstore v0.0.0
	github.com/prometheus/client_golang v1.25.0
	github.com/prometheus/client_model v0.6.3
	go.opentelemetry.io/otel v1.47.0
	go.opentelemetry.io/otel/sdk v1.47.0
	go.opentelemetry.io/otel/trace v1.47.0
)

replace github.com/chatstore/chatstore => ../
