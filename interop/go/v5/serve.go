package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"go-micro.dev/v5/client"
	"go-micro.dev/v5/errors"
	"go-micro.dev/v5/metadata"
	"go-micro.dev/v5/registry"
	"go-micro.dev/v5/server"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

type Request struct {
	ID   int64  `json:"id"`
	What string `json:"what"`
}

type Order struct {
	ID     int64  `json:"id"`
	User   string `json:"user"`
	Caller string `json:"caller"`
}

type AccountRequest struct {
	ID int64 `json:"id"`
}

type Account struct {
	ID       int64  `json:"id"`
	Username string `json:"username"`
}

type OrderSrv struct {
	client client.Client
	users  string
}

func (s *OrderSrv) GetOrder(ctx context.Context, req *Request, rsp *Order) error {
	rsp.ID, rsp.User = req.ID, "Go"
	switch req.What {
	case "fail":
		return errors.Conflict("go.orders", "already there: %s", "ü %")
	case "panic":
		return fmt.Errorf("a plain error")
	case "slow":
		select {
		case <-ctx.Done():
			return errors.Timeout("go.orders", "the handler saw the deadline")
		case <-time.After(10 * time.Second):
		}
	case "user":
		account := &Account{}
		asJSON := client.WithContentType("application/json")
		get := s.client.NewRequest(s.users, "UserSrv.GetAccount", &AccountRequest{ID: req.ID}, asJSON)
		if err := s.client.Call(ctx, get, account); err != nil {
			return err
		}
		rsp.User = account.Username
	}
	rsp.Caller = callerOf(ctx)
	return nil
}

// A server of gRPC hands on the names of metadata in small letters, as its client writes them.
func callerOf(ctx context.Context) string {
	caller, ok := metadata.Get(ctx, "X-Caller")
	if !ok {
		caller, _ = metadata.Get(ctx, "x-caller")
	}
	return caller
}

// Name and the streams are protobuf: messages that need no generated code.
func (*OrderSrv) Name(ctx context.Context, req *wrapperspb.Int64Value, rsp *wrapperspb.StringValue) error {
	rsp.Value = fmt.Sprintf("order %d", req.Value)
	return nil
}

func (*OrderSrv) Watch(ctx context.Context, stream server.Stream) error {
	req := &wrapperspb.Int64Value{}
	if err := stream.Recv(req); err != nil {
		return err
	}
	if req.Value < 0 {
		return errors.BadRequest("go.orders", "nothing to watch")
	}
	for n := int64(0); n < req.Value; n++ {
		if err := stream.Send(&wrapperspb.StringValue{Value: fmt.Sprintf("order %d", n)}); err != nil {
			return err
		}
	}
	return nil
}

func (*OrderSrv) Import(ctx context.Context, stream server.Stream) error {
	sum := &wrapperspb.Int64Value{}
	for {
		each := &wrapperspb.Int64Value{}
		if err := stream.Recv(each); err == io.EOF {
			return stream.Send(sum)
		} else if err != nil {
			return err
		}
		sum.Value += each.Value
	}
}

func (*OrderSrv) Chat(ctx context.Context, stream server.Stream) error {
	for {
		each := &wrapperspb.Int64Value{}
		if err := stream.Recv(each); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.Send(&wrapperspb.StringValue{Value: fmt.Sprintf("order %d", each.Value)}); err != nil {
			return err
		}
	}
}

type UserSrv struct{}

func (*UserSrv) GetAccount(ctx context.Context, req *AccountRequest, rsp *Account) error {
	rsp.ID, rsp.Username = req.ID, "Hello Go, called by "+callerOf(ctx)
	return nil
}

func serve(protocol string, reg registry.Registry, name, users string) {
	options := []server.Option{
		server.Name(name), server.Registry(reg), server.Address("127.0.0.1:0"),
		server.RegisterTTL(time.Minute), server.RegisterInterval(20 * time.Second),
	}
	srv := server.NewRPCServer(options...)
	if protocol == "grpc" {
		srv = newGrpcServer(options...)
	}
	must(srv.Handle(srv.NewHandler(&OrderSrv{newClient(protocol, reg), users})))
	must(srv.Handle(srv.NewHandler(&UserSrv{})))
	must(srv.Start())
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	must(srv.Stop())
}
