//go:build grpc

// A program with a server of gRPC: with it go-micro v5.30 cannot use etcd, because the codec that the
// server registers for all of gRPC refuses the messages of etcd's client.
package main

import (
	"go-micro.dev/v5/server"
	gsrv "go-micro.dev/v5/server/grpc"
)

func newGrpcServer(options ...server.Option) server.Server { return gsrv.NewServer(options...) }
