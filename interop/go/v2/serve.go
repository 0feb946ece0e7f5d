package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/golang/protobuf/ptypes/wrappers"
	"github.com/micro/go-micro/v2/client"
	"github.com/micro/go-micro/v2/errors"
	"github.com/micro/go-micro/v2/metadata"
	"github.com/micro/go-micro/v2/registry"
	"github.com/micro/go-micro/v2/server"
	gsrv "github.com/micro/go-micro/v2/server/grpc"
	msrv "github.com/micro/go-micro/v2/server/mucp"
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
	rsp.Caller, _ = metadata.Get(ctx, "X-Caller")
	return nil
}

// Name and the streams are protobuf: messages that need no generated code.
func (*OrderSrv) Name(ctx context.Context, req *wrappers.Int64Value, rsp *wrappers.StringValue) error {
	rsp.Value = fmt.Sprintf("order %d", req.Value)
	return nil
}

func (*OrderSrv) Watch(ctx context.Context, stream server.Stream) error {
	req := &wrappers.Int64Value{}
	if err := stream.Recv(req); err != nil {
		return err
	}
	if req.Value < 0 {
		return errors.BadRequest("go.orders", "nothing to watch")
	}
	for n := int64(0); n < req.Value; n++ {
		if err := stream.Send(&wrappers.StringValue{Value: fmt.Sprintf("order %d", n)}); err != nil {
			return err
		}
	}
	return nil
}

func (*OrderSrv) Import(ctx context.Context, stream server.Stream) error {
	sum := &wrappers.Int64Value{}
	for {
		each := &wrappers.Int64Value{}
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
		each := &wrappers.Int64Value{}
		if err := stream.Recv(each); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.Send(&wrappers.StringValue{Value: fmt.Sprintf("order %d", each.Value)}); err != nil {
			return err
		}
	}
}

type UserSrv struct{}

func (*UserSrv) GetAccount(ctx context.Context, req *AccountRequest, rsp *Account) error {
	caller, _ := metadata.Get(ctx, "X-Caller")
	rsp.ID, rsp.Username = req.ID, "Hello Go, called by "+caller
	return nil
}

func serve(protocol string, reg registry.Registry, name, users string) {
	options := []server.Option{
		server.Name(name), server.Registry(reg), server.Address("127.0.0.1:0"),
		server.RegisterTTL(time.Minute), server.RegisterInterval(20 * time.Second),
	}
	srv := msrv.NewServer(options...)
	if protocol == "grpc" {
		srv = gsrv.NewServer(options...)
	}
	must(srv.Handle(srv.NewHandler(&OrderSrv{newClient(protocol, reg), users})))
	must(srv.Handle(srv.NewHandler(&UserSrv{})))
	must(srv.Start())
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	must(srv.Stop())
}
