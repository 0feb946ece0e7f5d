package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"go-micro.dev/v5/client"
	gcli "go-micro.dev/v5/client/grpc"
	"go-micro.dev/v5/errors"
	"go-micro.dev/v5/metadata"
	"go-micro.dev/v5/registry"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// What a caller receives. Failures has the texts of calls that had to work.
type report struct {
	Order    Order           `json:"order"`
	Name     string          `json:"name"`
	Errors   []*errors.Error `json:"errors"`
	Watched  []string        `json:"watched"`
	Chatted  []string        `json:"chatted"`
	Imported int64           `json:"imported"`
	Failures []string        `json:"failures"`
}

func newClient(protocol string, reg registry.Registry) client.Client {
	options := []client.Option{client.Registry(reg), client.Retries(0), client.RequestTimeout(5 * time.Second)}
	if protocol == "grpc" {
		return gcli.NewClient(options...)
	}
	return client.NewClient(options...)
}

// The deadline of a call by mucp is the timeout of its connection.
func within(limit time.Duration) client.CallOption {
	return func(options *client.CallOptions) {
		options.RequestTimeout, options.ConnectionTimeout = limit, limit
	}
}

func call(protocol string, reg registry.Registry, service string) {
	cl := newClient(protocol, reg)
	ctx := metadata.NewContext(context.Background(), metadata.Metadata{"X-Caller": "go-micro v5"})
	asJSON := client.WithContentType("application/json")
	asProto := client.WithContentType("application/protobuf")
	out := report{}
	works := func(what string, err error) {
		if err != nil {
			out.Failures = append(out.Failures, what+": "+err.Error())
		}
	}
	works("GetOrder", cl.Call(ctx, cl.NewRequest(service, "OrderSrv.GetOrder", &Request{ID: 7}, asJSON), &out.Order))
	name := &wrapperspb.StringValue{}
	works("Name", cl.Call(ctx, cl.NewRequest(service, "OrderSrv.Name", &wrapperspb.Int64Value{Value: 5}, asProto), name))
	out.Name = name.Value
	for _, what := range []string{"fail", "panic", "slow"} {
		req := cl.NewRequest(service, "OrderSrv.GetOrder", &Request{What: what}, asJSON)
		err := cl.Call(ctx, req, &Order{}, within(500*time.Millisecond))
		out.Errors = append(out.Errors, errors.Parse(fmt.Sprint(err)))
	}
	err := cl.Call(ctx, cl.NewRequest(service, "OrderSrv.None", &Request{}, asJSON), &Order{})
	out.Errors = append(out.Errors, errors.Parse(fmt.Sprint(err)))
	if protocol == "grpc" {
		var err error
		out.Watched, err = watch(ctx, cl, service, asProto)
		works("Watch", err)
		out.Chatted, err = chat(ctx, cl, service, asProto)
		works("Chat", err)
		out.Imported, err = load(ctx, cl, service, asProto)
		works("Import", err)
	}
	line, _ := json.Marshal(out)
	fmt.Println(string(line))
}

func watch(ctx context.Context, cl client.Client, service string, as client.RequestOption) ([]string, error) {
	req := cl.NewRequest(service, "OrderSrv.Watch", &wrapperspb.Int64Value{Value: 3}, as)
	stream, err := cl.Stream(ctx, req)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	if err := stream.Send(req.Body()); err != nil {
		return nil, err
	}
	var seen []string
	for {
		each := &wrapperspb.StringValue{}
		if err := stream.Recv(each); err == io.EOF {
			return seen, nil
		} else if err != nil {
			return seen, err
		}
		seen = append(seen, each.Value)
	}
}

func chat(ctx context.Context, cl client.Client, service string, as client.RequestOption) ([]string, error) {
	stream, err := cl.Stream(ctx, cl.NewRequest(service, "OrderSrv.Chat", &wrapperspb.Int64Value{}, as))
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	var seen []string
	for n := int64(1); n <= 3; n++ {
		if err := stream.Send(&wrapperspb.Int64Value{Value: n}); err != nil {
			return seen, err
		}
		each := &wrapperspb.StringValue{}
		if err := stream.Recv(each); err != nil {
			return seen, err
		}
		seen = append(seen, each.Value)
	}
	return seen, nil
}

// A stream of the caller: go-micro v2 has no way to end one.
func load(ctx context.Context, cl client.Client, service string, as client.RequestOption) (int64, error) {
	stream, err := cl.Stream(ctx, cl.NewRequest(service, "OrderSrv.Import", &wrapperspb.Int64Value{}, as))
	if err != nil {
		return 0, err
	}
	defer stream.Close()
	for n := int64(1); n <= 100; n++ {
		if err := stream.Send(&wrapperspb.Int64Value{Value: n}); err != nil {
			return 0, err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return 0, err
	}
	sum := &wrapperspb.Int64Value{}
	err = stream.Recv(sum)
	return sum.Value, err
}
