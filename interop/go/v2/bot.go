package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	bot "github.com/micro/go-micro/v2/agent/proto"
	"github.com/micro/go-micro/v2/errors"
	"github.com/micro/go-micro/v2/registry"
	"github.com/micro/go-micro/v2/server"
	gsrv "github.com/micro/go-micro/v2/server/grpc"
	msrv "github.com/micro/go-micro/v2/server/mucp"
)

// Echo is a command of go-micro's bot, made as its documentation says.
type Echo struct{}

func (*Echo) Help(ctx context.Context, req *bot.HelpRequest, rsp *bot.HelpResponse) error {
	rsp.Usage, rsp.Description = "goecho [words]", "Echoes words from Go"
	return nil
}

func (*Echo) Exec(ctx context.Context, req *bot.ExecRequest, rsp *bot.ExecResponse) error {
	switch strings.Join(req.Args[1:], " ") {
	case "fail":
		return errors.BadRequest("go.micro.bot.goecho", "no word %q", "fail")
	case "error":
		rsp.Error = "an error of the command"
		return nil
	}
	rsp.Result = []byte(fmt.Sprintf("%d: %s", len(req.Args), strings.Join(req.Args, "|")))
	return nil
}

func serveCommand(protocol string, reg registry.Registry, name string) {
	options := []server.Option{
		server.Name(name), server.Registry(reg), server.Address("127.0.0.1:0"),
	}
	s := msrv.NewServer(options...)
	if protocol == "grpc" {
		s = gsrv.NewServer(options...)
	}
	must(bot.RegisterCommandHandler(s, new(Echo)))
	must(s.Start())
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	must(s.Stop())
}
