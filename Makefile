.PHONY: proto
proto:
	.venv/bin/python -m grpc_tools.protoc -I proto --python_out=servepath_pb --pyi_out=servepath_pb $$(cd proto && find servepath -name '*.proto')
