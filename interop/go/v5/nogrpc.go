//go:build !grpc

package main

import (
	"fmt"

	"go-micro.dev/v5/server"
)

func newGrpcServer(options ...server.Option) server.Server {
	must(fmt.Errorf("this program has no server of gRPC: build it with -tags grpc"))
	return nil
}
