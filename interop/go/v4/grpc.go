package main

import (
	gsrv "github.com/go-micro/plugins/v4/server/grpc"
	"go-micro.dev/v4/server"
)

func newGrpcServer(options ...server.Option) server.Server { return gsrv.NewServer(options...) }
